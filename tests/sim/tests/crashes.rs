//! A node under a random life: apps come, change and go, tasks die, the agent is drained,
//! maintained and back, the daemon is killed between any two of its steps. In the end
//! everything must be as it was asked.

use mizzen_master::OperatorReply;
use mizzen_tests_sim::machine::Machine;
use mizzen_tests_sim::node::{Crashed, Node, forced};
use mizzen_tests_sim::worker::AGENT_ID;
use mizzen_types::container::Exit;
use mizzen_types::random::Dice;
use mizzen_types::time::{Now, Wall};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const APPS: [&str; 3] = ["a", "b", "c"];
const STEPS: usize = 120;

struct World {
    seed: u64,
    dice: Dice,
    now: Now,
    machine: Machine,
    node: Option<Node>,
    /// What was asked for and answered with success: instances by app.
    asked: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Now { mono: mizzen_types::time::Mono(1_000_000_000), wall: Wall(1_000_000_000) };
        let (dice, machine) = (Dice::new(seed), Machine::default());
        Self { seed, dice, now, machine, node: None, asked: BTreeMap::new() }
    }

    fn pass(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.now.wall = Wall(self.now.wall.0 + span.as_nanos() as u64);
    }

    /// The daemon's process, started anew if the last one was killed.
    fn node(&mut self, crashes: bool) -> Node {
        if let Some(node) = self.node.take() {
            return node;
        }
        loop {
            let fuse = crashes.then(|| self.dice.below(400) as u32);
            match Node::start(&mut self.machine, &mut self.dice, self.now, fuse) {
                Ok(node) => return node,
                Err(Crashed) => {
                    self.machine.lose_daemon();
                    self.pass(Duration::from_millis(50));
                }
            }
        }
    }

    fn keep<T>(&mut self, node: Node, result: Result<T, Crashed>) -> Option<T> {
        match result {
            Ok(value) => {
                self.node = Some(node);
                Some(value)
            }
            Err(Crashed) => {
                self.machine.lose_daemon();
                None
            }
        }
    }

    fn request(&mut self, crashes: bool, method: &str, path: &str, body: &str) -> Option<u16> {
        let mut node = self.node(crashes);
        let request = forced(method, path, body);
        let reply = node.request(&request, &mut self.machine, &mut self.dice, self.now);
        self.keep(node, reply).map(|reply| reply.status)
    }

    fn ask(&mut self) {
        let app = APPS[self.dice.below(APPS.len())];
        let path = format!("/v2/apps/{app}");
        if self.dice.below(4) == 0 {
            let status = self.request(true, "DELETE", &path, "");
            if status.is_none_or(|status| status < 300 || status == 404) {
                // Killed in the middle, the request may or may not have been taken.
                self.asked.remove(app);
                let again = self.request(false, "DELETE", &path, "");
                assert!(again.is_some_and(|status| status < 300 || status == 404), "{again:?}");
            }
            return;
        }
        let instances = self.dice.below(4) as u64;
        let health = match self.dice.below(2) {
            0 => "",
            _ => {
                r#""healthChecks": [{"protocol": "MESOS_HTTP", "delaySeconds": 0, "intervalSeconds": 1}],"#
            }
        };
        let body = format!(
            r#"{{"id": "/{app}", "cmd": "sleep 1", "cpus": 0.1, "mem": 32, {health}
                "instances": {instances}, "env": {{"V": "{}"}}}}"#,
            self.dice.below(3)
        );
        let status = self.request(true, "PUT", &path, &body);
        let status = status.or_else(|| self.request(false, "PUT", &path, &body));
        assert!(status.is_some_and(|status| status < 300), "PUT: {status:?}, seed {}", self.seed);
        self.asked.insert(app, instances);
    }

    /// An operator's call; nothing if the daemon was killed meanwhile, so that it may have
    /// been taken or not.
    fn operate(&mut self, crashes: bool, call: &Value) -> Option<OperatorReply> {
        let mut node = self.node(crashes);
        // An empty call would be refused for what it lacks.
        let call = serde_json::from_value(call.clone()).unwrap_or_default();
        let reply = node.operate(call, &mut self.machine, &mut self.dice, self.now);
        self.keep(node, reply)
    }

    fn agent(&self) -> Value {
        let id = self.machine.store.get(AGENT_ID);
        json!({ "value": id.map(|id| String::from_utf8_lossy(id)).unwrap_or_default() })
    }

    /// An operator drains the agent, maintains its machine, or ends one of that. What
    /// cannot be is refused.
    fn order(&mut self) {
        let agent_id = json!({ "agent_id": self.agent() });
        let call = match self.dice.below(6) {
            0 | 1 => {
                let seconds = self.dice.below(10);
                let part =
                    json!({ "agent_id": self.agent(), "max_grace_period": { "seconds": seconds } });
                json!({ "type": "DRAIN_AGENT", "drain_agent": part })
            }
            2 => json!({ "type": "DEACTIVATE_AGENT", "deactivate_agent": agent_id }),
            3 => plan(),
            4 => down(),
            _ => return self.restore(true),
        };
        self.operate(true, &call);
    }

    /// Ends whatever an operator began, as far as it can be ended now.
    fn restore(&mut self, crashes: bool) {
        let part = json!({ "agent_id": self.agent() });
        for call in
            [up(), no_plan(), json!({ "type": "REACTIVATE_AGENT", "reactivate_agent": part })]
        {
            self.operate(crashes, &call);
        }
    }

    /// Who is drained has no task.
    fn check_drained(&self) {
        if self.node.as_ref().is_some_and(Node::is_drained) {
            assert_eq!(self.machine.running().len(), 0, "drained with tasks, seed {}", self.seed);
        }
    }

    fn kill_a_task(&mut self) {
        let Some(container) = self.machine.any_running(&mut self.dice) else { return };
        let exit = [Exit::Code(0), Exit::Code(1), Exit::Signal(9)][self.dice.below(3)];
        let mut node = self.node(true);
        let (machine, dice) = (&mut self.machine, &mut self.dice);
        let result = node.task_dies(&container, exit, machine, dice, self.now);
        self.keep(node, result);
    }

    /// Lets time go by, deadline by deadline.
    fn live(&mut self, span: Duration, crashes: bool) {
        let until = self.now.mono + span;
        while self.now.mono < until {
            let mut node = self.node(crashes);
            let next = node.deadline().map_or(until, |at| at.min(until));
            self.pass(next.since(self.now.mono).max(Duration::from_millis(1)));
            let result = node.turn(&mut self.machine, &mut self.dice, self.now);
            self.keep(node, result);
        }
    }

    fn step(&mut self) {
        match self.dice.below(11) {
            10 => self.order(),
            0 | 1 => self.ask(),
            2 => self.kill_a_task(),
            3 => {
                self.node = None;
                self.machine.lose_daemon();
            }
            _ => {
                let span = Duration::from_millis(self.dice.draw() % 2_000);
                self.live(span, true);
            }
        }
        let mut ids: Vec<_> = self.machine.running();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count, "a task runs twice, seed {}", self.seed);
        self.check_drained();
    }

    /// Without further trouble everything becomes as it was asked.
    fn check(&mut self) {
        if let Some(node) = self.node.as_mut() {
            node.set_fuse(None);
        }
        // Longer than every back-off, retry and grace period; a drain has to end first.
        self.live(Duration::from_secs(2_000), false);
        self.check_drained();
        self.restore(false);
        self.live(Duration::from_secs(2_000), false);
        let mut running: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, task) in self.machine.running() {
            let app = APPS.iter().find(|app| task.starts_with(&format!("{app}.")));
            *running.entry(app.copied().unwrap_or("?")).or_default() += 1;
        }
        let wanted: BTreeMap<&str, u64> =
            self.asked.iter().filter(|(_, n)| **n > 0).map(|(app, n)| (*app, *n)).collect();
        assert_eq!(running, wanted, "what runs is not what was asked, seed {}", self.seed);

        let mut announced = self.node(false).announced();
        announced.sort();
        let mut ids: Vec<_> = self.machine.running().iter().map(|(_, id)| id.clone()).collect();
        ids.sort();
        assert_eq!(announced, ids, "names do not lead to what runs, seed {}", self.seed);
        assert_eq!(
            self.machine.containers.len(),
            ids.len(),
            "something of a container is left, seed {}",
            self.seed
        );
        assert_eq!(self.machine.records.len(), ids.len(), "a record is left, seed {}", self.seed);
    }
}

fn machines() -> Value {
    json!([{ "hostname": "node" }])
}

fn schedule(windows: &Value) -> Value {
    let part = json!({ "schedule": { "windows": windows } });
    json!({ "type": "UPDATE_MAINTENANCE_SCHEDULE", "update_maintenance_schedule": part })
}

fn plan() -> Value {
    let unavailability = json!({ "start": { "nanoseconds": 0 } });
    schedule(&json!([{ "machine_ids": machines(), "unavailability": unavailability }]))
}

fn no_plan() -> Value {
    schedule(&json!([]))
}

fn down() -> Value {
    json!({ "type": "START_MAINTENANCE", "start_maintenance": { "machines": machines() } })
}

fn up() -> Value {
    json!({ "type": "STOP_MAINTENANCE", "stop_maintenance": { "machines": machines() } })
}

fn life(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.check();
}

#[test]
fn everything_is_as_asked_after_any_life() {
    for seed in 0..40 {
        life(seed);
    }
}
