//! Labels beside the VIP labels: how a VIP works.

use super::*;
use mizzen_types::vip::{Locality, Millis, OnRemoval, Withheld};

/// A task with the labels of its only port, and its own.
fn labelled(id: &str, port: &[(&str, &str)], own: &[(&str, &str)]) -> TaskFact {
    let map = |labels: &[(&str, &str)]| -> BTreeMap<String, String> {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let mut fact = task(id, "/web:80");
    fact.ports[0].labels.extend(map(port));
    fact.labels = map(own);
    fact
}

fn policy(planner: &Planner) -> VipPolicy {
    planner.specs().values().next().unwrap().policy
}

#[test]
fn a_port_says_how_its_vip_works() {
    let mut planner = planner();
    let labels = [
        ("l4lb-rule", "maglev"),
        ("l4lb-locality", "ignore"),
        ("l4lb-slow-start", "500ms"),
        ("l4lb-on-removal", "all"),
        ("l4lb-weight", "7"),
    ];
    put(&mut planner, "a", Some(&labelled("a", &labels, &[])));
    let want = VipPolicy {
        rule: Rule::Maglev,
        locality: Locality::Ignore,
        slow_start: Millis(500),
        on_removal: OnRemoval::All,
    };
    assert_eq!(policy(&planner), want);
    assert_eq!(planner.specs().values().next().unwrap().backends[0].weight, 7);
    assert_eq!(problems(&planner), [] as [&str; 0]);
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    assert_eq!(policy(&planner), VipPolicy::default());
}

#[test]
fn the_narrower_label_holds() {
    let mut planner = planner();
    let port = [
        ("VIP_1", "/other:80"),
        ("l4lb-rule", "random"),
        ("l4lb-rule.VIP_1", "source"),
        ("VIP_WEIGHT", "3"),
    ];
    let own = [
        ("vip_PORT0", "tcp://direct:80"),
        ("l4lb-rule", "maglev"),
        ("l4lb-slow-start", "0"),
        ("l4lb-weight", "9"),
        ("l4lb-locality.vip_PORT0", "ignore"),
    ];
    put(&mut planner, "a", Some(&labelled("a", &port, &own)));
    assert_eq!(problems(&planner), [] as [&str; 0]);
    let specs = planner.specs();
    let of = |name: &str| {
        let spec = specs.values().find(|spec| spec.name.as_deref() == Some(name)).unwrap();
        (spec.policy.rule, spec.policy.slow_start.0, spec.policy.locality, spec.backends[0].weight)
    };
    assert_eq!(of("web.marathon"), (Rule::Random, 0, Locality::Prefer, 3));
    assert_eq!(of("other.marathon"), (Rule::Source, 0, Locality::Prefer, 3));
    assert_eq!(of("direct.marathon"), (Rule::Maglev, 0, Locality::Ignore, 9));
}

#[test]
fn a_weight_of_zero_takes_no_new_connections() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&labelled("a", &[("l4lb-weight", "0")], &[])));
    let specs = planner.specs();
    let backend = &specs.values().next().unwrap().backends[0];
    assert_eq!((backend.weight, backend.withheld), (0, Some(Withheld::NoWeight)));
}

#[test]
fn garbage_is_told_and_the_default_holds() {
    #[rustfmt::skip]
    let table = [
        ("l4lb-rule",       "fastest", "`fastest` is not a rule (latency, least-connections, random, maglev, source)"),
        ("l4lb-rule",       "",        "`` is not a rule (latency, least-connections, random, maglev, source)"),
        ("l4lb-weight",     "-1",      "`-1` is not a weight (0 to 65535)"),
        ("VIP_WEIGHT",      "many",    "`many` is not a weight (0 to 65535)"),
        ("l4lb-locality",   "close",   "`close` is not a locality (prefer, ignore)"),
        ("l4lb-slow-start", "10",      "`10` is not 0 or a time with its unit, such as 500ms, 10s or 2m"),
        ("l4lb-on-removal", "shoot",   "`shoot` is not one of datagrams, all, keep"),
    ];
    for (label, value, want) in table {
        let mut planner = planner();
        put(&mut planner, "a", Some(&labelled("a", &[(label, value)], &[])));
        assert_eq!(policy(&planner), VipPolicy::default(), "{label}={value}");
        let want = format!("task a: label `{label}`: {want}; it is not heeded");
        assert_eq!(problems(&planner), [want], "{label}={value}");
    }
    let mut planner = planner();
    let odd = [("l4lb-rul", "maglev"), ("l4lb-rule.VIP_7", "maglev"), ("\u{1b}[2J", "\0")];
    put(&mut planner, "a", Some(&labelled("a", &odd, &odd)));
    assert_eq!(policy(&planner), VipPolicy::default());
    let unknown = "task a: label `l4lb-rul` is not known (l4lb-rule, -weight, -locality, -slow-start, -on-removal)";
    let elsewhere = "task a: label `l4lb-rule.VIP_7` means a VIP label that is not there";
    let found = problems(&planner);
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|text| text == unknown || text == elsewhere), "{found:#?}");
    put(&mut planner, "a", None);
    assert_eq!(problems(&planner), [] as [&str; 0], "it went with the task");
}

#[test]
fn a_thousand_mistakes_of_one_task_are_not_all_remembered() {
    let mut fact = task("a", "/web:80");
    fact.labels = (0..1000).map(|n| (format!("l4lb-{n}"), String::new())).collect();
    let mut planner = planner();
    put(&mut planner, "a", Some(&fact));
    assert_eq!(planner.problems().len(), 64);
    assert_eq!(addresses(&planner), ["9.0.0.2:8080"]);
}

#[test]
fn of_tasks_that_differ_the_lowest_is_heard_and_the_others_are_told() {
    for order in [["a", "bb", "ccc"], ["ccc", "bb", "a"]] {
        let mut planner = planner();
        for id in order {
            let labels: &[(&str, &str)] = match id {
                "a" => &[("l4lb-slow-start", "1s")],
                "bb" => &[("l4lb-rule", "random"), ("l4lb-slow-start", "1s")],
                _ => &[("l4lb-rule", "maglev")],
            };
            put(&mut planner, id, Some(&labelled(id, labels, &[])));
        }
        let held = policy(&planner);
        assert_eq!((held.rule, held.slow_start.0), (Rule::Random, 1000), "{order:?}");
        let want = "task ccc: `l4lb-rule` is `maglev`, but `random` of task bb holds";
        assert_eq!(problems(&planner), [want], "{order:?}");
        let vip = planner.problems()[0].vip.unwrap();
        assert_eq!(planner.name_of(&vip), Some("web.marathon"));

        put(&mut planner, "bb", None);
        assert_eq!(policy(&planner).rule, Rule::Maglev, "{order:?}");
        assert_eq!(problems(&planner), [] as [&str; 0]);
    }
}
