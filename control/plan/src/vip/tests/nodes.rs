//! Names that several nodes claim, with and without having heard of each other.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

#[test]
fn who_loses_an_address_gets_another_one() {
    let mut planner = planner();
    put(&mut planner, "a", Some(&task("a", "/web:80")));
    let address: IpAddr = "11.169.34.66".parse().unwrap();
    // `app` is lower than `web`, so it keeps the address on every node.
    let key = Key::VipClaim("app.marathon".into());
    let effects = planner.apply(&"n2".into(), &key, Some(&Fact::VipClaim(address)));
    assert_eq!(effects.claims[0].name, "web.marathon");
    assert_eq!(effects.claims[0].address.to_string(), "11.169.34.67");
    let changed: Vec<_> = effects.changed.iter().map(|vip| planner.spec(vip).is_some()).collect();
    assert_eq!(changed, [false, true], "it left the one and took the other: {effects:?}");
    let again = planner.apply(&"n1".into(), &key, Some(&Fact::VipClaim(address)));
    assert_eq!(again, Effects::default());
}

#[test]
fn a_name_is_claimed_where_something_stands_behind_it() {
    let mut planner = planner();
    put_on(&mut planner, "n2", "a", Some(&task("a", "/web:80")));
    assert_eq!(planner.own_claim("web.marathon"), None, "that is for n2 to say");
    put(&mut planner, "bb", Some(&task("bb", "/web:80")));
    assert_eq!(planner.own_claim("web.marathon"), Some("11.169.34.66".parse().unwrap()));
    put(&mut planner, "bb", None);
    assert_eq!(planner.own_claim("web.marathon"), None);
    assert_eq!(planner.own_claim("other.marathon"), None);
}

#[test]
fn who_claimed_differently_agrees_once_for_all() {
    let mut cluster = Cluster::new(3, "11.0.0.0/8");
    // The first node knows that somebody spells out where the name would be.
    cluster.task(0, "literal", Some(&task("x", "11.169.34.66:80")));
    cluster.task(0, "a", Some(&task("a", "/web:80")));
    cluster.task(1, "bb", Some(&task("bb", "/web:80")));
    let held = |cluster: &Cluster| cluster.held("web.marathon");
    let [first, second] = ["11.169.34.67", "11.169.34.66"].map(|text| Some(text.parse().unwrap()));
    assert_eq!(held(&cluster), [first, second, None]);
    cluster.meet();
    assert_eq!(held(&cluster), [first; 3]);
    let logs: Vec<_> = cluster.nodes.iter().map(|node| node.log.clone()).collect();
    assert_eq!(logs[0], logs[1], "the second says at once what holds");
    for (node, id) in [(0, "new"), (1, "newer"), (2, "newest"), (0, "a")] {
        cluster.task(node, id, Some(&task("ccc", "/web:81")));
        cluster.meet();
        assert_eq!(held(&cluster), [first; 3], "a deployment moves nothing");
    }
}

#[test]
fn a_node_that_comes_back_with_another_claim_follows_the_others() {
    let mut cluster = Cluster::new(3, "11.0.0.0/8");
    for (node, id) in [(0, "a"), (1, "bb")] {
        cluster.task(node, id, Some(&task(id, "/web:80")));
    }
    cluster.meet();
    let before = cluster.held("web.marathon");
    cluster.say(2, "web.marathon", "11.200.0.1".parse().unwrap());
    cluster.meet();
    assert_eq!(cluster.held("web.marathon"), before);
    assert_eq!(cluster.nodes[2].log["web.marathon"], before[0].unwrap());
}

proptest! {
    /// However late nodes hear of each other, in the end a name has one address on all of
    /// them, no two names share one, and logs say so, but for nodes that followed often enough.
    #[test]
    fn all_nodes_come_to_one_table(steps in proptest::collection::vec(step(), 0..60)) {
        let mut cluster = Cluster::new(NODES, "11.0.0.0/29");
        for step in steps {
            cluster.step(step);
        }
        cluster.meet();
        let names = ["one", "two", "three", "four"].map(|name| format!("{name}.marathon"));
        let mut taken = BTreeSet::new();
        for name in names {
            let held = cluster.held(&name);
            let wanted = cluster.nodes[0].planner.table.of_name(&name).next().is_some();
            prop_assert!(held[0].is_some() || !wanted, "{name} has no address");
            for (node, planner) in cluster.nodes.iter().enumerate() {
                prop_assert!(!wanted || held[node] == held[0], "{name}: {held:?}");
                let said = planner.log.get(&name).copied();
                let insists = planner.planner.has_followed(&name);
                let agrees = said.is_none() || said == held[node] || insists;
                prop_assert!(!wanted || agrees, "{name}: {said:?}");
            }
            prop_assert!(!wanted || taken.insert(held[0]), "{name} shares {held:?}");
        }
    }
}

const NODES: usize = 4;

