//! The documents that tools read.

use mizzen_tests_node::apps::deploy_web;
use mizzen_tests_node::framework::{Framework, master, task};
use mizzen_tests_node::http::get;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use serde_json::Value;

#[test]
fn the_documents_of_the_master_have_their_fields() {
    in_lab(|| {
        let stage = Stage::set();
        for path in ["/state", "/master/state", "/state.json"] {
            master_state(&document(path), &stage.framework.id, &stage.web);
        }
        metrics(&document("/metrics/snapshot"));
        small_documents();
        tasks_document(&stage.framework.id);
    });
}

#[test]
fn the_documents_of_the_agent_have_their_fields() {
    in_lab(|| {
        let stage = Stage::set();
        small_agent_documents();
        for path in ["/state", "/slave(1)/state", "/state.json"] {
            let state = get(lab::at(5051), path).unwrap().json();
            agent_state(&state, &stage.framework.id);
        }
    });
}

/// A node with a task of our own scheduler and one of a foreign framework.
struct Stage {
    _node: Node,
    framework: Framework,
    /// Id of the own scheduler's task.
    web: String,
}

impl Stage {
    fn set() -> Self {
        let node = Node::start(&["--master-allocation-interval", "100ms"]);
        let web = deploy_web(&node, 1).remove(0).id;
        let mut framework = Framework::subscribe("foreign");
        let offer = framework.offer();
        framework.launch(&offer, &[task("t1", "exec sleep 1000")]);
        framework.until("t1", "TASK_RUNNING");
        Self { _node: node, framework, web }
    }
}

/// What master and agents alike say of themselves.
const EVERY_DAEMON: [&str; 12] = [
    "version",
    "build_date",
    "build_time",
    "build_user",
    "start_time",
    "id",
    "pid",
    "hostname",
    "capabilities",
    "flags",
    "frameworks",
    "completed_frameworks",
];

fn document(path: &str) -> Value {
    let answer = get(master(), path).unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    assert!(answer.headers["content-type"].starts_with("application/json"), "{path}");
    answer.json()
}

fn has(object: &Value, names: &[&str]) {
    let missing: Vec<_> = names.iter().filter(|name| object.get(name).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} are missing in {object:#}");
}

fn master_state(state: &Value, framework_id: &str, web: &str) {
    has(state, &EVERY_DAEMON);
    has(
        state,
        &[
            "elected_time",
            "activated_slaves",
            "deactivated_slaves",
            "unreachable_slaves",
            "leader",
            "leader_info",
            "slaves",
            "recovered_slaves",
            "orphan_tasks",
            "unregistered_frameworks",
        ],
    );
    assert_eq!(state["activated_slaves"], 1.0, "{state:#}");
    let slave = &state["slaves"][0];
    has(
        slave,
        &[
            "id",
            "hostname",
            "port",
            "attributes",
            "pid",
            "registered_time",
            "resources",
            "used_resources",
            "offered_resources",
            "reserved_resources",
            "unreserved_resources",
            "active",
            "version",
            "capabilities",
        ],
    );
    assert!(slave["used_resources"]["cpus"].as_f64().unwrap() >= 0.2, "{slave:#}");
    let framework = |id: &dyn Fn(&Value) -> bool| {
        let frameworks = state["frameworks"].as_array().unwrap();
        frameworks.iter().find(|framework| id(framework)).cloned().expect("the framework")
    };
    let foreign = framework(&|framework| framework["id"] == framework_id);
    has(
        &foreign,
        &[
            "id",
            "name",
            "used_resources",
            "offered_resources",
            "capabilities",
            "hostname",
            "webui_url",
            "active",
            "connected",
            "recovered",
            "user",
            "failover_timeout",
            "checkpoint",
            "registered_time",
            "resources",
            "roles",
            "tasks",
            "unreachable_tasks",
            "completed_tasks",
            "offers",
            "executors",
        ],
    );
    let task = &foreign["tasks"][0];
    has(
        task,
        &[
            "id",
            "name",
            "framework_id",
            "executor_id",
            "slave_id",
            "state",
            "resources",
            "role",
            "statuses",
        ],
    );
    assert_eq!((&task["id"], &task["state"]), (&"t1".into(), &"TASK_RUNNING".into()));
    assert_eq!(task["executor_id"], "", "a command task");
    let marathon = framework(&|framework| framework["name"] == "marathon");
    let task = &marathon["tasks"][0];
    assert_eq!(task["id"], web, "our own scheduler is a framework like any other");
    assert_eq!(task["discovery"]["name"], "web", "{task:#}");
}

fn agent_state(state: &Value, framework_id: &str) {
    has(state, &EVERY_DAEMON);
    has(state, &["resources", "reserved_resources", "unreserved_resources", "attributes"]);
    let frameworks = state["frameworks"].as_array().unwrap();
    let found = frameworks.iter().find(|framework| framework["id"] == framework_id);
    let executor = &found.expect("the framework")["executors"][0];
    has(
        executor,
        &[
            "id",
            "name",
            "source",
            "container",
            "directory",
            "resources",
            "tasks",
            "queued_tasks",
            "completed_tasks",
        ],
    );
    assert_eq!(executor["tasks"][0]["id"], "t1");
    let directory = executor["directory"].as_str().unwrap();
    let path = format!("/files/read?path={directory}/stdout&offset=0&length=10");
    let file = get(lab::at(5051), &path).unwrap().json();
    has(&file, &["offset", "data"]);
    let path = format!("/files/download?path={directory}/stdout");
    let whole = get(lab::at(5051), &path).unwrap();
    let size = file_size(directory);
    assert_eq!((whole.status, whole.text().len()), (200, size), "{}", whole.text());
    let attached = get(lab::at(5051), "/files/debug").unwrap().json();
    assert_eq!(attached[directory], *directory, "{attached:#}");
    let rows = get(lab::at(5051), &format!("/files/browse?path={directory}")).unwrap().json();
    let names: Vec<&str> =
        rows.as_array().unwrap().iter().filter_map(|r| r["path"].as_str()).collect();
    for name in ["stdout", "stderr"] {
        assert!(names.iter().any(|path| path.ends_with(name)), "{name} in {names:?}");
    }
}

fn file_size(directory: &str) -> usize {
    let path = std::path::Path::new(directory).join("stdout");
    std::fs::read(path).expect("the sandbox has its stdout").len()
}

fn metrics(metrics: &Value) {
    for (name, least) in [
        ("master/elected", 1.0),
        ("master/uptime_secs", 0.0),
        ("master/slaves_active", 1.0),
        ("master/slaves_connected", 1.0),
        ("master/frameworks_active", 2.0),
        ("master/frameworks_connected", 2.0),
        ("master/tasks_running", 2.0),
        ("master/tasks_finished", 0.0),
        ("master/tasks_failed", 0.0),
        ("master/cpus_total", 1.0),
        ("master/cpus_used", 0.2),
        ("master/cpus_percent", 0.001),
        ("master/mem_total", 64.0),
        ("master/mem_used", 64.0),
        ("master/messages_status_update_acknowledgement", 0.0),
    ] {
        let value = metrics.get(name).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value >= least), "{name} in {metrics:#}");
    }
    let names = metrics.as_object().unwrap();
    assert!(names.values().all(Value::is_number), "a flat map of numbers: {metrics:#}");
}

