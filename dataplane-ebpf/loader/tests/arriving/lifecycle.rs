//! Restarts, links that come and go, and removal, under traffic.

use mizzen_tests_support::load::{Load, while_loaded};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};

use mizzen_ebpf_loader::{Attachment, Dataplane, teardown};
use mizzen_netlink::LinkChange;

use crate::net::{INSIDE, INSIDE6, Net};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::namespace::{Namespace, wire};
use mizzen_tests_support::room::{at, in_room};
use mizzen_tests_support::wait::eventually;

const VIP: &str = "11.0.0.1:80";
const LINKS: [&str; 4] = ["eth0", "m-br", "p1", "p2"];

#[test]
fn restarts_lose_no_connection() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let servers = [net.inside.server(INSIDE), net.inside.server(INSIDE)];
        dataplane.set_vip(tcp(VIP), &backends(&servers)).expect("room");
        drop(dataplane);
        let mut held = net.client.connect(at(VIP)).expect("VIPs work while no daemon runs");
        let connects = under_load(&net.client, || {
            for _ in 0..10 {
                let mut dataplane = Dataplane::open(&net.options).expect("loadable again");
                assert_eq!(net.follow(&mut dataplane, &LINKS), 0, "nothing to attach anew");
            }
        });
        assert!(held.echoes(b"still"));
        let dataplane = Dataplane::open(&net.options).expect("loadable again");
        eventually("all are closed", || {
            let counters = dataplane.counters().expect("readable maps");
            let sum = |of: fn(&mizzen_ebpf_loader::Counts) -> u64| -> u64 {
                counters.values().map(of).sum()
            };
            sum(|counts| counts.closed) == connects && sum(|counts| counts.in_flight) == 1
        });
    });
}

#[test]
fn links_that_come_and_go_are_followed() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let backend = net.inside.server(INSIDE);
        dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");

        let late = Namespace::new();
        wire(&net.node, "p3", &late, "up");
        let bridge = net.node.link("m-br").index;
        net.node.set("p3", &LinkChange::new().up().master(bridge));
        late.address("up", &["10.2.0.4/24"]);
        late.route("0.0.0.0/0", "10.2.0.1");
        assert_eq!(net.follow(&mut dataplane, &["eth0", "m-br", "p1", "p2", "p3"]), 1);
        late.connect(at(VIP)).expect("the VIP answers on the new link");

        drop(late);
        net.node.netlink().remove_link("p3").expect("removable");
        assert_eq!(net.follow(&mut dataplane, &LINKS), 0);
        assert_eq!(link_pins(&net), 6, "two each of two links, one each of two ports");

        assert_eq!(net.follow(&mut dataplane, &[]), 0);
        assert_eq!(link_pins(&net), 0);
        let error = net.beside.run(|| {
            let patience = std::time::Duration::from_millis(200);
            std::net::TcpStream::connect_timeout(&at(VIP), patience)
        });
        error.expect_err("nobody translates");
    });
}

#[test]
fn teardown_leaves_nothing_on_links() {
    in_room(|room| {
        let net = Net::new(room);
        for attachment in [Attachment::Tcx, Attachment::Clsact] {
            let mut dataplane = Dataplane::open(&net.options).expect("loadable");
            if attachment == Attachment::Clsact {
                dataplane.use_clsact();
            }
            assert_eq!(net.follow(&mut dataplane, &LINKS), 4);
            assert_eq!(dataplane.attachment(), Some(attachment));
            let backend = net.inside.server(INSIDE);
            dataplane.set_vip(tcp(VIP), &backends(&[backend])).expect("room");
            let mut held = net.client.connect(at(VIP)).expect("the VIP answers");
            net.beside.connect(at(VIP)).expect("the VIP answers");

            // A new daemon's filters replace the old ones.
            drop(dataplane);
            let mut dataplane = Dataplane::open(&net.options).expect("loadable");
            if attachment == Attachment::Clsact {
                dataplane.use_clsact();
            }
            assert_eq!(net.follow(&mut dataplane, &LINKS), 0);
            assert!(held.echoes(b"still"));
            drop(dataplane);

            net.node.run(|| teardown(&net.options)).expect("removable");
            assert!(!net.options.pin_dir.exists());
            let error = net.client.connect(at(VIP)).err().expect("nobody translates");
            let reached_nobody = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
            assert!(reached_nobody.contains(&error.kind()), "{attachment:?}: {error}");
        }
    });
}

#[test]
fn a_change_of_route_is_noticed() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let backend = net.inside.server(INSIDE6);
        dataplane.set_vip(tcp("[fd01:c::1]:80"), &backends(&[backend])).expect("room");
        let mut held = net.client.connect(at("[fd01:c::1]:80")).expect("the VIP answers");
        assert!(held.echoes(b"before"));

        // The backend moves behind a link of its own, with its address and its connections.
        wire(&net.node, "eth1", &net.inside, "other");
        net.node.address("eth1", &["fd00:7::1/64"]);
        net.inside.address("other", &["fd00:7::2/64"]);
        net.follow(&mut dataplane, &["eth0", "m-br", "p1", "p2", "eth1"]);
        eventually("the new link works", || {
            let server = net.inside.server("fd00:7::2");
            net.node.connect(server).is_ok()
        });
        net.inside.set("up", &LinkChange::new().down());
        net.inside.address("lo", &["fd00:2::2/128"]);
        net.inside.route("::/0", "fd00:7::1");
        net.node.route("fd00:2::2/128", "fd00:7::2");
        assert!(held.echoes(&vec![5; 1_000_000]), "the connection goes on by the new link");
    });
}

fn link_pins(net: &Net) -> usize {
    let pins = net.options.pin_dir.read_dir().expect("a directory").flatten();
    let versions = pins.flat_map(|version| version.path().read_dir().expect("a directory"));
    let names = versions.flatten().map(|pin| pin.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("link_in_") || name.starts_with("link_out_")).count()
}

/// Connects to the VIP in another thread while `work` runs, and returns how often. All succeed.
fn under_load(client: &Namespace, work: impl FnOnce()) -> u64 {
    let connects = AtomicU64::new(0);
    let connecting = |load: &Load| {
        while load.goes_on() {
            client.connect(at(VIP)).expect("every connect succeeds");
            connects.fetch_add(1, Ordering::Relaxed);
        }
    };
    while_loaded([connecting], |_| {
        eventually("the first connect", || connects.load(Ordering::Relaxed) > 0);
        work();
    });
    connects.into_inner()
}
