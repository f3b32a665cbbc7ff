//! Paths with a narrow leg, which only ICMP errors tell of, and short lives.
//!
//! ```text
//!  client ── a ── first ── b ── node ── c ── second ── d ── server
//! ```

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mizzen_ebpf_loader::{Dataplane, Options, VipAddress};
use mizzen_netlink::LinkChange;

use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::namespace::{Namespace, wire};
use mizzen_tests_support::room::{Room, at, in_room};
use mizzen_tests_support::wait::eventually;

#[test]
fn a_narrow_leg_is_found_out_wherever_it_is() {
    in_room(|room| {
        for leg in ["a", "b", "c", "d"] {
            let chain = Chain::new(room, leg);
            for (vip, server) in [("11.0.0.1:80", "10.0.13.2"), ("[fd01:c::1]:80", "fd00:d::2")] {
                let mut dataplane = chain.open();
                let stream = chain.server.server(server);
                dataplane.set_vip(tcp(vip), &backends(&[stream])).expect("room");
                let mut connection = chain.client.connect(at(vip)).expect("the VIP answers");
                assert!(connection.echoes(&vec![1; 400_000]), "{vip}, narrow at {leg}");

                let datagram = chain.server.udp_server(server);
                let udp = VipAddress::udp(at(vip));
                dataplane.set_vip(udp, &backends(&[datagram])).expect("room");
                assert!(learns(&chain.client, udp.socket), "{vip}/udp, narrow at {leg}");
            }
        }
    });
}

/// Whether a client whose datagrams are too large is told so, and gets through with smaller ones.
fn learns(client: &Namespace, vip: SocketAddr) -> bool {
    let socket = client.udp(vip);
    never_fragment(&socket, vip);
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
    let mut told = false;
    eventually("an error tells the size", || {
        // The server's answers are as large, so it has to learn as well.
        told = ask(&socket, 1452).is_err_and(|error| error.raw_os_error() == Some(libc::EMSGSIZE));
        told
    });
    let mut answered = false;
    eventually("smaller ones get through", || {
        answered = ask(&socket, 1200).is_ok();
        answered
    });
    told && answered
}

fn never_fragment(socket: &UdpSocket, vip: SocketAddr) {
    let (level, option, always) = match vip {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
    };
    let length = size_of_val(&always) as libc::socklen_t;
    // SAFETY: the option is one number.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const always).cast(), length)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

struct Chain {
    client: Namespace,
    node: Namespace,
    server: Namespace,
    options: Options,
    _routers: [Namespace; 2],
}

impl Chain {
    /// With a leg of 1280 bytes and three of 1500.
    fn new(room: &Room, narrow: &str) -> Self {
        let [client, first, node, second, server] = std::array::from_fn(|_| Namespace::new());
        let legs = [
            ("a", &client, &first, 10),
            ("b", &first, &node, 11),
            ("c", &node, &second, 12),
            ("d", &second, &server, 13),
        ];
        for (leg, left, right, number) in legs {
            wire(left, leg, right, leg);
            let mtu = if leg == narrow { 1280 } else { 1500 };
            for (end, namespace) in [(1, left), (2, right)] {
                namespace.set(leg, &LinkChange::new().mtu(mtu));
                let letter = (b'a' + number - 10) as char;
                let v4 = format!("10.0.{number}.{end}/24");
                namespace.address(leg, &[&v4, &format!("fd00:{letter}::{end}/64")]);
            }
        }
        [&first, &node, &second].iter().for_each(|router| router.forward());
        client.default_routes("10.0.10.2", "fd00:a::2");
        first.default_routes("10.0.11.2", "fd00:b::2");
        node.route("10.0.10.0/24", "10.0.11.1");
        node.route("fd00:a::/64", "fd00:b::1");
        node.default_routes("10.0.12.2", "fd00:c::2");
        second.default_routes("10.0.12.1", "fd00:c::1");
        server.default_routes("10.0.13.1", "fd00:d::1");
        let options =
            Options { cgroup: room.child_cgroup(&format!("nobody-{narrow}")), ..room.options() };
        let chain = Self { client, node, server, options, _routers: [first, second] };
        let server = chain.server.server("fd00:d::2");
        eventually("a connection without a VIP", || chain.client.connect(server).is_ok());
        chain
    }

    fn open(&self) -> Dataplane {
        let mut dataplane = Dataplane::open(&self.options).expect("loadable");
        let wanted = ["b", "c"].map(|name| self.node.wanted(name));
        let followed = self.node.run(|| dataplane.follow_links(&wanted)).expect("loadable");
        assert!(followed.errors.is_empty(), "{:?}", followed.errors);
        dataplane
    }
}
