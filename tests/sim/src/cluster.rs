//! A node with the master, agents on other nodes, and the network between them.
//!
//! Connections break, at moments that the two ends learn of at different times, or only
//! one of them; what was under way is lost, or comes out of order and twice when there is
//! a connection again.

use crate::machine::Machine;
use crate::node::{Crashed, NAME, Node};
use crate::worker::Worker;
use mizzen_agent::way::{Leader, Standing, Way};
use mizzen_types::container::Exit;
use mizzen_types::ids::{ContainerId, OwnerId};
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use std::time::Duration;

/// An agent on a node of its own.
#[derive(Debug)]
pub struct Remote {
    /// Its name in the owner logs.
    pub name: OwnerId,
    /// What survives a crash.
    pub machine: Machine,
    process: Option<Process>,
    to_master: Wire,
    to_agent: Wire,
    /// Whether what is sent arrives.
    pub connected: bool,
    /// When an end learns that the connection broke.
    agent_learns: Option<Mono>,
    master_learns: Option<Mono>,
    /// When the agent hears who leads, and in which generation.
    hears_at: Option<(Mono, u64)>,
    fuse: Option<u32>,
}

#[derive(Debug)]
struct Process {
    worker: Worker,
    way: Way,
}

/// Frames under way in one direction.
#[derive(Debug, Default)]
struct Wire {
    frames: Vec<(Mono, Vec<u8>)>,
    /// They come in order.
    last: Mono,
    /// Of a broken connection; some of them may come yet.
    stray: Vec<Vec<u8>>,
}

impl Wire {
    fn send(&mut self, bytes: Vec<u8>, dice: &mut Dice, now: Mono) {
        let at = (now + Duration::from_micros(100 + dice.draw() % 20_000)).max(self.last);
        self.last = at;
        self.frames.push((at, bytes));
    }

    fn take_due(&mut self, now: Mono) -> Option<Vec<u8>> {
        self.frames.first().filter(|(at, _)| *at <= now)?;
        Some(self.frames.remove(0).1)
    }

    fn next(&self) -> Option<Mono> {
        self.frames.first().map(|(at, _)| *at)
    }

    fn cut(&mut self) {
        self.stray.extend(self.frames.drain(..).map(|(_, bytes)| bytes));
    }

    /// What is left of old connections comes in any order, some of it twice, some not.
    fn mend(&mut self, dice: &mut Dice, now: Mono) {
        for bytes in std::mem::take(&mut self.stray) {
            for _ in 0..dice.below(3) {
                let at = now + Duration::from_millis(dice.draw() % 500);
                self.frames.push((at, bytes.clone()));
            }
        }
        self.frames.sort_by_key(|(at, _)| *at);
    }
}

