//! Who may reach whom: overlays are apart, policies open ways and guard containers, and none of it
//! depends on the daemon.

use mizzen_netlink::in_namespace;
use mizzen_tests_node::apps::{self, PORT, Task};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Longer than a connection takes, and shorter than its first packet is sent again.
const SHORT: Duration = Duration::from_millis(700);

/// A node with a second overlay.
fn start() -> Node {
    Node::start(&["--overlay-networks", "web=10.128.0.0/12/24"])
}

/// An app of one server in an overlay, with the label `app`.
fn app(id: &str, overlay: &str) -> Value {
    let mut app = apps::web(1);
    app["id"] = json!(id);
    app["networks"][0]["name"] = json!(overlay);
    app["labels"] = json!({ "app": id.trim_start_matches('/') });
    app["container"]["portMappings"][0]["labels"] = json!({});
    app
}

fn deploy(node: &Node, id: &str, overlay: &str) -> Task {
    let task = apps::deploy(node, &app(id, overlay)).remove(0);
    apps::await_server(&task);
    task
}

/// Whether a process in a container is let through to another one's server: by its socket.
fn connects(from: &Task, to: &Task) -> bool {
    let SocketAddr::V4(to) = to.server() else { panic!("IPv4") };
    from.ask(&format!("/fetch/{}/{}", to.ip(), to.port())).status == 200
}

/// The same of a program that only is in the container's network: by its packets.
fn passes(from: &Task, to: &Task) -> bool {
    passes_within(from, to.server(), SHORT)
}

fn passes_within(from: &Task, to: SocketAddr, patience: Duration) -> bool {
    let path = format!("/proc/{}/ns/net", from.pid);
    in_namespace(Path::new(&path), || TcpStream::connect_timeout(&to, patience).is_ok()).unwrap()
}

fn await_open(from: &Task, to: &Task, when: &str) {
    eventually(&format!("{} reaches {} {when}", from.id, to.id), SOON, || {
        (connects(from, to) && passes(from, to)).then_some(())
    });
}

fn await_closed(from: &Task, to: &Task, when: &str) {
    eventually(&format!("{} is kept from {} {when}", from.id, to.id), SOON, || {
        (!connects(from, to) && !passes(from, to)).then_some(())
    });
}

fn apply(node: &Node, policies: &Value, flags: &[&str]) {
    let file = lab::scratch("policies.json");
    std::fs::write(&file, policies.to_string()).unwrap();
    let file = file.display().to_string();
    let said = node.mizzen(&[&["policy", "apply", &file], flags].concat());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{policies}");
}

/// Only these peers reach the database.
fn guard(peers: &Value) -> Value {
    let ports = [format!("{PORT}/tcp")];
    json!([{
        "id": "db", "applies_to": { "labels": { "app": "db" } },
        "ingress": [{ "name": "clients", "peers": peers, "ports": ports }],
    }])
}

/// How often something was counted, under the name of a rule or of a default.
fn counted(node: &Node, what: &str, name: &str) -> u64 {
    let all = node.json(&["policy", "ls"])["counts"].as_array().cloned().unwrap_or_default();
    let by = |row: &&Value| row["by"]["rule"] == name || row["by"]["default"] == name;
    all.iter().find(by).and_then(|row| row[what].as_u64()).unwrap_or(0)
}

fn explained(node: &Node, from: &Task, to: &Task) -> String {
    let to = format!("{}:{PORT}", to.id);
    let answer = node.json(&["policy", "explain", &from.id, &to]);
    answer["words"][0].as_str().unwrap_or_default().to_owned()
}

#[test]
fn overlays_are_apart_until_a_policy_opens_a_way() {
    in_lab(|| {
        let node = start();
        let (db, far) = (deploy(&node, "/db", "dcos"), deploy(&node, "/far", "web"));
        let near = deploy(&node, "/near", "dcos");
        await_closed(&far, &db, "because overlays are apart");
        await_open(&near, &db, "in one overlay");

        apply(&node, &guard(&json!([{ "overlay": "web", "labels": { "app": "far" } }])), &[]);
        await_open(&far, &db, "by policy");
        await_closed(&near, &db, "because nothing lets it in");
        await_open(&db, &near, "the other way round");
        assert_eq!(
            explained(&node, &far, &db),
            format!("{PORT}/tcp passes: ingress rule clients of policy db allows it")
        );
        assert_eq!(
            explained(&node, &near, &db),
            format!(
                "{PORT}/tcp is refused: policy db guards the receiver, and no ingress rule allows it"
            )
        );
        assert!(explained(&node, &far, &near).contains("overlays web and dcos are apart"));
        eventually("it is counted", SOON, || {
            let passed = counted(&node, "allowed", "clients");
            (passed > 0 && counted(&node, "refused", "guard-ingress") > 0).then_some(())
        });
        let drops = eventually("it is told", SOON, || {
            let drops = node.json(&["policy", "drops"])["drops"].as_array().cloned()?;
            let is_ours =
                |row: &Value| row["from"]["task"] == near.id && row["to"]["task"] == db.id;
            drops.iter().any(is_ours).then_some(drops)
        });
        assert!(drops.iter().all(|row| row["verdict"] == "refuse"), "{drops:?}");
        let metrics = node.place().shell("curl -s http://127.0.0.1:62080/v1/metrics").stdout;
        let series =
            "mizzen_policy_allowed_total{policy=\"db\",direction=\"ingress\",rule=\"clients\"}";
        assert!(metrics.contains(series), "{metrics}");

        let _ = node.text(&["policy", "rm", "db"]);
        await_closed(&far, &db, "again");
        await_open(&near, &db, "again");
        assert_eq!(node.problems(), Vec::<String>::new());
    });
}