fn small_documents() {
    let health = get(master(), "/health").unwrap();
    assert_eq!((health.status, health.text().as_str()), (200, ""));
    has(&document("/version"), &["version", "build_date", "build_time", "build_user"]);
    has(&document("/flags"), &["flags"]);
    has(&document("/slaves"), &["slaves", "recovered_slaves"]);
    has(&document("/frameworks"), &["frameworks", "completed_frameworks"]);
    has(&document("/state-summary"), &["hostname", "slaves", "frameworks"]);
    has(&document("/roles")["roles"][0], &["name", "weight", "resources", "frameworks"]);
    let redirect = get(master(), "/redirect").unwrap();
    assert_eq!(redirect.status, 307);
    assert_eq!(redirect.headers["location"], format!("//{}", master()));
}

fn small_agent_documents() {
    let agent = lab::at(5051);
    assert_eq!(get(agent, "/health").unwrap().status, 200);
    has(&get(agent, "/version").unwrap().json(), &["version"]);
    let metrics = get(agent, "/metrics/snapshot").unwrap().json();
    assert_eq!(metrics["slave/registered"], 1.0, "{metrics:#}");
    assert!(get(agent, "/containers").unwrap().json()[0]["statistics"].is_object());
}

fn tasks_document(framework_id: &str) {
    let all = document("/tasks");
    assert_eq!(all["tasks"].as_array().map(Vec::len), Some(2), "{all:#}");
    let path = format!("/tasks?framework_id={framework_id}");
    let own = document(&path);
    assert_eq!(own["tasks"].as_array().map(Vec::len), Some(1), "{own:#}");
    assert_eq!(own["tasks"][0]["id"], "t1");
}

#[test]
fn the_nodes_own_documents_are_there() {
    in_lab(|| {
        let node = Node::start(&[]);
        deploy_web(&node, 1);
        let admin = "127.0.0.1:62080".parse().unwrap();
        let vips = get(admin, "/v1/vips").unwrap().json();
        let vip = &vips[0];
        assert_eq!(vip["vip"], "web.marathon.l4lb.thisdcos.directory:80", "{vips:#}");
        assert_eq!(vip["protocol"], "tcp");
        assert!(vip["backend"][0]["ip"].is_string() && vip["backend"][0]["port"] == 8080);
        let text = eventually("the metrics have the VIP", SOON, || {
            let text = get(admin, "/v1/metrics").ok()?.text();
            text.contains("mizzen_vip_established_total{vip=").then_some(text)
        });
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        let status = get(admin, "/v1/status").unwrap().json();
        assert_eq!(status["pid"], u64::from(node.pid()));
        assert_eq!(get(admin, "/v1/nothing").unwrap().status, 404);
        assert_eq!(get(lab::at(8080), "/ping").unwrap().text(), "pong");
    });
}
