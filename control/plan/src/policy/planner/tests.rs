use super::super::document;
use super::super::subject::tests::task;
use super::*;
use mizzen_ebpf_core::policy::{Verdict, number};
use mizzen_ebpf_core::words::{TCP, UDP};
use mizzen_types::fact::TaskFact;
use serde_json::{Value, json};

const HERE: &str = "n1";
const DB: &str = "9.0.1.2";
const WEB: &str = "9.0.2.2";
const OTHER: &str = "9.0.2.3";
/// In the other overlay.
const FAR: &str = "10.1.2.2";
const WORLD: &str = "198.18.0.1";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ground() -> Ground {
    Ground {
        overlays: [("dcos", "9.0.0.0/8"), ("web", "10.1.0.0/16")]
            .map(|(name, network)| (name.to_owned(), vec![net(network)]))
            .into(),
        blocks: vec![net("9.0.1.0/24"), net("10.1.1.0/24")],
        host: ["192.0.2.1", "9.0.1.1", "198.51.100.1"].map(ip).into(),
        ..Ground::default()
    }
}

fn say(planner: &mut PolicyPlanner, owner: &str, fact: &TaskFact) {
    let key = Key::Task(fact.framework_id.clone(), fact.task_id.clone());
    planner.apply(&owner.into(), &key, Some(&Fact::Task(Box::new(fact.clone()))));
}

/// Two nodes with a database here, and on the other one its client, somebody else, and a task of
/// another overlay.
fn cluster() -> PolicyPlanner {
    let mut planner = PolicyPlanner::new(HERE.into(), RuleNumbers::default());
    planner.set_ground(ground());
    let other = Neighbour {
        addresses: ["192.0.2.2", "9.0.2.1"].map(ip).into(),
        blocks: vec![net("9.0.2.0/24"), net("10.1.2.0/24")],
    };
    planner.set_neighbour(&"n2".into(), Some(other));
    say(&mut planner, HERE, &task("shop/db", &[("app", "db")], &[DB]));
    say(&mut planner, "n2", &task("shop/web", &[("app", "web")], &[WEB]));
    say(&mut planner, "n2", &task("other", &[], &[OTHER]));
    say(&mut planner, "n2", &task("far", &[("app", "far")], &[FAR]));
    planner
}

fn set(planner: &mut PolicyPlanner, documents: &Value) {
    let documents = documents.as_array().unwrap();
    let read = documents.iter().map(|one| document::read(one).unwrap());
    planner.set_policies(read.collect());
}

fn judged(planner: &PolicyPlanner, from: &str, to: &str, port: u16) -> (Verdict, u32) {
    let judgement = planner.wanted().judge(ip(from), ip(to), TCP, port);
    (judgement.verdict, judgement.rule)
}

fn verdict(planner: &PolicyPlanner, from: &str, to: &str, port: u16) -> Verdict {
    judged(planner, from, to, port).0
}

const PASS: Verdict = Verdict::Pass;
const REFUSE: Verdict = Verdict::Refuse;
const WOULD: Verdict = Verdict::WouldRefuse;

#[test]
fn without_a_policy_there_is_nothing_to_go_by() {
    let mut planner = cluster();
    assert_eq!(planner.wanted(), &PolicyWanted::default());
    set(&mut planner, &json!([{"id": "a", "applies_to": {}, "ingress": []}]));
    assert!(planner.take_changed() && !planner.wanted().is_idle());
    set(&mut planner, &json!([]));
    assert_eq!(planner.wanted(), &PolicyWanted::default());
}

