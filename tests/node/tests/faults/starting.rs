//! What stands in the way of a start.

use mizzen_tests_node::apps::{WEB_VIP, deploy_web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{apps, http, in_lab, kernel, lab};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_told_of_the_first() {
    in_lab(|| {
        let mut first = Node::start(&[]);
        let task = deploy_web(&first, 1).remove(0);
        let run_dir = lab::scratch("other-run").display().to_string();
        let said = Place::new(&["--run-dir", &run_dir]).run(&[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let state = lab::state_dir().display().to_string();
        let process = format!("process {}", first.pid());
        assert!(said.stderr.contains(&state) && said.stderr.contains(&process), "{}", said.stderr);

        let said = first.place().run(&["--teardown"]);
        assert_eq!(said.code, Some(1), "nor is a running node torn down");
        assert!(said.stderr.contains(&process), "{}", said.stderr);
        assert!(first.runs() && kernel::runs(task.pid));
        assert_eq!(apps::tasks(&first, "/web"), [task]);
    });
}

#[test]
fn a_node_whose_store_alone_is_lost_begins_no_cluster_of_its_own() {
    in_lab(|| {
        let links = kernel::links();
        let mut node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        node.kill();
        let store = lab::state_dir().join("store.redb");
        let kept = lab::scratch("kept");
        fs::rename(&store, &kept).unwrap();
        let refused = || {
            let said = node.place().run(&[]);
            assert_eq!(said.code, Some(1), "{said:?}");
            let tasks = lab::state_dir().join("tasks").display().to_string();
            assert!(said.stderr.contains("store.redb") && said.stderr.contains(&tasks), "{said:?}");
        };
        refused();
        // Nor when it was tried before.
        refused();
        fs::write(&store, b"").unwrap();
        refused();
        assert!(kernel::runs(task.pid), "its task runs on");

        fs::rename(&kept, &store).unwrap();
        let again = node.place().start();
        assert_eq!(apps::await_tasks(&again, "/web", 1)[0], task);
        drop(again);

        // Whoever wants no copy of it says so.
        fs::remove_file(&store).unwrap();
        assert_eq!(node.place().run(&["--teardown"]).code, Some(0));
        assert!(!kernel::runs(task.pid));
        assert_eq!(kernel::links(), links, "bridges are found by their mark");
        let anew = node.place().start();
        assert_eq!(anew.problems(), Vec::<String>::new());
    });
}

#[test]
fn a_taken_port_is_named_and_nothing_is_touched() {
    in_lab(|| {
        let links = kernel::links();
        let taken = TcpListener::bind(lab::at(8080)).unwrap();
        let said = Place::new(&[]).run(&[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains(&lab::at(8080).to_string()), "{}", said.stderr);
        assert_eq!((kernel::links(), kernel::pins()), (links, vec![]), "nothing was touched");
        drop(taken);

        let taken = UdpSocket::bind("0.0.0.0:53").unwrap();
        let said = Place::new(&[]).run(&[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.stderr.contains("198.51.100.1:53"), "{}", said.stderr);
        drop(taken);

        let node = Node::start(&[]);
        deploy_web(&node, 1);
    });
}

#[test]
fn without_a_bpf_file_system_vips_are_queued_and_a_node_says_so() {
    in_lab(|| {
        let plain = lab::scratch("no-bpffs");
        fs::create_dir(&plain).unwrap();
        let bpffs = plain.display().to_string();
        let node = Node::start(&["--vip-engine", "auto", "--vip-bpffs", &bpffs]);
        let status = node.text(&["status"]);
        assert!(status.contains("problem: vip") && status.contains(&bpffs), "{status}");
        assert_eq!(node.json(&["status"])["vips"]["engine"], "nfqueue");
        let task = deploy_web(&node, 1).remove(0);
        let answer = http::get(apps::vip_address(&node, WEB_VIP), "/").expect("VIPs work");
        assert_eq!(answer.text(), task.id);
        dns::await_addresses("web.marathon.mesos", &task.addresses);
        assert_eq!(dns::addresses(By::Udp, "leader.mesos"), [lab::address()]);
        drop(node);

        let said = Place::new(&["--vip-engine", "ebpf", "--vip-bpffs", &bpffs]).run(&[]);
        assert_eq!(said.code, Some(1), "{said:?}");
        let words = &said.stderr;
        assert!(words.contains(&bpffs) && words.contains("vip.engine"), "{words}");
        assert!(kernel::runs(task.pid), "its task runs on");
    });
}

#[test]
fn without_the_right_to_use_bpf_vips_are_queued_or_not_at_all_and_a_node_says_so() {
    in_lab(|| {
        let without = |rights: &str| {
            let (bounding, inherited) =
                (format!("--bounding-set={rights}"), format!("--inh-caps={rights}"));
            move |engine: &str| {
                let flags = ["--roles", "vip", "--vip-engine", engine];
                Place::new(&flags).through(&["setpriv", &bounding, &inherited])
            }
        };
        let place = without("-bpf,-sys_admin");
        let none = without("-bpf,-sys_admin,-net_admin");
        for (place, engine) in [(place("auto"), "nfqueue"), (none("auto"), "off")] {
            let node = place.start();
            let problems = node.problems();
            let said = problems.iter().any(|problem| problem.starts_with("vip") && denied(problem));
            assert!(said, "{problems:?}");
            assert_eq!(node.json(&["status"])["vips"]["engine"], engine);
        }
        for (place, engine) in [(place("ebpf"), "ebpf"), (none("nfqueue"), "nfqueue")] {
            let said = place.run(&[]);
            assert_eq!(said.code, Some(1), "{said:?}");
            let words = &said.stderr;
            assert!(denied(words) && words.contains("vip.engine"), "{engine}: {words}");
        }
    });
}

fn denied(words: &str) -> bool {
    let words = words.to_lowercase();
    words.contains("not permitted") || words.contains("permission") || words.contains("cap_bpf")
}

#[test]
fn without_its_helpers_a_node_does_not_start_and_names_them() {
    in_lab(|| {
        let empty = lab::scratch("libexec");
        fs::create_dir(&empty).unwrap();
        let libexec = empty.display().to_string();
        let links = kernel::links();
        let place = Place::new(&["--libexec-dir", &libexec]);
        for helper in ["mizzen-launch", "mizzen-overlay"] {
            let said = place.run(&[]);
            assert_eq!(said.code, Some(1), "{said:?}");
            let missing = format!("{libexec}/{helper}");
            let words = &said.stderr;
            assert!(words.contains(&missing) && words.contains("libexec_dir"), "{words}");
            symlink(lab::executable(helper), missing).unwrap();
        }
        assert_eq!(kernel::links(), links, "nothing was touched");
        // What runs no tasks needs no launcher.
        drop(Node::start(&["--libexec-dir", "/nonexistent", "--roles", "dns"]));
    });
}
