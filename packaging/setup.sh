#!/bin/sh
# Installs what building, testing and the demo need and this machine lacks.
# Debian and its relatives; elsewhere it says what is missing.
# `setup.sh peers`: also the balancers that ours is measured beside.
# `setup.sh name-servers`: also the name servers that ours is measured beside.
# `setup.sh podman`: also the container engine that runs containers over our network.
# `setup.sh kernel`: also what imitates a machine with another kernel.
set -eu

# command:package
needs="cc:gcc ld:binutils git:git getent:libc-bin ip:iproute2 musl-gcc:musl-tools kill:procps setsid:util-linux nginx:nginx dig:bind9-dnsutils knotd:knot iptables:iptables nft:nftables"

if [ "${1:-}" = peers ]; then
    needs="$needs haproxy:haproxy ipset:ipset"
elif [ "${1:-}" = name-servers ]; then
    needs="$needs unbound:unbound named:bind9 nsd:nsd dnsmasq:dnsmasq-base dnsperf:dnsperf"
elif [ "${1:-}" = podman ]; then
    needs="$needs podman:podman perl:perl"
elif [ "${1:-}" = kernel ]; then
    needs="$needs qemu-system-x86_64:qemu-system-x86 busybox:busybox-static"
fi

PATH="$PATH:/usr/sbin:/sbin"
missing=""
packages=""
for need in $needs; do
    if ! command -v "${need%%:*}" >/dev/null 2>&1; then
        missing="$missing ${need%%:*}"
        packages="$packages ${need##*:}"
    fi
done
# The linker is of no use without the C library's start files.
if [ ! -e "/usr/lib/$(uname -m)-linux-gnu/crt1.o" ] && command -v apt-get >/dev/null 2>&1; then
    missing="$missing crt1.o"
    packages="$packages libc6-dev"
fi
# The CNI project's plugins are no commands.
if [ ! -x /usr/lib/cni/bridge ]; then
    missing="$missing /usr/lib/cni/bridge"
    packages="$packages containernetworking-plugins"
fi
if [ "${1:-}" = peers ] && [ ! -e /usr/lib/nginx/modules/ngx_stream_module.so ]; then
    missing="$missing ngx_stream_module.so"
    packages="$packages libnginx-mod-stream"
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing; install stable Rust with rustup: https://rustup.rs" >&2
    exit 1
fi
if [ -z "$packages" ]; then
    echo "setup: everything is there"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: please install what provides:$missing" >&2
    exit 1
fi

root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: as root, please run: apt-get install$packages" >&2
        exit 1
    fi
    root="sudo"
fi

# Debian starts what it installs. We need programs, not a web server on port 80,
# so services stay off while we install.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $root tee "$policy" >/dev/null
    $root chmod 755 "$policy"
    trap '$root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi

echo "setup: installing$packages (apt-get, for:$missing)"
$root apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
if command -v systemctl >/dev/null 2>&1 && [ -d /run/systemd/system ]; then
    # package:service
    for pair in nginx:nginx haproxy:haproxy unbound:unbound bind9:named knot:knot nsd:nsd; do
        case " $packages " in *" ${pair%%:*} "*)
            $root systemctl disable --quiet "${pair##*:}.service" || true ;;
        esac
    done
fi
echo "setup: done"
