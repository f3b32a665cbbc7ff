//! Ports of the host that lead to containers.

use mizzen_tests_node::apps::{self, PORT, Task, WEB_VIP};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, http, in_lab, kernel, lab};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};

/// A port of the host that apps here ask for.
const FIXED: u16 = 31_999;

/// Waits until the only task of an app answers at a port of the host.
fn await_at(port: u16, task: &Task) {
    eventually(&format!("{} answers at {port}", task.id), SOON, || {
        http::get(lab::at(port), "/").ok().filter(|answer| answer.text() == task.id)
    });
}

/// What a container gets from a port of a host.
fn fetched(from: &Task, host: &str, port: u16) -> String {
    let text = from.ask(&format!("/fetch/{host}/{port}")).text();
    text.split_once(' ').map_or(text.clone(), |(_, answer)| answer.to_owned())
}

fn await_nothing_published() {
    eventually("no port leads anywhere", SOON, || kernel::published("").is_empty().then_some(()));
}

#[test]
fn an_app_on_the_bridge_is_reached_by_ports_of_the_host() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut other = apps::web(1);
        other["id"] = json!("/other");
        other["container"]["portMappings"][0]["labels"] = json!({});
        let other = apps::deploy(&node, &other).remove(0);
        let task = apps::deploy(&node, &apps::bridged_web(FIXED)).remove(0);
        assert!(task.addresses[0].to_string().starts_with("172.31.254."), "{task:?}");
        let ports = apps::host_ports("/web");
        assert_eq!((ports.len(), ports[1]), (2, FIXED));
        apps::await_backends(&node, WEB_VIP, 1);

        let (host, own) = (lab::address().to_string(), lab::address());
        for port in &ports {
            await_at(*port, &task);
            let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), *port);
            assert_eq!(http::get(loopback, "/").unwrap().text(), task.id, "by 127.0.0.1");
            apps::await_server(&other);
            assert_eq!(fetched(&other, &host, *port), task.id, "from a container of the overlay");
            assert_eq!(fetched(&task, &host, *port), task.id, "from itself");
        }
        let environment = task.ask("/env").text();
        for line in [
            format!("PORT={}", ports[0]),
            format!("PORT1={FIXED}"),
            format!("PORT_HTTP={}", ports[0]),
            format!("PORTS={},{FIXED}", ports[0]),
        ] {
            assert!(environment.lines().any(|found| found == line), "{line} in {environment}");
        }

        assert_eq!(http::get(apps::vip_address(&node, WEB_VIP), "/").unwrap().text(), task.id);
        assert_eq!(fetched(&other, WEB_VIP, 80), task.id, "by its VIP, from elsewhere");
        assert_eq!(fetched(&task, WEB_VIP, 80), task.id, "by its VIP, from itself");
        dns::await_addresses("web.marathon.mesos", &[own]);
        for name in ["_web._tcp.marathon.mesos", "_web._tcp.marathon.slave.mesos"] {
            let mut want = ports.clone();
            want.sort_unstable();
            let found: Vec<u16> = dns::services(By::Udp, name).iter().map(|(p, _)| *p).collect();
            assert_eq!(found, want, "{name}");
        }
        assert_eq!(node.problems(), Vec::<String>::new());

        // The look of each minute comes between two of these at most once.
        for _ in 0..2 {
            assert_eq!(node.place().shell("ip link del ucr-br0").code, Some(0));
            await_at(FIXED, &task);
            assert_eq!(fetched(&other, &host, FIXED), task.id, "by a bridge that was made again");
            assert_eq!(fetched(&task, &host, FIXED), task.id, "and back out of the same port");
            let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), FIXED);
            assert_eq!(http::get(loopback, "/").unwrap().text(), task.id, "and by 127.0.0.1");
        }

        let _ = node.text(&["rm", "/web"]);
        await_nothing_published();
    });
}

#[test]
fn a_container_of_an_overlay_can_have_ports_of_the_host() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = apps::web(1);
        app["container"]["portMappings"][0]["hostPort"] = FIXED.into();
        let task = apps::deploy(&node, &app).remove(0);
        apps::await_server(&task);
        await_at(FIXED, &task);
        assert_eq!(fetched(&task, &lab::address().to_string(), FIXED), task.id, "from itself");
        apps::await_backends(&node, WEB_VIP, 1);
        assert_eq!(http::get(apps::vip_address(&node, WEB_VIP), "/").unwrap().text(), task.id);
        dns::await_addresses("web.marathon.mesos", &task.addresses);
        let ports = |name: &str| -> Vec<u16> {
            dns::services(By::Udp, name).iter().map(|(port, _)| *port).collect()
        };
        assert_eq!(ports("_web._tcp.marathon.mesos"), [PORT], "where the container listens");
        assert_eq!(ports("_web._tcp.marathon.slave.mesos"), [FIXED]);

        // The port is taken: a second copy waits for an agent that has it.
        let scaled = http::send_json(apps::api(), "PUT", "/v2/apps/web", &json!({"instances": 2}));
        assert!(scaled.unwrap().status < 300);
        let why = eventually("it is said why", SOON, || {
            let why = http::get(apps::api(), "/v2/queue/why").ok()?.text();
            why.contains(&FIXED.to_string()).then_some(why)
        });
        assert!(why.contains("needs host port"), "{why}");
    });
}

