//! The node in a shell.

use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn every_list_shows_what_runs() {
    in_lab(|| {
        let node = Node::start(&[]);
        let file = lab::scratch("web.json");
        std::fs::write(&file, apps::web(1).to_string()).unwrap();
        let said = node.mizzen(&["run", &file.display().to_string()]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stdout.starts_with("/web deployment "), "{}", said.stdout);
        let task = apps::tasks(&node, "/web").pop().expect("it runs when `mizzen run` is back");
        let (pid, vip) = (task.pid.to_string(), apps::vip_address(&node, WEB_VIP).to_string());
        let address = task.addresses[0].to_string();
        let here = lab::address().to_string();
        for (words, wanted) in [
            (&["status"][..], &["leading", "registered", "ebpf", "1 VIP", "9.0.0.0/24", &here][..]),
            (&["apps"], &["/web", "1/1", "running"]),
            (&["tasks"], &[&task.id, "running", &address, &pid, "marathon"]),
            (&["tasks", "web"], &[&task.id]),
            (&["vips"], &[&vip, WEB_VIP, &address, &task.id, "in"]),
            (&["dns", "web.marathon.mesos"], &["NOERROR", &address, &task.id]),
            (&["dns", WEB_VIP], &["NOERROR", vip.trim_end_matches(":80")]),
        ] {
            let text = node.text(words);
            for word in wanted {
                assert!(text.contains(word), "`{word}` in `mizzen {}`:\n{text}", words.join(" "));
            }
            assert!(!text.contains('\u{1b}'), "no colour where there is no terminal:\n{text}");
        }
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn logs_show_what_a_task_wrote_and_go_on() {
    in_lab(|| {
        let node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        assert_eq!(node.text(&["logs", "web"]), "listening on 8080\n");
        let _ = task.ask("/complain/woe");
        assert_eq!(node.text(&["logs", "--stderr", &task.id]), "woe\n");

        let mut follow = node.place().command(&["logs", "-f", "web"]);
        let mut child = follow.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().expect("a line").unwrap();
        assert_eq!(next(), "listening on 8080");
        let _ = task.ask("/print/ahoy");
        assert_eq!(next(), "ahoy");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}

#[test]
fn errors_say_what_to_do() {
    in_lab(|| {
        let absent = lab::mizzen(&["status"]).output().unwrap();
        let text = String::from_utf8_lossy(&absent.stderr);
        assert!(
            text.contains("no mizzen node answers") && text.contains("`mizzen node`"),
            "{text}"
        );

        let node = Node::start(&[]);
        for (words, want) in [
            (&["rm", "nothing"][..], "does not exist"),
            (&["logs", "nothing"], "no task `nothing`"),
            (&["run", "/no/such/file.json"], "cannot read /no/such/file.json"),
            (&["dns", "web", "NONSENSE"], "no record type"),
            (&["scale", "nothing", "2"], "does not exist"),
        ] {
            let said = node.mizzen(words);
            assert_eq!(said.code, Some(1), "`mizzen {}`: {said:?}", words.join(" "));
            assert_eq!(said.stdout, "", "an error is not data");
            assert!(said.stderr.contains(want), "`{want}` in {:?}", said.stderr);
        }
    });
}

#[test]
fn an_app_is_changed_by_running_it_again() {
    in_lab(|| {
        let node = Node::start(&[]);
        let file = lab::scratch("web.json");
        let path = file.display().to_string();
        let mut app = apps::web(1);
        for version in ["one", "two"] {
            app["env"] = serde_json::json!({ "VERSION": version });
            std::fs::write(&file, app.to_string()).unwrap();
            let said = node.mizzen(&["run", &path]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            let want = format!("VERSION={version}");
            eventually(&format!("the one task has {want}"), SOON, || {
                let tasks = apps::tasks(&node, "/web");
                let [task] = &tasks[..] else { return None };
                let answer = mizzen_tests_node::http::get(task.server(), "/env").ok()?;
                answer.text().lines().any(|line| line == want).then_some(())
            });
        }
    });
}
