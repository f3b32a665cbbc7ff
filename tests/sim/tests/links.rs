//! Three agents, two of them on other nodes, while connections break, come back in disorder
//! and daemons are killed: no task is launched twice, and in the end what was asked for runs,
//! no more and no less.

use mizzen_tests_sim::cluster::Remote;
use mizzen_tests_sim::machine::Machine;
use mizzen_tests_sim::node::{Crashed, Node, forced};
use mizzen_types::container::Exit;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const APPS: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 120;

/// Whether daemons die between any two effects.
#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Some,
    None,
}

struct World {
    seed: u64,
    dice: Dice,
    now: Now,
    machine: Machine,
    node: Option<Node>,
    /// Grows with each start of the master.
    generation: u64,
    remotes: Vec<Remote>,
    asked: BTreeMap<&'static str, u64>,
    spread: usize,
    unplugged: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let second = 1_000_000_000;
        Self {
            seed,
            dice: Dice::new(seed ^ 0x006c_696e_6b73),
            now: Now { mono: Mono(second), wall: Wall(second) },
            machine: Machine::default(),
            node: None,
            generation: 0,
            remotes: vec![Remote::new("second"), Remote::new("third")],
            asked: BTreeMap::new(),
            spread: 0,
            unplugged: 0,
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.now.wall = Wall(self.now.wall.0 + span.as_nanos() as u64);
    }

    fn fuse(&mut self, trouble: Trouble) -> Option<u32> {
        (trouble == Trouble::Some).then(|| self.dice.below(600) as u32)
    }

    fn node(&mut self, trouble: Trouble) -> Node {
        loop {
            if let Some(node) = self.node.take() {
                return node;
            }
            let fuse = self.fuse(trouble);
            let started = Node::start(&mut self.machine, &mut self.dice, self.now, fuse);
            self.generation += 1;
            for remote in &mut self.remotes {
                remote.announce(self.generation, &mut self.dice, self.now);
            }
            match started {
                Ok(node) => return node,
                Err(Crashed) => self.lose_node(),
            }
            self.pass(Duration::from_millis(50));
        }
    }

    fn lose_node(&mut self) {
        self.node = None;
        self.machine.lose_daemon();
        for remote in &mut self.remotes {
            remote.lose_master(&mut self.dice, self.now);
        }
    }

    fn keep<T>(&mut self, mut node: Node, result: Result<T, Crashed>) -> Option<T> {
        let sent = node.take_sent();
        for (to, bytes) in sent {
            let remote = self.remotes.iter_mut().find(|remote| remote.name == to);
            if let Some(remote) = remote {
                remote.send(bytes, &mut self.dice, self.now);
            }
        }
        match result {
            Ok(value) => {
                self.node = Some(node);
                Some(value)
            }
            Err(Crashed) => {
                self.lose_node();
                None
            }
        }
    }

    fn request(&mut self, trouble: Trouble, method: &str, path: &str, body: &str) -> Option<u16> {
        let mut node = self.node(trouble);
        let request = forced(method, path, body);
        let reply = node.request(&request, &mut self.machine, &mut self.dice, self.now);
        self.keep(node, reply).map(|reply| reply.status)
    }

