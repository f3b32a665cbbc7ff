//! The same with encrypted tunnels, on a kernel that has WireGuard (`make test-kernel`).

use super::*;
use mizzen_kernel::tunnels::encryption::{handshakes, prepare};
use mizzen_netlink::{PlainTunnels, PrivateKey, WireguardSpec};
use mizzen_plan::overlay::{OwnEncryption, encryption_mtu};
use mizzen_types::encryption::WireguardEnd;
use std::collections::BTreeMap;
use std::time::Instant;

const LINK: &str = "mz-wg0";
const PORT: u16 = 64_001;

impl Node {
    /// From now on its tunnels are encrypted.
    pub(super) fn encrypt(&mut self, plain: PlainPackets) {
        let key = PrivateKey([self.last; 32]);
        let spec = WireguardSpec {
            name: LINK.into(),
            address: self.own.underlay,
            mtu: encryption_mtu(self.own.underlay, self.own.underlay_mtu),
            port: PORT,
            private_key: key.clone(),
            alias: MARK.into(),
        };
        let public_key = self.namespace.run(|| prepare(&spec).unwrap());
        let end = WireguardEnd { public_key, port: PORT, plain };
        self.own.encryption = Some(OwnEncryption { end, link: LINK.into() });
        self.peers.set_own(Some(self.own.clone()));
        let refused = || PlainTunnels { port: self.own.grant.port, link: LINK.into() };
        self.spec.plain = (plain == PlainPackets::Refused).then(refused);
        self.tunnels = self.namespace.run(|| Tunnels::open(MARK.into()).unwrap().with_key(key));
    }

    /// Counts what arrives from the wire.
    fn count_arrivals(&self) {
        let rules = "add table inet watch
            add counter inet watch plain
            add counter inet watch encrypted
            add chain inet watch arrivals { type filter hook prerouting priority -400 ; }
            add rule inet watch arrivals iifname eth0 udp dport 64000 counter name plain
            add rule inet watch arrivals iifname eth0 udp dport 64001 counter name encrypted";
        let status = self.namespace.run(|| Command::new("nft").arg(rules).status().unwrap());
        assert!(status.success());
    }

    /// How many plain and how many encrypted packets have arrived from the wire.
    fn arrived(&self) -> [u64; 2] {
        ["plain", "encrypted"].map(|name| {
            let words = ["list", "counter", "inet", "watch", name];
            let said = self.namespace.run(|| Command::new("nft").args(words).output().unwrap());
            let text = String::from_utf8(said.stdout).unwrap();
            let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
            words.nth(1).unwrap().parse().unwrap()
        })
    }

