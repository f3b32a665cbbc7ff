//! What the kernel can do, found out by doing it: programs are loaded and dropped, links and
//! rules are made in a network namespace that is gone at once.

use mizzen_ebpf_core::features::BpfFeature;
use mizzen_ebpf_loader::{probe_bpf_feature, probe_pins};
use mizzen_netlink::{
    AddressDeviceSpec, BridgeSpec, Conntrack, FlowFamily, FlowFilter, ForwardRule, LinkChange, Mac,
    MasqueradeRule, Netlink, Nft, OverlayTableSpec, PortTableSpec, PrivateKey, Protocol,
    SocketDiag, VethPeer, VethSpec, VxlanSpec, WireguardSpec,
};
use mizzen_nfqueue::{Engine, Options};
use mizzen_plan::doctor::{Feature, Probe, Wanted};
use mizzen_types::error::chain;
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;

type Trial = fn() -> Result<(), Box<dyn Error>>;

/// What is tried in a network of its own.
const TRIALS: [(Feature, Trial); 10] = [
    (Feature::Veth, try_veth),
    (Feature::Bridge, try_bridge),
    (Feature::Dummy, try_address_device),
    (Feature::Vxlan, try_vxlan),
    (Feature::Wireguard, try_wireguard),
    (Feature::Masquerade, try_masquerade),
    (Feature::PortMaps, try_port_maps),
    (Feature::Conntrack, try_conntrack),
    (Feature::Queues, try_queues),
    (Feature::SocketEnd, try_socket_end),
];

/// Tries everything.
pub(super) fn observe(wanted: &Wanted) -> BTreeMap<Feature, Probe> {
    let programs = BpfFeature::ALL.map(|feature| (Feature::Program(feature), program(feature)));
    let mut features = BTreeMap::from(programs);
    features.insert(Feature::BpfFileSystem, of_trial(probe_pins(Path::new(&wanted.pin_dir))));
    match in_network_of_its_own(|| TRIALS.map(|(feature, trial)| (feature, of_trial(trial())))) {
        Ok(tried) => {
            features.insert(Feature::NetworkNamespaces, Probe::Present);
            features.extend(tried);
        }
        Err(error) => {
            let probe = of_error(&error, error.to_string());
            features.insert(Feature::NetworkNamespaces, probe.clone());
            let untried = match probe {
                Probe::Missing(_) => Probe::Untried("it has no network namespaces".to_owned()),
                other => other,
            };
            features.extend(TRIALS.map(|(feature, _)| (feature, untried.clone())));
        }
    }
    features
}

fn program(feature: BpfFeature) -> Probe {
    match probe_bpf_feature(feature) {
        Ok(true) => Probe::Present,
        Ok(false) => Probe::Missing("it refuses to try it".to_owned()),
        Err(error) => of_error(&error, error.to_string()),
    }
}

fn of_trial<E: Into<Box<dyn Error>>>(tried: Result<(), E>) -> Probe {
    let Err(error) = tried else { return Probe::Present };
    let error: Box<dyn Error> = error.into();
    let mut cause: Option<&dyn Error> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(system) = error.downcast_ref::<io::Error>() {
            return of_error(system, chain(error));
        }
        cause = error.source();
    }
    Probe::Missing(chain(error.as_ref()))
}

fn of_error(error: &io::Error, text: String) -> Probe {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Probe::Untried("only root may".to_owned()),
        _ => Probe::Missing(text),
    }
}

/// Does something on a thread that has a network of its own, which goes with it.
fn in_network_of_its_own<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let inside = || -> io::Result<T> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried died")))
    })
}

fn try_veth() -> Result<(), Box<dyn Error>> {
    let here = File::open("/proc/thread-self/ns/net")?;
    let peer = VethPeer { name: "trial-b", namespace: here.as_fd(), mac: None };
    let pair = VethSpec { name: "trial-a", mtu: 1420, alias: None, peer };
    Netlink::open()?.create_veth(&pair)?;
    Ok(())
}

fn try_bridge() -> Result<(), Box<dyn Error>> {
    let (mtu, mac, alias, addresses) = (Some(1420), None, None, Vec::new());
    let bridge = BridgeSpec { name: "trial-c".to_owned(), mtu, mac, alias, addresses };
    Netlink::open()?.ensure_bridge(&bridge)?;
    Ok(())
}

