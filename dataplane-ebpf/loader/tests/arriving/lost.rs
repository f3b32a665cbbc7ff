//! Flows whose records were pushed out of the full table: nobody counts their ends.

use aya::maps::{HashMap, Map, MapData};
use mizzen_ebpf_abi::{ABI_VERSION, Flow, FlowKey, maps};

use crate::net::{INSIDE, Net, counts_when};
use mizzen_tests_support::dataplane::{backends, tcp};
use mizzen_tests_support::room::{at, in_room};

const VIP: &str = "11.0.0.1:80";

#[test]
fn a_backend_is_rid_of_flows_that_were_pushed_out() {
    in_room(|room| {
        let net = Net::new(room);
        let mut dataplane = net.open();
        let server = net.inside.server(INSIDE);
        dataplane.set_vip(tcp(VIP), &backends(&[server])).expect("room");
        let lost = net.client.connect(at(VIP)).expect("the VIP answers");
        assert_eq!(push_all_out(&net), 2, "a flow has two elements");
        let mut held = net.client.connect(at(VIP)).expect("the VIP answers");
        let has = |count| move |counts: &mizzen_ebpf_loader::Counts| counts.in_flight == count;
        counts_when(&dataplane, tcp(VIP), server, "both count", has(2));
        drop(lost);

        dataplane.expire_flows().unwrap();
        let counts = dataplane.counters().expect("readable maps")[&(tcp(VIP), server)];
        assert_eq!(counts.in_flight, 2, "once may be chance");
        dataplane.expire_flows().unwrap();
        let counts = dataplane.counters().expect("readable maps")[&(tcp(VIP), server)];
        assert_eq!((counts.in_flight, counts.closed, counts.failed), (1, 1, 0));
        dataplane.expire_flows().unwrap();
        assert!(held.echoes(b"still"));
        drop(held);
        let counts = counts_when(&dataplane, tcp(VIP), server, "the other ended", has(0));
        assert_eq!((counts.established, counts.closed), (2, 2));
    });
}

/// Does what the kernel does with the coldest elements of a full table; to how many.
fn push_all_out(net: &Net) -> usize {
    let pin = net.options.pin_dir.join(format!("v{ABI_VERSION}/map_{}", maps::FLOWS));
    let table = Map::LruHashMap(MapData::from_pin(pin).expect("the pinned table"));
    const KEY: usize = size_of::<FlowKey>();
    const VALUE: usize = size_of::<Flow>();
    let mut table = HashMap::<_, [u8; KEY], [u8; VALUE]>::try_from(table).expect("a hash");
    let keys: Vec<[u8; KEY]> = table.keys().map(|key| key.expect("readable")).collect();
    for key in &keys {
        table.remove(key).expect("removable");
    }
    keys.len()
}