impl Remote {
    /// An agent that does not run yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            machine: Machine::default(),
            process: None,
            to_master: Wire::default(),
            to_agent: Wire::default(),
            connected: true,
            agent_learns: None,
            master_learns: None,
            hears_at: None,
            fuse: None,
        }
    }

    /// Whether the master has taken the agent in, as the agent knows it.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.way.standing() == Standing::Registered)
    }

    /// From now on it lives for so many more effects.
    pub fn set_fuse(&mut self, fuse: Option<u32>) {
        self.fuse = fuse;
    }

    /// The daemon is killed.
    pub fn crash(&mut self, dice: &mut Dice, now: Now) {
        if self.process.take().is_some() {
            self.machine.lose_daemon();
            self.cut_wires(dice, now);
            self.agent_learns = None;
        }
    }

    /// The connection breaks, and nothing gets through until [`Self::heal`].
    pub fn cut(&mut self, dice: &mut Dice, now: Now) {
        self.connected = false;
        self.cut_wires(dice, now);
    }

    /// There is a network again.
    pub fn heal(&mut self, dice: &mut Dice, now: Now) {
        if !self.connected {
            self.connected = true;
            self.to_master.mend(dice, now.mono);
            self.to_agent.mend(dice, now.mono);
        }
    }

    /// A master leads since `generation`: the agent hears of it in a while.
    pub fn announce(&mut self, generation: u64, dice: &mut Dice, now: Now) {
        let at = now.mono + Duration::from_millis(dice.draw() % 2_000);
        self.hears_at = Some((at, generation));
    }

    /// A container's task ended by itself.
    pub fn task_dies(&mut self, id: &ContainerId, exit: Exit, dice: &mut Dice, now: Now) {
        if let Some(process) = self.process.as_mut() {
            process.worker.task_dies(id, exit, &mut self.machine, now);
            self.settle(dice, now);
        }
    }

    /// Task ids that names and VIPs know as running.
    #[must_use]
    pub fn announced(&self) -> Vec<String> {
        self.process.as_ref().map(|process| process.worker.announced()).unwrap_or_default()
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Mono> {
        let process = self.process.as_ref();
        let parts = [
            process.and_then(|process| process.worker.deadline()),
            process.and_then(|process| process.way.poll_deadline()),
            self.to_master.next(),
            self.to_agent.next(),
            self.agent_learns,
            self.master_learns,
            self.hears_at.map(|(at, _)| at),
        ];
        parts.into_iter().flatten().min()
    }

    /// Does what is due on the agent's side; starts its daemon if it was killed, for so
    /// many effects.
    pub fn turn(&mut self, fuse: Option<u32>, generation: u64, dice: &mut Dice, now: Now) {
        if self.process.is_none() {
            let worker = Worker::start(self.name.as_str(), &self.machine, dice, now);
            self.process = Some(Process { worker, way: Way::new(dice.draw()) });
            self.fuse = fuse;
            self.announce(generation, dice, now);
            self.settle(dice, now);
        }
        while let Some(bytes) = self.to_agent.take_due(now.mono) {
            let Some(process) = self.process.as_mut() else { continue };
            let from = NAME.into();
            if let Err(error) = process.way.receive(&mut process.worker.agent, &from, &bytes, now)
                && process.way.leader().is_some()
            {
                impossible(&error.to_string());
            }
            self.settle(dice, now);
        }
        if self.agent_learns.is_some_and(|at| at <= now.mono) {
            self.agent_learns = None;
            self.with(dice, now, |process| {
                process.way.broken(&mut process.worker.agent, &NAME.into(), now);
            });
        }
        if let Some((_, generation)) = self.hears_at.filter(|(at, _)| *at <= now.mono) {
            self.hears_at = None;
            self.with(dice, now, |process| {
                let leader = Leader { node: NAME.into(), generation };
                process.way.set_leader(&mut process.worker.agent, Some(leader), now);
            });
        }
        let due = self.process.as_mut().map(|process| process.worker.take_due(now));
        for pending in due.unwrap_or_default() {
            let Some(process) = self.process.as_mut() else { return };
            process.worker.happen(pending, &mut self.machine, now);
            self.settle(dice, now);
        }
        self.with(dice, now, |process| {
            process.way.handle_timeout(&mut process.worker.agent, now);
            process.worker.agent.handle_timeout(now);
        });
    }

    /// Brings the master what is due for it.
    ///
    /// # Errors
    ///
    /// [`Crashed`] if the master's node was killed over it.
    pub fn deliver(
        &mut self,
        node: &mut Node,
        machine: &mut Machine,
        dice: &mut Dice,
        now: Now,
    ) -> Result<(), Crashed> {
        while let Some(bytes) = self.to_master.take_due(now.mono) {
            node.receive(&self.name, &bytes, machine, dice, now)?;
        }
        if self.master_learns.is_some_and(|at| at <= now.mono) {
            self.master_learns = None;
            node.broken(&self.name, machine, dice, now)?;
        }
        Ok(())
    }

    /// The master's node sends something.
    pub fn send(&mut self, bytes: Vec<u8>, dice: &mut Dice, now: Now) {
        if self.connected {
            self.to_agent.send(bytes, dice, now.mono);
        }
    }

    /// The master's node was killed: the agent learns it from the connection.
    pub fn lose_master(&mut self, dice: &mut Dice, now: Now) {
        self.cut_wires(dice, now);
        self.master_learns = None;
    }

    fn cut_wires(&mut self, dice: &mut Dice, now: Now) {
        self.to_master.cut();
        self.to_agent.cut();
        // Whoever has nothing to say may not notice at all.
        let mut learns =
            || (dice.below(4) > 0).then(|| now.mono + Duration::from_millis(dice.draw() % 5_000));
        self.agent_learns = learns();
        self.master_learns = learns();
    }

    fn with(&mut self, dice: &mut Dice, now: Now, act: impl FnOnce(&mut Process)) {
        if let Some(process) = self.process.as_mut() {
            act(process);
            self.settle(dice, now);
        }
    }

    fn settle(&mut self, dice: &mut Dice, now: Now) {
        while let Some(process) = self.process.as_mut()
            && let Some(effect) = process.worker.agent.poll_effect()
        {
            if let Some(left) = self.fuse.as_mut() {
                if *left == 0 {
                    return self.crash(dice, now);
                }
                *left -= 1;
            }
            let told = process.worker.carry_out(effect, &mut self.machine, dice, now);
            let frame = told.and_then(|message| process.way.frame(message, now));
            if let Some((_, bytes)) = frame.filter(|_| self.connected) {
                self.to_master.send(bytes, dice, now.mono);
            }
        }
    }
}

#[allow(clippy::panic, reason = "this is a test's judgement")]
fn impossible(text: &str) {
    panic!("an agent does not understand its master: {text}");
}
