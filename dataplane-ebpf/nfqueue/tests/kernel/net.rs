//! Three namespaces in a row, without a way out:
//!
//! ```text
//!  client 10.1.0.2 ── 10.1.0.1 node 10.2.0.1 ── 10.2.0.2 backends
//!       fd00:1::2  ── fd00:1::1     fd00:2::1 ── fd00:2::2
//! ```
//!
//! The kernel takes them back when the test ends, however it ends.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mizzen_netlink::LinkChange;
use mizzen_nfqueue::{
    BackendWanted, Counts, Engine, OpenError, Options, Policy, Tuning, VipAddress, VipWanted,
    teardown,
};
use mizzen_tests_support::namespace::{Namespace, wire};
use mizzen_tests_support::wait::{PATIENCE, eventually};

pub const NODE: &str = "10.2.0.1";
pub const CLIENT: &str = "10.1.0.2";
pub const BACKEND: &str = "10.2.0.2";
pub const CLIENT6: &str = "fd00:1::2";
pub const BACKEND6: &str = "fd00:2::2";

/// Where a test plays.
pub struct Net {
    pub client: Namespace,
    pub node: Namespace,
    pub backend: Namespace,
}

impl Net {
    pub fn new() -> Self {
        let [client, node, backend] =
            std::array::from_fn(|_| Namespace::without_duplicate_detection());
        wire(&node, "eth0", &client, "up");
        wire(&node, "eth1", &backend, "up");
        client.address("up", &["10.1.0.2/24", "fd00:1::2/64"]);
        backend.address("up", &["10.2.0.2/24", "fd00:2::2/64"]);
        node.address("eth0", &["10.1.0.1/24", "fd00:1::1/64"]);
        node.address("eth1", &["10.2.0.1/24", "fd00:2::1/64"]);
        client.default_routes("10.1.0.1", "fd00:1::1");
        backend.default_routes("10.2.0.1", "fd00:2::1");
        node.forward();
        let net = Self { client, node, backend };
        // The neighbours of new IPv6 links need a moment to find each other.
        let server = net.backend.server(BACKEND6);
        for namespace in [&net.client, &net.node] {
            eventually("a connection without a VIP", || namespace.connect(server).is_ok());
        }
        net
    }

    /// The engine in the node, serving `vips`.
    pub fn engine(&self, vips: &[VipWanted]) -> Engine {
        self.engine_with(&options(), vips).expect("an engine")
    }

    pub fn engine_with(&self, options: &Options, vips: &[VipWanted]) -> Result<Engine, OpenError> {
        self.node.run(|| {
            let mut engine = Engine::open(options)?;
            engine.set_vips(vips).expect("VIPs");
            engine.serve()?;
            Ok(engine)
        })
    }

    /// Makes packets of at most so many bytes all that gets from the node to the backends and back.
    pub fn narrow_backend_link(&self, mtu: u32) {
        for (namespace, link) in [(&self.node, "eth1"), (&self.backend, "up")] {
            namespace.set(link, &LinkChange::new().mtu(mtu));
        }
    }

    pub fn teardown(&self) -> Result<(), OpenError> {
        self.node.run(|| teardown(&options()))
    }
}

pub fn options() -> Options {
    Options {
        table: "mizzen-test".to_owned(),
        queues: 50..=58,
        group: 50,
        networks: vec![net("11.0.0.0/8"), net("fd01:c::/64")],
        addresses: vec![ip(NODE), ip("fd00:2::1")],
        masquerade: Vec::new(),
        tuning: Tuning::default(),
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Parses an address with a port.
pub fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

/// A VIP at `text` with admitted backends of weight 1.
pub fn tcp(text: &str, backends: &[SocketAddr]) -> VipWanted {
    wanted(VipAddress::tcp(at(text)), backends)
}

pub fn udp(text: &str, backends: &[SocketAddr]) -> VipWanted {
    wanted(VipAddress::udp(at(text)), backends)
}

fn wanted(address: VipAddress, backends: &[SocketAddr]) -> VipWanted {
    let backends = backends.iter().copied().map(BackendWanted::new).collect();
    VipWanted { address, backends, policy: Policy::default() }
}

/// Counts of a backend, once they fulfil a condition.
pub fn counts_when(
    engine: &Engine,
    vip: &VipWanted,
    backend: SocketAddr,
    condition: impl Fn(&Counts) -> bool,
) -> Counts {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counts = engine.counters()[&(vip.address, backend)];
        if condition(&counts) {
            return counts;
        }
        assert!(Instant::now() < deadline, "{backend} has {counts:?}");
        thread::sleep(Duration::from_millis(2));
    }
}