#[test]
fn queued_connections_to_a_vip_are_translated_once() {
    in_lab(|| {
        let node = Node::start(&["--vip-engine", "nfqueue"]);
        let mut overlay = apps::web(1);
        overlay["id"] = json!("/other");
        overlay["container"]["portMappings"][0]["hostPort"] = 0.into();
        overlay["container"]["portMappings"][0]["labels"]["VIP_0"] = json!("/other:80");
        let other = apps::deploy(&node, &overlay).remove(0);
        let task = apps::deploy(&node, &apps::bridged_web(FIXED)).remove(0);
        apps::await_server(&other);
        for (vip, to, client) in
            [(WEB_VIP, &task, &other), ("other.marathon.l4lb.thisdcos.directory", &other, &task)]
        {
            apps::await_backends(&node, vip, 1);
            let address = apps::vip_address(&node, vip);
            assert_eq!(http::get(address, "/").unwrap().text(), to.id, "from the host");
            assert_eq!(fetched(client, vip, 80), to.id, "from another container");
        }
        await_at(FIXED, &task);
    });
}

#[test]
fn ports_outlive_the_daemon_and_not_their_container() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let task = apps::deploy(&node, &apps::bridged_web(FIXED)).remove(0);
        await_at(FIXED, &task);
        node.kill();
        assert_eq!(http::get(lab::at(FIXED), "/").unwrap().text(), task.id, "without a daemon");
        let mut node = place.start();
        assert_eq!(http::get(lab::at(FIXED), "/").unwrap().text(), task.id, "with a new one");
        apps::await_backends(&node, WEB_VIP, 1);

        node.kill();
        task.kill();
        let node = place.start();
        eventually("the ports of what ended are gone", SOON, || {
            kernel::published(&task.container).is_empty().then_some(())
        });
        let next = eventually("there is another one", SOON, || {
            apps::tasks(&node, "/web").into_iter().find(|next| next.id != task.id)
        });
        await_at(FIXED, &next);
        let _ = node.text(&["rm", "/web"]);
        await_nothing_published();
    });
}

#[test]
fn ports_that_somebody_removes_come_back() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let task = apps::deploy(&node, &apps::bridged_web(FIXED)).remove(0);
        await_at(FIXED, &task);
        let ports = kernel::published(&task.container).len();
        let published =
            |ports: usize| (kernel::published(&task.container).len() == ports).then_some(());
        for harm in ["flush ruleset", "flush map inet mizzen-ports any4"] {
            assert_eq!(place.shell(&format!("nft {harm}")).code, Some(0), "{harm}");
            // Sooner than at the look of each minute.
            eventually(harm, SOON, || published(ports));
            await_at(FIXED, &task);
        }
        // A pass is counted when it is over.
        eventually("it is counted", SOON, || {
            let metrics = http::get("127.0.0.1:62080".parse().unwrap(), "/v1/metrics").ok()?.text();
            let counts = ["mizzen_published_ports 2", "mizzen_published_ports_restored_total 4"];
            counts.iter().all(|count| metrics.lines().any(|line| line == *count)).then_some(())
        });
        node.kill();

        assert_eq!(place.shell("nft flush ruleset").code, Some(0));
        assert!(http::get(lab::at(FIXED), "/").is_err(), "nobody puts it back");
        let said = place.mizzen(&["doctor"]).stdout;
        assert!(said.contains(&format!("tcp {FIXED} of container {}", task.container)), "{said}");
        let node = place.start();
        await_at(FIXED, &task);
        assert!(!place.mizzen(&["doctor"]).stdout.contains("published ports are gone"));
        let _ = node.text(&["rm", "/web"]);
        await_nothing_published();
    });
}

#[test]
fn a_network_of_the_operator_is_a_list_of_plugins() {
    in_lab(|| {
        let directory = lab::scratch("networks");
        std::fs::create_dir(&directory).unwrap();
        let network = json!({ "cniVersion": "1.0.0", "name": "mine", "plugins": [
            { "type": "mizzen-overlay", "bridge": "br-mine", "isGateway": true, "hairpinMode": true,
              "ipam": { "type": "mizzen-ipam", "subnet": "10.77.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }],
                        "dataDir": lab::scratch("mine") } },
            { "type": "mizzen-portmap", "dataDir": lab::scratch("mine"),
              "capabilities": { "portMappings": true } },
        ]});
        std::fs::write(directory.join("10-mine.conflist"), network.to_string()).unwrap();
        let node = Node::start(&["--agent-network-dir", &directory.display().to_string()]);
        let mut app = apps::bridged_web(FIXED);
        app["networks"] = json!([{ "mode": "container", "name": "mine" }]);
        let task = apps::deploy(&node, &app).remove(0);
        assert!(task.addresses[0].to_string().starts_with("10.77.0."), "{task:?}");
        await_at(FIXED, &task);
        assert!(!kernel::published(&task.container).is_empty());
        let _ = node.text(&["rm", "/web"]);
        await_nothing_published();
    });
}
