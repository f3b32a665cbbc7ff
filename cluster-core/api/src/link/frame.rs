//! How a link's messages travel between machines: protobuf, one frame each.
//!
//! A session begins with the agent's registration and has a number that grows with each
//! one. Frames of a session are numbered in both directions, so that each side notices
//! what a broken link lost: a frame comes once, in order, or its session is over and the
//! agent registers anew. Fields that a reader does not know are skipped; a message that
//! it does not know is an error, and the session goes on.

mod body;
mod words;

use body::Body;
use prost::Message;

/// What one side sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame<M> {
    /// Number of the session.
    pub session: u64,
    /// Number of the frame in its session and direction. An agent's first one is 0 and
    /// registers it, a master's first one is 1.
    pub sequence: u64,
    /// What is said.
    pub content: Content<M>,
}

/// What is in a frame.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and taken apart at once")]
pub enum Content<M> {
    /// Something that a master or an agent says.
    Message(M),
    /// The session is not known here, or a frame of it is missing: register with a session
    /// whose number is larger than this.
    Reset {
        /// The largest number that is taken.
        taken: u64,
    },
    /// A message of a version to come.
    Unknown,
}

/// Bytes that are no frame, or one whose message cannot be taken as it is.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is no protobuf.
    #[error("{length} bytes that came over a link are no frame")]
    Bytes {
        /// How many came.
        length: usize,
        /// What is wrong with them.
        source: prost::DecodeError,
    },
    /// Its words about the overlays are unreadable. Without them the message would say that
    /// there is nothing, and blocks that are in use would be given to others.
    #[error("what a frame of session {session} says about the overlays is unreadable")]
    Overlay {
        /// Number of the session.
        session: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// A message of one of the two directions.
pub trait LinkMessage: Sized {
    /// The frame's body.
    #[doc(hidden)]
    fn into_body(self) -> Body;
    /// The message in a frame's body; `None` if it is not of this direction.
    #[doc(hidden)]
    fn from_body(body: Body) -> Result<Option<Self>, serde_json::Error>;
}

impl<M: LinkMessage> Frame<M> {
    /// The frame as it travels.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let body = match self.content {
            Content::Message(message) => Some(message.into_body()),
            Content::Reset { taken } => Some(Body::Reset(taken)),
            Content::Unknown => None,
        };
        Wire { session: self.session, sequence: self.sequence, body }.encode_to_vec()
    }

    /// Reads what [`Self::into_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if it is no frame at all, or one that would lose something.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FrameError> {
        let wire = Wire::decode(bytes)
            .map_err(|source| FrameError::Bytes { length: bytes.len(), source })?;
        let session = wire.session;
        let overlay = |source| FrameError::Overlay { session, source };
        let content = match wire.body {
            Some(Body::Reset(taken)) => Content::Reset { taken },
            Some(body) => {
                M::from_body(body).map_err(overlay)?.map_or(Content::Unknown, Content::Message)
            }
            None => Content::Unknown,
        };
        Ok(Self { session, sequence: wire.sequence, content })
    }
}

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(uint64, tag = "1")]
    session: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    // A number is never used for something else.
    #[prost(
        oneof = "Body",
        tags = "3, 10, 11, 12, 13, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30"
    )]
    body: Option<Body>,
}

#[cfg(test)]
mod tests {
    use super::body::{Register, Registered};
    use super::*;
    use crate::link::{Duty, ToAgent, ToMaster};
    use crate::v1;
    use mizzen_types::overlay::{Habits, Mac, OverlayClaim, OverlayGrant, Vtep};

    fn there_and_back<M: LinkMessage + Clone + PartialEq + std::fmt::Debug>(message: M) {
        let content = Content::Message(message);
        let frame = Frame { session: 7, sequence: 3, content };
        assert_eq!(Frame::from_bytes(&frame.clone().into_bytes()).unwrap(), frame);
    }

    fn framework() -> v1::FrameworkId {
        v1::FrameworkId { value: "f".to_owned() }
    }

    fn task() -> v1::TaskId {
        v1::TaskId { value: "t".to_owned() }
    }

    #[test]
    fn what_an_agent_says() {
        let agent = v1::AgentInfo { hostname: "h".to_owned(), ..v1::AgentInfo::default() };
        let tasks = vec![v1::Task { task_id: task(), ..v1::Task::default() }];
        let vtep = vec![[44, 128, 0, 1].into()];
        let overlay = OverlayClaim { vtep, ..OverlayClaim::default() };
        there_and_back(ToMaster::Register { agent, frameworks: vec![], tasks, overlay });
        there_and_back(ToMaster::MoreAddresses { overlay: "dcos".to_owned() });
        there_and_back(ToMaster::StatusUpdate {
            framework_id: framework(),
            status: v1::TaskStatus { uuid: Some(vec![1; 16]), ..v1::TaskStatus::default() },
            latest_state: v1::TaskState::TaskFinished,
        });
        there_and_back(ToMaster::Pong);
    }

