//! The way from an agent to the leading master on another node: whom it talks to, and when
//! it introduces itself anew.
//!
//! Each registration begins a session; frames are numbered in it, see
//! [`mizzen_api::link::frame`]. Whatever breaks a session, the agent registers again: at
//! once the first time, then after pauses that become longer. Without a master its tasks
//! run on.

use crate::Agent;
use mizzen_api::link::frame::{Content, Frame, FrameError};
use mizzen_api::link::{ToAgent, ToMaster};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::{Mono, Now};
use std::time::Duration;

/// Pause before the second attempt to register; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A master asks every 15 s whether the agent is there; whoever hears nothing for five
/// times as long has lost it.
const SILENCE: Duration = Duration::from_secs(75);

/// The master that leads, as its owner log says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leader {
    /// The node that it runs on.
    pub node: OwnerId,
    /// Generation of its log, which grows with each start.
    pub generation: u64,
}

/// How far the agent has come with a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody leads.
    NoLeader,
    /// It has introduced itself, or is about to.
    Registering,
    /// It is part of the cluster.
    Registered,
}

/// The way to the leading master.
#[derive(Debug)]
pub struct Way {
    leader: Option<Leader>,
    session: Session,
    /// When to register anew.
    again_at: Option<Mono>,
    pause: Duration,
    dice: Dice,
}

#[derive(Debug, Default)]
struct Session {
    number: u64,
    stage: Stage,
    /// Number of the next frame to the master.
    next: u64,
    heard: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Over,
    Begun,
    Registered,
}

/// Why something that came from a peer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// It is no frame.
    #[error("what the master says is not understood")]
    Frame(#[from] FrameError),
    /// It comes from somebody who does not lead.
    #[error("node '{node}' gives orders and does not lead")]
    NotLeader {
        /// Who it is.
        node: OwnerId,
    },
    /// It is a message that only later versions know.
    #[error("the master says what this version does not know")]
    Unknown,
}

