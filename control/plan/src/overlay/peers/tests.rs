//! Tables of the planner.

use super::*;
use crate::overlay::desired::Trust;
use mizzen_types::encryption::{PlainPackets, PublicKey, WireguardEnd};
use mizzen_types::overlay::{Mac, NodeShare, Overlay, OverlayShare, Vtep};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn share(name: &str, vni: u32, networks: &[&str], blocks: &[&str]) -> OverlayShare {
    let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let overlay = Overlay { name: name.into(), vni, networks: nets(networks), mtu: 1420 };
    OverlayShare { overlay, blocks: nets(blocks) }
}

fn own(shares: Vec<OverlayShare>) -> Own {
    let vtep = Vtep {
        addresses: vec!["44.128.0.1/20".parse().unwrap(), "fd01:a::1/64".parse().unwrap()],
        mac: "70:b3:d5:80:00:01".parse().unwrap(),
    };
    let links =
        shares.iter().map(|share| (share.overlay.vni, format!("vtep{}", share.overlay.vni)));
    let links = links.collect();
    Own {
        grant: OverlayGrant { vtep, port: 64_000, habits: Habits::Ours, shares },
        underlay: ip("10.0.0.1"),
        underlay_mtu: Some(1500),
        links,
        gateways: [("dcos".to_owned(), vec![ip("9.0.0.1")])].into(),
        encryption: None,
    }
}

fn dcos() -> Own {
    own(vec![share("dcos", 1024, &["9.0.0.0/8", "fd01:b::/64"], &["9.0.0.0/24", "fd01:b::/80"])])
}

/// Node `last`, with its end of the tunnels by that number.
fn node(last: u8, shares: &[(&str, u32, &[&str])]) -> NodeOverlay {
    let share = |(name, vni, blocks): &(&str, u32, &[&str])| NodeShare {
        name: (*name).to_owned(),
        vni: *vni,
        blocks: blocks.iter().map(|block| block.parse().unwrap()).collect(),
    };
    NodeOverlay {
        underlay: vec![IpAddr::from([10, 0, 0, last])],
        underlay_mtu: None,
        vtep: vec![IpAddr::from([44, 128, 0, last]), ip(&format!("fd01:a::{last:x}"))],
        mac: Mac([0x70, 0xb3, 0xd5, 0x80, 0, last]),
        shares: shares.iter().map(share).collect(),
        wireguard: None,
    }
}

fn peers(own: Own) -> Peers {
    let mut peers = Peers::new("m".into());
    assert!(peers.set_own(Some(own)).is_empty());
    peers
}

/// Where routes to a node lead, as text.
fn routes(peers: &Peers, node: &str) -> String {
    let entries = peers.entries.get(&node.into());
    let routes = entries.iter().flat_map(|entries| &entries.routes);
    let text = |route: &PeerRoute| format!("{} via {}", route.destination, route.via);
    routes.map(text).collect::<Vec<_>>().join(", ")
}

fn problems(peers: &Peers) -> Vec<String> {
    peers.problems().map(|(node, problem)| format!("{node} {problem}")).collect()
}

#[test]
fn a_node_comes_moves_and_goes() {
    let mut peers = peers(dcos());
    let at = node(2, &[("dcos", 1024, &["9.0.1.0/24", "fd01:b::1:0:0:0/80"])]);
    let changes = peers.apply(&"n2".into(), Some(&at));
    assert_eq!((changes.len(), changes[0].before.clone()), (1, None));
    let entries = changes[0].after.clone().unwrap();
    let mac = at.mac;
    assert_eq!(entries.forwarding, [Forwarding { vni: 1024, mac, underlay: ip("10.0.0.2") }]);
    assert_eq!(entries.neighbours.len(), 2);
    assert_eq!(
        entries.routes[0],
        PeerRoute {
            vni: 1024,
            destination: "9.0.1.0/24".parse().unwrap(),
            via: ip("44.128.0.2"),
            table: RouteTable::Main,
            source: Some(ip("9.0.0.1")),
            mtu: None,
        }
    );
    assert_eq!(entries.routes[1].via, ip("fd01:a::2"));
    assert!(peers.apply(&"n2".into(), Some(&at)).is_empty(), "it says the same");

    let moved = NodeOverlay { underlay: vec![ip("10.0.0.77")], ..at };
    let changes = peers.apply(&"n2".into(), Some(&moved));
    assert_eq!(changes[0].before, Some(entries));
    assert_eq!(changes[0].after.as_ref().unwrap().forwarding[0].underlay, ip("10.0.0.77"));
    let desired = peers.desired();
    assert_eq!(desired.tunnels[&1024].link, "vtep1024");
    let addresses: Vec<String> =
        desired.tunnels[&1024].addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["44.128.0.1/20", "fd01:a::1/128"]);
    assert_eq!((desired.networks.len(), desired.sources.len()), (2, 0));

    let changes = peers.apply(&"n2".into(), None);
    assert!(changes[0].after.is_none());
    assert_eq!(peers.desired(), Desired::default(), "alone, a node makes nothing");
}

