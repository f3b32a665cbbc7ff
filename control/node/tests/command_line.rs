//! The binary as a script sees it: exit codes, what is on stdout and what on
//! stderr, and the conversation of a command with a node.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

fn mizzen(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mizzen"));
    command.args(words).env_clear().env("MIZZEN_CONFIG", "/dev/null").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Answers requests on a socket from a script of (request line, status, answer),
/// and returns the bodies it was sent. What is asked must come in this order.
fn node(socket: &Path, script: Vec<(&'static str, u16, Value)>) -> JoinHandle<Vec<String>> {
    let listener = UnixListener::bind(socket).unwrap();
    let mut script = VecDeque::from(script);
    std::thread::spawn(move || {
        let mut bodies = Vec::new();
        while let Some((want, status, answer)) = script.pop_front() {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut request, mut length) = (String::new(), 0);
            reader.read_line(&mut request).unwrap();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(text(&body));
            assert!(request.starts_with(want), "{request} instead of {want}");
            let answer = answer.to_string();
            write!(
                &stream,
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{answer}",
                answer.len()
            )
            .unwrap();
        }
        bodies
    })
}

/// Runs a command against a scripted node.
fn talk(words: &[&str], script: Vec<(&'static str, u16, Value)>) -> (Output, Vec<String>) {
    let temp = tempfile::tempdir().unwrap();
    let node = node(&temp.path().join("mizzen.sock"), script);
    let output = mizzen(words).env("MIZZEN_RUN_DIR", temp.path()).output().unwrap();
    // A command that gave up early leaves the node waiting.
    let bodies = if node.is_finished() || output.status.success() {
        node.join().unwrap()
    } else {
        Vec::new()
    };
    (output, bodies)
}

#[test]
fn without_a_node() {
    for words in [
        &["status"][..],
        &["apps"],
        &["rm", "x"],
        &["scale", "x", "1"],
        &["tasks"],
        &["logs", "x"],
        &["vips"],
        &["dns", "x"],
        &["ping", "x"],
    ] {
        let output = mizzen(words).env("MIZZEN_RUN_DIR", "/no/where").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert_eq!(text(&output.stdout), "");
        assert_eq!(
            text(&output.stderr),
            "mizzen: no mizzen node answers at /no/where/mizzen.sock; \
             start one with `mizzen node`, or try `mizzen lab`\n"
        );
    }
}

#[test]
fn help_is_data_and_wrong_usage_is_two() {
    for command in [
        "node", "lab", "status", "doctor", "apps", "run", "scale", "rm", "tasks", "logs", "nodes",
        "ping", "vips", "dns",
    ] {
        let output = mizzen(&[command, "--help"]).output().unwrap();
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains(&format!("mizzen {command}")), "{help}");
        assert!(!help.contains('\u{1b}'), "no colour where there is no terminal");
    }
    let output = mizzen(&["sail"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""));
}

#[test]
fn all_mistakes_of_a_configuration_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("m.toml");
    std::fs::write(&file, "[vip]\nengin = 'off'\n\n[overlay]\nmtu = 'big'\n").unwrap();
    let output = mizzen(&["node", "--dns-port", "0", "--config"])
        .arg(&file)
        .env("MIZZEN_ROLES", "captain")
        .output()
        .unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    let file = file.display();
    let want = format!(
        "mizzen: 4 mistakes in the configuration
  {file}:2: vip.engin: unknown key; did you mean `vip.engine`?
  {file}:5: overlay.mtu: expected an integer, found a string
  MIZZEN_ROLES: `captain` is not a role (master, agent, services, dns, vip, overlay)
  --dns-port: `0` is not a port (1 to 65535)\n"
    );
    assert_eq!(text(&output.stderr), want);
}

#[test]
fn the_configuration_in_force() {
    let output = mizzen(&["node", "--check-config", "--overlay-mtu", "1400"])
        .env("MIZZEN_INSTANCE", "blue")
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for (line, origin) in [
        ("instance = \"blue\"", "# MIZZEN_INSTANCE"),
        ("mtu = 1400", "# --overlay-mtu"),
        ("bridge = \"m-dcos-blue\"", "# default"),
    ] {
        assert!(shown.lines().any(|l| l.starts_with(line) && l.ends_with(origin)), "{shown}");
    }
}

#[test]
fn one_daemon_for_each_state_directory() {
    let temp = tempfile::tempdir().unwrap();
    let state = temp.path().join("state");
    let _lock = mizzen::lock::StateLock::take(&state).unwrap();
    let output = mizzen(&["node", "--vip-engine", "off", "--state-dir"])
        .arg(&state)
        .env("MIZZEN_RUN_DIR", temp.path().join("run"))
        .output()
        .unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let want =
        format!("state directory {} is in use by process {}", state.display(), std::process::id());
    assert!(message.contains(&want), "{message}");
}