#[test]
fn what_a_policy_says_holds_while_the_daemon_is_killed_and_restarted() {
    in_lab(|| {
        let mut node = start();
        let place = node.place();
        let (db, far) = (deploy(&node, "/db", "dcos"), deploy(&node, "/far", "web"));
        let near = deploy(&node, "/near", "dcos");
        apply(&node, &guard(&json!([{ "overlay": "web" }])), &[]);
        await_open(&far, &db, "by policy");
        await_closed(&near, &db, "by policy");
        node.kill();
        await_open(&far, &db, "without a daemon");
        assert!(!connects(&near, &db) && !passes(&near, &db), "without a daemon");
        let node = place.start();
        for _ in 0..5 {
            assert!(!passes(&near, &db), "after a restart");
            assert!(connects(&far, &db), "after a restart");
        }
        assert!(node.text(&["policy", "ls"]).contains("db"));
        // A container that is new is guarded from its first packet on.
        let mut more = app("/db", "dcos");
        more["instances"] = json!(2);
        let answer = mizzen_tests_node::http::send_json(apps::api(), "PUT", "/v2/apps/db", &more);
        assert!(answer.unwrap().status < 300);
        let second =
            apps::await_tasks(&node, "/db", 2).into_iter().find(|task| *task != db).unwrap();
        apps::await_server(&second);
        assert!(!passes(&near, &second) && !connects(&near, &second));
        await_open(&far, &second, "by policy");
    });
}

#[test]
fn what_is_tried_out_is_reported_and_passes() {
    in_lab(|| {
        let node = start();
        let (db, near) = (deploy(&node, "/db", "dcos"), deploy(&node, "/near", "dcos"));
        apply(&node, &guard(&json!([{ "name": "nobody" }])), &["--audit"]);
        eventually("it is reported", SOON, || {
            let passed = connects(&near, &db) && passes_within(&near, db.server(), SOON);
            assert!(passed, "nothing is refused");
            let drops = node.json(&["policy", "drops", "--audit"])["drops"].as_array().cloned()?;
            let would =
                |row: &Value| row["verdict"] == "would-refuse" && row["to"]["task"] == db.id;
            drops.iter().any(would).then_some(())
        });
        assert!(counted(&node, "would_refuse", "audit-ingress") > 0);
        assert_eq!(node.json(&["policy", "ls"])["policies"][0]["audit"], true);
    });
}

#[test]
fn everything_wrong_with_a_file_is_told_and_nothing_is_changed() {
    in_lab(|| {
        let node = start();
        let file = lab::scratch("wrong.toml");
        let text = "[[policies]]\nid = \"a\"\napplies_to = {}\ningress = []\n\
            [[policies]]\nid = \"b\"\napplies_to = { entity = \"host\" }\ningress = [{ ports = [\"80\"] }]\n";
        std::fs::write(&file, text).unwrap();
        let said = node.mizzen(&["policy", "apply", &file.display().to_string()]);
        assert_eq!(said.code, Some(1));
        for words in [
            "wrong.toml",
            "policy b: applies_to.entity: expected containers",
            "ingress[0].ports[0]",
        ] {
            assert!(said.stderr.contains(words), "{words} in {}", said.stderr);
        }
        assert_eq!(node.json(&["policy", "ls"])["policies"], json!([]));
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/policy.toml");
        let said = node.mizzen(&["policy", "apply", &example.display().to_string()]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let note = "note: shop-db: it applies to no task that runs now";
        assert!(said.stderr.contains(note), "{}", said.stderr);
        let shown = node.text(&["policy", "show", "shop-db"]);
        assert!(shown.contains("5432/tcp"), "{shown}");
        let gone = node.mizzen(&["policy", "rm", "shop-db", "shop-web", "shop-db"]);
        assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), "shop-db\nshop-web\n"));
    });
}

