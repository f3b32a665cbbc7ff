//! A client, a node and what is behind it, without a way out:
//!
//! ```text
//!                              ┌────────────── node ──────────────┐    ┌─ p1 ── inside 10.2.0.2, fd00:2::2
//!  client 10.1.0.2, fd00:1::2 ─┤ eth0 10.1.0.1      m-br 10.2.0.1 ├────┤
//!                              └──────────────────────────────────┘    └─ p2 ── beside 10.2.0.3, fd00:2::3
//! ```
//!
//! None of them is below the hooked cgroup. The kernel takes all back when the test ends, however it ends.

use std::net::SocketAddr;

use mizzen_ebpf_loader::{Counts, Dataplane, LinkWanted, Options, VipAddress};
use mizzen_netlink::{BridgeSpec, LinkChange};
use mizzen_tests_support::namespace::{Namespace, wire};
use mizzen_tests_support::room::Room;
use mizzen_tests_support::wait::eventually;

use crate::offload::{Offload, set_offload};

pub const CLIENT: &str = "10.1.0.2";
pub const CLIENT6: &str = "fd00:1::2";
pub const INSIDE: &str = "10.2.0.2";
pub const INSIDE6: &str = "fd00:2::2";
pub const BESIDE: &str = "10.2.0.3";
pub const NODE: &str = "10.9.9.9";
pub const NODE6: &str = "fd00:9::9";

/// Where a test plays.
pub struct Net {
    pub client: Namespace,
    pub node: Namespace,
    pub inside: Namespace,
    pub beside: Namespace,
    pub options: Options,
}

impl Net {
    pub fn new(room: &Room) -> Self {
        let options = Options { cgroup: room.child_cgroup("nobody"), ..room.options() };
        let [client, node, inside, beside] = std::array::from_fn(|_| Namespace::new());
        wire(&node, "eth0", &client, "up");
        wire(&node, "p1", &inside, "up");
        wire(&node, "p2", &beside, "up");
        node.address("eth0", &["10.1.0.1/24", "fd00:1::1/64"]);
        node.address("lo", &["10.9.9.9/32", "fd00:9::9/128"]);
        let bridge = BridgeSpec {
            name: "m-br".to_owned(),
            mtu: None,
            mac: None,
            alias: None,
            addresses: Vec::new(),
        };
        let bridge = node.netlink().ensure_bridge(&bridge).expect("a bridge").into_inner();
        for port in ["p1", "p2"] {
            node.set(port, &LinkChange::new().up().master(bridge.index));
        }
        client.address("up", &["10.1.0.2/24", "fd00:1::2/64"]);
        inside.address("up", &["10.2.0.2/24", "fd00:2::2/64"]);
        beside.address("up", &["10.2.0.3/24", "fd00:2::3/64"]);
        node.address("m-br", &["10.2.0.1/24", "fd00:2::1/64"]);
        node.forward();
        client.default_routes("10.1.0.1", "fd00:1::1");
        inside.default_routes("10.2.0.1", "fd00:2::1");
        beside.default_routes("10.2.0.1", "fd00:2::1");
        let net = Self { client, node, inside, beside, options };
        // The neighbours of new IPv6 links need a moment to find each other.
        let server = net.inside.server(INSIDE6);
        for namespace in [&net.client, &net.node, &net.beside] {
            eventually("a connection without a VIP", || namespace.connect(server).is_ok());
        }
        net
    }

    /// Switches offload at the node's ends.
    pub fn set_offload_of_node(&self, offload: Offload) {
        for link in ["eth0", "p1", "p2", "m-br"] {
            set_offload(&self.node, link, offload);
        }
    }

    /// Switches offload at all other ends.
    pub fn set_offload(&self, offload: Offload) {
        for namespace in [&self.client, &self.inside, &self.beside] {
            set_offload(namespace, "up", offload);
        }
    }

    /// The programs on all links of the node.
    pub fn open(&self) -> Dataplane {
        let mut dataplane = Dataplane::open(&self.options).expect("loadable");
        self.follow(&mut dataplane, &["eth0", "m-br", "p1", "p2"]);
        dataplane
    }

    /// The programs on these links of the node and no others; returns on how many they were not before.
    pub fn follow(&self, dataplane: &mut Dataplane, names: &[&str]) -> usize {
        let wanted: Vec<LinkWanted> = names.iter().map(|name| self.node.wanted(name)).collect();
        let followed = self.node.run(|| dataplane.follow_links(&wanted)).expect("loadable");
        assert!(followed.errors.is_empty(), "{:?}", followed.errors);
        followed.attached.len()
    }
}

/// Counts of the one backend, once they fulfil a condition.
pub fn counts_when(
    dataplane: &Dataplane,
    vip: VipAddress,
    backend: SocketAddr,
    what: &str,
    condition: impl Fn(&Counts) -> bool,
) -> Counts {
    let mut counts = Counts::default();
    eventually(what, || {
        counts = dataplane.counters().expect("readable maps")[&(vip, backend)];
        condition(&counts)
    });
    counts
}
