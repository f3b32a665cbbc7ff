//! What a person is told of nodes whose daemon is away: their tasks stay listed, and who reads
//! along goes on when it is back.

use super::overlay::{await_agents, joining, two};
use super::{await_listed, first, lab_command, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, apps, eventually, in_lab_of, lab};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;

/// The tasks of node two, as node one lists them.
fn tasks_of_two(one: &Node) -> Vec<Value> {
    let tasks = one.json(&["tasks"]);
    let tasks = tasks.as_array().cloned().unwrap_or_default();
    tasks.into_iter().filter(|task| task["host"] == "two").collect()
}

/// Waits until the one task of node two is known to run.
fn await_running_on_two(one: &Node) {
    eventually("the task of node two is listed as running", SOON, || {
        let listed = tasks_of_two(one);
        (listed.len() == 1 && listed[0]["state"] == "TASK_RUNNING").then_some(())
    });
}

#[test]
fn tasks_of_a_node_that_does_not_answer_are_listed_as_last_known() {
    in_lab_of(2, || {
        let (one, mut two, [_, task]) = two();
        await_running_on_two(&one);
        two.kill();
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);
        let listed = tasks_of_two(&one);
        assert_eq!(listed.len(), 1, "{listed:?}");
        let row = &listed[0];
        assert_eq!(
            (&row["state"], &row["last_state"]),
            (&json!("TASK_UNREACHABLE"), &json!("TASK_RUNNING"))
        );
        assert_eq!(row["addresses"][0], json!(task.addresses[0]));
        assert!(row["silent_seconds"].is_u64(), "{row}");
        let text = one.text(&["tasks"]);
        assert!(
            text.contains("unreachable") && text.contains("node two does not answer (silent"),
            "{text}"
        );

        let peer = &one.json(&["overlay"])["peers"][0];
        assert_eq!((&peer["hostname"], &peer["alive"]), (&json!("two"), &json!(false)));

        // What it wrote is on that node, and there is nobody to read it.
        let id = row["id"].as_str().unwrap();
        let said = one.mizzen(&["logs", id]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
        assert!(said.stderr.contains("node two does not answer (silent for "), "{}", said.stderr);
        // The daemon is away, the container and the kernel are not.
        let said = one.mizzen(&["ping", id, "-c", "1"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stderr.contains("node two does not answer (silent for "), "{}", said.stderr);
        lab_command(&["lab", "--cut", "2"]);
        let said = one.mizzen(&["ping", id, "-c", "1"]);
        assert_eq!(said.code, Some(1), "{}", said.stdout);
        assert!(said.stderr.contains("node two does not answer (silent for "), "{}", said.stderr);

        lab_command(&["lab", "--heal", "2"]);
        let _two = Place::at(2, &["--hostname", "two"]).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        await_running_on_two(&one);
        assert_eq!(tasks_of_two(&one)[0]["id"], id);
    });
}

/// The agent of a node, as the master lists it.
fn agent_of(one: &Node, host: &str) -> String {
    let answer = one.json(&["agents"]);
    let agents = answer["get_agents"]["agents"].as_array().cloned().unwrap_or_default();
    let info = agents.iter().map(|agent| &agent["agent_info"]);
    let info = info.clone().find(|info| info["hostname"] == host);
    info.and_then(|info| info["id"]["value"].as_str()).expect("an agent").to_owned()
}

#[test]
fn tasks_of_an_agent_that_is_out_for_good_are_gone_everywhere_at_once() {
    in_lab_of(3, || {
        let (one, mut two, [_, task]) = two();
        let three = super::joining(3, "three", &token(&one, 1)).start();
        await_running_on_two(&one);
        let agent = agent_of(&one, "two");
        two.kill();
        await_listed(&one, &[("one", "alive"), ("three", "alive"), ("two", "dead")]);
        assert_eq!(tasks_of_two(&one)[0]["state"], "TASK_UNREACHABLE");
        let said = one.text(&["agents", "mark-gone", &agent]);
        assert_eq!(said.trim(), format!("{agent} gone"));
        for node in [&one, &three] {
            eventually("the task is gone", SOON, || {
                let listed = tasks_of_two(node);
                (listed[0]["state"] == "TASK_GONE_BY_OPERATOR").then_some(())
            });
            let text = node.text(&["tasks"]);
            assert!(text.contains("gone_by_operator") && !text.contains("silent for"), "{text}");
        }
        // Its node is back, does not know of it yet, and says the same as before: names, VIPs
        // and lists know better, until it has ended what it should not have.
        let two = Place::at(2, &["--hostname", "two"]).start();
        await_listed(&three, &[("one", "alive"), ("three", "alive"), ("two", "alive")]);
        for node in [&one, &three] {
            let rows = tasks_of_two(node);
            assert!(rows.iter().all(|row| row["state"] == "TASK_GONE_BY_OPERATOR"), "{rows:?}");
            let led = node.json(&["dns", "web.marathon.mesos", "A"]).to_string();
            assert!(!led.contains(&task.addresses[0].to_string()), "{led}");
        }
        eventually("its tasks end", SOON, || {
            let own = two.place().try_json(&["tasks"])?;
            let own = own.as_array()?.iter().filter(|row| row["host"] == "two").count();
            (own == 0 && tasks_of_two(&one).is_empty()).then_some(())
        });
    });
}

/// The numbers that were printed for each task.
fn counted(text: &str) -> BTreeMap<String, Vec<u64>> {
    let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    // The last line may be about to be written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let (task, number) = line.split_once(" | ").unwrap_or_else(|| panic!("`{line}`"));
        all.entry(task.to_owned()).or_default().push(number.parse().unwrap());
    }
    all
}