#[test]
fn containers_of_the_nodes_own_bridge_are_guarded_too() {
    in_lab(|| {
        let mut node = start();
        let bridged = |id: &str, port: u16| {
            let mut app = apps::bridged_web(port);
            app["id"] = json!(id);
            app["labels"] = json!({ "app": id.trim_start_matches('/') });
            app
        };
        let run = |app: &Value| {
            let task = apps::deploy(&node, app).remove(0);
            apps::await_server(&task);
            task
        };
        let db = run(&bridged("/db", 31_080));
        let (near, other) = (run(&bridged("/near", 31_081)), run(&bridged("/other", 31_082)));
        let far = deploy(&node, "/far", "dcos");
        for from in [&near, &other, &far] {
            await_open(from, &db, "without a policy");
        }
        apply(&node, &guard(&json!([{ "labels": { "app": "near" } }])), &[]);
        await_closed(&other, &db, "by policy");
        await_closed(&far, &db, "by policy");
        await_open(&near, &db, "by policy");
        await_open(&other, &near, "because nothing guards it");
        assert_eq!(db.ask("/").status, 200, "its own node reaches it");
        assert_eq!(
            explained(&node, &other, &db),
            format!(
                "{PORT}/tcp is refused: policy db guards the receiver, and no ingress rule allows it"
            )
        );
        let place = node.place();
        node.kill();
        assert!(!passes(&other, &db) && !connects(&other, &db), "without a daemon");
        await_open(&near, &db, "without a daemon");
        let node = place.start();
        let _ = node.text(&["policy", "rm", "db"]);
        await_open(&other, &db, "again");
        let closed = json!([{
            "id": "out", "applies_to": { "labels": { "app": "near" } }, "egress": [],
        }]);
        apply(&node, &closed, &[]);
        await_closed(&near, &db, "because it may send nothing");
        await_closed(&near, &far, "because it may send nothing");
        await_open(&other, &db, "because nothing guards it");
    });
}

/// A container that another runtime connects, and a server in it.
struct Foreign {
    child: Child,
    server: TcpListener,
}

impl Foreign {
    fn attach(id: &str) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "echo ready; exec sleep 600"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let netns = format!("/proc/{}/ns/net", child.id());
        let leases = Path::new(&std::env::var_os("MIZZEN_STATE_DIR").unwrap()).join("leases");
        let plugin = lab::executable("mizzen-overlay");
        let network = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "mizzen-overlay",
            "overlay": "dcos", "ipam": { "type": "mizzen-ipam", "dataDir": leases } });
        let mut add = Command::new(&plugin);
        add.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", id).env("CNI_NETNS", &netns);
        add.env("CNI_IFNAME", "eth0").env("CNI_PATH", plugin.parent().unwrap());
        let mut add = add.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        add.stdin.take().unwrap().write_all(network.to_string().as_bytes()).unwrap();
        let said = add.wait_with_output().unwrap().stdout;
        let said: Value = serde_json::from_slice(&said).unwrap();
        let address = said["ips"][0]["address"].as_str().expect("an address");
        let address: IpAddr = address.split('/').next().unwrap().parse().unwrap();
        let server =
            in_namespace(Path::new(&netns), || TcpListener::bind((address, PORT)).unwrap());
        Self { child, server: server.unwrap() }
    }

    fn is_reached_from(&self, from: &Task) -> bool {
        passes_within(from, self.server.local_addr().unwrap(), SHORT)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_container_of_another_runtime_is_guarded_when_the_daemon_says_so() {
    in_lab(|| {
        let node = start();
        let near = deploy(&node, "/near", "dcos");
        let told = || {
            let words = "curl -s -o /dev/null -w '%{http_code}' --unix-socket \
                         $MIZZEN_RUN_DIR/mizzen.sock -X POST http://localhost/v1/cni/attached";
            node.place().shell(words).stdout
        };
        assert_eq!(told(), "204", "without a policy");
        let open = Foreign::attach("open");
        eventually("it is open without a policy", SOON, || {
            open.is_reached_from(&near).then_some(())
        });
        drop(open);
        let all = json!([{ "id": "all", "applies_to": {}, "ingress": [] }]);
        apply(&node, &all, &[]);
        let foreign = Foreign::attach("guarded");
        // What the plugin has said already; it waits no longer than a runtime should.
        assert_eq!(told(), "204");
        assert!(!foreign.is_reached_from(&near), "by policy");
        let _ = node.text(&["policy", "rm", "all"]);
        eventually("it is open again", SOON, || foreign.is_reached_from(&near).then_some(()));
    });
}