/// A name, nodes with what they say, where routes to the first one lead, and complaints.
type Row = (&'static str, Vec<(&'static str, NodeOverlay)>, &'static str, &'static [&'static str]);

#[test]
fn what_is_not_believed() {
    let dcos_of = |last, blocks: &'static [&'static str]| node(last, &[("dcos", 1024, blocks)]);
    let with_end = |mut fact: NodeOverlay, vtep: &str| {
        fact.vtep = vec![ip(vtep)];
        fact
    };
    let with_mac = |mut fact: NodeOverlay, last: u8| {
        fact.mac.0[5] = last;
        fact
    };
    let mut six = dcos_of(2, &["9.0.1.0/24"]);
    six.underlay = vec![ip("fd00::2")];
    #[rustfmt::skip]
    let table: Vec<Row> = vec![
        ("this node's block", vec![("a", dcos_of(2, &["9.0.0.0/24", "9.0.1.0/24"]))], "9.0.1.0/24 via 44.128.0.2",
            &["a claims 9.0.0.0/24 of overlay `dcos`, which is this node's"]),
        ("around this node's block", vec![("a", dcos_of(2, &["9.0.0.0/22"]))], "",
            &["a claims 9.0.0.0/22 of overlay `dcos`, which is this node's"]),
        ("a part of this node's block", vec![("a", dcos_of(2, &["9.0.0.64/26"]))], "",
            &["a claims 9.0.0.64/26 of overlay `dcos`, which is this node's"]),
        ("outside", vec![("a", dcos_of(2, &["10.0.1.0/24"]))], "",
            &["a claims 10.0.1.0/24, which is outside of overlay `dcos`"]),
        ("two want one", vec![("b", dcos_of(3, &["9.0.1.0/24"])), ("a", dcos_of(2, &["9.0.1.0/24"]))], "9.0.1.0/24 via 44.128.0.2",
            &["b claims 9.0.1.0/24 of overlay `dcos`, which is node a's"]),
        ("one in the other", vec![("a", dcos_of(2, &["9.0.1.0/24"])), ("b", dcos_of(3, &["9.0.0.0/16"]))], "9.0.1.0/24 via 44.128.0.2",
            &["b claims 9.0.0.0/16 of overlay `dcos`, which is this node's"]),
        ("the larger one first", vec![("a", dcos_of(2, &["9.0.2.0/23"])), ("b", dcos_of(3, &["9.0.3.0/24"]))], "9.0.2.0/23 via 44.128.0.2",
            &["b claims 9.0.3.0/24 of overlay `dcos`, which is node a's"]),
        ("this node's end", vec![("a", with_end(dcos_of(2, &["9.0.1.0/24"]), "44.128.0.1"))], "",
            &["a claims 44.128.0.1 for its end of the tunnels, which is node m's"]),
        ("this node's MAC", vec![("a", with_mac(dcos_of(2, &["9.0.1.0/24"]), 1))], "",
            &["a claims 70:b3:d5:80:00:01 for its end of the tunnels, which is node m's"]),
        ("another one's end", vec![("a", dcos_of(2, &["9.0.1.0/24"])), ("b", with_end(dcos_of(3, &["9.0.2.0/24"]), "44.128.0.2"))], "9.0.1.0/24 via 44.128.0.2",
            &["b claims 44.128.0.2 for its end of the tunnels, which is node a's"]),
        ("another number", vec![("a", node(2, &[("dcos", 7, &["9.0.1.0/24"])]))], "",
            &["a has overlay `dcos` under number 7, this node under 1024"]),
        ("another overlay", vec![("a", node(2, &[("web", 7, &["10.0.1.0/24"])]))], "", &[]),
        ("IPv6 only", vec![("a", six)], "",
            &["a has no IPv4 address under the tunnels, and this node has no other"]),
    ];
    for (name, nodes, want, complaints) in table {
        for backwards in [false, true] {
            let mut peers = peers(dcos());
            let mut nodes = nodes.clone();
            if backwards {
                nodes.reverse();
            }
            for (node, fact) in &nodes {
                peers.apply(&(*node).into(), Some(fact));
            }
            assert_eq!(routes(&peers, "a"), want, "{name}");
            assert_eq!(problems(&peers), complaints, "{name}");
        }
    }
}

