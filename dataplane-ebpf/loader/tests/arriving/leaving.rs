//! What becomes of flows from elsewhere when their backend leaves.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};

use mizzen_ebpf_loader::{Dataplane, Removal, VipAddress, VipWanted};

use crate::net::{INSIDE, Net};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::greeting::ask;
use mizzen_tests_support::room::{at, in_room};

const VIP: &str = "11.0.0.1:80";

#[test]
fn connections_end_only_if_that_is_asked_for() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let (goes, stays) = (net.inside.server(INSIDE), net.inside.server(INSIDE));
        for (removal, ended) in
            [(Removal::EndDatagrams, None), (Removal::Keep, None), (Removal::EndAll, Some(1))]
        {
            let wanted = |backend| VipWanted { removal, ..backends(&[backend]) };
            dataplane.set_vip(tcp(VIP), &wanted(goes)).expect("room");
            let mut connection = net.client.connect(at(VIP)).expect("the VIP answers");
            dataplane.set_vip(tcp(VIP), &wanted(stays)).expect("room");
            assert_eq!(end(&mut dataplane).get(&tcp(VIP)).copied(), ended, "{removal:?}");
            if ended.is_none() {
                assert!(connection.echoes(b"still"), "{removal:?}");
                continue;
            }
            let written = connection.stream.write_all(&[0; 100_000]);
            let error = written.and_then(|()| connection.stream.read(&mut [0]));
            assert_eq!(error.expect_err("a reset").kind(), ErrorKind::ConnectionReset);
            let again = net.client.connect(at(VIP)).expect("the VIP has another backend");
            assert_eq!(again.backend, stays.port());
        }
    });
}

#[test]
fn datagrams_go_to_another_backend_from_then_on() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let vip = VipAddress::udp(at(VIP));
        let (goes, stays) = (net.inside.udp_server(INSIDE), net.inside.udp_server(INSIDE));
        dataplane.set_vip(vip, &backends(&[goes])).expect("room");
        let client = net.client.udp(at(VIP));
        assert_eq!(ask(&client, 30).expect("an answer").0, goes.port());
        dataplane.set_vip(vip, &backends(&[stays])).expect("room");
        assert_eq!(end(&mut dataplane), BTreeMap::from([(vip, 1)]));
        assert_eq!(ask(&client, 30).expect("an answer").0, stays.port());
    });
}

/// What the daemon does after a change.
fn end(dataplane: &mut Dataplane) -> BTreeMap<VipAddress, u64> {
    let leavers = dataplane.take_leavers();
    let table = dataplane.socket_table().expect("descriptors");
    if leavers.iter().any(|leaver| table.may_have_sockets(leaver)) {
        table.end_flows_of(&leavers).expect("readable maps")
    } else {
        BTreeMap::new()
    }
}
