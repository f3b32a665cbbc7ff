//! Clients that the node does not run: beside its containers, and on another machine.

use mizzen_netlink::{
    DuplicateDetection, LinkChange, Netlink, RouteSpec, TABLE_MAIN, VethPeer, VethSpec,
    in_namespace,
};
use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::http::get;
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command};

/// A network namespace of its own, as long as this value lives.
struct Elsewhere {
    holder: Child,
}

impl Elsewhere {
    /// One with a link `up` that has an address and leads everything to a gateway; the other end is the node's
    /// link `name`.
    fn new(name: &str, address: &str, gateway: &str) -> Self {
        let holder = Command::new("unshare").args(["-n", "sleep", "infinity"]).spawn().unwrap();
        let elsewhere = Self { holder };
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        eventually("it has a network of its own", SOON, || {
            std::fs::read_link(elsewhere.path()).ok().filter(|theirs| *theirs != ours)
        });
        let namespace = File::open(elsewhere.path()).unwrap();
        let peer = VethPeer { name: "up", namespace: namespace.as_fd(), mac: None };
        let veth = VethSpec { name, mtu: 1500, alias: None, peer };
        Netlink::open().unwrap().create_veth(&veth).unwrap();
        let mut netlink = Netlink::open_in(&elsewhere.path()).unwrap();
        netlink.set_link("up", &LinkChange::new().up()).unwrap();
        let index = netlink.observe_link("up").unwrap().unwrap().index;
        let address = address.parse().unwrap();
        netlink.ensure_address(index, address, DuplicateDetection::Off).unwrap();
        let route = RouteSpec {
            destination: "0.0.0.0/0".parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            link: None,
            source: None,
            metric: None,
            table: TABLE_MAIN,
            protocol: 4,
        };
        netlink.ensure_route(&route).unwrap();
        elsewhere
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.holder.id()).into()
    }

    fn ask(&self, vip: SocketAddr) -> std::io::Result<String> {
        in_namespace(&self.path(), || get(vip, "/").map(|answer| answer.text())).unwrap()
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn clients_that_the_node_does_not_run_reach_vips() {
    in_lab(|| {
        // Nobody is below this cgroup, so what arrives is all there is.
        let nobody = PathBuf::from(lab::variable("MIZZEN_VIP_CGROUP")).join("nobody");
        std::fs::create_dir(&nobody).unwrap();
        let flags = ["--vip-cgroup", nobody.to_str().unwrap(), "--vip-ingress", "auto,ext*"];
        let mut node = Node::start(&flags);
        let tasks = deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        let names: BTreeSet<String> = tasks.iter().map(|task| task.id.clone()).collect();

        let mut netlink = Netlink::open().unwrap();
        let bridge = netlink.observe_links().unwrap().into_iter();
        let bridge = bridge.into_iter().find(|link| link.name.starts_with("m-dcos")).unwrap();
        let gateway = tasks[0].addresses[0].to_string();
        let network = gateway.rsplit_once('.').unwrap().0.to_owned();
        let beside =
            Elsewhere::new("beside", &format!("{network}.250/24"), &format!("{network}.1"));
        netlink.set_link("beside", &LinkChange::new().up().master(bridge.index)).unwrap();
        let machine = Elsewhere::new("ext0", "192.0.2.2/24", "192.0.2.1");
        netlink.set_link("ext0", &LinkChange::new().up()).unwrap();
        let index = netlink.observe_link("ext0").unwrap().unwrap().index;
        let address = "192.0.2.1/24".parse().unwrap();
        netlink.ensure_address(index, address, DuplicateDetection::Off).unwrap();

        for client in [&beside, &machine] {
            let mut answers = BTreeSet::new();
            eventually("both backends have answered", SOON, || {
                answers.extend(client.ask(vip));
                (answers == names).then_some(())
            });
            for _ in 0..50 {
                assert!(names.contains(&client.ask(vip).unwrap()));
            }
        }
        let shown = node.json(&["vips"]);
        assert!(shown.to_string().contains(&vip.ip().to_string()), "{shown}");

        // What a registered service has no backend for is refused at once, there as here.
        let set = node.json(&["vip", "set", "empty:80/tcp", "--no-backends"]);
        let empty: SocketAddr = set["vips"][0].as_str().unwrap().parse().unwrap();
        let error = machine.ask(empty).expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);

        // While the daemon is away, and after it, everything goes on.
        let place: Place = node.place();
        node.kill();
        assert!(names.contains(&machine.ask(vip).unwrap()));
        let node = place.start();
        assert!(names.contains(&beside.ask(vip).unwrap()));
        assert_eq!(node.problems(), Vec::<String>::new());
        assert_ne!(node.json(&["status"]), json!(null));
    });
}