#[test]
fn who_lost_gets_it_when_the_winner_goes() {
    let mut peers = peers(dcos());
    let (a, b) =
        (node(2, &[("dcos", 1024, &["9.0.1.0/24"])]), node(3, &[("dcos", 1024, &["9.0.1.0/24"])]));
    peers.apply(&"b".into(), Some(&b));
    let changes = peers.apply(&"a".into(), Some(&a));
    let who: Vec<&str> = changes.iter().map(|change| change.peer.as_str()).collect();
    assert_eq!((who, routes(&peers, "b")), (vec!["a", "b"], String::new()));
    let changes = peers.apply(&"a".into(), None);
    assert_eq!((changes.len(), routes(&peers, "b").as_str()), (2, "9.0.1.0/24 via 44.128.0.3"));
    assert!(problems(&peers).is_empty());
    // This node gets the block: nobody else has it any more.
    let mut mine = dcos();
    mine.grant.shares[0].blocks.push("9.0.1.0/24".parse().unwrap());
    peers.set_own(Some(mine));
    assert_eq!((routes(&peers, "b").as_str(), problems(&peers).len()), ("", 1));
}

#[test]
fn the_dead_are_reached_until_somebody_has_their_blocks() {
    let mut peers = peers(dcos());
    let a = node(2, &[("dcos", 1024, &["9.0.1.0/24", "9.0.2.0/24"])]);
    peers.apply(&"a".into(), Some(&a));
    assert!(peers.set_dead(&"a".into()).is_empty(), "its containers may run");
    assert!(peers.is_dead(&"a".into()));
    // The registry gave one of its blocks away, to a node that would lose to a living one.
    let b = node(3, &[("dcos", 1024, &["9.0.1.0/24"])]);
    assert_eq!(peers.apply(&"b".into(), Some(&b)).len(), 2);
    assert_eq!(routes(&peers, "a"), "9.0.2.0/24 via 44.128.0.2");
    assert_eq!(routes(&peers, "b"), "9.0.1.0/24 via 44.128.0.3");
    // It comes back and still says that it has it: so it does.
    assert_eq!(peers.apply(&"a".into(), Some(&a)).len(), 2);
    assert_eq!((routes(&peers, "b").as_str(), peers.is_dead(&"a".into())), ("", false));
    peers.set_dead(&"a".into());
    assert_eq!(peers.apply(&"a".into(), None).len(), 1, "it is forgotten");
    assert_eq!(routes(&peers, "a"), "");
    assert!(peers.set_dead(&"x".into()).is_empty());
}

#[test]
fn a_node_that_speaks_for_itself_has_what_was_said_of_it_before() {
    let mut peers = peers(dcos());
    let block = node(2, &[("dcos", 1024, &["9.0.2.0/24"])]);
    let before = foreign_peer(ip("10.0.0.2"));
    peers.apply(&before, Some(&block));
    assert_eq!(routes(&peers, before.as_str()), "9.0.2.0/24 via 44.128.0.2");
    peers.apply(&"z".into(), Some(&block));
    assert_eq!(routes(&peers, "z"), "9.0.2.0/24 via 44.128.0.2");
    assert_eq!(routes(&peers, before.as_str()), "");
    peers.apply(&before, None);
    assert_eq!(
        (routes(&peers, "z").as_str(), problems(&peers)),
        ("9.0.2.0/24 via 44.128.0.2", vec![])
    );
}

