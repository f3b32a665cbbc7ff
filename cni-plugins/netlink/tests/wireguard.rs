//! Links that encrypt, against the real kernel.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::net::IpAddr;

use mizzen_netlink::{
    Ensured, LinkChange, NetlinkError, PrivateKey, Wireguard, WireguardChange, WireguardPeer,
    WireguardSpec, observe_sysctl,
};
use mizzen_tests_support::namespace::Namespace;

/// What belongs to a secret key of bytes of 7, by RFC 7748.
const PUBLIC: &str = "13be4feaeaf204c7fd3358fc9c00721881d174278128227ec674f37f7fe97b6d";

fn spec() -> WireguardSpec {
    WireguardSpec {
        name: "mz-wg0".into(),
        address: [192, 0, 2, 1].into(),
        mtu: 1440,
        port: 64_001,
        private_key: PrivateKey([7; 32]),
        alias: "mizzen test".into(),
    }
}

fn peer(key: u8, address: &str) -> WireguardPeer {
    let allowed: IpAddr = address.parse().unwrap();
    let endpoint = (allowed, 64_001).into();
    WireguardPeer { public_key: [key; 32], endpoint, allowed, keepalive: 0 }
}

#[test]
fn a_kernel_without_wireguard_says_so() {
    let namespace = Namespace::new();
    let made = namespace.run(|| namespace.netlink().ensure_wireguard(&spec()));
    if let Err(error) = made {
        assert!(error.is_unsupported(), "{error}");
        let missing = Wireguard::open().err().unwrap();
        assert!(missing.is_absent(), "{missing}");
    }
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn a_link_has_its_keys_and_is_mended() {
    let namespace = Namespace::new();
    namespace.run(|| {
        let mut netlink = namespace.netlink();
        let made = netlink.ensure_wireguard(&spec()).unwrap();
        assert!(matches!(&made, Ensured::Created(link) if link.up && link.mtu == 1440), "{made:?}");
        let again = netlink.ensure_wireguard(&spec()).unwrap();
        assert!(matches!(again, Ensured::Unchanged(_)), "{again:?}");

        let state = Wireguard::open().unwrap().observe("mz-wg0").unwrap();
        let public: String =
            state.public_key.unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((public.as_str(), state.port, state.peers.len()), (PUBLIC, 64_001, 0));
        let strict = observe_sysctl("net/ipv4/conf/mz-wg0/rp_filter").unwrap();
        assert_eq!(strict, "2");

        netlink.set_link("mz-wg0", &LinkChange::new().down().mtu(1300)).unwrap();
        let other = WireguardSpec { port: 64_002, private_key: PrivateKey([8; 32]), ..spec() };
        for wanted in [spec(), other] {
            let mended = netlink.ensure_wireguard(&wanted).unwrap();
            assert!(matches!(mended, Ensured::Repaired(_)), "{mended:?}");
        }
        let state = Wireguard::open().unwrap().observe("mz-wg0").unwrap();
        assert_eq!(state.port, 64_002);

        let stranger = WireguardSpec { alias: "somebody".into(), ..spec() };
        let refused = netlink.ensure_wireguard(&stranger).unwrap_err();
        assert!(matches!(refused, NetlinkError::Foreign { .. }), "{refused}");
    });
}

#[test]
#[ignore = "needs WireGuard in the kernel: make test-kernel"]
fn peers_come_change_and_go() {
    let namespace = Namespace::new();
    namespace.run(|| {
        namespace.netlink().ensure_wireguard(&spec()).unwrap();
        let mut wireguard = Wireguard::open().unwrap();
        let all: Vec<WireguardPeer> = (1..=200).map(|n| peer(n, &format!("192.0.2.{n}"))).collect();
        let mut changes: Vec<_> = all.iter().cloned().map(WireguardChange::Set).collect();
        changes.push(WireguardChange::Set(peer(201, "2001:db8::1")));
        wireguard.change_peers("mz-wg0", &changes).unwrap();
        let found = wireguard.observe("mz-wg0").unwrap().peers;
        assert_eq!(found.len(), 201);
        for (wanted, key) in [(&all[99], 100), (&peer(201, "2001:db8::1"), 201)] {
            let found = found.iter().find(|peer| peer.public_key == [key; 32]).unwrap();
            assert_eq!(
                (found.endpoint, &found.allowed[..]),
                (Some(wanted.endpoint), &[wanted.allowed][..])
            );
            assert_eq!((found.keepalive, found.handshake), (0, None));
        }

        // An address moves to another peer, and one that is not there goes.
        let changes = [
            WireguardChange::Remove([1; 32]),
            WireguardChange::Remove([250; 32]),
            WireguardChange::Set(peer(2, "192.0.2.3")),
        ];
        wireguard.change_peers("mz-wg0", &changes).unwrap();
        let found = wireguard.observe("mz-wg0").unwrap().peers;
        let of = |key: u8| found.iter().find(|peer| peer.public_key == [key; 32]);
        assert!(of(1).is_none() && of(250).is_none());
        assert_eq!(of(2).unwrap().allowed, ["192.0.2.3".parse::<IpAddr>().unwrap()]);
        assert!(of(3).unwrap().allowed.is_empty());
        let absent = wireguard.observe("nobody").unwrap_err();
        assert!(absent.is_absent(), "{absent}");
    });
}
