//! Ways to the agents of other nodes: from a peer's frames to links of the master and back.
//!
//! A session of an agent is a link of the master. Whatever happens to the connections
//! below, a link sees each frame once and in order; where one is missing, the link ends and
//! the agent is asked to begin another session.

use crate::agent::AgentError;
use crate::{LinkId, Master};
use mizzen_api::link::frame::{Content, Frame, FrameError};
use mizzen_api::link::{ToAgent, ToMaster};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All ways to agents of other nodes.
#[derive(Debug)]
pub struct Ways {
    by_node: BTreeMap<OwnerId, Way>,
    nodes: BTreeMap<LinkId, OwnerId>,
    next: u64,
}

/// The last session of one agent. Its number outlives it, so that what is left of it on
/// the way cannot begin it again.
#[derive(Debug)]
struct Way {
    /// None once it is over.
    link: Option<LinkId>,
    session: u64,
    sent: u64,
    heard: u64,
}

/// What is to be done with a peer's frame beside what the master made of it.
#[derive(Debug, Default)]
pub struct Taken {
    /// To be sent to the peer.
    pub answer: Option<Vec<u8>>,
    /// Why the master did not take what it said.
    pub problem: Option<WayError>,
}

/// Why what a peer said was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WayError {
    /// It is no frame.
    #[error("the agent of a peer is not understood")]
    Frame(#[from] FrameError),
    /// The master refuses it.
    #[error("the agent of a peer is not listened to")]
    Agent(#[from] AgentError),
    /// It is a message that only later versions know.
    #[error("the agent of a peer says what this version does not know")]
    Unknown,
}

impl Ways {
    /// No ways yet; their links are numbered from `first` on.
    #[must_use]
    pub fn new(first: LinkId) -> Self {
        Self { by_node: BTreeMap::new(), nodes: BTreeMap::new(), next: first.0 }
    }

    /// A frame came from `node`, which proved who it is, at `address`.
    pub fn receive(
        &mut self,
        master: &mut Master,
        (node, address): (&OwnerId, IpAddr),
        bytes: &[u8],
        now: Now,
    ) -> Taken {
        let frame: Frame<ToMaster> = match Frame::from_bytes(bytes) {
            Ok(frame) => frame,
            Err(error) => return Taken { answer: None, problem: Some(error.into()) },
        };
        if frame.sequence == 0 && self.taken(node) < frame.session {
            self.begin(master, (node, address), frame.session, now);
        } else if let Err(answer) = self.expect(master, node, &frame, now) {
            return Taken { answer, problem: None };
        }
        let link = self.by_node.get(node).and_then(|way| way.link);
        let Some(link) = link else { return Taken::default() };
        let problem = match frame.content {
            Content::Message(message) => {
                master.agent_message(link, message, now).err().map(WayError::Agent)
            }
            Content::Unknown => Some(WayError::Unknown),
            Content::Reset { .. } => None,
        };
        Taken { answer: None, problem }
    }

    /// There is no way to `node` any more.
    pub fn close(&mut self, master: &mut Master, node: &OwnerId, now: Now) {
        if let Some(link) = self.by_node.get_mut(node).and_then(|way| way.link.take()) {
            self.nodes.remove(&link);
            master.agent_disconnected(link, now);
        }
    }

    /// What is to be sent to which node, so that the agent behind a link hears `message`;
    /// nothing if the link is gone.
    pub fn frame(&mut self, link: LinkId, message: ToAgent) -> Option<(OwnerId, Vec<u8>)> {
        let node = self.nodes.get(&link)?;
        let way = self.by_node.get_mut(node)?;
        way.sent += 1;
        let content = Content::Message(message);
        let frame = Frame { session: way.session, sequence: way.sent, content };
        Some((node.clone(), frame.into_bytes()))
    }

    /// How many agents of other nodes there is a way to.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    fn taken(&self, node: &OwnerId) -> u64 {
        self.by_node.get(node).map_or(0, |way| way.session)
    }

    fn begin(
        &mut self,
        master: &mut Master,
        (node, address): (&OwnerId, IpAddr),
        session: u64,
        now: Now,
    ) {
        self.close(master, node, now);
        let link = LinkId(self.next);
        self.next += 1;
        self.nodes.insert(link, node.clone());
        self.by_node.insert(node.clone(), Way { link: Some(link), session, sent: 0, heard: 0 });
        master.agent_connected(link, node.clone(), address, now);
    }

    /// Whether the frame is the next one of its session; if not, what to answer.
    fn expect(
        &mut self,
        master: &mut Master,
        node: &OwnerId,
        frame: &Frame<ToMaster>,
        now: Now,
    ) -> Result<(), Option<Vec<u8>>> {
        let taken = self.taken(node);
        let current = |way: &&mut Way| way.link.is_some() && way.session == frame.session;
        if let Some(way) = self.by_node.get_mut(node).filter(current) {
            if frame.sequence <= way.heard {
                return Err(None); // it came before
            }
            if frame.sequence == way.heard + 1 {
                way.heard = frame.sequence;
                return Ok(());
            }
            self.close(master, node, now);
        }
        let content = Content::<ToAgent>::Reset { taken };
        Err(Some(Frame { session: frame.session, sequence: 0, content }.into_bytes()))
    }
}
