//! Connections and datagrams through a node that none of their ends runs on.

use crate::net::{CLIENT, CLIENT6, INSIDE, INSIDE6, Net, ask, counts_when};
use crate::room::{at, backends, in_room, tcp};
use mizzen_ebpf_loader::VipAddress;
use std::net::IpAddr;

const VIP: &str = "11.0.0.1:80";
const VIP6: &str = "[fd01:c::1]:80";

#[test]
fn clients_elsewhere_reach_backends_and_keep_their_addresses() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        for (vip, backend, client) in [(VIP, INSIDE, CLIENT), (VIP6, INSIDE6, CLIENT6)] {
            let client: IpAddr = client.parse().expect("an address");
            let (stream, datagram) = (net.inside.server(backend), net.inside.udp_server(backend));
            dataplane.set_vip(tcp(vip), &backends(&[stream])).expect("room");
            let udp = VipAddress::udp(at(vip));
            dataplane.set_vip(udp, &backends(&[datagram])).expect("room");

            let mut connection = net.client.connect(at(vip)).expect("the VIP answers");
            assert_eq!((connection.backend, connection.seen.ip()), (stream.port(), client));
            assert_eq!(connection.stream.peer_addr().expect("connected"), at(vip));
            assert!(connection.echoes(&vec![7; 3_000_000]), "a large transfer");
            drop(connection);
            let counts =
                counts_when(&dataplane, tcp(vip), stream, "closed", |counts| counts.closed == 1);
            assert_eq!((counts.chosen, counts.started, counts.established), (1, 1, 1));
            assert_eq!((counts.failed, counts.in_flight), (0, 0));
            assert!(counts.connect_micros > 0 && counts.duration_micros > 0, "{counts:?}");

            let socket = net.client.udp(at(vip));
            let largest = if client.is_ipv4() { 1472 } else { 1452 };
            for length in [20, 21, 100, largest, largest - 1, 20] {
                let (name, seen, echoed) = ask(&socket, length).expect("an answer");
                assert_eq!((name, seen.ip(), echoed), (datagram.port(), client, length));
            }
            let counts = counts_when(&dataplane, udp, datagram, "a flow", |_| true);
            assert_eq!((counts.chosen, counts.started, counts.in_flight), (1, 1, 1));
        }
    });
}
