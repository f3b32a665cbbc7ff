//! VIPs without programs in the kernel: by queued first packets.

use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::http::get;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, kernel, lab};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const FLAGS: [&str; 2] = ["--vip-engine", "nfqueue"];

#[test]
fn vips_work_by_queued_packets() {
    in_lab(|| {
        let node = Node::start(&FLAGS);
        let status = node.json(&["status"]);
        assert_eq!(status["vips"]["engine"], "nfqueue");
        let mechanism = status["vips"]["mechanism"].as_str().unwrap();
        assert!(mechanism.contains("queues 50-58"), "{mechanism}");
        assert!(node.text(&["status"]).contains(mechanism));
        assert!(kernel::vip_programs().is_empty(), "no program is loaded");

        let tasks = deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        let ids: BTreeSet<String> = tasks.iter().map(|task| task.id.clone()).collect();
        let (mut answers, mut connects) = (BTreeSet::new(), 1);
        eventually("both answer", SOON, || {
            connects += 1;
            answers.insert(get(vip, "/").unwrap().text());
            (answers == ids).then_some(())
        });
        assert_eq!(get(vip, "/peer").unwrap().text(), lab::address().to_string());

        let minuteman: SocketAddr = "127.0.0.1:61421".parse().unwrap();
        eventually("all connects are counted", SOON, || {
            let shown = get(minuteman, &format!("/vip/{vip}")).unwrap().json();
            let backends = shown.as_object().unwrap().values();
            let good: u64 = backends.map(|b| b["total_sucesses"].as_u64().unwrap()).sum();
            (good == connects).then_some(())
        });

        // From a container: the other one, and itself.
        let path = format!("/fetch/{WEB_VIP}/80");
        let want = ids.iter().map(|id| format!("{vip} {id}")).collect::<BTreeSet<String>>();
        let mut answers = BTreeSet::new();
        eventually("it reaches both, and its peer is the VIP", SOON, || {
            answers.insert(tasks[0].ask(&path).text());
            (answers == want).then_some(())
        });

        assert_eq!(node.mizzen(&["scale", "web", "0"]).code, Some(0));
        apps::await_tasks(&node, "/web", 0);
        let error = get(vip, "/").expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_machine_without_ipv6_is_told_that_it_cannot_reach_ipv6_vips() {
    in_lab(|| {
        let node = Node::start(&["--roles", "vip", "--vip-engine", "nfqueue"]);
        let told = || node.problems().iter().any(|text| text.contains("connect to IPv6 VIPs"));
        let _ = node.text(&["vip", "set", "four:80", "--backend", "127.0.0.1:8085"]);
        assert!(!told(), "there are none");
        let _ = node.text(&["vip", "set", "six:80", "--backend", "[::1]:8085"]);
        assert!(told(), "{:?}", node.problems());
    });
}

#[test]
fn queued_connections_outlive_the_daemon() {
    in_lab(|| {
        let tables = kernel::tables();
        let mut node = Node::start(&FLAGS);
        let place = node.place();
        deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        let mut held = TcpStream::connect(vip).unwrap();
        held.write_all(b"GET / HT").unwrap();
        node.kill();
        let error = get(vip, "/").expect_err("nobody chooses a backend");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "at once");

        let node = place.start();
        get(vip, "/").expect("a restarted daemon serves as soon as it answers");
        held.write_all(b"TP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        held.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("200"), "the old connection never noticed: {answer}");
        drop(node);

        // The other engine takes over and removes what this one left.
        let node = Node::start(&["--vip-engine", "ebpf"]);
        get(vip, "/").expect("programs translate");
        assert!(!kernel::vip_programs().is_empty());
        assert!(!kernel::tables().iter().any(|table| table.contains("vips")));
        drop(node);
        let node = place.start();
        assert!(kernel::vip_programs().is_empty());
        get(vip, "/").expect("and back");
        drop(node);
        let said = place.run(&["--teardown"]);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(kernel::tables(), tables);
    });
}
