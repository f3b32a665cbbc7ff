//! Machines for tests.

use super::{
    Base, Cgroups, Chain, ClockState, Daemon, Directory, Disk, Engine, Feature, Holder, Leftover,
    Leftovers, Link, Listener, Machine, Observed, PeerTold, Probe, Purpose, Socket, Told, Usage,
    User, Wanted,
};
use mizzen_ebpf_core::features::BpfFeature;
use mizzen_types::vip::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Another node, of which little is known.
pub(super) fn peer(name: &str) -> PeerTold {
    PeerTold { name: name.to_owned(), path_mtu: None, clock_ahead: None }
}

/// A running node with nothing wrong.
pub(super) fn well() -> Observed {
    let told = Told { pid: 4, links: vec!["m-dcos".into(), "vtep1024".into()], ..Told::default() };
    Observed { wanted: wanted(), machine: machine(), daemon: Daemon::Running(told) }
}

/// One with something wrong everywhere.
pub(super) fn ill() -> Observed {
    let mut observed = well();
    let machine = &mut observed.machine;
    for feature in [
        Feature::Vxlan,
        Feature::Program(BpfFeature::ConnectPrograms),
        Feature::Conntrack,
        Feature::Program(BpfFeature::RedirectPeer),
        Feature::Dummy,
    ] {
        machine.features.insert(feature, Probe::Missing("EOPNOTSUPP".into()));
    }
    machine.cgroups = Ok(Cgroups::default());
    for (name, value) in [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv4/ip_local_port_range", "1024 65535"),
        ("kernel/pid_max", "4096"),
        ("net/netfilter/nf_conntrack_count", "99"),
        ("net/netfilter/nf_conntrack_max", "100"),
    ] {
        machine.settings.insert(name.into(), value.into());
    }
    machine.usage = Usage { files: Some((99, 100)), descriptors: Some(1024), threads: Some(9_999) };
    let chain = |base| Chain { table: "inet filter".into(), name: "c".into(), base, drops: true };
    machine.chains = Ok(vec![chain(Base::Input), chain(Base::Forward)]);
    machine.legacy_tables = BTreeSet::from(["filter".to_owned()]);
    let holder = Some(Holder { pid: 9, name: "dnsmasq".into(), is_ours: false });
    let address = SocketAddr::from(([0, 0, 0, 0], 53));
    machine.sockets = Ok(vec![Socket { transport: Protocol::Udp, address, holder }]);
    machine.clock = Ok(ClockState { synchronised: false, error: Duration::from_secs(16) });
    machine.disks[0].free = 0;
    machine.disks[0].volatile = true;
    machine.directories[0].mode = 0o777;
    machine.resolv_conf = Ok(String::new());
    if let Ok(links) = &mut machine.links {
        links[0].mtu = 1300;
        let addresses = vec![[9, 0, 0, 1].into()];
        links.push(Link { name: "cni0".into(), addresses, ..Link::default() });
    }
    let object = |kind, name: &str, is_ours, purpose| {
        let name = name.to_owned();
        Leftover { kind, name, is_ours, purpose }
    };
    let objects = vec![
        object("lease", "9.0.0.9", true, Purpose::Gone),
        object("lease", "9.0.0.10", true, Purpose::Unclear),
        object("link", "m-dcos-b", false, Purpose::There),
    ];
    machine.leftovers = Ok(Leftovers { objects, running: 0, others_run: false });
    machine.unpublished = Ok(vec!["tcp 31000 of container c1".into()]);
    if let Daemon::Running(told) = &mut observed.daemon {
        told.problems = vec!["vip: no room".into()];
        told.peers =
            vec![PeerTold { path_mtu: Some(1280), clock_ahead: Some(-99.0), ..peer("beta") }];
    }
    observed
}

fn wanted() -> Wanted {
    let listener = |part: &str, transport, address: &str| Listener {
        part: part.into(),
        transport,
        address: address.parse().unwrap(),
    };
    Wanted {
        mark: "mizzen default".into(),
        agent: true,
        dns: true,
        vips: Some(Engine::Auto),
        overlay: true,
        fast_path: true,
        bridges: vec!["m-dcos".into()],
        names_link: "spartan".into(),
        networks: vec!["9.0.0.0/8".parse().unwrap()],
        overlay_mtu: 1420,
        tunnel_port: 64_000,
        encryption: None,
        encryption_port: 64_001,
        address: Some([10, 0, 0, 1].into()),
        listeners: vec![
            listener("dns", Protocol::Udp, "198.51.100.1:53"),
            listener("master", Protocol::Tcp, "10.0.0.1:5050"),
            listener("cluster", Protocol::Udp, "10.0.0.1:62501"),
        ],
        resolvers: vec![[198, 51, 100, 1].into()],
        writes_resolv_conf: false,
        task_ports: vec![(31_000, 32_000)],
        state_dir: "/var/lib/mizzen".into(),
        run_dir: "/run/mizzen".into(),
        cgroup_root: "mizzen".into(),
        vip_cgroup: "/sys/fs/cgroup".into(),
        pin_dir: "/sys/fs/bpf/mizzen".into(),
        tables: vec!["mizzen".into()],
        port_table: "mizzen-ports".into(),
    }
}

fn machine() -> Machine {
    let link = |name: &str, alias: Option<&str>, mtu| Link {
        name: name.into(),
        alias: alias.map(str::to_owned),
        mtu,
        ..Link::default()
    };
    let underlay = Link { addresses: vec![[10, 0, 0, 1].into()], ..link("eth0", None, 1500) };
    let mark = Some("mizzen default");
    let links = vec![underlay, link("m-dcos", mark, 1420), link("vtep1024", mark, 1420)];
    let settings = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/ip_local_port_range", "32768\t60999"),
        ("kernel/pid_max", "4194304"),
        ("kernel/threads-max", "100000"),
        ("net/netfilter/nf_conntrack_count", "10"),
        ("net/netfilter/nf_conntrack_max", "262144"),
    ];
    let path = "/var/lib/mizzen".to_owned();
    let gib = 1 << 30;
    Machine {
        user: User::Root,
        features: BTreeMap::new(),
        cgroups: Ok(Cgroups {
            unified: Some("/sys/fs/cgroup".into()),
            vip_cgroup_is_unified: true,
            controllers: ["cpu", "memory", "pids"].map(str::to_owned).to_vec(),
        }),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        usage: Usage { files: Some((1, 100)), descriptors: Some(1 << 20), threads: Some(100) },
        links: Ok(links),
        chains: Ok(Vec::new()),
        rules: Ok(Vec::new()),
        legacy_tables: BTreeSet::new(),
        sockets: Ok(Vec::new()),
        clock: Ok(ClockState { synchronised: true, error: Duration::ZERO }),
        disks: vec![Disk {
            path: path.clone(),
            free: 40 * gib,
            size: 100 * gib,
            inodes: None,
            read_only: false,
            volatile: false,
        }],
        directories: vec![Directory { path, mode: 0o711, forbidden: 0o022, owner: 0 }],
        resolv_conf: Ok("nameserver 198.51.100.1\n".into()),
        leftovers: Ok(Leftovers::default()),
        unpublished: Ok(Vec::new()),
    }
}
