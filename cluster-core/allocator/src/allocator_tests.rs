use super::*;
use crate::{AgentSpec, FrameworkCapability, FrameworkSpec};
use mizzen_types::random::Dice;

const SECOND: u64 = 1_000_000_000;

fn of(text: &str) -> Resources {
    Resources::parse(text).unwrap()
}

fn roles(list: &[&str]) -> BTreeSet<Arc<str>> {
    list.iter().map(|role| Arc::from(*role)).collect()
}

/// An allocator with a clock, driven by words.
struct Bench {
    allocator: Allocator,
    now: Mono,
    /// What runs gave that nobody looked at yet, as `framework role agent resources`.
    given: Vec<[String; 4]>,
}

impl Bench {
    fn new(interval: u64) -> Self {
        let settings = Settings { interval: Duration::from_secs(interval), ..Settings::default() };
        Self { allocator: Allocator::new(settings, Mono(0)), now: Mono(0), given: Vec::new() }
    }

    fn settle(&mut self) {
        let seed = self.allocator.runs();
        for (framework, by_role) in self.allocator.allocate(seed) {
            for (role, by_agent) in by_role {
                for (agent, resources) in by_agent {
                    let [framework, role] = [framework.as_str(), role.as_ref()].map(str::to_owned);
                    let [agent, resources] = [agent.as_str().to_owned(), resources.to_string()];
                    self.given.push([framework, role, agent, resources]);
                }
            }
        }
    }

    fn agent(&mut self, id: &str, total: &str) -> &mut Self {
        self.agent_used(id, total, &[])
    }

    fn agent_used(&mut self, id: &str, total: &str, used: &[(&str, &str, &str)]) -> &mut Self {
        let mut held = AgentAllocation::new();
        for (framework, role, resources) in used {
            let by_role = held.entry((*framework).into()).or_default();
            by_role.insert(Arc::from(*role), of(resources));
        }
        self.allocator.add_agent(&id.into(), AgentSpec::new(of(total)), held);
        self.settle();
        self
    }

    fn framework(&mut self, id: &str, in_roles: &[&str]) -> &mut Self {
        let spec = FrameworkSpec { roles: roles(in_roles), ..FrameworkSpec::default() };
        self.framework_spec(id, spec)
    }

    fn framework_spec(&mut self, id: &str, spec: FrameworkSpec) -> &mut Self {
        self.allocator.add_framework(&id.into(), spec, Activity::Active);
        self.settle();
        self
    }

    fn recover(
        &mut self,
        [framework, role, agent, resources]: [&str; 4],
        refuse: u64,
    ) -> &mut Self {
        let refused = Some(Duration::from_secs(refuse));
        let (role, resources) = (Arc::from(role), of(resources));
        let (framework, agent) = (framework.into(), agent.into());
        self.allocator.recover(&framework, &role, &agent, &resources, refused, self.now);
        self.settle();
        self
    }

    fn advance(&mut self, seconds: u64) -> &mut Self {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(deadline) = self.allocator.poll_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.allocator.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
        self
    }

    #[track_caller]
    fn expect(&mut self, want: &[[&str; 4]]) -> &mut Self {
        let given = std::mem::take(&mut self.given);
        assert_eq!(given, want);
        self
    }
}

#[test]
fn one_agent_at_a_time_goes_to_the_smallest_share() {
    Bench::new(1)
        .agent("agent1", "cpus:2;mem:1024")
        .framework("framework1", &["role1"])
        .expect(&[["framework1", "role1", "agent1", "cpus:2; mem:1024"]])
        .framework("framework2", &["role2"])
        .agent("agent2", "cpus:1;mem:512")
        .expect(&[["framework2", "role2", "agent2", "cpus:1; mem:512"]])
        .agent("agent3", "cpus:3;mem:2048")
        .expect(&[["framework2", "role2", "agent3", "cpus:3; mem:2048"]])
        .framework("framework3", &["role1"])
        .agent("agent4", "cpus:4;mem:4096")
        .expect(&[["framework3", "role1", "agent4", "cpus:4; mem:4096"]])
        .framework("framework4", &["role1"])
        .agent("agent5", "cpus:1;mem:512")
        .expect(&[["framework2", "role2", "agent5", "cpus:1; mem:512"]]);
}

