#!/bin/sh
# Fetches Debian's own kernel into target/kernel, where boot.sh finds it: nothing of it is
# installed. Does nothing if it is there.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
kernel=$root/target/kernel

if [ -e "$kernel/first/order" ]; then
    exit 0
fi
if [ "$(uname -m)" != x86_64 ]; then
    echo "fetch.sh: only for x86_64" >&2
    exit 1
fi
# The package that has the kernel itself is what this one depends on.
package=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-\)/\1/p' | head -n 1)
echo "test-kernel: fetching $package"
rm -rf "$kernel" && mkdir -p "$kernel/first"
(cd "$kernel" && apt-get download -qq "$package")
dpkg-deb --extract "$kernel"/*.deb "$kernel"
rm "$kernel"/*.deb

# What the guest needs to see this machine's files, in the order in which it is loaded.
modules=$(echo "$kernel"/lib/modules/*)
busybox depmod -b "$kernel" "${modules##*/}"
for module in \
    drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev \
    drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci net/9p/9pnet \
    net/9p/9pnet_virtio fs/netfs/netfs fs/fscache/fscache fs/9p/9p fs/overlayfs/overlay
do
    cp "$modules/kernel/$module.ko" "$kernel/first"
    echo "${module##*/}.ko" >> "$kernel/first/order.new"
done
cp "$(command -v busybox)" "$kernel/first"
mv "$kernel/first/order.new" "$kernel/first/order"