#[test]
fn who_reads_along_goes_on_after_restarts_of_daemons() {
    in_lab_of(2, || {
        let mut one = first(&[]);
        let mut two = joining(&token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        await_agents(2);
        let count = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.05; done";
        let mut app = apps::command("/count", count);
        app["instances"] = json!(2);
        app["constraints"] = json!([["hostname", "UNIQUE"]]);
        let file = lab::scratch("count.json");
        std::fs::write(&file, app.to_string()).unwrap();
        let said = one.mizzen(&["run", &file.display().to_string()]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);

        let [out, err] = ["follow.out", "follow.err"].map(lab::scratch);
        let mut follow = one.place().command(&["logs", "-f", "count"]);
        let follow = follow.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut follow = follow.spawn().unwrap();
        let printed = || counted(&std::fs::read_to_string(&out).unwrap());
        let told = |words: &str| std::fs::read_to_string(&err).unwrap().matches(words).count();
        let await_more = |when: &str| {
            let before = printed();
            eventually(&format!("more of both {when}"), SOON * 2, || {
                let now = printed();
                let more =
                    |task: &String| now[task].len() > before.get(task).map_or(0, Vec::len) + 5;
                (now.len() == 2 && now.keys().all(more)).then_some(())
            });
        };
        await_more("at first");
        two.kill();
        eventually("it is said that one is away", SOON, || {
            (told("node two does not answer") == 1).then_some(())
        });
        let _two = Place::at(2, &["--hostname", "two"]).start();
        await_more("after a restart of the other node");
        assert_eq!(told("going on where it stopped"), 1);
        one.kill();
        eventually("it is said that this one is away", SOON, || {
            (told("waiting for it") == 3).then_some(())
        });
        let one = first(&[]);
        await_more("after a restart of the node that is asked");

        let said = one.mizzen(&["rm", "count"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let status = follow.wait().unwrap();
        let errors = std::fs::read_to_string(&err).unwrap();
        assert!(status.success() && told("has ended") == 2, "{errors}");
        for (task, numbers) in printed() {
            let want: Vec<u64> = (1..=numbers.len() as u64).collect();
            assert_eq!(numbers, want, "{task}: each line once");
        }
    });
}