#[test]
fn a_guarded_container_takes_in_what_a_rule_allows() {
    let mut planner = cluster();
    set(
        &mut planner,
        &json!([{
            "id": "db", "applies_to": {"labels": {"app": "db"}},
            "ingress": [{"peers": [{"labels": {"app": "web"}}], "ports": ["5432/tcp"]}],
        }]),
    );
    assert_eq!(judged(&planner, WEB, DB, 5432), (PASS, 8));
    assert_eq!(judged(&planner, WEB, DB, 5433), (REFUSE, number::GUARD_INGRESS));
    assert_eq!(planner.wanted().judge(ip(WEB), ip(DB), UDP, 5432).verdict, REFUSE);
    assert_eq!(verdict(&planner, OTHER, DB, 5432), REFUSE);
    assert_eq!(verdict(&planner, FAR, DB, 5432), REFUSE);
    assert_eq!(verdict(&planner, WORLD, DB, 5432), REFUSE);
    assert_eq!(verdict(&planner, "192.0.2.2", DB, 5432), REFUSE, "another node");
    assert_eq!(judged(&planner, "9.0.1.1", DB, 1), (PASS, number::HOST), "its own node");
    // Nobody guards these, nor what the database sends.
    assert_eq!(judged(&planner, OTHER, WEB, 1), (PASS, number::OPEN));
    assert_eq!(verdict(&planner, DB, WEB, 1), PASS);
    assert_eq!(judged(&planner, FAR, WEB, 1), (REFUSE, number::ISOLATION));
    assert_eq!(judged(&planner, WORLD, WEB, 1), (PASS, number::OPEN));
    // Who has this address may be a database that is about to start.
    assert_eq!(judged(&planner, WEB, "9.0.1.77", 1), (REFUSE, number::GUARD_INGRESS));
    assert_eq!(verdict(&planner, WEB, "9.0.2.77", 1), PASS, "the other node judges that");
}

#[test]
fn one_end_alone_does_not_open_a_way_between_guarded_ends() {
    let mut planner = cluster();
    let ingress = json!({"id": "in", "applies_to": {"name": "shop/db"},
        "ingress": [{"peers": [{"name": "/shop/*"}]}]});
    let egress = json!({"id": "out", "applies_to": {"name": "shop/web"},
        "egress": [{"peers": [{"name": "shop/db"}], "ports": ["80-90/tcp"]}, {"peers": [{"entity": "host"}], "ports": ["53/udp"]}]});
    set(&mut planner, &json!([ingress, egress]));
    assert_eq!(verdict(&planner, WEB, DB, 85), PASS);
    assert_eq!(verdict(&planner, WEB, DB, 91), REFUSE);
    assert_eq!(verdict(&planner, WEB, WORLD, 85), REFUSE);
    assert_eq!(planner.wanted().judge(ip(WEB), ip("198.51.100.1"), UDP, 53).verdict, PASS);
    assert_eq!(verdict(&planner, WEB, "198.51.100.1", 53), REFUSE);
    assert_eq!(verdict(&planner, OTHER, DB, 85), REFUSE);
}

#[test]
fn overlays_are_opened_by_name_and_by_the_receiver() {
    let mut planner = cluster();
    let open = |peer: Value| {
        json!([{"id": "db", "applies_to": {"name": "shop/db"},
        "ingress": [{"peers": [peer], "ports": ["tcp"]}]}])
    };
    for (peer, from_far, from_web) in [
        (json!({"overlay": "web"}), PASS, REFUSE),
        (json!({"overlay": "*"}), PASS, PASS),
        (json!({"overlay": "web", "labels": {"app": "far"}}), PASS, REFUSE),
        (json!({"labels": {"app": "far"}}), REFUSE, REFUSE),
        (json!({"address": "10.1.0.0/16"}), REFUSE, REFUSE),
        (json!({}), REFUSE, PASS),
    ] {
        set(&mut planner, &open(peer.clone()));
        let found = (verdict(&planner, FAR, DB, 1), verdict(&planner, WEB, DB, 1));
        assert_eq!(found, (from_far, from_web), "{peer}");
    }
    // The sender's word is not enough.
    set(
        &mut planner,
        &json!([{"id": "far", "applies_to": {"overlay": "web"},
        "egress": [{"peers": [{"overlay": "*"}]}]}]),
    );
    assert_eq!(verdict(&planner, FAR, DB, 1), REFUSE);
    let together = Ground { between: Overlays::Together, ..ground() };
    planner.set_ground(together);
    assert_eq!(verdict(&planner, FAR, DB, 1), PASS);
}

