//! Tasks that leave: killed, drained with their agent, or on a machine in maintenance.
//! Connections that they have are finished, new ones go elsewhere.

use mizzen_tests_node::apps::{self, PORT, WEB_VIP, deploy, server, web};
use mizzen_tests_node::framework::{Framework, master, task};
use mizzen_tests_node::http::{get, send_json};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// In this time somebody looks at a drain who does not hurry.
const GRACE: &str = "20s";

/// [`web`] with a server that does not listen to SIGTERM.
fn deaf_web() -> Value {
    let mut app = web(1);
    app["cmd"] = json!(format!("trap '' TERM; {}", server(&PORT.to_string())));
    app["taskKillGracePeriodSeconds"] = json!(600);
    app
}

/// A connection on which a request has begun.
struct Held(TcpStream);

impl Held {
    fn open(vip: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(vip).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        Self(stream)
    }

    /// Goes on with the request, so that the server does not lose patience.
    fn go_on(&mut self) {
        self.0.write_all(b"X-More: to come\r\n").unwrap();
    }

    /// The whole answer.
    fn finish(mut self) -> String {
        self.0.write_all(b"\r\n").unwrap();
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Waits until new connections are refused, while the held one goes on.
fn await_refusal(vip: SocketAddr, held: &mut Held) {
    eventually("new connections are refused", SOON, || {
        held.go_on();
        match TcpStream::connect(vip) {
            Ok(_) => None,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                Some(())
            }
        }
    });
}

fn standing(node: &Node) -> (Value, Value) {
    let agents = node.json(&["agents"]);
    let agent = &agents["get_agents"]["agents"][0];
    (agent["deactivated"].clone(), agent["drain_info"]["state"].clone())
}

fn agent_id(node: &Node) -> String {
    let agents = node.json(&["agents"]);
    let id = &agents["get_agents"]["agents"][0]["agent_info"]["id"]["value"];
    id.as_str().expect("an agent").to_owned()
}

fn aware() -> Framework {
    let capabilities = ["MULTI_ROLE", "TASK_KILLING_STATE", "PARTITION_AWARE"];
    let capabilities = capabilities.map(|name| json!({ "type": name }));
    Framework::subscribe_as(&json!({
        "user": "root", "name": "aware", "roles": ["*"], "failover_timeout": 3600,
        "checkpoint": true, "capabilities": capabilities,
    }))
}

#[test]
fn an_agent_is_drained_and_comes_back() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let before = deploy(&node, &deaf_web());
        before.iter().for_each(apps::await_server);
        apps::await_backends(&node, WEB_VIP, 1);
        let vip = apps::vip_address(&node, WEB_VIP);
        let mut framework = aware();
        let offer = framework.offer();
        framework.launch(&offer, &[task("sleeper", "sleep 1000")]);
        framework.until("sleeper", "TASK_RUNNING");

        let mut held = Held::open(vip);
        let id = agent_id(&node);
        let said = node.text(&["drain", &id, "--grace", GRACE]);
        assert_eq!(said.trim(), format!("{id} draining"));
        await_refusal(vip, &mut held);
        assert_eq!(standing(&node), (json!(true), json!("DRAINING")));
        let listed = node.text(&["agents"]);
        let why = listed.lines().find(|line| line.starts_with(&format!("{id}, draining for ")));
        assert!(why.is_some_and(|why| why.contains(&before[0].id)), "{listed}");
        let late = node.mizzen(&["drain", &id, "--grace", GRACE, "--wait", "--timeout", "0"]);
        assert_eq!(late.code, Some(1));
        assert!(late.stderr.contains(&format!("waits for {}", before[0].id)), "{}", late.stderr);
        let refused = node.mizzen(&["reactivate", &id]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains("still in the DRAINING state"), "{}", refused.stderr);
        assert!(held.finish().ends_with(&before[0].id), "the old connection is served to its end");

