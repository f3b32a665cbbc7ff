# What a user and a continuous integration type. `make help` lists it.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup build install test test-kernel lint check-ebpf demo demo-cluster demo-podman up bench-node bench-vip bench-dns bench-overlay plugins fuzz

CARGO ?= cargo
XTASK := $(CARGO) run --quiet --package xtask --

# Sandboxes and tests on the real kernel need root; the compiler does not.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
AS_ROOT := $(if $(SUDO),--config 'target."cfg(unix)".runner="$(SUDO)"')

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what is missing to build, test and run the demo (Debian)
	@packaging/setup.sh

build: setup ## Build the release binaries into target/release
	$(CARGO) build --release --workspace
	@$(MAKE) plugins

# Plugins are started once per container: linked statically, at a fixed address, and small, they
# start in half the time and need a megabyte less.
plugins:
	@for plugin in $(PLUGINS); do \
		$(CARGO) rustc --quiet --profile plugin --package mizzen-cni --bin $$plugin -- \
			-C target-feature=+crt-static -C relocation-model=static || exit 1; \
		install target/plugin/$$plugin target/release/$$plugin; \
	done

# Where `make install` puts things; DESTDIR goes in front of all of it.
PREFIX ?= /usr
PLUGINS := mizzen-overlay mizzen-ipam mizzen-portmap
EXECUTABLES := mizzen mizzen-launch $(PLUGINS)

install: ## Install what `make build` built (PREFIX, DESTDIR)
	install -D -t $(DESTDIR)$(PREFIX)/lib/mizzen $(addprefix target/release/,$(EXECUTABLES))
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/lib/systemd/system
	ln -sf ../lib/mizzen/mizzen $(DESTDIR)$(PREFIX)/sbin/mizzen
	sed 's|=/usr/|=$(PREFIX)/|' packaging/mizzen.service \
		> $(DESTDIR)$(PREFIX)/lib/systemd/system/mizzen.service
	test -e $(DESTDIR)/etc/mizzen/mizzen.toml || \
		install -D -m 644 -t $(DESTDIR)/etc/mizzen packaging/mizzen.toml

demo: setup ## Run a service from app to VIP in a sandbox, and break it
	@echo "demo: building (the first time takes some minutes)"
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node -- mizzen-demo

demo-cluster: setup ## Run an app over three nodes, cut one off, kill the master
	@echo "demo: building (the first time takes some minutes)"
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node --nodes 3 -- mizzen-demo --cluster

demo-podman: ## Run two of Podman's containers over our network
	@packaging/setup.sh podman
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) unshare --net --mount tests/demo/podman.sh target/release

up: setup ## Leave the demo's node running, and print how to use it
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node -- mizzen-demo --stay

bench-node: setup ## Measure a node against its goals
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node -- target/release/mizzen-bench node

bench-vip: ## Measure VIPs beside HAProxy, nginx, iptables and nftables
	@packaging/setup.sh peers
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node -- target/release/mizzen-bench vip

bench-dns: ## Measure names beside unbound, bind9, knot, nsd and dnsmasq
	@packaging/setup.sh name-servers
	@$(CARGO) build --release --workspace --quiet
	@$(SUDO) target/release/mizzen lab --no-node -- target/release/mizzen-bench dns

bench-overlay: setup ## Measure the overlay beside the CNI project's plugins
	@$(CARGO) build --release --workspace --quiet
	@$(MAKE) plugins
	@$(SUDO) target/release/mizzen lab --no-node -- target/release/mizzen-bench overlay

# The flags make stable compilers count what runs; libFuzzer itself is built by its crate.
FUZZ_TARGETS := $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_HOST = $(shell rustc -vV | sed -n 's/^host: //p')
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Clink-dead-code \
	$(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
MINUTES ?= 1
TARGETS ?= $(FUZZ_TARGETS)

fuzz: ## Run every fuzz target for a minute (MINUTES=10, TARGETS="facts …")
	@RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --quiet --release --locked --manifest-path fuzz/Cargo.toml \
		--target $(FUZZ_HOST) --target-dir target/fuzz $(addprefix --bin ,$(TARGETS))
	@for target in $(TARGETS); do \
		echo "fuzz: $$target"; \
		mkdir -p target/fuzz/found/$$target; \
		target/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$$(($(MINUTES) * 60)) -timeout=10 \
			-verbosity=0 -print_final_stats=1 -artifact_prefix=target/fuzz/failed-$$target- \
			target/fuzz/found/$$target fuzz/corpus/$$target || exit 1; \
	done

lint: ## Check formatting, lints, and that no crate looks upstairs
	@echo "lint: formatting"
	@$(CARGO) fmt --all -- --check
	@echo "lint: clippy"
	@$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	@echo "lint: layers"
	@$(XTASK) check-layers

check-ebpf: ## Rebuild the eBPF object and compare it with the committed one
	@echo "check-ebpf: the BPF compiler"
	@$(XTASK) setup-bpf
	@echo "check-ebpf: the object"
	@$(XTASK) build-ebpf --check

test: setup lint ## Everything that a change must pass (needs root for its sandboxes)
	@echo "test: building"
	@$(CARGO) build --quiet --workspace
	@echo "test: testing"
	@$(XTASK) test --quiet $(AS_ROOT)
	@echo "test: documentation"
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --workspace --no-deps
	@$(MAKE) check-ebpf
	@echo "test: ok"

# The guest is another machine: root there needs no sandbox, and QEMU here needs no root.
IN_GUEST := $(CARGO) --config 'target."cfg(unix)".runner="$(CURDIR)/tests/kernel/boot.sh"' test --quiet

test-kernel: ## Test encryption and both VIP engines under Debian 12's kernel, in QEMU (minutes)
	@packaging/setup.sh kernel
	@tests/kernel/fetch.sh
	@$(IN_GUEST) --package mizzen-netlink --test wireguard -- --include-ignored --test-threads=1
	@$(IN_GUEST) --package mizzen-kernel --test tunnels -- --include-ignored --test-threads=1
	@$(IN_GUEST) --package mizzen-nfqueue --test kernel -- --include-ignored --test-threads=1
	@$(IN_GUEST) --package mizzen-ebpf-loader --test kernel -- --test-threads=1 \
		traffic::a_ traffic::connects in_place::what_goes
	@$(IN_GUEST) --package mizzen-ebpf-loader --test arriving -- --test-threads=1 \
		table:: traffic::clients traffic::large
	@$(IN_GUEST) --package mizzen-ebpf-loader --test overlay -- --test-threads=1 \
		traffic::containers_of traffic::containers_beside traffic::vips lifecycle::teardown
	@$(IN_GUEST) --package mizzen-ebpf-loader --test policy -- --test-threads=1 \
		guards::what_a guards::what_is guards::a_socket
	@echo "test-kernel: ok"
