#!/bin/bash
# Debian's Podman runs two containers over our network list, in namespaces of its own:
#   unshare --net --mount tests/demo/podman.sh target/release
# Shows addresses of both families, a static one, a host port from everywhere, and that
# nothing is left. Ends with `podman: ok`.
set -euo pipefail

plugins=$(realpath "${1:?directory of mizzen and its plugins}")
work=$(mktemp -d /tmp/mizzen-podman.XXXXXX)
podman="podman --root $work/root --runroot $work/run --storage-driver vfs --log-level error"
clean() {
    $podman rm -f -t 0 a b >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

# crun takes no machine with both kinds of cgroups that has controllers in the second one. Nothing
# here is about cgroups, and the mount goes out of sight in this namespace alone.
umount /sys/fs/cgroup/unified 2>/dev/null || true
ip link set lo up
mkdir -p "$work/leases"
# What a node's daemon says of its share of an overlay.
cat >"$work/leases/overlays.json" <<EOF
{ "version": 1, "overlays": { "dcos": { "bridge": "m-dcos", "mtu": 1420,
  "blocks": [ { "subnet": "9.0.0.0/24" }, { "subnet": "fd01:b::/80" } ] } } }
EOF
"$plugins/mizzen" cni install --bin-dir "$work/bin" --conf-dir "$work/net.d" \
    --data-dir "$work/leases" >/dev/null
cat >"$work/containers.conf" <<EOF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["$work/bin"]
network_config_dir = "$work/net.d"
default_network = "mizzen"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
EOF
export CONTAINERS_CONF="$work/containers.conf"

# The programs of this machine, in root directories of their own.
for name in a b; do
    mkdir -p "$work/$name"/{usr,proc,sys,dev,tmp,etc,run,var}
    for dir in bin lib lib64 sbin; do ln -s "usr/$dir" "$work/$name/$dir"; done
done
# shellcheck disable=SC2016 # Perl's variables
serve='use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 80, ReuseAddr => 1) or die;
    while ($c = $s->accept) { print $c "hello"; close $c }'
# shellcheck disable=SC2016
get='use IO::Socket::INET; $c = IO::Socket::INET->new(PeerAddr => $ARGV[0], Timeout => 3) or die "no: $!\n";
    exit(<$c> ne "hello")'

$podman run -d --name a -p 8080:80 -v /usr:/usr:ro --rootfs "$work/a" /usr/bin/perl -e "$serve" >/dev/null
$podman run -d --name b --ip 9.0.0.77 -v /usr:/usr:ro --rootfs "$work/b" /usr/bin/sleep 60 >/dev/null
$podman exec b ip -br addr show eth0 | tee /dev/stderr | grep -q '9.0.0.77.*fd01:b::'
until perl -e "$get" 9.0.0.2:80 2>/dev/null; do :; done

$podman exec b perl -e "$get" 9.0.0.2:80 && echo "podman: b reaches a by its address"
perl -e "$get" 127.0.0.1:8080 && echo "podman: the host reaches a by 127.0.0.1:8080"
perl -e "$get" 9.0.0.1:8080 && echo "podman: and by its own address"
$podman exec b perl -e "$get" 9.0.0.1:8080 && echo "podman: b reaches a by the host's port"
$podman exec a perl -e "$get" 9.0.0.1:8080 && echo "podman: a reaches itself by the host's port"

$podman rm -f -t 0 a b >/dev/null
test -z "$(ip -br link show type veth)"
test -z "$(find "$work/leases/dcos" -name '[0-9f]*')"
! nft list maps | grep -q elements
echo "podman: ok"
