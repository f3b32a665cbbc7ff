//! Services registered by hand, labels beside VIP labels, and looking before leaping.

use mizzen_tests_node::apps::{self, WEB_VIP, deploy, deploy_web};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::http::{Request, get, send, send_json};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab, load};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

const NODE_PORT: &str = "127.0.0.1:62080";
const VIP_ONLY: &[&str] = &["--roles", "vip"];

/// A server of this process that answers every request with `name`.
pub(super) fn serve(at: &str, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", name.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{name}").as_bytes());
        }
    });
    address
}

/// Who answers at an address, asked often.
fn answers(at: SocketAddr) -> BTreeSet<String> {
    (0..40).map(|_| get(at, "/").unwrap().text()).collect()
}

/// Asks until all of these have answered, and nobody else: who is slow is asked seldom.
fn await_answers(at: SocketAddr, want: &[&str]) {
    let mut seen = BTreeSet::new();
    eventually(&format!("{want:?} have answered"), SOON, || {
        seen.extend(answers(at));
        let other = seen.iter().find(|name| !want.contains(&name.as_str()));
        assert_eq!(other, None, "{want:?}");
        (seen.len() == want.len()).then_some(())
    });
}

/// The addresses that a registered service has.
fn vips(service: &Value) -> Vec<SocketAddr> {
    let all = service["vips"].as_array().cloned().unwrap_or_default();
    all.iter().map(|vip| vip.as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_node_with_nothing_but_vips_serves_what_is_registered() {
    in_lab(|| {
        let mut node = Node::start(VIP_ONLY);
        assert_eq!(node.json(&["status"])["roles"], json!(["vip"]));
        for port in [5050, 5051, 8080, 53] {
            assert!(TcpStream::connect(lab::at(port)).is_err(), "{port}");
        }
        let one = serve("127.0.0.1:0", "one").to_string();
        let two = serve("127.0.0.1:0", "two").to_string();
        let three = serve("[::1]:0", "three").to_string();
        let backends = ["--backend", &one, &two, &three];
        let set = node
            .json(&[&["vip", "set", "demo:80/tcp", "--rule", "random"], &backends[..]].concat());
        assert_eq!(set["name"], "demo.static.l4lb.thisdcos.directory");
        let note = set["notes"][0].as_str().unwrap_or_default();
        assert!(note.contains("does not have the role `dns`"), "{set}");
        let [v4, v6] = vips(&set)[..] else { panic!("one of each family: {set}") };
        let itself = node.mizzen(&["vip", "set", "demo:80/tcp", "--backend", &v4.to_string()]);
        assert!(itself.stderr.contains("is the VIP itself"), "{}", itself.stderr);
        assert!(v4.to_string().starts_with("11.") && v6.to_string().starts_with("[fd01:c::"));
        await_answers(v4, &["one", "two"]);
        assert_eq!(answers(v6), BTreeSet::from(["three".to_owned()]));

        let minuteman = get("127.0.0.1:61421".parse().unwrap(), "/vips").unwrap().json();
        assert_eq!(
            minuteman["vips"][v4.to_string()].as_object().map(serde_json::Map::len),
            Some(2)
        );
        let shown = get(NODE_PORT.parse().unwrap(), "/v1/vip-services").unwrap().json();
        assert_eq!(shown, json!([set]));
        assert!(node.text(&["vip", "ls"]).contains(&v4.to_string()));

        // Connects go on without the daemon, and it knows the service when it comes back.
        let place = node.place();
        let load = load::Load::start(v4);
        load.await_more(20);
        node.kill();
        load.await_more(20);
        let node = place.start();
        load.await_more(20);
        assert_eq!(load.stop().failures, Vec::<String>::new());
        assert_eq!(node.json(&["vip", "ls"]), json!([set]));

        let text =
            node.text(&["vip", "set", "demo:80/tcp", "--backend", &format!("{one}@0"), &two]);
        assert_eq!(text, format!("demo:80/tcp {v4} demo.static.l4lb.thisdcos.directory\n"));
        assert_eq!(answers(v4), BTreeSet::from(["two".to_owned()]), "the other one is drained");
        let _ = node.text(&["vip", "set", "demo:80/tcp", "--no-backends"]);
        let error = get(v4, "/").expect_err("nobody is there");
        assert_ne!(error.kind(), ErrorKind::TimedOut, "it is refused at once: {error}");
        let _ = node.text(&["vip", "rm", "demo:80/tcp"]);
        assert_eq!(node.json(&["vips"]), json!([]));
        let again = node.mizzen(&["vip", "rm", "demo:80/tcp"]);
        assert_eq!(again.code, Some(1));
        assert!(again.stderr.contains("no service demo:80/tcp is registered"), "{}", again.stderr);
        // The name keeps its address.
        let set = node.json(&["vip", "set", "demo:80/tcp", "--backend", &two]);
        assert_eq!(vips(&set), [v4]);
    });
}

#[test]
fn the_api_of_registered_services_means_what_it_answers() {
    in_lab(|| {
        let mut node = Node::start(VIP_ONLY);
        let at: SocketAddr = NODE_PORT.parse().unwrap();
        let demo = "/v1/vip-services/demo:80/tcp";
        let backends = |list: &[&str]| json!({ "backends": list });
        let put = |path: &str, body: &Value| send_json(at, "PUT", path, body).unwrap();
        let delete =
            |path| send(at, &Request { method: "DELETE", path, headers: &[], body: &[] }).unwrap();
        assert_eq!(put(demo, &backends(&["192.0.2.7:80"])).status, 201);
        let same = put(demo, &backends(&["192.0.2.7:80@1"]));
        assert_eq!(same.status, 200, "again");
        let other = put("/v1/vip-services/demo.static:80/tcp", &backends(&["192.0.2.8:80@9"]));
        assert_eq!((other.status, other.json()["backends"][0]["weight"].as_u64()), (200, Some(9)));
        let back = put(demo, &other.json());
        assert_eq!((back.status, back.json()), (200, other.json()), "an answer is a question");
        assert_eq!(get(at, demo).unwrap().json(), other.json());
        assert_eq!(
            put("/v1/vip-services/%5Bfd00::7%5D:53/udp", &backends(&["[fd00::1]:53"])).status,
            201
        );

        let admin = &format!("/v1/vip-services/{}/udp", lab::at(62501));
        for (path, body, words) in [
            (demo, json!({"backends": ["192.0.2.7"]}), "not of the form IP:PORT"),
            (demo, json!({"backends": [], "rule": "best"}), "unknown variant `best`"),
            (demo, json!({"backend": []}), "unknown field `backend`"),
            (demo, json!({"backends": ["192.0.2.7:80", "192.0.2.7:80"]}), "is named twice"),
            ("/v1/vip-services/demo/tcp", backends(&[]), "not of the form NAME:PORT/PROTOCOL"),
            ("/v1/vip-services/demo:80/sctp", backends(&[]), "is not a protocol"),
            ("/v1/vip-services/10.0.0.1:80", backends(&["[fd00::1]:80"]), "is not of the family"),
            ("/v1/vip-services/0.0.0.0:80", backends(&[]), "cannot be connected to"),
            ("/v1/vip-services/127.0.0.1:80", backends(&[]), "loopback addresses are each"),
            (admin, backends(&[]), "this node itself listens there"),
        ] {
            let answer = put(path, &body);
            assert_eq!(answer.status, 400, "{path} {body}");
            assert!(answer.text().contains(words), "{path} {body}: {}", answer.text());
        }
        assert_eq!(get(at, demo).unwrap().json(), other.json(), "what is refused changes nothing");
        let wrong = send_json(at, "POST", demo, &backends(&[])).unwrap();
        assert_eq!(
            (wrong.status, wrong.headers["allow"].as_str()),
            (405, "GET, HEAD, PUT, DELETE")
        );
        assert_eq!(get(at, "/v1/vip-services/other:80/tcp").unwrap().status, 404);

        let all = get(at, "/v1/vip-services").unwrap().json();
        let place = node.place();
        node.kill();
        let _node = place.start();
        assert_eq!(get(at, "/v1/vip-services").unwrap().json(), all);
        assert_eq!(delete(demo).status, 204);
        assert_eq!(delete(demo).status, 404);
        assert_eq!(get(at, "/v1/vip-services").unwrap().json().as_array().map(Vec::len), Some(1));
    });
}

#[test]
fn what_is_registered_meets_what_tasks_ask_for() {
    in_lab(|| {
        let node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        let vip = apps::vip_address(&node, WEB_VIP);
        let outside = serve(&lab::at(0).to_string(), "outside").to_string();
        let set = node.json(&["vip", "set", "web.marathon:80", "--backend", &outside]);
        assert_eq!((vips(&set), &set["name"]), (vec![vip], &json!(WEB_VIP)));
        await_answers(vip, &["outside", &task.id]);

        let set = node.json(&["vip", "set", "demo:80/tcp", "--backend", &outside]);
        let name = "demo.static.l4lb.thisdcos.directory";
        assert_eq!(set["name"], name);
        assert_eq!(dns::addresses(By::Udp, name), [vips(&set)[0].ip()]);
        let _ = node.text(&["vip", "rm", "demo:80/tcp"]);
        assert!(dns::is_unknown(By::Udp, name));
        let _ = node.text(&["scale", "web", "0"]);
        apps::await_tasks(&node, "/web", 0);
        assert_eq!(answers(vip), BTreeSet::from(["outside".to_owned()]));
    });
}

#[test]
fn labels_that_do_not_do_what_they_say_are_told_of_and_harm_nothing() {
    in_lab(|| {
        let node = Node::start(&[]);
        let mut app = apps::web(1);
        app["container"]["portMappings"][0]["labels"] = json!({
            "VIP_0": "/web:80", "VIP_1": "nonsense", "VIP_2": "127.0.0.1:5051",
            "l4lb-rule": "fastest", "l4lb-weight": "7",
        });
        app["labels"] = json!({ "VIP_3": "/web:81" });
        let task = deploy(&node, &app).remove(0);
        apps::await_server(&task);
        apps::await_backends(&node, WEB_VIP, 1);
        assert_eq!(answers(apps::vip_address(&node, WEB_VIP)), BTreeSet::from([task.id.clone()]));
        assert_eq!(node.json(&["vips"])[0]["backends"][0]["weight"], 7);

        let problems = node.json(&["vips", "--problems"]);
        let rows = problems.as_array().unwrap();
        let mut labels: Vec<_> = rows.iter().filter_map(|row| row["label"].as_str()).collect();
        labels.sort_unstable();
        assert_eq!(labels, ["VIP_1", "VIP_2", "VIP_3", "l4lb-rule"]);
        assert!(rows.iter().all(|row| row["task"] == task.id.as_str()), "{problems:#}");
        assert_eq!(node.json(&["status"])["vips"]["problems"], problems);
        let status = node.problems().join("\n");
        assert!(status.contains("4 problems") && status.contains(&task.id), "{status}");
        let text = node.text(&["vips"]);
        assert!(text.contains("`fastest` is not a rule"), "{text}");
        node.await_log(&["a label does not do what it says", "fastest"]);
    });
}

#[test]
fn a_plan_is_what_then_happens() {
    in_lab(|| {
        let node = Node::start(&[]);
        let file = lab::scratch("web.json");
        let plan = |definition: &Value| {
            std::fs::write(&file, definition.to_string()).unwrap();
            node.json(&["vips", "--plan", &file.display().to_string()])
        };
        let made = plan(&apps::web(2));
        assert_eq!(made["vips"][0]["change"], "made");
        assert_eq!(made["vips"][0]["name"], WEB_VIP);
        assert_eq!(made["vips"][0]["come"].as_array().map(Vec::len), Some(2));
        assert_eq!(made["vips"][0]["come"][0]["port"], apps::PORT);
        assert_eq!(made["names"][0]["name"], WEB_VIP);
        assert_eq!(node.json(&["vips"]), json!([]), "nothing was changed");
        assert!(dns::is_unknown(By::Udp, WEB_VIP));

        let tasks = deploy_web(&node, 2);
        let vip = apps::vip_address(&node, WEB_VIP);
        assert_eq!(made["vips"][0]["vip"], vip.to_string(), "it has the address that was told");
        assert_eq!(plan(&apps::web(2)), json!({"vips": [], "names": [], "problems": []}));

        let fewer = plan(&apps::web(1));
        assert_eq!(
            (&fewer["vips"][0]["change"], &fewer["vips"][0]["stay"]),
            (&json!("changed"), &json!(1))
        );
        assert_eq!(fewer["vips"][0]["go"].as_array().map(Vec::len), Some(1));

        let mut moved = apps::web(1);
        moved["container"]["portMappings"][0]["labels"] =
            json!({ "VIP_0": "10.9.8.7:80", "l4lb-rule": "?" });
        let moved = plan(&moved);
        let changes: Vec<_> =
            moved["vips"].as_array().unwrap().iter().map(|row| &row["change"]).collect();
        assert_eq!(changes, ["made", "removed"], "{moved:#}");
        let gone = moved["vips"][1]["go"].as_array().unwrap();
        let gone: BTreeSet<_> = gone.iter().filter_map(|row| row["task"].as_str()).collect();
        assert_eq!(gone, tasks.iter().map(|task| task.id.as_str()).collect());
        assert_eq!(moved["names"][0]["after"], json!([]));
        assert!(moved["problems"][0].as_str().unwrap().contains("is not a rule"), "{moved:#}");

        let services = json!([{"service": "demo:80/tcp", "backends": ["192.0.2.7:80"]}]);
        assert_eq!(plan(&services)["vips"][0]["come"][0]["address"], "192.0.2.7:80");
        let text = node.text(&["vips", "--plan", &file.display().to_string()]);
        assert!(text.contains("demo.static.l4lb.thisdcos.directory: made"), "{text}");
        std::fs::write(&file, "{\"cmd\": \"true\"}").unwrap();
        let said = node.mizzen(&["vips", "--plan", &file.display().to_string()]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("neither apps"), "{}", said.stderr);
        assert_eq!(node.json(&["vip", "ls"]), json!([]));
    });
}
