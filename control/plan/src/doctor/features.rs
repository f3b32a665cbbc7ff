//! What the kernel must be able to do, as it was found by trying.

use super::{Engine, Observed, Verdict, Wanted};
use mizzen_ebpf_core::features::BpfFeature;
use mizzen_types::encryption::PlainPackets;

/// Something that a kernel can do or cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Something for programs.
    Program(BpfFeature),
    /// A BPF file system.
    BpfFileSystem,
    /// Network namespaces.
    NetworkNamespaces,
    /// Pairs of virtual links.
    Veth,
    /// Bridges.
    Bridge,
    /// Links that only hold addresses.
    Dummy,
    /// VXLAN tunnels.
    Vxlan,
    /// Packet filter rules for both families, with masquerading.
    Masquerade,
    /// Maps of ports in packet filter rules.
    PortMaps,
    /// Tracked connections, by netlink.
    Conntrack,
    /// Queues of packets for programs.
    Queues,
    /// Ending sockets of others.
    SocketEnd,
    /// Links that encrypt.
    Wireguard,
}

/// What a trial said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// The kernel can.
    Present,
    /// It cannot; in its words.
    Missing(String),
    /// It could not be tried, and why.
    Untried(String),
}

/// What a missing feature means.
struct Row {
    feature: Feature,
    /// What it is, for people.
    name: &'static str,
    /// Options of the kernel's configuration that bring it, and since which version.
    brought_by: &'static str,
    need: Need,
}