fn try_address_device() -> Result<(), Box<dyn Error>> {
    let (alias, addresses) = (None, Vec::new());
    let device = AddressDeviceSpec { name: "trial-d".to_owned(), alias, addresses };
    Netlink::open()?.ensure_address_device(&device)?;
    Ok(())
}

fn try_vxlan() -> Result<(), Box<dyn Error>> {
    let vxlan = VxlanSpec {
        name: "trial-e".to_owned(),
        vni: 1024,
        port: 64_000,
        mac: Mac([0x70, 0xb3, 0xd5, 0, 0, 1]),
        mtu: 1420,
        local6: None,
        alias: "trial".to_owned(),
        addresses: Vec::new(),
    };
    Netlink::open()?.ensure_vxlan(&vxlan)?;
    Ok(())
}

fn try_wireguard() -> Result<(), Box<dyn Error>> {
    let wireguard = WireguardSpec {
        name: "trial-f".to_owned(),
        mtu: 1420,
        port: 64_001,
        private_key: PrivateKey([7; 32]),
        alias: "trial".to_owned(),
        address: Ipv4Addr::new(192, 0, 2, 1).into(),
    };
    Netlink::open()?.ensure_wireguard(&wireguard)?;
    Ok(())
}

fn try_masquerade() -> Result<(), Box<dyn Error>> {
    let link = "trial-c".to_owned();
    let network = "9.0.0.0/8".parse()?;
    let rule =
        MasqueradeRule { source: network, except: vec![network], inside: vec![link.clone()] };
    let table = OverlayTableSpec {
        table: "trial".to_owned(),
        masquerade: vec![rule],
        forward: vec![
            ForwardRule::DropTo { link: link.clone(), network },
            ForwardRule::FitSegments { link },
        ],
        plain: None,
        untracked: None,
    };
    Nft::open()?.ensure_overlay_table(&table)?;
    Ok(())
}

fn try_port_maps() -> Result<(), Box<dyn Error>> {
    let table = PortTableSpec { table: "trial-ports".to_owned(), except: Vec::new() };
    Nft::open()?.ensure_port_table(&table)?;
    Ok(())
}

fn try_conntrack() -> Result<(), Box<dyn Error>> {
    let nothing = FlowFilter::SentTo { family: FlowFamily::V4, protocol: 6, port: 1 };
    Conntrack::open()?.forget(&nothing)?;
    Ok(())
}

fn try_queues() -> Result<(), Box<dyn Error>> {
    let options = Options {
        table: "trial-vips".to_owned(),
        queues: 1..=1,
        group: 1,
        networks: Vec::new(),
        addresses: Vec::new(),
        masquerade: Vec::new(),
        tuning: Default::default(),
    };
    Engine::open(&options)?;
    Ok(())
}

fn try_socket_end() -> Result<(), Box<dyn Error>> {
    Netlink::open()?.set_link("lo", &LinkChange::new().up())?;
    let there = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let here = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    here.connect(there.local_addr()?)?;
    let mut sockets = SocketDiag::open()?;
    for socket in sockets.observe_connected(Protocol::Udp, there.local_addr()?)? {
        sockets.end(&socket)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_netlink::NetlinkError;

    #[test]
    fn a_kernel_that_runs_these_tests_can_do_everything_and_keeps_nothing() {
        let names = || -> Result<Vec<String>, NetlinkError> {
            let links = Netlink::open()?.observe_links()?;
            Ok(links.into_iter().map(|link| link.name).collect())
        };
        let before = names().unwrap();
        let wanted = Wanted { pin_dir: "/sys/fs/bpf/none".to_owned(), ..Wanted::default() };
        let features = observe(&wanted);
        // Not every kernel can encrypt.
        for (feature, _) in TRIALS.iter().filter(|(feature, _)| *feature != Feature::Wireguard) {
            assert_eq!(features.get(feature), Some(&Probe::Present), "{feature:?}");
        }
        assert_eq!(names().unwrap(), before);
    }

    #[test]
    fn what_is_forbidden_was_not_tried() {
        let forbidden = io::Error::from_raw_os_error(1);
        assert!(matches!(of_trial(Err(forbidden)), Probe::Untried(_)));
        let unknown = io::Error::from_raw_os_error(95);
        assert!(matches!(of_trial(Err(unknown)), Probe::Missing(_)));
    }
}