        for state in ["TASK_KILLING", "TASK_KILLED"] {
            let status = framework.expect("sleeper", state);
            assert_eq!(status["reason"], "REASON_AGENT_DRAINING", "{status:#}");
        }
        let said = node.text(&["drain", &id[..id.len() - 1], "--grace", GRACE, "--wait"]);
        assert_eq!(said.trim(), format!("{id} drained"));
        assert_eq!(apps::tasks(&node, "/web"), []);

        // Nothing runs there, whoever starts anew.
        node.kill();
        let node = place.start();
        eventually("the agent is back", SOON, || {
            (standing(&node) == (json!(true), json!("DRAINED"))).then_some(())
        });
        let queue = eventually("the app waits", SOON, || {
            let queue = get(apps::api(), "/v2/queue").unwrap().json();
            queue["queue"][0].is_object().then_some(queue)
        });
        let delay = &queue["queue"][0]["delay"];
        assert_eq!(delay["overdue"], true, "no delay is due to the drain: {queue:#}");
        assert_eq!(apps::tasks(&node, "/web"), []);

        let said = node.text(&["reactivate", &id]);
        assert_eq!(said.trim(), format!("{id} active"));
        let after = apps::await_tasks(&node, "/web", 1);
        after.iter().for_each(apps::await_server);
        apps::await_backends(&node, WEB_VIP, 1);
        assert!(Held::open(vip).finish().ends_with(&after[0].id));
        assert_eq!(node.problems(), [""; 0]);
    });
}

#[test]
fn a_task_that_is_killed_leaves_its_vip_at_once() {
    in_lab(|| {
        let node = Node::start(&[]);
        let tasks = deploy(&node, &deaf_web());
        tasks.iter().for_each(apps::await_server);
        apps::await_backends(&node, WEB_VIP, 1);
        let vip = apps::vip_address(&node, WEB_VIP);
        let mut held = Held::open(vip);
        let said = node.mizzen(&["scale", "web", "0", "--no-wait"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert_eq!(TcpStream::connect(vip).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        held.go_on();
        assert!(held.finish().ends_with(&tasks[0].id));
        assert!(get(tasks[0].server(), "/").is_ok(), "it has its grace");
    });
}

#[test]
fn an_agent_that_is_marked_gone_stays_away() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let mut framework = aware();
        let offer = framework.offer();
        framework.launch(&offer, &[task("sleeper", "sleep 1000")]);
        framework.until("sleeper", "TASK_RUNNING");
        let id = agent_id(&node);
        let answer = node.json(&["drain", &id, "--mark-gone"]);
        assert_eq!(answer["drain_info"]["config"]["mark_gone"], true);
        framework.expect("sleeper", "TASK_KILLING");
        let status = framework.expect("sleeper", "TASK_GONE_BY_OPERATOR");
        assert_eq!(status["reason"], "REASON_AGENT_DRAINING");
        let of_agent = |event: &Value| event["failure"]["agent_id"]["value"] == id;
        framework.next_where("FAILURE", "failure of the agent", of_agent);
        for _ in 0..2 {
            eventually("the node says so", SOON, || {
                let problems = node.problems();
                problems.iter().any(|text| text.contains("marked as gone")).then_some(())
            });
            let refused = node.mizzen(&["reactivate", &id]);
            assert!(refused.stderr.contains("no agent"), "{}", refused.stderr);
            node.kill();
            node = place.start();
        }
    });
}

