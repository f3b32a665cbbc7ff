//! Apps that cannot be.

use mizzen_tests_node::apps::{api, await_app, command, deploy, deploy_web, post, web};
use mizzen_tests_node::framework::{Framework, task};
use mizzen_tests_node::http::{self, Request, Response};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, dns, eventually, in_lab};
use serde_json::{Value, json};

fn post_text(text: &str) -> Response {
    let headers = &[("Content-Type", "application/json")];
    let request = Request { method: "POST", path: "/v2/apps", headers, body: text.as_bytes() };
    http::send(api(), &request).expect("the services' API answers")
}

/// Errors of an answer, by the member that they are about.
fn errors(answer: &Value, path: &str) -> String {
    let details = answer["details"].as_array().cloned().unwrap_or_default();
    let of_path = details.iter().filter(|detail| detail["path"] == path);
    of_path.map(|detail| detail["errors"].to_string()).collect()
}

#[test]
fn an_app_that_makes_no_sense_is_refused_with_marathons_error_body() {
    in_lab(|| {
        let node = Node::start(&[]);
        let long = "a".repeat(10_000);
        let with = |name: &str, value: Value| {
            let mut app = command("/x", "true");
            app[name] = value;
            app.to_string()
        };
        let nan = with("cpus", json!("?")).replace("\"?\"", "NaN");
        let infinite = with("cpus", json!("?")).replace("\"?\"", "1e999");
        #[rustfmt::skip]
        let table: &[(String, u16, &str, &str)] = &[
            ("{\"id\": ".to_owned(),                            400, "/",          "EOF"),
            ("".to_owned(),                                     400, "/",          "EOF"),
            ("ahoy".to_owned(),                                 400, "/",          "line 1"),
            (nan,                                               400, "/",          "line 1"),
            (infinite,                                          400, "/",          "out of range"),
            ("[]".to_owned(),                                   422, "/",          ""),
            ("null".to_owned(),                                 422, "/",          ""),
            (with("nonsense", json!(1)),                        422, "/nonsense",  "unknown field"),
            (with("cpus", json!("NaN")),                        422, "/cpus",      "expected"),
            (with("cpus", json!(-1)),                           422, "/cpus",      "0"),
            (with("mem", json!(-0.5)),                          422, "/mem",       "0"),
            (with("disk", json!(-1)),                           422, "/disk",      "0"),
            (with("gpus", json!(-1)),                           422, "/gpus",      "negative"),
            (with("instances", json!(-1)),                      422, "/instances", "negative"),
            (with("instances", json!(1_000_000_000)),           422, "/instances", "at most"),
            (with("cmd", Value::Null),                          422, "/",          "cmd"),
            (with("id", json!("/Über")),                        422, "/id",        ""),
            (with("id", json!(format!("/{long}"))),             422, "/id",        ""),
            (with("networks", json!([{"mode": "carrier-pigeon"}])), 422, "/networks(0)/mode", "carrier-pigeon"),
            (with("networks", json!([{"mode": "container/bridge", "name": "x"}])), 422, "/networks(0)", "only a container network"),
            (with("networks", json!([{"mode": "container", "name": "none"}])), 422, "/networks(0)", "there is 'dcos'"),
            (with("container", json!({"portMappings": [{"hostPort": 8080}, {"hostPort": 8080}]})), 422, "/container/portMappings", "host ports of one protocol must be different"),
            (with("healthChecks", json!([{"protocol": "HTTP", "portIndex": 9}])), 422, "/healthChecks(0)/portIndex", "ports"),
            (with("upgradeStrategy", json!({"minimumHealthCapacity": 7})), 422, "/upgradeStrategy/minimumHealthCapacity", "1"),
        ];
        for (text, status, path, words) in table {
            let answer = post_text(text);
            let shown: String = text.chars().take(80).collect();
            assert_eq!(answer.status, *status, "{shown}: {}", answer.text());
            let body = answer.json();
            assert!(body["message"].as_str().is_some_and(|m| !m.is_empty()), "{shown}: {body}");
            let errors = errors(&body, path);
            assert!(!errors.is_empty() && errors.contains(words), "{shown}: {path} in {body:#}");
        }
        let apps = http::get(api(), "/v2/apps").unwrap().json();
        assert_eq!(apps, json!({ "apps": [] }), "nothing of that was taken");
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn an_id_that_is_taken_is_a_conflict() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 1);
        let answer = post(&web(1));
        assert_eq!(answer.status, 409, "{}", answer.text());
        let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains("/web"), "{message}");
    });
}