#[test]
fn what_this_machine_was_before_it_joined_anew_is_no_neighbour() {
    let mut peers = peers(dcos());
    peers.apply(&"before".into(), Some(&node(1, &[("dcos", 1024, &["9.0.2.0/24"])])));
    assert_eq!(routes(&peers, "before"), "");
}

#[test]
fn narrow_paths_have_smaller_packets() {
    let fact = node(2, &[("dcos", 1024, &["9.0.1.0/24"])]);
    let mtu = |peers: &Peers| peers.entries[&"a".into()].routes[0].mtu;
    #[rustfmt::skip]
    let table = [
        ("nothing is narrow",    Some(1500), None,       None,       None),
        ("nothing is known",     None,       None,       None,       None),
        ("this node's link",     Some(1460), None,       None,       Some(1410)),
        ("the other one's link", Some(1500), Some(1460), None,       Some(1410)),
        ("in between",           Some(9000), Some(9000), Some(1400), Some(1350)),
        ("far too narrow",       Some(1500), None,       Some(600),  Some(1280)),
    ];
    for (name, ours, theirs, probed, want) in table {
        let mut peers = peers(Own { underlay_mtu: ours, ..dcos() });
        peers.apply(&"a".into(), Some(&NodeOverlay { underlay_mtu: theirs, ..fact.clone() }));
        peers.probed(&"a".into(), probed);
        assert_eq!(mtu(&peers), want, "{name}");
    }
}

/// What a node with this key says.
fn encrypting(key: u8, plain: PlainPackets) -> WireguardEnd {
    WireguardEnd { public_key: PublicKey([key; 32]), port: 64_001, plain }
}

fn own_encrypting(plain: PlainPackets) -> Own {
    let encryption = OwnEncryption { end: encrypting(1, plain), link: "mz-wg0".into() };
    Own { encryption: Some(encryption), ..dcos() }
}

#[test]
fn packets_are_encrypted_where_both_can_and_refused_where_one_must() {
    use PlainPackets::{Refused, Taken};
    let (must, can) = (Some(Refused), Some(Taken));
    let trust = |trust| Ok(Some(trust));
    #[rustfmt::skip]
    let table = [
        (None, None, Ok(None)),
        (None, can,  Ok(None)),
        (None, must, Err("a takes encrypted packets only, and this node does not encrypt")),
        (can,  None, Ok(None)),
        (can,  can,  trust(Trust::AfterHandshake)),
        (can,  must, trust(Trust::AtOnce)),
        (must, None, Err("a does not encrypt, and this node takes encrypted packets only")),
        (must, can,  trust(Trust::AtOnce)),
        (must, must, trust(Trust::AtOnce)),
    ];
    for (ours, theirs, want) in table {
        let mut peers = peers(ours.map_or_else(dcos, own_encrypting));
        let mut fact = node(2, &[("dcos", 1024, &["9.0.1.0/24"])]);
        fact.wireguard = theirs.map(|plain| encrypting(2, plain));
        peers.apply(&"a".into(), Some(&fact));
        let entries = peers.entries.get(&"a".into());
        let name = format!("{ours:?} {theirs:?}");
        match want {
            Ok(want) => {
                let found = entries.unwrap().encryption;
                assert_eq!(found.map(|peer| peer.trust), want, "{name}");
                if let Some(peer) = found {
                    assert_eq!(peer.public_key, PublicKey([2; 32]));
                    assert_eq!(peer.endpoint.to_string(), "10.0.0.2:64001");
                }
                let mtu = entries.unwrap().routes[0].mtu;
                assert_eq!(mtu, found.map(|_| 1500 - 60 - 50), "{name}");
            }
            Err(problem) => assert_eq!((entries, problems(&peers)), (None, vec![problem.into()])),
        }
    }
}

#[test]
fn the_link_that_encrypts_is_there_before_anybody_else_is_known() {
    let peers = peers(own_encrypting(PlainPackets::Taken));
    let desired = peers.desired();
    let end = desired.encryption.unwrap();
    assert_eq!((desired.tunnels.len(), desired.peers.len()), (0, 0));
    assert_eq!((end.mtu, end.port, end.tunnel_port), (1440, 64_001, 64_000));
    let over_six = Own { underlay: ip("2001:db8::1"), ..own_encrypting(PlainPackets::Taken) };
    assert_eq!(encryption::end(&over_six).unwrap().mtu, 1420);
}