#[test]
fn an_agent_is_deactivated_and_taken_out_by_hand() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut framework = aware();
        let offer = framework.offer();
        framework.launch(&offer, &[task("sleeper", "sleep 1000")]);
        framework.until("sleeper", "TASK_RUNNING");
        let id = agent_id(&node);
        assert_eq!(node.text(&["agents", "deactivate", &id]).trim(), format!("{id} deactivated"));
        assert_eq!(node.text(&["reactivate", &id]).trim(), format!("{id} active"));
        assert_eq!(node.text(&["agents", "mark-gone", &id]).trim(), format!("{id} gone"));
        let status = framework.expect("sleeper", "TASK_GONE_BY_OPERATOR");
        assert_eq!(status["reason"], "REASON_AGENT_REMOVED_BY_OPERATOR");
        eventually("its tasks end", SOON, || {
            let rows = node.json(&["tasks"]);
            rows.as_array().unwrap().is_empty().then_some(())
        });
        let again = node.text(&["agents", "mark-gone", &id]);
        assert_eq!(again.trim(), format!("{id} gone"), "it is not listed any more");
        let unknown = node.mizzen(&["agents", "mark-gone", "nobody"]);
        assert_eq!(unknown.code, Some(1));
        assert!(unknown.stderr.contains("Unknown agent nobody"), "{}", unknown.stderr);
    });
}

#[test]
fn a_machine_in_maintenance_is_left_goes_down_and_comes_back() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let place = node.place();
        let tasks = apps::deploy_web(&node, 1);
        let vip = apps::vip_address(&node, WEB_VIP);
        let mut framework = aware();
        let offer = framework.offer();
        framework.launch(&offer, &[task("sleeper", "sleep 1000")]);
        framework.until("sleeper", "TASK_RUNNING");

        let agents = node.json(&["agents"]);
        let hostname = agents["get_agents"]["agents"][0]["agent_info"]["hostname"].clone();
        let machines = json!([{ "hostname": hostname }]);
        let post = |path: &str, body: &Value| {
            let answer = send_json(master(), "POST", path, body).unwrap();
            (answer.status, answer.text())
        };
        assert_eq!(post("/machine/down", &machines).0, 400);
        let window =
            json!({ "machine_ids": machines, "unavailability": { "start": { "nanoseconds": 1 } } });
        assert_eq!(
            post("/maintenance/schedule", &json!({ "windows": [window] })),
            (200, String::new())
        );
        let inverse = framework.next("INVERSE_OFFERS");
        let inverse = &inverse["inverse_offers"]["inverse_offers"][0];
        assert_eq!(inverse["unavailability"]["start"]["nanoseconds"], 1);
        let part =
            json!({ "inverse_offer_ids": [inverse["id"]], "filters": { "refuse_seconds": 60.0 } });
        framework.must_call("DECLINE_INVERSE_OFFERS", &part);
        let status = get(master(), "/maintenance/status").unwrap().json();
        let statuses = status["draining_machines"][0]["statuses"].as_array().unwrap();
        assert!(statuses.iter().any(|status| status["status"] == "DECLINE"), "{status:#}");
        eventually("new connections are refused", SOON, || {
            let refused = TcpStream::connect(vip).err()?;
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            Some(())
        });
        assert!(get(tasks[0].server(), "/").is_ok(), "it runs on");

        assert_eq!(post("/machine/down", &machines), (200, String::new()));
        let status = framework.until("sleeper", "TASK_GONE");
        assert_eq!(status["reason"], "REASON_AGENT_REMOVED");
        eventually("all tasks have ended", SOON, || {
            let rows = node.json(&["tasks"]);
            rows.as_array().unwrap().is_empty().then_some(())
        });
        node.kill();
        let node = place.start();
        eventually("the node says so", SOON, || {
            node.problems().iter().any(|text| text.contains("is DOWN")).then_some(())
        });
        let status = get(master(), "/maintenance/status").unwrap().json();
        assert_eq!(status["down_machines"].as_array().unwrap().len(), 1);

        assert_eq!(post("/machine/up", &machines), (200, String::new()));
        let after = apps::await_tasks(&node, "/web", 1);
        apps::await_server(&after[0]);
        apps::await_backends(&node, WEB_VIP, 1);
        assert_eq!(get(vip, "/").unwrap().text(), after[0].id);
        assert_eq!(get(master(), "/maintenance/schedule").unwrap().json(), json!({}));
    });
}