#[test]
fn a_filter_shorter_than_the_interval_holds_for_the_next_batch() {
    Bench::new(60)
        .framework("framework1", &["role"])
        .framework("framework2", &["role"])
        .agent_used("agent1", "cpus:1;mem:512", &[("framework1", "role", "cpus:1;mem:512")])
        .agent("agent2", "cpus:1;mem:512")
        .expect(&[["framework2", "role", "agent2", "cpus:1; mem:512"]])
        .recover(["framework2", "role", "agent2", "cpus:1;mem:512"], 1)
        .advance(1)
        .expect(&[])
        .advance(60)
        .expect(&[["framework1", "role", "agent2", "cpus:1; mem:512"]])
        .recover(["framework1", "role", "agent2", "cpus:1;mem:512"], 0)
        .advance(60)
        .expect(&[["framework2", "role", "agent2", "cpus:1; mem:512"]]);
}

#[test]
fn a_filter_ends_and_the_next_batch_offers_again() {
    let offer = ["f", "r", "a", "cpus:1; mem:512"];
    let mut bench = Bench::new(1);
    bench.framework("f", &["r"]).agent("a", "cpus:1;mem:512").expect(&[offer]);
    bench.recover(["f", "r", "a", "cpus:1;mem:512"], 5).advance(4).expect(&[]);
    bench.advance(2).expect(&[offer]);
    // Half an offer is filtered only by what contains it.
    bench.recover(["f", "r", "a", "cpus:0.5"], 1000).advance(3).expect(&[]);
    bench.recover(["f", "r", "a", "mem:512"], 0).advance(1);
    bench.expect(&[["f", "r", "a", "cpus:0.5; mem:512"]]);
    // Nothing is due while nothing can change.
    assert!(bench.advance(1).allocator.poll_deadline().unwrap() > Mono(900 * SECOND));
}

#[test]
fn use_by_frameworks_not_known_yet_counts_once_they_are() {
    let mut bench = Bench::new(1);
    bench.agent_used("agent1", "cpus:2;mem:1024", &[("late", "role", "cpus:2;mem:1024")]);
    bench.framework("framework1", &["role"]).expect(&[]);
    bench.agent("agent2", "cpus:2;mem:1024");
    bench.expect(&[["framework1", "role", "agent2", "cpus:2; mem:1024"]]);
    assert_eq!(bench.allocator.offered_or_allocated().to_string(), "cpus:2;mem:1024");
    bench.framework("late", &["role"]);
    assert_eq!(bench.allocator.offered_or_allocated().to_string(), "cpus:4;mem:2048");
    assert!((bench.allocator.share("role").unwrap().as_f64() - 1.0).abs() < 1e-9);
}

#[test]
fn suppressed_roles_get_nothing_until_revived() {
    let offer = ["f", "r", "a", "cpus:1; mem:512"];
    let (id, none) = (FrameworkId::from("f"), BTreeSet::new());
    let mut bench = Bench::new(1);
    bench.framework("f", &["r"]);
    bench.allocator.suppress(&id, &none);
    bench.agent("a", "cpus:1;mem:512").advance(10).expect(&[]);
    bench.allocator.revive(&id, &none);
    bench.settle();
    bench.expect(&[offer]);
    bench.recover(["f", "r", "a", "cpus:1;mem:512"], 1000).advance(10).expect(&[]);
    bench.allocator.revive(&id, &roles(&["r"]));
    bench.settle();
    bench.expect(&[offer]);
    bench.recover(["f", "r", "a", "cpus:1;mem:512"], 1000);
    bench.allocator.set_framework_activity(&id, Activity::Inactive);
    bench.advance(10).expect(&[]);
    bench.allocator.set_framework_activity(&id, Activity::Active);
    bench.settle();
    bench.expect(&[offer]);
}

