//! The node in a shell.

use mizzen_tests_node::apps::{self, WEB_VIP, deploy_web};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use std::io::{BufRead, BufReader, Read};
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
        let mut child = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = || lines.next().expect("a line").unwrap();
        assert_eq!(next(), "listening on 8080");
        let _ = task.ask("/print/ahoy");
        assert_eq!(next(), "ahoy");

        task.kill();
        assert!(lines.next().is_none(), "its task has ended, and so does it");
        let mut note = String::new();
        child.stderr.take().unwrap().read_to_string(&mut note).unwrap();
        assert_eq!(note, format!("mizzen: {} has ended\n", task.id));
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn logs_of_an_app_are_those_of_its_tasks_and_of_nobody_else() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let once = |id: &str, cmd: &str| {
            let mut app = apps::command(id, cmd);
            app["backoffSeconds"] = 3600.into();
            assert_eq!(apps::post(&app).status, 201);
        };
        once("/con10", "echo ten; sleep 1h");
        apps::await_tasks(&node, "/con10", 1);
        once("/con1", "echo one; exit 3");
        let last = |node: &Node| {
            eventually("the last task of /con1 has ended", SOON, || {
                let said = node.mizzen(&["tasks", "con1"]);
                said.stderr.contains("(failed)").then_some(said)
            })
        };
        let said = last(&node);
        assert_eq!(said.code, Some(0));
        assert!(said.stderr.contains("`con1` has no task that runs"), "{}", said.stderr);
        for word in ["con1", "/con1"] {
            assert_eq!(node.text(&["logs", word]), "one\n");
        }
        let id = said.stderr.split_whitespace().find(|word| word.starts_with("con1.")).unwrap();
        assert_eq!(node.text(&["logs", id]), "one\n");
        let state = mizzen_tests_node::http::get(lab::at(5051), "/state").unwrap().json();
        let completed = &state["frameworks"][0]["completed_executors"];
        let directory = completed[0]["directory"].as_str().expect("a sandbox").to_owned();
        assert!(std::path::Path::new(&directory).join("stdout").exists(), "{directory}");

        let mut idle = apps::command("/con", "true");
        idle["instances"] = 0.into();
        assert_eq!(apps::post(&idle).status, 201);
        let said = node.mizzen(&["logs", "con"]);
        assert_eq!(said.code, Some(1), "an app comes before the beginning of an id: {said:?}");
        assert!(said.stderr.contains("the app `con` has no task"), "{}", said.stderr);
        assert_eq!(node.mizzen(&["rm", "con"]).code, Some(0));
        assert_eq!(node.mizzen(&["logs", "con"]).code, Some(1), "nor is this a beginning");

        node.stop();
        let node = node.place().start();
        last(&node);
        assert_eq!(node.text(&["logs", "con1"]), "one\n", "a restart forgets nothing");
    });
}

#[test]
fn lines_of_several_tasks_are_told_apart() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy_web(&node, 2);
        let text = node.text(&["logs", "web"]);
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        let label = |id: &str| format!("{} |", id.replace("instance-", "").split_at(12).0);
        let mut want: Vec<String> =
            tasks.iter().map(|task| format!("{} listening on 8080", label(&task.id))).collect();
        want.sort();
        assert_eq!(lines, want);
        let short = want[0].split(' ').next().unwrap();
        assert_eq!(node.text(&["logs", short]), "listening on 8080\n", "{short} means one task");
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
            (&["rm", "/"], "`/` is not an app"),
            (&["run", "-"], "standard input is not JSON"),
            (&["scale", "nothing", "2"], "does not exist"),
        ] {
            let said = node.mizzen(words);
            assert_eq!(said.code, Some(1), "`mizzen {}`: {said:?}", words.join(" "));
            assert_eq!(said.stdout, "", "an error is not data");
            assert!(said.stderr.contains(want), "`{want}` in {:?}", said.stderr);
        }
        for (words, want) in [
            (&["dns", "web", "NONSENSE"][..], "no record type"),
            (&["dns", ""], "the name is empty"),
            (&["dns", "set", "a..b", "A", "192.0.2.7"], "empty label"),
            (&["dns", "set", "a.example", "A", "192.0.2.300"], "no data of an A record"),
            (&["dns", "set", "a.example", "MX", "mail"], "such as \"10 mail.example.com\""),
            (&["dns", "set", "a.example", "CNAME", "a.example"], "a CNAME of itself"),
        ] {
            let said = node.mizzen(words);
            assert_eq!(said.code, Some(2), "`mizzen {}`: {said:?}", words.join(" "));
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