#[test]
fn an_app_is_run_and_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("web.json");
    std::fs::write(&file, r#"{"id":"web","cmd":"x","instances":2}"#).unwrap();
    let app = |running: u64, deployments: Value| json!({"app": {"id": "/web", "instances": 2, "tasksRunning": running, "deployments": deployments}});
    let script = vec![
        ("POST /v2/apps ", 201, json!({"id": "/web", "deployments": [{"id": "d-1"}]})),
        ("GET /v2/apps/web?", 200, app(1, json!([{"id": "d-1"}]))),
        ("GET /v2/queue/why ", 200, json!([{"id": "/web", "why": "no agent has 9 cpus"}])),
        ("GET /v2/apps/web?", 200, app(2, json!([]))),
    ];
    let (output, bodies) = talk(&["run", file.to_str().unwrap()], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "/web deployment d-1\n");
    let want = "/web: 1 of 2 running - no agent has 9 cpus\n/web: 2 of 2 running\n";
    assert_eq!(text(&output.stderr), want);
    assert_eq!(bodies[0], r#"{"cmd":"x","id":"web","instances":2}"#);
}

#[test]
fn an_app_that_exists_is_changed() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("web.json");
    std::fs::write(&file, r#"{"id":"/web"}"#).unwrap();
    let script = vec![
        ("POST /v2/apps ", 409, json!({"message": "An app with id [/web] already exists."})),
        ("GET /v2/apps/web?", 200, json!({"app": {"id": "/web"}})),
        ("PUT /v2/apps/web ", 200, json!({"deploymentId": "d-2", "version": "v"})),
    ];
    let (output, _) = talk(&["run", "--no-wait", "--json", file.to_str().unwrap()], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["deploymentId"], "d-2");
}

#[test]
fn a_refusal_is_told_in_the_nodes_words() {
    let answer = json!({"message": "Object is not valid",
                        "details": [{"path": "/cpus", "errors": ["must not be negative"]}]});
    let (output, _) = talk(&["scale", "web", "3"], vec![("PATCH /v2/apps/web ", 422, answer)]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    let want = "mizzen: Object is not valid\n  /cpus: must not be negative\n";
    assert_eq!(text(&output.stderr), want);
}

#[test]
fn what_a_task_wrote() {
    const TASK: &str = "web.instance-7f023201-246e-423b-b4e1-7062daf75b43._app.1";
    let task = json!({"id": TASK, "framework": "marathon", "state": "TASK_RUNNING"});
    let logs = |rest: &str| -> &'static str {
        format!("GET /v1/logs?task={TASK}&stream=stderr{rest}").leak()
    };
    let script = vec![
        ("GET /v1/cluster/tasks ", 200, json!([task])),
        ("GET /v1/tasks/ended ", 200, json!([])),
        (logs("&offset=0&"), 200, json!({"offset": 0, "data": "one\n"})),
        (logs("&offset=4&"), 200, json!({"offset": 4, "data": ""})),
        (logs(" "), 200, json!({"offset": 4, "data": ""})),
    ];
    let (output, _) = talk(&["logs", "--stderr", "/web"], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "one\n");
}

#[test]
fn where_a_drain_ends_is_said_once() {
    let agent = |drained: bool| {
        let state = if drained { "DRAINED" } else { "DRAINING" };
        let agent = json!({
            "agent_info": { "hostname": "anchor", "id": { "value": "m-S0" } }, "active": false,
            "deactivated": true, "version": "1.11.0",
            "drain_info": { "state": state, "config": {} },
        });
        ("POST /api/v1 ", 200, json!({ "get_agents": { "agents": [agent] } }))
    };
    let drain = ("POST /api/v1 ", 200, json!({}));
    let tasks = ("POST /api/v1 ", 200, json!({ "get_tasks": {} }));
    let script = vec![agent(false), drain, agent(false), tasks, agent(true), agent(true)];
    let (output, _) = talk(&["drain", "anchor", "--wait"], script);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "m-S0 draining\n");
    assert_eq!(text(&output.stdout), "m-S0 drained\n");
}

#[test]
fn two_policies_of_one_name_are_refused_before_anything_is_sent() {
    let temp = tempfile::tempdir().unwrap();
    let policy = |id: &str| json!({ "id": id, "applies_to": {}, "ingress": [] });
    let file = |name: &str, ids: &[&str]| {
        let path = temp.path().join(name);
        let all: Vec<Value> = ids.iter().map(|id| policy(id)).collect();
        std::fs::write(&path, json!({ "policies": all }).to_string()).unwrap();
        path.display().to_string()
    };
    let (a, b) = (file("a.json", &["web", "db", "web"]), file("b.json", &["db"]));
    let output = mizzen(&["policy", "apply", &a, &b]).output().unwrap();
    let message = text(&output.stderr);
    let want = format!(
        "mizzen: policies of one id replace each other; which one is meant?\n  \
         web: document 1 of {a} and document 3 of {a}\n  \
         db: document 2 of {a} and document 1 of {b}\n"
    );
    assert_eq!((output.status.code(), message), (Some(1), want));
}

#[test]
fn bad_files_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("bad.json");
    for (content, want) in
        [("{\"id\": \n", "is not JSON: EOF"), ("{}", "has no app with an \"id\"")]
    {
        std::fs::write(&file, content).unwrap();
        let output = mizzen(&["run", file.to_str().unwrap()]).output().unwrap();
        let message = text(&output.stderr);
        assert!(message.contains("bad.json") && message.contains(want), "{message}");
        assert_eq!(output.status.code(), Some(1));
    }
}