#[test]
fn an_app_larger_than_any_agent_waits_and_says_why() {
    in_lab(|| {
        let node = Node::start(&[]);
        for (id, member, amount, word) in
            [("/wide", "cpus", 4000, "cpus"), ("/tall", "mem", 4_000_000, "mem")]
        {
            let mut app = command(id, "true");
            app[member] = amount.into();
            assert_eq!(post(&app).status, 201);
            let line = eventually("`mizzen apps` says why it waits", SOON, || {
                let text = node.text(&["apps"]);
                text.lines()
                    .find(|line| line.starts_with(&format!("{id} waits:")))
                    .map(str::to_owned)
            });
            assert!(line.contains(word) && line.contains(&amount.to_string()), "{line}");
        }
        let rows = node.text(&["apps"]);
        let row = rows.lines().find(|line| line.starts_with("/wide ")).unwrap();
        assert!(row.contains("0/1") && row.contains("waiting"), "{rows}");

        deploy(&node, &command("/small", "exec sleep 1000"));
        let answer = http::send_json(
            api(),
            "PUT",
            "/v2/apps/wide?force=true",
            &json!({
                "cpus": 0.1, "cmd": "exec sleep 1000",
            }),
        );
        assert_eq!(answer.unwrap().status, 200);
        await_app("/wide", "runs when it is small enough", SOON, |app| app["tasksRunning"] == 1);
    });
}

#[test]
fn a_task_with_a_name_of_ten_kilobytes_does_no_harm() {
    in_lab(|| {
        let node = Node::start(&["--master-allocation-interval", "100ms"]);
        let mut framework = Framework::subscribe("long");
        let long = "n".repeat(10_000);
        let mut named = task("named", "exec sleep 1000");
        named["name"] = json!(long);
        let offer = framework.offer();
        framework.launch(&offer, &[named, task(&long, "true")]);
        framework.until("named", "TASK_RUNNING");
        let refused = framework.status(&long);
        assert_eq!(refused["state"], "TASK_ERROR", "an id is part of a path");
        // A label of a name has at most 63 letters.
        let name = format!("{}.long.mesos", &long[..63]);
        eventually("its name is cut to what a name can be", SOON, || {
            (dns::addresses(dns::By::Udp, &name).len() == 1).then_some(())
        });
        assert!(node.text(&["tasks"]).contains("running"));
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn numbers_that_are_none_do_no_harm_in_a_frameworks_call() {
    in_lab(|| {
        let node = Node::start(&["--master-allocation-interval", "100ms"]);
        let mut framework = Framework::subscribe("odd");
        for value in [json!("NaN"), json!("Infinity"), json!("-Infinity"), json!("many"), json!(-1)]
        {
            let mut odd = task("odd", "true");
            odd["resources"][0]["scalar"]["value"] = value.clone();
            let offer = framework.offer();
            odd["agent_id"] = offer["agent_id"].clone();
            let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": [odd] } });
            let accept = json!({
                "offer_ids": [offer["id"]], "operations": [launch],
                "filters": { "refuse_seconds": 0.0 },
            });
            let answer = framework.call("ACCEPT", &accept);
            match answer.status {
                202 => assert_eq!(framework.status("odd")["state"], "TASK_ERROR", "{value}"),
                status => {
                    assert_eq!(status, 400, "{value}: {}", answer.text());
                    let part =
                        json!({ "offer_ids": [offer["id"]], "filters": { "refuse_seconds": 0.0 } });
                    framework.must_call("DECLINE", &part);
                }
            }
        }
        let offer = framework.offer();
        framework.launch(&offer, &[task("sane", "true")]);
        framework.until("sane", "TASK_FINISHED");
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}