/// Who needs it.
#[derive(Clone, Copy)]
enum Need {
    /// VIPs by programs.
    VipPrograms,
    /// VIPs by queued packets.
    VipQueues,
    /// The overlay's fast path.
    FastPath,
    /// Containers with addresses of their own.
    Overlay,
    /// Encryption between nodes.
    Encryption,
    /// The resolver's own addresses.
    Names,
    /// Nobody: there is something that does the same, which is named.
    Nobody(&'static str),
}

use BpfFeature as P;
use Feature as F;
use Need as N;

#[rustfmt::skip]
const ROWS: [Row; 23] = [
    row(F::Program(P::ConnectPrograms),   "programs at connect",               "CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF, Linux 4.17", N::VipPrograms),
    row(F::Program(P::PeerNamePrograms),  "programs at getpeername",           "CONFIG_CGROUP_BPF, Linux 5.8",                         N::VipPrograms),
    row(F::Program(P::ReleasePrograms),   "programs at the end of sockets",    "CONFIG_CGROUP_BPF, Linux 5.9",                         N::VipPrograms),
    row(F::Program(P::SocketPrograms),    "programs that follow connections",  "CONFIG_CGROUP_BPF, Linux 4.13",                        N::VipPrograms),
    row(F::Program(P::LruMaps),           "LRU maps for programs",             "CONFIG_BPF_SYSCALL, Linux 4.10",                       N::VipPrograms),
    row(F::Program(P::NetworkCookies),    "cookies of networks for programs",  "CONFIG_BPF_SYSCALL, Linux 5.7",                       N::VipPrograms),
    row(F::BpfFileSystem,                 "a BPF file system",                 "CONFIG_BPF_SYSCALL; mount -t bpf bpf /sys/fs/bpf",     N::VipPrograms),
    row(F::Program(P::ChosenErrors),      "errors chosen by programs",         "CONFIG_CGROUP_BPF, Linux 5.18",                        N::Nobody("refused connects say EPERM")),
    row(F::Program(P::LinkPrograms),      "programs on links",                 "CONFIG_NET_CLS_BPF, CONFIG_NET_SCH_INGRESS, Linux 4.5", N::FastPath),
    row(F::Program(P::RedirectNeighbour), "redirection to neighbours",         "CONFIG_NET_CLS_BPF, Linux 5.10",                       N::FastPath),
    row(F::Program(P::RedirectPeer),      "redirection into containers",       "CONFIG_NET_CLS_BPF, Linux 5.10",                       N::FastPath),
    row(F::Program(P::Tcx),               "programs on links by tcx",          "CONFIG_NET_XGRESS, Linux 6.6",                         N::Nobody("filters of clsact do the same")),
    row(F::NetworkNamespaces,             "network namespaces",                "CONFIG_NET_NS",                                        N::Overlay),
    row(F::Veth,                          "pairs of virtual links",            "CONFIG_VETH (modprobe veth)",                          N::Overlay),
    row(F::Bridge,                        "bridges",                           "CONFIG_BRIDGE (modprobe bridge)",                      N::Overlay),
    row(F::Vxlan,                         "VXLAN tunnels",                     "CONFIG_VXLAN (modprobe vxlan)",                        N::Overlay),
    row(F::Wireguard,                     "WireGuard",                         "CONFIG_WIREGUARD, Linux 5.6 (modprobe wireguard)",     N::Encryption),
    row(F::Masquerade,                    "nf_tables with masquerading",       "CONFIG_NF_TABLES_INET, CONFIG_NFT_MASQ, CONFIG_NFT_CT (modprobe nft_masq)", N::Overlay),
    row(F::PortMaps,                      "nf_tables with maps of ports",      "CONFIG_NFT_NAT, CONFIG_NFT_FIB_INET (modprobe nft_nat)", N::Nobody("only `hostPort` of CNI callers needs them")),
    row(F::Dummy,                         "links that only hold addresses",    "CONFIG_DUMMY or CONFIG_BRIDGE (modprobe dummy)",       N::Names),
    row(F::Conntrack,                     "tracked connections",               "CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink)", N::VipQueues),
    row(F::Queues,                        "queues of packets",                 "CONFIG_NETFILTER_NETLINK_QUEUE (modprobe nfnetlink_queue)", N::VipQueues),
    row(F::SocketEnd,                     "ending sockets of others",          "CONFIG_INET_DIAG_DESTROY, Linux 4.9",                  N::Nobody("sockets of backends that left end by themselves")),
];

const fn row(feature: Feature, name: &'static str, brought_by: &'static str, need: Need) -> Row {
    Row { feature, name, brought_by, need }
}

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let (mut present, mut untried) = (0, Vec::new());
    for row in &ROWS {
        match observed.machine.features.get(&row.feature) {
            _ if !is_asked(row.need, &observed.wanted) => {}
            None | Some(Probe::Present) => present += 1,
            Some(Probe::Missing(words)) => verdicts.push(missing(row, words, &observed.wanted)),
            Some(Probe::Untried(why)) => untried.push((row.name, why)),
        }
    }
    if present > 0 {
        verdicts.push(Verdict::ok(format!("the kernel has {present} things that this node uses")));
    }
    if let Some((first, why)) = untried.first() {
        let count = untried.len();
        let text =
            format!("{count} features of the kernel, such as {first}, were not tried: {why}");
        verdicts.push(Verdict::skipped(text));
    }
    verdicts
}

fn missing(row: &Row, words: &str, wanted: &Wanted) -> Verdict {
    let what = format!("the kernel has no {} ({words})", row.name);
    let remedy = format!("run a kernel with {}", row.brought_by);
    let verdict = match (row.need, wanted.vips) {
        (Need::Nobody(instead), _) => {
            return Verdict::ok(format!("no {} ({}): {instead}", row.name, row.brought_by));
        }
        (Need::VipPrograms, Some(Engine::Auto)) => {
            Verdict::warning(what).because("VIPs are balanced by queued packets, which costs more")
        }
        (Need::VipPrograms, _) => {
            Verdict::error(what).because("vip.engine is \"ebpf\": the node does not start without")
        }
        (Need::VipQueues, Some(Engine::Auto)) => Verdict::warning(what)
            .because("queued packets could not stand in where programs for VIPs do not work"),
        (Need::VipQueues, _) => Verdict::error(what)
            .because("vip.engine is \"nfqueue\": the node does not start without"),
        (Need::FastPath, _) => Verdict::warning(what)
            .because("packets between containers take the ordinary path, which costs more"),
        (Need::Overlay, _) => {
            Verdict::error(what).because("containers cannot have addresses of their own")
        }
        (Need::Encryption, _) if wanted.encryption == Some(PlainPackets::Taken) => {
            Verdict::warning(what).because("packets between nodes stay plain")
        }
        (Need::Encryption, _) => Verdict::error(what).because(
            "overlay.encryption is \"wireguard\": no packet of containers passes between nodes",
        ),
        (Need::Names, _) => Verdict::error(what).because("the resolver's addresses have no link"),
    };
    verdict.remedy(remedy)
}

