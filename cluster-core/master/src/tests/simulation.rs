//! Random lives of a cluster: whatever happens, the books balance.

use super::bench::{Bench, call, framework_info, task};
use crate::task::{Charge, is_terminal};
use mizzen_api::v1::scheduler::call::Type;
use mizzen_api::v1::{self, TaskState};
use mizzen_types::ids::FrameworkId;
use mizzen_types::random::Dice;
use mizzen_types::resources::Resources;

/// What the simulated agents know of their tasks, by agent.
type Truth = std::collections::BTreeMap<String, Vec<v1::Task>>;

struct World {
    bench: Bench,
    dice: Dice,
    truth: Truth,
    links: std::collections::BTreeMap<String, u64>,
    next_link: u64,
    next_task: u64,
    infos: Vec<v1::FrameworkInfo>,
}

#[test]
fn the_books_balance() {
    for seed in 0..40 {
        let mut world = World {
            bench: Bench::new(),
            dice: Dice::new(seed),
            truth: Truth::new(),
            links: Default::default(),
            next_link: 0,
            next_task: 0,
            infos: Vec::new(),
        };
        for step in 0..250 {
            world.step();
            world.check(&format!("seed {seed}, step {step}"));
        }
    }
}

impl World {
    fn step(&mut self) {
        match self.dice.below(16) {
            0 => self.new_agent(),
            1 => self.lose_link(),
            2 | 3 => self.agent_returns(),
            4 => self.subscribe(),
            5 => {
                let stream = self.any_stream();
                stream.into_iter().for_each(|stream| self.bench.close(&stream));
            }
            6..=9 => self.accept(),
            10..=12 => self.progress(),
            13 => {
                let (id, task) = (self.any_framework(), self.dice.below(20));
                if let Some(id) = id {
                    self.bench.kill(&id, &format!("t{task}"));
                }
            }
            14 if self.dice.below(4) == 0 => {
                let id = self.any_framework();
                id.into_iter().for_each(|id| drop(self.bench.call(call(Type::Teardown, &id))));
            }
            _ => {
                let seconds = [1, 1, 1, 5, 30, 700][self.dice.below(6)];
                self.bench.advance(seconds);
            }
        }
        self.bench.log.clear();
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> Option<T> {
        (!items.is_empty()).then(|| items[self.dice.below(items.len())].clone())
    }

    fn any_framework(&mut self) -> Option<String> {
        let all: Vec<String> =
            self.bench.master.frameworks.keys().map(ToString::to_string).collect();
        self.pick(&all)
    }

    fn any_stream(&mut self) -> Option<String> {
        let all: Vec<String> = self.bench.master.streams.keys().cloned().collect();
        self.pick(&all)
    }

    fn new_agent(&mut self) {
        if self.truth.len() >= 4 {
            return;
        }
        self.next_link += 1;
        let (cpus, link) = (1 + self.dice.below(8), self.next_link);
        self.bench.register(link, None, &format!("cpus:{cpus};mem:1024"), vec![], vec![]);
        let id = self.bench.master.agent_on(crate::LinkId(link)).unwrap().to_string();
        self.truth.insert(id.clone(), Vec::new());
        self.links.insert(id, link);
    }

    fn lose_link(&mut self) {
        let all: Vec<String> = self.links.keys().cloned().collect();
        let Some(id) = self.pick(&all) else { return };
        let link = self.links.remove(&id).unwrap();
        self.bench.disconnect(link);
    }

    fn agent_returns(&mut self) {
        let away: Vec<String> =
            self.truth.keys().filter(|id| !self.links.contains_key(*id)).cloned().collect();
        let Some(id) = self.pick(&away) else { return };
        self.next_link += 1;
        let mut tasks = self.truth[&id].clone();
        if self.dice.below(4) == 0 {
            tasks.clear();
        }
        self.truth.insert(id.clone(), tasks.clone());
        let link = self.next_link;
        self.bench.register(link, Some(&id), "cpus:8;mem:1024", self.infos.clone(), tasks);
        self.links.insert(id, link);
    }

    fn subscribe(&mut self) {
        let mut info = framework_info("f");
        let again = self.pick(&self.infos.clone());
        if self.infos.len() > 3 || self.dice.below(2) == 0 {
            info = again.unwrap_or(info);
        }
        self.bench.subscribe(info.clone());
        for framework in self.bench.master.frameworks.values() {
            if !self.infos.iter().any(|info| info.id == framework.info.id) {
                self.infos.push(framework.info.clone());
            }
        }
    }

    fn accept(&mut self) {
        let all: Vec<_> = self
            .bench
            .master
            .offers
            .iter()
            .map(|(id, o)| (id.to_string(), o.framework.to_string(), o.agent.to_string()))
            .collect();
        let Some((offer, framework, agent)) = self.pick(&all) else { return };
        if self.dice.below(4) == 0 {
            let refuse = self.dice.below(10) as f64;
            self.bench.decline(&framework, &[&offer], refuse);
            return;
        }
        let mut tasks = Vec::new();
        for _ in 0..=self.dice.below(3) {
            let cpus = 1 + self.dice.below(3);
            self.next_task += 1;
            tasks.push(task(
                &format!("t{}", self.next_task),
                &agent,
                &format!("cpus:{cpus};mem:10"),
            ));
        }
        self.bench.accept(&framework, &[&offer], tasks);
        let framework = FrameworkId::from(framework);
        let launched = &self.bench.master.frameworks[&framework].tasks;
        let known = self.truth.get_mut(&agent).unwrap();
        for task in launched.values().filter(|task| task.agent().as_str() == agent) {
            if !known.iter().any(|known| known.task_id == task.v1.task_id) {
                known.push(task.v1.clone());
            }
        }
    }

    /// A task of a connected agent moves on, and is acknowledged.
    fn progress(&mut self) {
        let all: Vec<String> = self.links.keys().cloned().collect();
        let Some(agent) = self.pick(&all) else { return };
        let count = self.truth[&agent].len();
        if count == 0 {
            return;
        }
        let at = self.dice.below(count);
        let mut task = self.truth[&agent][at].clone();
        let state = match task.state() {
            TaskState::TaskStaging => TaskState::TaskRunning,
            _ => [TaskState::TaskFinished, TaskState::TaskFailed][self.dice.below(2)],
        };
        let (framework, id) = (task.framework_id.value.clone(), task.task_id.value.clone());
        self.bench.update(self.links[&agent], &framework, &id, state, 7);
        task.state = state.into();
        let tasks = self.truth.get_mut(&agent).unwrap();
        if is_terminal(state) && self.dice.below(3) > 0 {
            tasks.remove(at);
        } else {
            tasks[at] = task;
        }
        if self.dice.below(2) == 0 {
            self.bench.acknowledge(&framework, &agent, &id, 7);
        }
    }

    fn check(&self, when: &str) {
        let master = &self.bench.master;
        for (id, offer) in &master.offers {
            let framework = &master.frameworks[&offer.framework];
            assert!(framework.is_connected() && framework.offers.contains(id), "{when}: {id}");
            let agent = &master.agents[&offer.agent];
            assert!(agent.link.is_some() && agent.offers.contains(id), "{when}: {id}");
        }
        for (id, agent) in &master.agents {
            let mut used = Resources::new();
            for (framework, task) in &agent.tasks {
                let task = &master.frameworks[framework].tasks[task];
                assert_eq!(task.agent(), *id, "{when}");
                let over = is_terminal(task.v1.state());
                assert_eq!(over, task.charge == Charge::Freed, "{when}: {:?}", task.v1.task_id);
                if task.charge == Charge::Held {
                    used += &task.resources;
                }
            }
            for offer in agent.offers.iter().map(|offer| &master.offers[offer]) {
                used += &offer.resources;
            }
            assert!(
                agent.total.contains(&used),
                "{when}: {id} has {} and gave {used}",
                agent.total
            );
            let available = master.allocator.available(id).unwrap();
            assert_eq!(used + available, agent.total, "{when}: {id}");
        }
        let tasks: usize = master.frameworks.values().map(|f| f.tasks.len()).sum();
        let on_agents: usize = master.agents.values().map(|agent| agent.tasks.len()).sum();
        assert_eq!(tasks, on_agents, "{when}");
        for (stream, framework) in &master.streams {
            assert_eq!(master.frameworks[framework].stream_id(), Some(stream.as_str()), "{when}");
        }
    }
}