/// What happens to nodes.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A node starts a task of a name.
    Start {
        node: usize,
        task: u8,
        name: usize,
    },
    Stop {
        node: usize,
        task: u8,
    },
    /// A node hears the next fact of another one.
    Deliver {
        from: usize,
        to: usize,
    },
    /// A node sees that another one is dead, or alive again.
    Hide {
        from: usize,
        to: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let nodes = || (0..NODES, 0..NODES);
    prop_oneof![
        (0..NODES, 0..3_u8, 0..5_usize).prop_map(|(node, task, name)| Step::Start {
            node,
            task,
            name
        }),
        (0..NODES, 0..3_u8).prop_map(|(node, task)| Step::Stop { node, task }),
        nodes().prop_map(|(from, to)| Step::Deliver { from, to }),
        nodes().prop_map(|(from, to)| Step::Deliver { from, to }),
        nodes().prop_map(|(from, to)| Step::Hide { from, to }),
    ]
}

/// Nodes that tell each other what they say, whenever the test lets them.
struct Cluster {
    nodes: Vec<Member>,
}

struct Member {
    planner: Planner,
    /// The claims that this node says.
    log: BTreeMap<String, IpAddr>,
    /// What it has not heard yet, from each node.
    inbox: Vec<VecDeque<(Key, Option<Fact>)>>,
    /// What it heard from each node, and whether it hides it.
    heard: Vec<(BTreeMap<Key, Fact>, bool)>,
}

impl Cluster {
    fn new(count: usize, range: &str) -> Self {
        let node = |number: usize| Member {
            planner: Planner::new(Claims::new(range.parse().unwrap()), owner(number)),
            log: BTreeMap::new(),
            inbox: vec![VecDeque::new(); count],
            heard: vec![(BTreeMap::new(), false); count],
        };
        Self { nodes: (0..count).map(node).collect() }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Start { node, task: id, name } => {
                let label = ["/one:80", "/two:80", "/three:80", "/four:80", "11.0.0.3:80"][name];
                self.task(node, &format!("{node}-{id}"), Some(&task("a", label)));
            }
            Step::Stop { node, task } => self.task(node, &format!("{node}-{task}"), None),
            Step::Deliver { from, to } => drop(self.deliver(from, to)),
            Step::Hide { from, to } => self.hide(from, to),
        }
    }

    fn task(&mut self, node: usize, id: &str, task: Option<&TaskFact>) {
        let fact = task.map(|task| Fact::Task(Box::new(task.clone())));
        self.speak(node, &Key::Task("f".into(), id.into()), fact.as_ref());
    }

    fn say(&mut self, node: usize, name: &str, address: IpAddr) {
        self.nodes[node].log.insert(name.to_owned(), address);
        self.speak(node, &Key::VipClaim(name.to_owned()), Some(&Fact::VipClaim(address)));
    }

    /// A node says something and follows it.
    fn speak(&mut self, node: usize, key: &Key, fact: Option<&Fact>) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.nodes[other].inbox[node].push_back((key.clone(), fact.cloned()));
        }
        self.follow(node, node, key, fact);
    }

    /// A node follows what another one, or itself, said.
    fn follow(&mut self, node: usize, speaker: usize, key: &Key, fact: Option<&Fact>) {
        let planner = &mut self.nodes[node].planner;
        let effects = planner.apply(&owner(speaker), key, fact);
        let mut names: BTreeSet<String> =
            effects.claims.into_iter().map(|claim| claim.name).collect();
        if speaker == node {
            let named = effects.changed.iter().filter_map(|vip| planner.name_of(vip));
            names.extend(named.map(str::to_owned));
        }
        for name in names {
            let member = &self.nodes[node];
            let own = member.planner.own_claim(&name);
            if let Some(address) = own.filter(|own| member.log.get(&name) != Some(own)) {
                self.say(node, &name, address);
            }
        }
    }

    /// Whether there was something to hear.
    fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some((key, fact)) = self.nodes[to].inbox[from].pop_front() else { return false };
        let (heard, hidden) = &mut self.nodes[to].heard[from];
        match &fact {
            Some(fact) => drop(heard.insert(key.clone(), fact.clone())),
            None => drop(heard.remove(&key)),
        }
        if !*hidden {
            self.follow(to, from, &key, fact.as_ref());
        }
        true
    }

    fn hide(&mut self, from: usize, to: usize) {
        let (heard, hidden) = &mut self.nodes[to].heard[from];
        *hidden = !*hidden;
        let is_shown = !*hidden;
        for (key, fact) in heard.clone() {
            self.follow(to, from, &key, is_shown.then_some(&fact));
        }
    }

    /// All hear all that was said.
    fn meet(&mut self) {
        let pairs = |count: usize| (0..count).flat_map(move |a| (0..count).map(move |b| (a, b)));
        for (from, to) in pairs(self.nodes.len()) {
            if self.nodes[to].heard[from].1 {
                self.hide(from, to);
            }
        }
        for _ in 0..1_000 {
            let pairs: Vec<_> = pairs(self.nodes.len()).collect();
            let heard = pairs.into_iter().filter(|(from, to)| self.deliver(*from, *to)).count();
            if heard == 0 {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    /// Where each node has a name.
    fn held(&self, name: &str) -> Vec<Option<IpAddr>> {
        let held = |node: &Member| node.planner.claims.address_of(name).map(IpAddr::from);
        self.nodes.iter().map(held).collect()
    }
}

fn owner(number: usize) -> OwnerId {
    format!("n{number}").into()
}