#[test]
fn roles_are_left_when_nothing_is_held_there() {
    let mut bench = Bench::new(1);
    bench.framework("f", &["r"]).agent("a", "cpus:1;mem:512");
    let spec = FrameworkSpec { roles: roles(&["s"]), ..FrameworkSpec::default() };
    bench.allocator.update_framework(&"f".into(), spec);
    assert!(bench.allocator.share("r").is_some());
    bench.recover(["f", "r", "a", "cpus:1;mem:512"], 5);
    assert!(bench.allocator.share("r").is_none());
    bench.given.clear();
    bench.advance(1).expect(&[["f", "s", "a", "cpus:1; mem:512"]]);
    bench.allocator.remove_framework(&"f".into());
    assert!(bench.allocator.share("s").is_none());
    assert!(bench.allocator.offered_or_allocated().is_empty());
    assert!(bench.allocator.available(&"a".into()).unwrap().is_empty());
    bench.recover(["f", "s", "a", "cpus:1;mem:512"], 5);
    assert_eq!(*bench.allocator.available(&"a".into()).unwrap(), of("cpus:1;mem:512"));
}

#[test]
fn reservations_go_to_their_role_and_those_below() {
    let mut bench = Bench::new(1);
    bench.framework("f", &["a/b"]).framework("g", &["c"]);
    bench.agent("x", "cpus(a):1;mem(a):64;cpus(c):2;mem(c):64");
    bench.given.sort();
    let reserved = |cpus, role| {
        format!(
            "cpus(reservations: [(STATIC,{role})]):{cpus}; mem(reservations: [(STATIC,{role})]):64"
        )
    };
    let (f, g) = (reserved(1, "a"), reserved(2, "c"));
    bench.expect(&[["f", "a/b", "x", &f], ["g", "c", "x", &g]]);
}

#[test]
fn what_a_framework_cannot_deal_with_is_kept_from_it() {
    let mut bench = Bench::new(1);
    bench.framework("f", &["r"]).agent("gpu", "cpus:1;gpus:1;mem:64").expect(&[]);
    bench.agent("tiny", "cpus:0.009;mem:31").expect(&[]);
    bench.agent("memory", "mem:32").expect(&[["f", "r", "memory", "mem:32"]]);
    let spec = FrameworkSpec {
        roles: roles(&["s"]),
        capabilities: BTreeSet::from([FrameworkCapability::GpuResources]),
        min_allocatable: BTreeMap::from([(Arc::from("s"), vec![])]),
        ..FrameworkSpec::default()
    };
    bench.framework_spec("g", spec);
    bench.given.sort();
    bench.expect(&[
        ["g", "s", "gpu", "cpus:1; gpus:1; mem:64"],
        ["g", "s", "tiny", "cpus:0.009; mem:31"],
    ]);
}

/// The example of the paper on dominant resource fairness, section 4: frameworks
/// take task-sized pieces and return the rest.
#[test]
fn the_example_of_the_paper() {
    let tasks = BTreeMap::from([("A", "cpus:1;mem:4096"), ("B", "cpus:3;mem:1024")]);
    let mut bench = Bench::new(1);
    bench.framework("A", &["a"]).framework("B", &["b"]);
    bench.agent("x", "cpus:9;mem:18432");
    let mut launched: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..40 {
        for [framework, role, agent, resources] in std::mem::take(&mut bench.given) {
            let offered = of(&resources);
            let task = of(tasks[framework.as_str()]);
            let mut rest = offered.clone();
            if offered.contains(&task) {
                rest -= &task;
                *launched.entry(framework.clone()).or_default() += 1;
            }
            if !rest.is_empty() {
                let rest = rest.to_string();
                bench.recover([&framework, &role, &agent, &rest], 0);
            }
        }
        bench.advance(1);
    }
    assert_eq!(launched, BTreeMap::from([("A".into(), 3), ("B".into(), 2)]));
    // What is left is offered again and again, so take it out before comparing.
    let held = bench.allocator.held(&"x".into()).unwrap();
    assert!(held[&FrameworkId::from("A")]["a"].contains(&of("cpus:3;mem:12288")));
    assert!(held[&FrameworkId::from("B")]["b"].contains(&of("cpus:6;mem:2048")));
}