fn is_asked(need: Need, wanted: &Wanted) -> bool {
    match need {
        Need::VipPrograms => matches!(wanted.vips, Some(Engine::Auto | Engine::Programs)),
        Need::VipQueues => matches!(wanted.vips, Some(Engine::Auto | Engine::Queues)),
        Need::FastPath => wanted.overlay && wanted.fast_path,
        Need::Overlay => wanted.overlay,
        Need::Encryption => wanted.overlay && wanted.encryption.is_some(),
        Need::Names => wanted.dns,
        Need::Nobody(_) => wanted.overlay || wanted.vips.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn what_is_missing_counts_as_what_needs_it() {
        let no = || Probe::Missing("EINVAL".to_owned());
        #[rustfmt::skip]
        let table = [
            (F::Program(P::ConnectPrograms), Engine::Auto,     Some(Grade::Warning)),
            (F::Program(P::ConnectPrograms), Engine::Programs, Some(Grade::Error)),
            (F::Program(P::ConnectPrograms), Engine::Queues,   None),
            (F::Queues,                      Engine::Queues,   Some(Grade::Error)),
            (F::Queues,                      Engine::Programs, None),
            (F::Vxlan,                       Engine::Auto,     Some(Grade::Error)),
            (F::Program(P::RedirectPeer),    Engine::Auto,     Some(Grade::Warning)),
            (F::Program(P::Tcx),             Engine::Auto,     Some(Grade::Ok)),
        ];
        for (feature, engine, want) in table {
            let mut observed = well();
            observed.wanted.vips = Some(engine);
            observed.machine.features.insert(feature, no());
            let row = ROWS.iter().find(|row| row.feature == feature).unwrap();
            let verdicts = judge(&observed);
            let of_it = verdicts.iter().find(|verdict| verdict.what.contains(row.name));
            assert_eq!(of_it.map(|verdict| verdict.grade), want, "{feature:?} with {engine:?}");
        }
    }

    #[test]
    fn encryption_that_is_wished_for_or_required() {
        for (encryption, want) in [
            (None, None),
            (Some(PlainPackets::Taken), Some(Grade::Warning)),
            (Some(PlainPackets::Refused), Some(Grade::Error)),
        ] {
            let mut observed = well();
            observed.wanted.encryption = encryption;
            observed.machine.features.insert(F::Wireguard, Probe::Missing("EOPNOTSUPP".into()));
            let verdicts = judge(&observed);
            let of_it = verdicts.iter().find(|verdict| verdict.what.contains("WireGuard"));
            assert_eq!(of_it.map(|verdict| verdict.grade), want, "{encryption:?}");
        }
    }

    #[test]
    fn what_was_not_tried_is_one_line() {
        let mut observed = well();
        for feature in [F::Vxlan, F::Bridge] {
            let why = "only root may".to_owned();
            observed.machine.features.insert(feature, Probe::Untried(why));
        }
        let verdicts = judge(&observed);
        assert_eq!(
            verdicts[1].what,
            "2 features of the kernel, such as bridges, were not tried: only root may"
        );
    }
}