impl Way {
    /// A way to nobody.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            leader: None,
            session: Session::default(),
            again_at: None,
            pause: Duration::ZERO,
            dice: Dice::new(seed),
        }
    }

    /// Who leads now, as far as is known.
    pub fn set_leader(&mut self, agent: &mut Agent, leader: Option<Leader>, now: Now) {
        if self.leader == leader {
            return;
        }
        self.end(agent);
        self.leader = leader;
        self.pause = Duration::ZERO;
        self.again_at = self.leader.as_ref().map(|_| now.mono);
        self.handle_timeout(agent, now);
    }

    /// Who leads, as far as is known.
    #[must_use]
    pub fn leader(&self) -> Option<&Leader> {
        self.leader.as_ref()
    }

    /// How far the agent has come.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.leader, self.session.stage) {
            (None, _) => Standing::NoLeader,
            (Some(_), Stage::Registered) => Standing::Registered,
            (Some(_), _) => Standing::Registering,
        }
    }

    /// The connection to `node` broke: what was sent may not have arrived.
    pub fn broken(&mut self, agent: &mut Agent, node: &OwnerId, now: Now) {
        if self.leads(node) && self.session.stage != Stage::Over {
            self.restart(agent, now);
        }
    }

    /// A frame came from `node`, which proved who it is.
    ///
    /// # Errors
    ///
    /// [`WayError`] says why it was not taken.
    pub fn receive(
        &mut self,
        agent: &mut Agent,
        node: &OwnerId,
        bytes: &[u8],
        now: Now,
    ) -> Result<(), WayError> {
        if !self.leads(node) {
            return Err(WayError::NotLeader { node: node.clone() });
        }
        let frame: Frame<ToAgent> = Frame::from_bytes(bytes)?;
        if frame.session != self.session.number || self.session.stage == Stage::Over {
            return Ok(()); // of a session that is over
        }
        if let Content::Reset { taken } = frame.content {
            self.session.number = self.session.number.max(taken);
            self.restart(agent, now);
            return Ok(());
        }
        if frame.sequence <= self.session.heard {
            return Ok(()); // it came before
        }
        if frame.sequence > self.session.heard + 1 {
            self.restart(agent, now);
            return Ok(());
        }
        self.session.heard = frame.sequence;
        let Content::Message(message) = frame.content else { return Err(WayError::Unknown) };
        if matches!(message, ToAgent::Registered { .. } | ToAgent::ShutOut { .. }) {
            self.session.stage = Stage::Registered;
            self.pause = Duration::ZERO;
        }
        if self.session.stage == Stage::Registered {
            self.again_at = Some(now.mono + SILENCE);
        }
        agent.handle_master(message, now);
        Ok(())
    }

    /// What is to be sent to which node, so that the master hears `message`; nothing if
    /// there is no session. A registration begins one.
    pub fn frame(&mut self, message: ToMaster, now: Now) -> Option<(OwnerId, Vec<u8>)> {
        let leader = self.leader.as_ref()?;
        if matches!(message, ToMaster::Register { .. }) {
            // Larger than all before, also those of a process before this one.
            let number = now.wall.0.max(self.session.number + 1);
            self.session = Session { number, stage: Stage::Begun, next: 0, heard: 0 };
            self.pause = match self.pause {
                Duration::ZERO => FIRST_PAUSE,
                pause => (pause * 2).min(LAST_PAUSE),
            };
            self.again_at = Some(now.mono + self.pause);
        }
        if self.session.stage == Stage::Over {
            return None;
        }
        let content = Content::Message(message);
        let frame = Frame { session: self.session.number, sequence: self.session.next, content };
        self.session.next += 1;
        Some((leader.node.clone(), frame.into_bytes()))
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.again_at
    }

    /// Introduces the agent if it is time.
    pub fn handle_timeout(&mut self, agent: &mut Agent, now: Now) {
        if self.again_at.is_some_and(|at| at <= now.mono) {
            // Set anew when the registration goes out.
            self.again_at = None;
            self.end(agent);
            agent.master_connected();
        }
    }

    fn leads(&self, node: &OwnerId) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader.node == *node)
    }

    fn end(&mut self, agent: &mut Agent) {
        self.session.stage = Stage::Over;
        agent.master_lost();
    }

    /// The session is over; another one begins after a pause that keeps a broken way, or a
    /// thousand agents of a master that came back, from being a storm.
    fn restart(&mut self, agent: &mut Agent, now: Now) {
        self.end(agent);
        let longest = self.pause.max(FIRST_PAUSE / 10);
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        self.again_at = Some(now.mono + Duration::from_nanos(self.dice.draw() % nanos));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effect;
    use crate::tests::settings;
    use mizzen_api::link::Duty;
    use mizzen_api::v1;
    use mizzen_types::time::Wall;

    struct Bench {
        agent: Agent,
        way: Way,
        now: Now,
    }

    impl Bench {
        fn new() -> Self {
            let now = Now { mono: Mono(0), wall: Wall(1_000) };
            let (agent, way) = (Agent::new(settings(), None, 1, now), Way::new(1));
            let mut bench = Self { agent, way, now };
            bench.lead("m", 1);
            bench
        }

        fn lead(&mut self, node: &str, generation: u64) {
            let leader = Some(Leader { node: node.into(), generation });
            self.way.set_leader(&mut self.agent, leader, self.now);
        }

        /// Session, number and message of every frame that goes out.
        fn sent(&mut self) -> Vec<(u64, u64, ToMaster)> {
            let mut sent = Vec::new();
            while let Some(effect) = self.agent.poll_effect() {
                let Effect::ToMaster(message) = effect else { continue };
                let Some((_, bytes)) = self.way.frame(*message, self.now) else { continue };
                let frame = Frame::<ToMaster>::from_bytes(&bytes).unwrap();
                let Content::Message(message) = frame.content else { panic!("{frame:?}") };
                sent.push((frame.session, frame.sequence, message));
            }
            sent
        }

        /// The session of the only frame that goes out, a registration.
        fn registers(&mut self) -> Option<u64> {
            match &self.sent()[..] {
                [] => None,
                [(session, 0, ToMaster::Register { .. })] => Some(*session),
                other => panic!("{other:?}"),
            }
        }

        fn hear(&mut self, session: u64, sequence: u64, content: Content<ToAgent>) {
            let bytes = Frame { session, sequence, content }.into_bytes();
            self.way.receive(&mut self.agent, &"m".into(), &bytes, self.now).unwrap();
        }

        fn welcome(&mut self, session: u64) {
            let agent_id = v1::AgentId { value: "s".to_owned() };
            let message = ToAgent::Registered { agent_id, duty: Duty::Serve, overlay: None };
            self.hear(session, 1, Content::Message(message));
        }

        fn pass(&mut self, span: Duration) {
            self.now.mono = self.now.mono + span;
            if self.way.poll_deadline().is_some_and(|at| at <= self.now.mono) {
                self.way.handle_timeout(&mut self.agent, self.now);
            }
        }
    }

    #[test]
    fn it_registers_until_it_is_heard_and_anew_when_the_master_falls_silent() {
        let mut bench = Bench::new();
        let first = bench.registers().unwrap();
        bench.pass(Duration::from_millis(999));
        assert_eq!(bench.registers(), None);
        bench.pass(Duration::from_millis(1));
        let second = bench.registers().unwrap();
        assert!(second > first);
        bench.pass(Duration::from_secs(2));
        let third = bench.registers().unwrap();
        bench.welcome(second);
        assert_eq!(bench.way.standing(), Standing::Registering, "of a session that is over");
        bench.welcome(third);
        assert_eq!(bench.way.standing(), Standing::Registered);
        for sequence in 2..10 {
            bench.pass(Duration::from_secs(15));
            bench.hear(third, sequence, Content::Message(ToAgent::Ping));
            assert_eq!(bench.sent(), [(third, sequence - 1, ToMaster::Pong)]);
        }
        bench.pass(Duration::from_secs(75));
        assert!(bench.registers().unwrap() > third);
    }

    #[test]
    fn a_missing_frame_ends_the_session() {
        let mut bench = Bench::new();
        let session = bench.registers().unwrap();
        bench.welcome(session);
        bench.hear(session, 1, Content::Message(ToAgent::Ping));
        assert_eq!(bench.sent(), [], "it came before");
        bench.hear(session, 3, Content::Message(ToAgent::Ping));
        assert_eq!(bench.way.standing(), Standing::Registering);
        bench.pass(FIRST_PAUSE);
        let next = bench.registers().unwrap();
        bench.hear(next, 0, Content::Reset { taken: next + 77 });
        bench.pass(FIRST_PAUSE);
        assert_eq!(bench.registers(), Some(next + 78));
        bench.hear(next, 0, Content::Reset { taken: next + 99 });
        bench.pass(Duration::from_millis(10));
        assert_eq!(bench.registers(), None, "of a session that is over");
    }

    #[test]
    fn another_leader_or_another_start_of_it_is_another_session() {
        let mut bench = Bench::new();
        let session = bench.registers().unwrap();
        bench.welcome(session);
        bench.lead("m", 1);
        assert_eq!(bench.registers(), None);
        bench.lead("m", 2);
        let next = bench.registers().unwrap();
        assert!(next > session);
        bench.lead("other", 1);
        assert!(bench.registers().unwrap() > next);
        let orders = Frame { session: next, sequence: 1, content: Content::Message(ToAgent::Ping) };
        let (agent, now) = (&mut bench.agent, bench.now);
        let refused = bench.way.receive(agent, &"m".into(), &orders.into_bytes(), now);
        assert!(matches!(refused, Err(WayError::NotLeader { .. })));
        bench.way.set_leader(&mut bench.agent, None, now);
        assert_eq!((bench.registers(), bench.way.poll_deadline()), (None, None));
        assert_eq!(bench.way.standing(), Standing::NoLeader);
    }

    #[test]
    fn a_broken_connection_is_a_reason_to_register_soon() {
        let mut bench = Bench::new();
        let session = bench.registers().unwrap();
        bench.welcome(session);
        bench.way.broken(&mut bench.agent, &"other".into(), bench.now);
        assert_eq!(bench.way.standing(), Standing::Registered);
        bench.way.broken(&mut bench.agent, &"m".into(), bench.now);
        bench.pass(FIRST_PAUSE / 10);
        assert!(bench.registers().unwrap() > session);
    }
}