/// Whatever happens, in any order: nothing is held twice, nothing is lost.
#[test]
fn nothing_is_given_twice_and_nothing_is_lost() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut bench = Bench::new(1);
        let mut outstanding: Vec<[String; 4]> = Vec::new();
        for _ in 0..150 {
            let agent = format!("a{}", dice.below(4));
            let framework = format!("f{}", dice.below(4));
            let role = ["x", "x/y", "*", "z"][dice.below(4)];
            let total = format!(
                "cpus:{};mem:{};cpus(x):{};ports:[1-{}]",
                dice.below(9),
                64 * dice.below(9),
                dice.below(3),
                1 + dice.below(9)
            );
            match dice.below(12) {
                0 | 1 if bench.allocator.available(&agent.as_str().into()).is_none() => {
                    bench.agent(&agent, &total);
                }
                0 => {
                    outstanding.retain(|[_, _, on, _]| *on != agent);
                    bench.allocator.remove_agent(&agent.as_str().into());
                }
                2 | 3 if !bench.allocator.frameworks.contains_key(&framework.as_str().into()) => {
                    bench.framework(&framework, &[role, "z"]);
                }
                2 => bench.allocator.remove_framework(&framework.as_str().into()),
                4 => bench.allocator.suppress(&framework.as_str().into(), &roles(&[role])),
                5 => bench.allocator.revive(&framework.as_str().into(), &BTreeSet::new()),
                6 => bench.allocator.set_weight(role, Weight::from_f64(2.0).unwrap()),
                7 | 8 if !outstanding.is_empty() => {
                    let [f, r, a, resources] =
                        outstanding.swap_remove(dice.below(outstanding.len()));
                    let resources = parse_printed(&resources);
                    let (f, r, a) = (f.as_str().into(), Arc::from(r), a.as_str().into());
                    let refused = Some(Duration::from_secs(dice.below(4) as u64));
                    bench.allocator.recover(&f, &r, &a, &resources, refused, bench.now);
                }
                _ => {
                    bench.advance(1 + dice.below(3) as u64);
                }
            }
            bench.settle();
            outstanding.append(&mut bench.given);
            check_conservation(&bench.allocator, &outstanding, seed);
        }
    }
}

fn parse_printed(text: &str) -> Resources {
    let text = text.replace("(reservations: [(STATIC,x)])", "(x)");
    of(&text)
}

fn check_conservation(allocator: &Allocator, outstanding: &[[String; 4]], seed: u64) {
    let mut known = Quantities::new();
    for (id, agent) in &allocator.agents {
        let mut sum = agent.available.clone();
        for (framework, by_role) in &agent.held {
            for (role, resources) in by_role {
                sum += resources;
                if allocator.frameworks.contains_key(framework) {
                    known.add(&resources.scalar_quantities());
                }
                let given = outstanding.iter().filter(|[f, r, a, _]| {
                    f == framework.as_str() && **r == **role && a == id.as_str()
                });
                let given = given.fold(Resources::new(), |sum, [.., r]| sum + &parse_printed(r));
                assert_eq!(given, *resources, "seed {seed}: {framework} {role} {id}");
            }
        }
        assert_eq!(sum, agent.spec.total, "seed {seed}, agent {id}");
    }
    assert_eq!(allocator.offered_or_allocated(), known, "seed {seed}");
}
