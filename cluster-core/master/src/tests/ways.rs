//! Sessions of agents on other nodes, frame by frame.

use super::bench::Bench;
use crate::LinkId;
use crate::ways::{Taken, Ways};
use mizzen_api::link::frame::{Content, Frame};
use mizzen_api::link::{ToAgent, ToMaster};
use mizzen_api::resources::to_v1;
use mizzen_api::v1;
use mizzen_types::ids::OwnerId;
use mizzen_types::overlay::OverlayClaim;
use mizzen_types::resources::Resources;
use std::net::IpAddr;

struct Peer {
    bench: Bench,
    ways: Ways,
}

impl Peer {
    fn new() -> Self {
        Self { bench: Bench::new(), ways: Ways::new(LinkId(1)) }
    }

    fn say(&mut self, session: u64, sequence: u64, message: ToMaster) -> Taken {
        let frame = Frame { session, sequence, content: Content::Message(message) };
        let from = (&OwnerId::from("n2"), IpAddr::from([10, 0, 0, 2]));
        let (master, now) = (&mut self.bench.master, self.bench.now);
        let taken = self.ways.receive(master, from, &frame.into_bytes(), now);
        self.bench.settle();
        taken
    }

    fn register(&mut self, session: u64) -> Taken {
        let resources = to_v1(&Resources::parse("cpus:1").unwrap());
        let agent = v1::AgentInfo { resources, ..v1::AgentInfo::default() };
        let (frameworks, tasks, overlay) = (vec![], vec![], OverlayClaim::default());
        self.say(session, 0, ToMaster::Register { agent, frameworks, tasks, overlay })
    }

    fn is_here(&self) -> bool {
        self.bench.master.state()["activated_slaves"] == 1
    }
}

/// The session that an answer is about, and the largest one that is taken.
fn reset(taken: &Taken) -> (u64, u64) {
    assert!(taken.problem.is_none(), "{:?}", taken.problem);
    let frame = Frame::<ToAgent>::from_bytes(taken.answer.as_ref().unwrap()).unwrap();
    let Content::Reset { taken } = frame.content else { panic!("{frame:?}") };
    (frame.session, taken)
}

#[test]
fn a_frame_comes_once_and_in_order_or_the_session_is_over() {
    let mut peer = Peer::new();
    assert!(peer.register(5).answer.is_none() && peer.is_here());
    assert!(peer.say(5, 1, ToMaster::Pong).answer.is_none());
    // Again, and the registration again: nothing.
    assert!(peer.say(5, 1, ToMaster::Pong).answer.is_none());
    assert!(peer.register(5).answer.is_none() && peer.is_here());
    // The second one is missing.
    assert_eq!(reset(&peer.say(5, 3, ToMaster::Pong)), (5, 5));
    assert!(!peer.is_here());
    // What is left of that session on the way cannot begin it again.
    assert_eq!(reset(&peer.register(5)), (5, 5));
    assert_eq!(reset(&peer.say(5, 4, ToMaster::Pong)), (5, 5));
    assert!(!peer.is_here());
    assert!(peer.register(6).answer.is_none());
    assert!(peer.is_here());
}

#[test]
fn of_two_sessions_the_later_one_counts() {
    let mut peer = Peer::new();
    peer.register(7);
    // A process whose clock was set back.
    assert_eq!(reset(&peer.register(3)), (3, 7));
    assert_eq!(reset(&peer.say(3, 1, ToMaster::Pong)), (3, 7));
    assert!(peer.is_here(), "the other one is not touched");
    assert!(peer.register(8).answer.is_none());
    assert!(peer.say(8, 1, ToMaster::Pong).problem.is_none());
    // A master that starts anew knows no session.
    let mut peer = Peer::new();
    assert_eq!(reset(&peer.say(8, 2, ToMaster::Pong)), (8, 0));
}

#[test]
fn what_is_said_to_a_link_goes_to_its_node_in_order() {
    let mut peer = Peer::new();
    peer.register(5);
    for sequence in 1..=2 {
        let (to, bytes) = peer.ways.frame(LinkId(1), ToAgent::Ping).unwrap();
        let frame = Frame::<ToAgent>::from_bytes(&bytes).unwrap();
        assert_eq!((to.as_str(), frame.session, frame.sequence), ("n2", 5, sequence));
    }
    peer.register(6);
    assert!(peer.ways.frame(LinkId(1), ToAgent::Ping).is_none(), "its link is over");
    assert_eq!(peer.ways.count(), 1);
    let now = peer.bench.now;
    peer.ways.close(&mut peer.bench.master, &"n2".into(), now);
    assert_eq!(peer.ways.count(), 0);
    assert!(!peer.is_here());
}
