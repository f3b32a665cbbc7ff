#!/bin/bash
# Runs a command under Debian's own kernel, in a machine that QEMU imitates, and ends as it ended.
#
#   tests/kernel/boot.sh COMMAND [ARGUMENT]…
#
# The guest sees this machine's files, read only, with a writable layer of memory above them, so
# whatever was built here runs there. It has one processor, no network and no disk. `make
# test-kernel` makes this the runner of `cargo test`. BOOT_SECONDS bounds a run (default 900).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
kernel=$root/target/kernel
image=$(echo "$kernel"/boot/vmlinuz-*)
[ -e "$image" ] || { echo "boot.sh: no kernel in $kernel; \`make test-kernel\` fetches it" >&2; exit 1; }

run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT

# What cargo says to its tests, and where they are to run.
{
    for name in PATH LD_LIBRARY_PATH "${!CARGO_@}" "${!MIZZEN_@}" RUST_BACKTRACE; do
        [ -z "${!name-}" ] || printf 'export %s=%q\n' "$name" "${!name}"
    done
    printf 'cd %q\n%s\n' "$PWD" "$(printf '%q ' "$@")"
} > "$run/command"

# The guest's first files: what mounts this machine's, and the command.
mkdir "$run/first" && cp "$kernel"/first/* "$run/first" && cp "$here/init" "$run/command" "$run/first"
(cd "$run/first" && busybox find . | busybox cpio -o -H newc 2>/dev/null) > "$run/initramfs"

status=0
timeout "${BOOT_SECONDS:-900}" qemu-system-x86_64 \
    -machine pc -accel tcg -cpu max -smp 1 -m 2048 -nodefaults -no-reboot -display none -serial stdio \
    -kernel "$image" -initrd "$run/initramfs" \
    -append "console=ttyS0 quiet panic=-1 modules=$kernel/lib/modules" \
    -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
    -device virtio-9p-pci,fsdev=host,mount_tag=host \
    -device isa-debug-exit,iobase=0xf4,iosize=0x01 </dev/null || status=$?

# The guest says how the command ended by writing to that port; QEMU ends with twice that and one.
case $status in
124) echo "boot.sh: not done after ${BOOT_SECONDS:-900} s" >&2; exit 124 ;;
*[13579]) exit $((status / 2)) ;;
*) echo "boot.sh: the guest ended without a word (QEMU: $status)" >&2; exit 125 ;;
esac