    fn ask(&mut self) {
        let app = APPS[self.dice.below(APPS.len())];
        let (path, instances) = (format!("/v2/apps/{app}"), self.dice.below(5) as u64);
        let body = format!(
            r#"{{"id": "/{app}", "cmd": "sleep 1", "cpus": 0.7, "mem": 32,
                "instances": {instances}, "env": {{"V": "{}"}}}}"#,
            self.dice.below(3)
        );
        let status = self.request(Trouble::Some, "PUT", &path, &body);
        let status = status.or_else(|| self.request(Trouble::None, "PUT", &path, &body));
        assert!(status.is_some_and(|status| status < 300), "PUT: {status:?}, seed {}", self.seed);
        self.asked.insert(app, instances);
    }

    fn any_remote(&mut self) -> &mut Remote {
        let at = self.dice.below(self.remotes.len());
        &mut self.remotes[at]
    }

    fn kill_a_task(&mut self) {
        let at = self.dice.below(self.remotes.len());
        let Some(container) = self.remotes[at].machine.any_running(&mut self.dice) else { return };
        let exit = [Exit::Code(0), Exit::Code(1), Exit::Signal(9)][self.dice.below(3)];
        self.remotes[at].task_dies(&container, exit, &mut self.dice, self.now);
    }

    /// Lets time go by, deadline by deadline.
    fn live(&mut self, span: Duration, trouble: Trouble) {
        let until = self.now.mono + span;
        while self.now.mono < until {
            let mut node = self.node(trouble);
            let remote = self.remotes.iter().filter_map(Remote::deadline).min();
            let next = [node.deadline(), remote].into_iter().flatten().min();
            let next = next.map_or(until, |at| at.min(until));
            self.pass(next.since(self.now.mono).max(Duration::from_millis(1)));
            let result = self.turn(&mut node);
            self.keep(node, result);
            for at in 0..self.remotes.len() {
                let fuse = self.fuse(trouble);
                let (generation, now) = (self.generation, self.now);
                self.remotes[at].turn(fuse, generation, &mut self.dice, now);
            }
            self.check_tasks();
        }
    }

    fn turn(&mut self, node: &mut Node) -> Result<(), Crashed> {
        let (machine, dice) = (&mut self.machine, &mut self.dice);
        for remote in &mut self.remotes {
            remote.deliver(node, machine, dice, self.now)?;
        }
        node.turn(machine, dice, self.now)
    }

    fn step(&mut self) {
        let (now, dice) = (self.now, &mut Dice::new(self.dice.draw()));
        match dice.below(14) {
            0 | 1 => self.ask(),
            2 => self.kill_a_task(),
            3 => self.lose_node(),
            4 => self.any_remote().crash(dice, now),
            5 | 6 => {
                self.unplugged += 1;
                self.any_remote().cut(dice, now);
            }
            7 | 8 => self.any_remote().heal(dice, now),
            9 => {
                // It flaps.
                let remote = self.any_remote();
                for _ in 0..3 {
                    remote.cut(dice, now);
                    remote.heal(dice, now);
                }
            }
            10 if dice.below(3) == 0 => self.live(Duration::from_secs(100), Trouble::Some),
            _ => self.live(Duration::from_millis(dice.draw() % 4_000), Trouble::Some),
        }
        let remote = |remote: &Remote| remote.machine.running().len();
        self.spread = self.spread.max(self.remotes.iter().map(remote).sum());
    }

    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.remotes.iter().map(|remote| &remote.machine).chain([&self.machine])
    }

    /// No task was ever launched on two machines; that none is on one, a machine checks.
    fn check_tasks(&self) {
        let mut seen = BTreeSet::new();
        for task in self.machines().flat_map(|machine| &machine.launched) {
            assert!(seen.insert(task), "{task:?} on two machines, seed {}", self.seed);
        }
    }

    /// Without further trouble everything becomes as it was asked.
    fn check(&mut self) {
        if let Some(node) = self.node.as_mut() {
            node.set_fuse(None);
        }
        for remote in &mut self.remotes {
            remote.set_fuse(None);
            remote.heal(&mut self.dice, self.now);
        }
        // Longer than every back-off, retry and grace period.
        self.live(Duration::from_secs(3_000), Trouble::None);
        for remote in &self.remotes {
            assert!(remote.is_registered(), "{} stays away, seed {}", remote.name, self.seed);
        }
        let mut running: BTreeMap<&str, u64> = BTreeMap::new();
        let mut ids = Vec::new();
        for (_, task) in self.machines().flat_map(Machine::running) {
            let app = APPS.iter().find(|app| task.starts_with(&format!("{app}.")));
            *running.entry(app.copied().unwrap_or("?")).or_default() += 1;
            ids.push(task.clone());
        }
        let wanted: BTreeMap<&str, u64> =
            self.asked.iter().filter(|(_, n)| **n > 0).map(|(app, n)| (*app, *n)).collect();
        assert_eq!(running, wanted, "what runs is not what was asked, seed {}", self.seed);
        let containers: usize = self.machines().map(|machine| machine.containers.len()).sum();
        assert_eq!(containers, ids.len(), "something of a container is left, seed {}", self.seed);
        let records: usize = self.machines().map(|machine| machine.records.len()).sum();
        assert_eq!(records, ids.len(), "a record is left, seed {}", self.seed);
        let mut announced = self.node(Trouble::None).announced();
        announced.extend(self.remotes.iter().flat_map(Remote::announced));
        announced.sort();
        ids.sort();
        assert_eq!(announced, ids, "names do not lead to what runs, seed {}", self.seed);
    }
}

#[test]
fn no_task_is_doubled_or_lost_by_a_flapping_link() {
    let (mut spread, mut unplugged) = (0, 0);
    for seed in 0..60 {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.check();
        spread += world.spread;
        unplugged += world.unplugged;
    }
    // Lives in which nothing happens would show nothing.
    assert!(spread > 60 && unplugged > 500, "{spread} tasks elsewhere, {unplugged} cuts");
}