#[test]
fn nobody_takes_a_key_or_an_address_that_packets_are_encrypted_for() {
    let at = |last: u8, key: u8, block: &str| {
        let mut fact = node(last, &[("dcos", 1024, &[block])]);
        fact.wireguard = Some(encrypting(key, PlainPackets::Taken));
        fact
    };
    let moved = |mut fact: NodeOverlay, address: &str| {
        fact.underlay = vec![ip(address)];
        fact
    };
    let first = || at(2, 2, "9.0.1.0/24");
    let key = |last: u8| PublicKey([last; 32]);
    for (rival, problem) in [
        (at(3, 2, "9.0.2.0/24"), format!("claims key {}", key(2))),
        (at(3, 1, "9.0.2.0/24"), format!("claims key {}", key(1))),
        (moved(at(3, 3, "9.0.2.0/24"), "10.0.0.2"), "claims 10.0.0.2".to_owned()),
        (moved(at(3, 3, "9.0.2.0/24"), "10.0.0.1"), "claims 10.0.0.1".to_owned()),
    ] {
        let mut peers = peers(own_encrypting(PlainPackets::Taken));
        peers.apply(&"b".into(), Some(&rival));
        peers.apply(&"a".into(), Some(&first()));
        assert_eq!(routes(&peers, "a"), "9.0.1.0/24 via 44.128.0.2", "{problem}");
        assert_eq!(routes(&peers, "b"), "", "{problem}");
        let told = problems(&peers);
        assert!(told.len() == 1 && told[0].starts_with(&format!("b {problem}")), "{told:?}");
    }
}

#[test]
fn several_overlays_have_tunnels_of_their_own_or_share_one() {
    let shares = || {
        vec![
            share("dcos", 1024, &["9.0.0.0/8"], &["9.0.0.0/24"]),
            share("web", 1025, &["10.0.0.0/8"], &["10.0.0.0/24"]),
        ]
    };
    let fact = node(2, &[("dcos", 1024, &["9.0.1.0/24"]), ("web", 1025, &["10.0.1.0/24"])]);
    let mut several = peers(own(shares()));
    several.apply(&"a".into(), Some(&fact));
    let desired = several.desired();
    let ends: Vec<usize> = desired.tunnels.values().map(|t| t.addresses.len()).collect();
    assert_eq!(ends, [2, 0], "the addresses are on one link only");
    assert_eq!(desired.peers[&"a".into()].forwarding.len(), 2);

    let mut one = own(shares());
    one.grant.habits = Habits::Dcos;
    one.grant.shares[1].overlay.vni = 1024;
    let mut one = peers(one);
    let fact = node(2, &[("dcos", 1024, &["9.0.1.0/24"]), ("web", 1024, &["10.0.1.0/24"])]);
    one.apply(&"a".into(), Some(&fact));
    let desired = one.desired();
    assert_eq!((desired.tunnels.len(), desired.sources.len()), (1, 2));
    let entries = &desired.peers[&"a".into()];
    assert_eq!(entries.forwarding.len(), 1);
    let to_node = entries.routes.iter().find(|route| route.table == RouteTable::Dcos).unwrap();
    assert_eq!(to_node.destination.to_string(), "10.0.0.2/32");
}

#[test]
fn a_change_among_many_concerns_few() {
    let mut peers = peers(dcos());
    for number in 0..1000_u16 {
        let [high, low] = (number + 256).to_be_bytes();
        let mut fact = node(0, &[]);
        fact.vtep = vec![IpAddr::from([44, 128, high, low])];
        fact.mac.0[4..].copy_from_slice(&[high, low]);
        let block = format!("9.{high}.{low}.0/24").parse().unwrap();
        fact.shares = vec![NodeShare { name: "dcos".into(), vni: 1024, blocks: vec![block] }];
        let changes = peers.apply(&format!("n{number:04}").as_str().into(), Some(&fact));
        assert_eq!(changes.len(), 1);
    }
    assert_eq!(peers.apply(&"n0500".into(), None).len(), 1);
    assert_eq!((peers.entries().count(), peers.problems().count()), (999, 0));
}