#[test]
fn what_is_tried_out_drops_nothing() {
    let mut planner = cluster();
    let tried = json!({"id": "tried", "audit": true, "applies_to": {"name": "shop/db"},
        "ingress": [{"peers": [{"name": "shop/web"}], "ports": ["80/tcp"]}]});
    set(&mut planner, &json!([tried]));
    assert_eq!(judged(&planner, WEB, DB, 80), (PASS, 8));
    assert_eq!(judged(&planner, WEB, DB, 81), (WOULD, number::AUDIT_INGRESS));
    assert_eq!(judged(&planner, FAR, DB, 80), (REFUSE, number::ISOLATION));
    assert_eq!(verdict(&planner, WEB, "9.0.1.77", 1), PASS, "nobody is guarded");
    // Beside one in force it changes nothing: what that refuses stays refused.
    let force = json!({"id": "force", "applies_to": {"name": "shop/db"},
        "ingress": [{"peers": [{"name": "other"}]}]});
    set(&mut planner, &json!([tried, force]));
    assert_eq!(verdict(&planner, WEB, DB, 80), REFUSE);
    assert_eq!(verdict(&planner, OTHER, DB, 80), PASS);
    // What one end lets in and the other one, on trial, would not let out.
    let out = json!({"id": "out", "audit": true, "applies_to": {"name": "other"},
        "egress": [{"ports": ["80/tcp"]}]});
    set(&mut planner, &json!([force, out]));
    assert_eq!(verdict(&planner, OTHER, DB, 80), PASS);
    let rule = planner.numbers().iter().find(|(rule, _)| rule.policy.as_str() == "force");
    assert_eq!(judged(&planner, OTHER, DB, 81), (WOULD, rule.unwrap().1));
}

#[test]
fn networks_of_the_world() {
    let mut planner = cluster();
    set(
        &mut planner,
        &json!([{"id": "db", "applies_to": {"name": "shop/db"}, "ingress": [
        {"peers": [{"address": "198.18.0.0/15"}], "ports": ["80/tcp"]},
        {"peers": [{"entity": "world"}], "ports": ["443/tcp"]}]}]),
    );
    assert_eq!(verdict(&planner, WORLD, DB, 80), PASS);
    assert_eq!(verdict(&planner, WORLD, DB, 443), PASS);
    assert_eq!(verdict(&planner, "203.0.113.1", DB, 443), PASS);
    assert_eq!(verdict(&planner, "203.0.113.1", DB, 80), REFUSE);
    assert_eq!(verdict(&planner, WEB, DB, 443), REFUSE, "no container is the world");
    let world = planner.wanted().class_of(ip("203.0.113.1"));
    assert_eq!(world.class, 0);
}

#[test]
fn a_task_touches_its_own_class_only() {
    let mut planner = cluster();
    set(
        &mut planner,
        &json!([{"id": "db", "applies_to": {"labels": {"app": "db"}},
        "ingress": [{"peers": [{"labels": {"app": "web"}}]}]}]),
    );
    planner.take_changed();
    let before = planner.wanted().clone();
    let second = task("shop/web", &[("app", "web")], &["9.0.2.9"]);
    say(&mut planner, "n2", &second);
    assert_eq!(verdict(&planner, "9.0.2.9", DB, 1), PASS);
    assert_eq!(planner.wanted().rulings, before.rulings, "its class was there");
    assert_eq!(planner.wanted().classes.len(), before.classes.len() + 1);
    // The same again is no change.
    assert!(planner.take_changed());
    say(&mut planner, "n2", &second);
    assert!(!planner.take_changed());
    let key = Key::Task(second.framework_id.clone(), second.task_id.clone());
    planner.apply(&"n2".into(), &key, None);
    assert_eq!(planner.wanted(), &before);
    // The last of a class takes it along.
    let db = task("shop/db", &[("app", "db")], &[DB]);
    planner.apply(&HERE.into(), &Key::Task(db.framework_id, db.task_id), None);
    assert!(planner.wanted().rulings.is_empty());
}

#[test]
fn numbers_of_classes_follow_from_what_they_are() {
    let policies = json!([{"id": "db", "applies_to": {"labels": {"app": "db"}},
        "ingress": [{"peers": [{"labels": {"app": "web"}}]}]}]);
    let mut planner = cluster();
    set(&mut planner, &policies);
    let before = planner.wanted().clone();
    // Whatever came in between, and in whatever order.
    let mut more = policies.as_array().unwrap().clone();
    more.insert(0, json!({"id": "a", "applies_to": {"name": "other"}, "egress": []}));
    set(&mut planner, &json!(more));
    assert_eq!(planner.wanted().class_of(ip(DB)), before.class_of(ip(DB)));
    set(&mut planner, &policies);
    let same = |planner: &PolicyPlanner| planner.wanted().classes == before.classes;
    assert!(same(&planner));
    let mut late = PolicyPlanner::new(HERE.into(), planner.numbers().clone());
    set(&mut late, &policies);
    say(&mut late, HERE, &task("shop/db", &[("app", "db")], &[DB]));
    late.set_ground(ground());
    let full = cluster();
    for (owner, neighbour) in &full.neighbours {
        late.set_neighbour(owner, Some(neighbour.clone()));
    }
    for app in [("shop/web", "web", WEB), ("far", "far", FAR)] {
        say(&mut late, "n2", &task(app.0, &[("app", app.1)], &[app.2]));
    }
    say(&mut late, "n2", &task("other", &[], &[OTHER]));
    assert_eq!(late.wanted(), planner.wanted());
}