    #[test]
    fn what_a_master_says() {
        let agent_id = v1::AgentId { value: "a".to_owned() };
        let config = v1::DrainConfig { mark_gone: Some(true), ..v1::DrainConfig::default() };
        let vtep = Vtep { addresses: vec![], mac: Mac([2, 0, 0, 0, 0, 1]) };
        let grant = OverlayGrant { vtep, port: 64000, habits: Habits::Ours, shares: vec![] };
        for duty in [Duty::Serve, Duty::Maintain, Duty::Drain(config)] {
            for overlay in [None, Some(grant.clone())] {
                let (agent_id, duty) = (agent_id.clone(), duty.clone());
                there_and_back(ToAgent::Registered { agent_id, duty, overlay });
            }
            there_and_back(ToAgent::Duty(duty));
        }
        there_and_back(ToAgent::Overlay(grant));
        there_and_back(ToAgent::ShutOut { message: "gone".to_owned() });
        there_and_back(ToAgent::Introduce);
        there_and_back(ToAgent::Ping);
        there_and_back(ToAgent::RunTask {
            framework: v1::FrameworkInfo { name: "f".to_owned(), ..v1::FrameworkInfo::default() },
            task: v1::TaskInfo { name: "t".to_owned(), ..v1::TaskInfo::default() },
        });
        let (framework_id, task_id) = (framework(), task());
        there_and_back(ToAgent::KillTask { framework_id, task_id, kill_policy: None });
        there_and_back(ToAgent::FrameworkSubscribed { framework_id: framework() });
        let (framework_id, task_id) = (framework(), task());
        there_and_back(ToAgent::Acknowledge { framework_id, task_id, uuid: vec![2; 16] });
        there_and_back(ToAgent::ShutdownFramework { framework_id: framework() });
    }

    #[test]
    fn what_is_new_is_skipped_or_said_to_be_unknown() {
        let content = Content::Message(ToMaster::Pong);
        let mut bytes = Frame { session: 1, sequence: 2, content }.into_bytes();
        // A field 4 of a version to come.
        bytes.extend([4 << 3, 9]);
        let frame = Frame::<ToMaster>::from_bytes(&bytes).unwrap();
        assert_eq!(frame.content, Content::Message(ToMaster::Pong));
        // A message 15 of a version to come, and one that goes the other way.
        let new = Frame::<ToMaster>::from_bytes(&[1 << 3, 5, 15 << 3 | 2, 0]).unwrap();
        assert_eq!((new.session, new.content), (5, Content::Unknown));
        let other = Content::Message(ToAgent::Ping);
        let other = Frame { session: 1, sequence: 2, content: other }.into_bytes();
        assert_eq!(Frame::<ToMaster>::from_bytes(&other).unwrap().content, Content::Unknown);
        assert!(Frame::<ToMaster>::from_bytes(b"garbage").is_err());
    }

    #[test]
    fn blocks_that_cannot_be_read_are_not_no_blocks() {
        let register = |overlay: &str| {
            let (agent, overlay) = (v1::AgentInfo::default(), overlay.to_owned());
            let register = Register { agent, frameworks: vec![], tasks: vec![], overlay };
            let wire = Wire { session: 4, sequence: 0, body: Some(Body::Register(register)) };
            Frame::<ToMaster>::from_bytes(&wire.encode_to_vec())
        };
        let Content::Message(ToMaster::Register { overlay, .. }) = register("").unwrap().content
        else {
            panic!("no registration");
        };
        assert_eq!(overlay, OverlayClaim::default(), "an agent that has none says nothing");
        for unreadable in ["{", "{\"blocks\":{\"dcos\":[\"nowhere\"]}}"] {
            let error = register(unreadable).unwrap_err();
            let text = "what a frame of session 4 says about the overlays is unreadable";
            assert_eq!(error.to_string(), text, "{unreadable}");
        }
        for body in [
            Body::Overlay(String::new()),
            Body::Registered(Registered {
                agent_id: v1::AgentId::default(),
                duty: Duty::Serve.into(),
                overlay: "[]".to_owned(),
            }),
        ] {
            let wire = Wire { session: 4, sequence: 1, body: Some(body) };
            let read = Frame::<ToAgent>::from_bytes(&wire.encode_to_vec());
            assert!(matches!(read, Err(FrameError::Overlay { session: 4, .. })), "{read:?}");
        }
    }
}
