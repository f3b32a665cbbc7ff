//! Plugins that were killed in the middle of ADD.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mizzen_netlink::{LinkChange, Plug, VethPeer, VethSpec};
use serde_json::json;

use crate::host::{Host, OVERLAY, address, container, ip, ip_tool};
use mizzen_tests_support::namespace::{Namespace, connect};

/// Killed anywhere between its first instruction and its answer, a plugin leaves what
/// one DEL removes.
#[test]
fn del_cleans_up_after_a_killed_add() {
    let host = Host::new();
    let input = host.config.to_string();
    let mut finished = 0;
    for at in 0..60u32 {
        let pod = Namespace::new();
        let target = container("c1", &pod);
        let mut child = host.start(host.command(OVERLAY, "ADD", &target), input.as_bytes());
        // Where the kill falls is the point of the loop, not a synchronisation.
        let until = Instant::now() + Duration::from_micros(150) * at;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        finished += u32::from(child.wait().unwrap().success());
        assert!(host.call("DEL", &target).success);
        host.assert_nothing_left(&format!("killed at {at}"));
        assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None);
    }
    assert!(finished < 60, "no ADD was ever killed");
}

/// How far an ADD came before it was killed.
#[derive(Clone, Copy, Debug)]
enum Reached {
    /// The pair is made, and does not bear its mark yet.
    Pair,
    /// It bears its mark; the container's end has no address.
    Mark,
    /// It has its address, and no routes.
    Address,
}

/// What an ADD of `c1` leaves that comes so far.
fn leave(host: &Host, pod: &Namespace, reached: Reached) {
    let result = host.add("c1", pod);
    let mut netlink = host.namespace.netlink();
    let whole = host.pairs().remove(0);
    netlink.remove_link(&whole.name).unwrap();
    let namespace = File::open(pod.path()).unwrap();
    let peer = VethPeer { name: "eth0", namespace: namespace.as_fd(), mac: None };
    let spec = VethSpec { name: &whole.name, mtu: 1420, alias: None, peer };
    let plug = Plug { bridge: whole.master.unwrap(), hairpin: false };
    netlink.create_plugged_veth(&spec, plug).unwrap();
    assert_eq!(host.pairs()[0].alias, None);
    if !matches!(reached, Reached::Pair) {
        netlink.set_link(&whole.name, &LinkChange::new().alias("mizzen-cni dcos c1 eth0")).unwrap();
    }
    if matches!(reached, Reached::Address) {
        pod.netlink().set_link("eth0", &LinkChange::new().up()).unwrap();
        ip_tool(pod, &format!("addr add {}/25 dev eth0", address(&result)));
    }
}

#[test]
fn what_a_killed_add_left_is_cleared_away() {
    for reached in [Reached::Pair, Reached::Mark, Reached::Address] {
        // By DEL, also when the container is gone: the container's end went with it.
        for keeps_namespace in [true, false] {
            let (host, pod) = (Host::new(), Namespace::new());
            leave(&host, &pod, reached);
            let path = pod.path();
            let pod = keeps_namespace.then_some(pod);
            let target = crate::host::Container { id: "c1", netns: path };
            assert!(host.call("DEL", &target).success, "{reached:?}");
            host.assert_nothing_left(&format!("DEL, {reached:?}"));
            if let Some(pod) = pod {
                assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None, "{reached:?}");
            }
        }

        // By GC, which leaves others alone.
        let (mut host, pod, other) = (Host::new(), Namespace::new(), Namespace::new());
        leave(&host, &pod, reached);
        let kept = host.add("kept", &other);
        host.config["cniVersion"] = json!("1.1.0");
        host.config["cni.dev/valid-attachments"] =
            json!([{ "containerID": "kept", "ifname": "eth0" }]);
        assert!(host.call("GC", &container("x", &pod)).success);
        assert_eq!(host.leases(), [address(&kept)].into(), "{reached:?}");
        assert_eq!(host.pairs().len(), 1, "{reached:?}");
        assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None, "{reached:?}");
        assert!(host.check("kept", &other, &kept).success);
    }
}

#[test]
fn a_second_add_after_a_killed_one_waits_for_del() {
    for reached in [Reached::Pair, Reached::Mark, Reached::Address] {
        let (host, pod, other) = (Host::new(), Namespace::new(), Namespace::new());
        leave(&host, &pod, reached);
        let target = container("c1", &pod);
        let words = host.call("ADD", &target).refusal(101);
        assert!(words.contains("9.0.5.2"), "{reached:?}: {words}");
        assert_eq!((host.leases(), host.pairs().len()), ([ip("9.0.5.2")].into(), 1));
        // Nobody else gets the address meanwhile.
        let theirs = address(&host.add("other", &other));
        assert_eq!(theirs, ip("9.0.5.3"));

        assert!(host.call("DEL", &target).success);
        let result = host.add("c1", &pod);
        assert_eq!(address(&result), ip("9.0.5.4"), "{reached:?}");
        assert!(host.check("c1", &pod, &result).success);
        assert_eq!(connect(&pod, &other.listen(theirs), theirs).ip(), address(&result));
    }
}