#[test]
fn nobody_speaks_for_addresses_of_others() {
    let mut planner = cluster();
    set(
        &mut planner,
        &json!([{"id": "db", "applies_to": {"labels": {"app": "db"}},
        "ingress": [{"peers": [{"labels": {"app": "web"}}]}]}]),
    );
    say(&mut planner, "n3", &task("shop/web", &[("app", "web")], &[OTHER]));
    say(&mut planner, "n3", &task("mine", &[], &[DB]));
    assert_eq!(verdict(&planner, OTHER, DB, 1), REFUSE, "n3 has no such block");
    let blocks = vec![net("9.0.3.0/24")];
    planner.set_neighbour(&"n3".into(), Some(Neighbour { blocks, ..Neighbour::default() }));
    assert_eq!(verdict(&planner, OTHER, DB, 1), REFUSE);
    // It is believed about what it has.
    say(&mut planner, "n3", &task("shop/web", &[("app", "web")], &["9.0.3.3"]));
    assert_eq!(verdict(&planner, "9.0.3.3", DB, 1), PASS);
    planner.set_neighbour(&"n3".into(), None);
    assert_eq!(verdict(&planner, "9.0.3.3", DB, 1), REFUSE);
}

#[test]
fn containers_that_are_no_tasks() {
    let mut planner = cluster();
    set(
        &mut planner,
        &json!([{"id": "all", "applies_to": {"overlay": "dcos"},
        "ingress": [{"peers": [{"name": "shop/db"}]}]}]),
    );
    let leases = BTreeSet::from([ip("9.0.1.9"), ip("10.1.1.9")]);
    planner.set_ground(Ground { leases, ..ground() });
    assert_eq!(verdict(&planner, WEB, "9.0.1.9", 1), REFUSE, "it is guarded like all others");
    assert_eq!(verdict(&planner, DB, "9.0.1.9", 1), PASS);
    assert_eq!(verdict(&planner, FAR, "10.1.1.9", 1), PASS, "the other overlay is not guarded");
    planner.set_ground(ground());
    assert_eq!(verdict(&planner, DB, "9.0.1.9", 1), REFUSE, "nobody has it");
    assert_eq!(planner.addresses_called("shop/*"), [ip(DB), ip(WEB)].into());
}