    /// Passes until hands were shaken with everybody.
    fn await_handshakes(&mut self) {
        let begun = Instant::now();
        while self.reconcile().unproven > 0 {
            assert!(begun.elapsed() < Duration::from_secs(30), "no handshake");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn packets_are_encrypted_over_either_family() {
    for v6 in [false, true] {
        let [mut a, b] = two(Cluster { v6, encryption: Some(PlainPackets::Refused), ..USUAL });
        b.count_arrivals();
        let (first, second) = (a.container(0), b.container(0));
        reaches((&a, &first), (&b, &second), 0);
        reaches((&b, &second), (&a, &first), 0);
        let [plain, encrypted] = b.arrived();
        assert!(plain == 0 && encrypted > 6, "{plain} plain, {encrypted} encrypted");
        let shook = a.namespace.run(|| handshakes(LINK).unwrap());
        assert!(shook.len() == 1 && shook.values().all(Option::is_some), "{shook:?}");

        // A new process removes nobody whom it does not know yet, and finds all as it should be.
        a.encrypt(PlainPackets::Refused);
        let nobody = Desired { peers: BTreeMap::new(), ..a.peers.desired() };
        let (tunnels, namespace) = (&mut a.tunnels, &a.namespace);
        namespace.run(|| tunnels.reconcile(&nobody, Removals::Later));
        reaches((&a, &first), (&b, &second), 0);
        assert_eq!(a.pass(), 0);
    }
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn nothing_leaves_or_arrives_in_plain_whatever_somebody_removes() {
    let [mut a, mut b] = two(Cluster { encryption: Some(PlainPackets::Refused), ..USUAL });
    let (first, second) = (a.container(0), b.container(0));
    b.count_arrivals();
    for harm in [
        "link del mz-wg0",
        "link set mz-wg0 down",
        "rule del priority 9998",
        "route flush table 109",
    ] {
        a.ip(harm);
        refused(&first, ip("9.0.2.9"));
        assert_eq!(b.arrived()[0], 0, "{harm}");
        assert!(a.pass() > 0, "{harm}");
        reaches((&a, &first), (&b, &second), 0);
        assert_eq!(a.pass(), 0, "{harm}");
    }
    // Somebody on the wire sends packets of the tunnel in the other node's name.
    a.ip("rule del priority 9998");
    let nft = |rules: &str| {
        let status = a.namespace.run(|| Command::new("nft").args(rules.split(' ')).status());
        assert!(status.unwrap().success(), "{rules}");
    };
    nft("delete table inet mizzen-test");
    assert_eq!(refused(&first, ip("9.0.2.9")), std::io::ErrorKind::TimedOut);
    assert!(b.arrived()[0] > 0, "plain packets came as far as the node");
    assert!(a.pass() > 0);
    reaches((&a, &first), (&b, &second), 0);
    assert_eq!(b.pass(), 0);
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn a_cluster_changes_node_by_node_and_stays_connected() {
    for v6 in [false, true] {
        change_node_by_node(two(Cluster { v6, ..USUAL }));
    }
}

fn change_node_by_node([mut a, mut b]: [Node; 2]) {
    let (first, second) = (a.container(0), b.container(0));
    b.count_arrivals();
    a.encrypt(PlainPackets::Taken);
    b.hear(&a);
    for node in [&mut a, &mut b] {
        node.pass();
    }
    reaches((&a, &first), (&b, &second), 0);
    let [plain, encrypted] = b.arrived();
    assert!(plain > 0 && encrypted == 0, "{plain} plain, {encrypted} encrypted");

    // The other one follows. One of them knows of it first, and waits for the other.
    b.encrypt(PlainPackets::Taken);
    a.hear(&b);
    a.pass();
    reaches((&a, &first), (&b, &second), 0);
    b.pass();
    reaches((&a, &first), (&b, &second), 0);
    for node in [&mut a, &mut b] {
        node.await_handshakes();
        assert_eq!(node.pass(), 0);
    }
    let before = b.arrived();
    reaches((&a, &first), (&b, &second), 0);
    let after = b.arrived();
    assert!(after[0] == before[0] && after[1] > before[1], "{before:?} {after:?}");

    // Now plain packets are refused, by one and then by the other.
    for round in 0..2 {
        let [from, to] = if round == 0 { [&mut a, &mut b] } else { [&mut b, &mut a] };
        from.encrypt(PlainPackets::Refused);
        to.hear(from);
        from.pass();
        reaches((&a, &first), (&b, &second), 0);
        b.pass();
        a.pass();
        reaches((&a, &first), (&b, &second), 0);
    }
    assert_eq!(b.arrived()[0], before[0]);
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn a_node_that_encrypts_leaves_nothing() {
    let [mut a, _b] = two(Cluster { encryption: Some(PlainPackets::Refused), ..USUAL });
    a.peers.set_own(None);
    assert!(a.reconcile().problems.is_empty());
    assert!(a.link(LINK).is_none());
    let mut netlink = a.namespace.netlink();
    assert!(netlink.observe_rules(PROTOCOL).unwrap().is_empty());
    assert!(netlink.observe_routes(PROTOCOL).unwrap().is_empty());
}
