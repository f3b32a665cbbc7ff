//! What a call must be, and what the master makes of offers and questions.

use mizzen_tests_node::framework::{Framework, raw_call, task};
use mizzen_tests_node::in_lab;
use mizzen_tests_node::node::Node;
use serde_json::{Value, json};
use std::time::Duration;

/// Headers and body of a call; the status and a word of the answer.
type Row<'a> = (&'a [(&'a str, &'a str)], &'a str, u16, &'a str);

const BRISK: &[&str] = &["--master-allocation-interval", "100ms"];

/// Ten rounds of offers.
const ROUNDS: Duration = Duration::from_secs(1);

#[test]
fn a_call_that_is_none_is_refused_in_words() {
    in_lab(|| {
        let node = Node::start(&[]);
        let framework = Framework::subscribe("careful");
        let json_type = &[("Content-Type", "application/json")][..];
        let id = &framework.id;
        let revive = format!(r#"{{"framework_id":{{"value":"{id}"}},"type":"REVIVE"}}"#);
        let stranger = r#"{"framework_id":{"value":"nobody"},"type":"REVIVE"}"#;
        let no_type = r#"{"framework_id":{"value":"x"}}"#;
        let kill = format!(r#"{{"framework_id":{{"value":"{id}"}},"type":"KILL"}}"#);
        let ack = format!(
            r#"{{"framework_id":{{"value":"{id}"}},"type":"ACKNOWLEDGE","acknowledge":
                {{"agent_id":{{"value":"a"}},"task_id":{{"value":"t"}},"uuid":"AAAA"}}}}"#
        );
        let offer_as_text =
            r#"{"framework_id":{"value":"x"},"type":"DECLINE","decline":{"offer_ids":"o"}}"#;
        #[rustfmt::skip]
        let table: &[Row<'_>] = &[
            (&[],                                  &revive,       400, "Content-Type"),
            (&[("Content-Type", "text/plain")],    &revive,       415, "text/plain"),
            (json_type,                            "",            400, "JSON"),
            (json_type,                            "{\"type\":",  400, "JSON"),
            (json_type,                            "[]",          400, "scheduler::Call"),
            (json_type,                            offer_as_text, 400, "scheduler::Call"),
            (json_type,                            no_type,       400, "type"),
            (json_type,                            stranger,      400, "Framework cannot be found"),
            (json_type,                            &revive,       400, "Mesos-Stream-Id"),
            (json_type,                            &kill,         400, "'kill'"),
            (json_type,                            &ack,          400, "uuid"),
        ];
        for (headers, body, status, words) in table {
            let answer = raw_call(headers, body.as_bytes());
            let text = answer.text();
            assert_eq!(answer.status, *status, "{body}: {text}");
            assert!(text.contains(words), "{body}: `{words}` in {text}");
        }
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn a_call_on_the_wrong_stream_is_refused() {
    in_lab(|| {
        let _node = Node::start(&[]);
        let mut framework = Framework::subscribe("twice");
        let revive = |stream| framework.call_on(stream, "REVIVE", &json!({})).status;
        assert_eq!(revive(Some(&framework.stream_id)), 202);
        assert_eq!(revive(Some("another")), 400);
        assert_eq!(revive(None), 400);

        // The newest stream is the framework's; the old one is told and ended.
        let id = framework.id.clone();
        let mut second = Framework::subscribe_as(&json!({
            "id": { "value": id }, "user": "root", "name": "twice", "failover_timeout": 3600,
            "checkpoint": true, "roles": ["*"], "capabilities": [{ "type": "MULTI_ROLE" }],
        }));
        assert_eq!(second.id, id);
        let error = framework.next("ERROR");
        assert!(error["error"]["message"].as_str().is_some_and(|m| m.contains("failed over")));
        framework.await_end();
        assert_eq!(framework.call("REVIVE", &json!({})).status, 400);
        assert_eq!(second.call("REVIVE", &json!({})).status, 202);
        second.next("HEARTBEAT");
    });
}

#[test]
fn declined_offers_come_back_when_their_filter_allows() {
    in_lab(|| {
        let _node = Node::start(BRISK);
        let mut framework = Framework::subscribe("choosy");
        let decline = |framework: &mut Framework, seconds: f64| {
            let offer = framework.offer();
            let filters = json!({ "refuse_seconds": seconds });
            let part = json!({ "offer_ids": [offer["id"]], "filters": filters });
            framework.must_call("DECLINE", &part);
            offer["agent_id"].clone()
        };
        let agent = decline(&mut framework, 0.0);
        assert_eq!(decline(&mut framework, 3600.0), agent, "without a filter it comes at once");
        assert_eq!(framework.next_within("OFFERS", ROUNDS), None, "not while it is filtered");
        framework.must_call("REVIVE", &json!({}));
        assert_eq!(framework.offer()["agent_id"], agent, "REVIVE clears filters");
    });
}

#[test]
fn a_suppressed_framework_is_left_alone() {
    in_lab(|| {
        let _node = Node::start(BRISK);
        let mut framework = Framework::subscribe("quiet");
        let offer = framework.offer();
        framework.must_call("SUPPRESS", &json!({}));
        let part = json!({ "offer_ids": [offer["id"]], "filters": { "refuse_seconds": 0.0 } });
        framework.must_call("DECLINE", &part);
        assert_eq!(framework.next_within("OFFERS", ROUNDS), None);
        framework.must_call("REVIVE", &json!({}));
        framework.offer();
    });
}

#[test]
fn reconciliation_answers_for_known_and_unknown_tasks() {
    in_lab(|| {
        let _node = Node::start(BRISK);
        let mut framework = Framework::subscribe("sure");
        let offer = framework.offer();
        framework.launch(&offer, &[task("known", "exec sleep 1000")]);
        framework.until("known", "TASK_RUNNING");
        let check = |status: &Value, state: &str| {
            assert_eq!(status["state"], state, "{status:#}");
            assert_eq!(status["reason"], "REASON_RECONCILIATION", "{status:#}");
            assert!(status["uuid"].is_null(), "nothing to acknowledge: {status:#}");
        };
        framework.must_call("RECONCILE", &json!({ "tasks": [] }));
        check(&framework.status("known"), "TASK_RUNNING");
        let ask = |id: &str| json!({ "tasks": [{ "task_id": { "value": id } }] });
        framework.must_call("RECONCILE", &ask("known"));
        check(&framework.status("known"), "TASK_RUNNING");
        framework.must_call("RECONCILE", &ask("unknown"));
        check(&framework.status("unknown"), "TASK_LOST");
        framework.must_call("KILL", &json!({ "task_id": { "value": "stranger" } }));
        check(&framework.status("stranger"), "TASK_LOST");
    });
}