#[test]
fn explanations_are_the_judge_s() {
    use super::super::explain::{Question, explain};
    use mizzen_types::policy::PolicyProtocol::Tcp;
    let mut planner = cluster();
    let open = explain(&planner, &Question { from: ip(FAR), to: ip(WEB), ports: None });
    let want = "everything is refused: overlays web and dcos are apart: no ingress rule of the receiver names the sender's";
    assert_eq!(serde_json::to_value(open).unwrap()["words"], json!([want]), "without a policy");
    set(
        &mut planner,
        &json!([{"id": "db", "applies_to": {"labels": {"app": "db"}},
        "ingress": [{"name": "web", "peers": [{"labels": {"app": "web"}}], "ports": ["5432-5433/tcp"]}]}]),
    );
    let asked = |from: &str, to: &str, ports| {
        let question = Question { from: ip(from), to: ip(to), ports };
        serde_json::to_value(explain(&planner, &question)).unwrap()
    };
    let one = asked(WEB, DB, Some((Tcp, 5432)));
    assert_eq!(one["words"], json!(["5432/tcp passes: ingress rule web of policy db allows it"]));
    assert_eq!(
        one["answers"][0]["by"],
        json!({"policy": "db", "direction": "ingress", "rule": "web"})
    );
    assert_eq!(one["to"]["guarded_by"], json!(["db"]));
    assert_eq!(one["from"]["task"], "shop_web.instance-9.0.2.2._app.1");
    let all = asked(WEB, DB, None);
    let want = json!([
        "5432-5433/tcp passes: ingress rule web of policy db allows it",
        "everything else is refused: policy db guards the receiver, and no ingress rule allows it",
    ]);
    assert_eq!(all["words"], want);
    for (from, to, want) in [
        (
            FAR,
            WEB,
            "80/tcp is refused: overlays web and dcos are apart: no ingress rule of the receiver names the sender's",
        ),
        (OTHER, WEB, "80/tcp passes: no policy guards either end"),
        ("9.0.1.1", DB, "80/tcp passes: a node always reaches its own containers"),
        ("9.0.1.1", OTHER, "80/tcp passes: no policy guards either end"),
        (
            WEB,
            "9.0.1.99",
            "80/tcp is refused: nobody is known to have the receiver's address, and it may be about to be guarded",
        ),
    ] {
        assert_eq!(asked(from, to, Some((Tcp, 80)))["words"][0], want);
    }
    set(
        &mut planner,
        &json!([{"id": "far", "applies_to": {"name": "far"}, "egress": [{"peers": [{"overlay": "*"}]}]}]),
    );
    let asked = explain(&planner, &Question { from: ip(FAR), to: ip(DB), ports: Some((Tcp, 80)) });
    let want = "80/tcp is refused: policy far guards the sender, and overlays web and dcos are apart: no ingress rule of the receiver names the sender's";
    assert_eq!(serde_json::to_value(asked).unwrap()["words"][0], want);
    set(
        &mut planner,
        &json!([{"id": "web", "applies_to": {"labels": {"app": "web"}}, "ingress": []}]),
    );
    let tcp = Some((Tcp, 80));
    let asked = explain(&planner, &Question { from: ip("192.0.2.1"), to: ip(WEB), ports: tcp });
    let want = "80/tcp is refused: policy web guards the receiver, and no ingress rule allows it";
    assert_eq!(serde_json::to_value(asked).unwrap()["words"][0], want, "the other node judges");
}

#[test]
fn tasks_of_a_nodes_own_bridge_are_guarded_on_their_node_only() {
    let (server, client, stranger) = ("172.31.254.2", "172.31.254.3", "172.31.254.4");
    let bridged = |app: &str, at: &str| {
        let reach = mizzen_types::fact::Reach::Node;
        TaskFact { container_reach: reach, ..task(app, &[("app", app)], &[at]) }
    };
    let mut planner = cluster();
    let bridge = Some(net("172.31.254.0/24"));
    planner.set_ground(Ground { bridge, ..ground() });
    say(&mut planner, HERE, &bridged("bridged", server));
    say(&mut planner, HERE, &bridged("client", client));
    let rule =
        json!({ "peers": [{ "labels": { "app": "client" } }, { "labels": { "app": "far" } }] });
    set(
        &mut planner,
        &json!([{ "id": "a", "applies_to": { "labels": { "app": "bridged" } }, "ingress": [rule] }]),
    );
    assert_eq!(verdict(&planner, client, server, 80), PASS);
    assert_eq!(verdict(&planner, DB, server, 80), REFUSE);
    assert_eq!(verdict(&planner, WORLD, server, 80), REFUSE);
    assert_eq!(verdict(&planner, "192.0.2.1", server, 80), PASS, "the node itself");
    assert_eq!(verdict(&planner, stranger, server, 80), REFUSE, "nobody knows who that is");
    assert_eq!(verdict(&planner, DB, stranger, 80), REFUSE, "it may be a guarded one");
    assert_eq!(verdict(&planner, FAR, server, 80), PASS, "a bridge is no overlay to be apart from");
    assert_eq!(verdict(&planner, server, DB, 80), PASS);

    // Another node's task has the address of one of ours, and is another one all the same.
    say(&mut planner, "n2", &bridged("elsewhere", client));
    assert_eq!(verdict(&planner, client, server, 80), PASS);
    let meant = |name: &str| Selector { name: Some(name.to_owned()), ..Selector::default() };
    assert!(!planner.is_idle(&meant("elsewhere")) && planner.is_idle(&meant("nobody")));
    assert_eq!(planner.addresses_called("elsewhere"), BTreeSet::new());
    assert_eq!(planner.addresses_called("client"), [ip(client)].into());
}
