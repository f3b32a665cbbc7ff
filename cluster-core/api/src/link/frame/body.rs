//! What is in a frame, as protobuf has it. A number is never used for something else.

use crate::v1;
use prost::Message;

/// All that a frame can hold.
#[doc(hidden)]
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    #[prost(uint64, tag = "3")]
    Reset(u64),
    #[prost(message, tag = "10")]
    Register(Register),
    #[prost(message, tag = "11")]
    StatusUpdate(StatusUpdate),
    #[prost(message, tag = "12")]
    Pong(Empty),
    #[prost(string, tag = "13")]
    MoreAddresses(String),
    #[prost(message, tag = "20")]
    Registered(Registered),
    #[prost(message, tag = "21")]
    Duty(DutyBody),
    #[prost(string, tag = "22")]
    ShutOut(String),
    #[prost(message, tag = "23")]
    Introduce(Empty),
    #[prost(message, tag = "24")]
    RunTask(Box<RunTask>),
    #[prost(message, tag = "25")]
    KillTask(KillTask),
    #[prost(message, tag = "26")]
    FrameworkSubscribed(v1::FrameworkId),
    #[prost(message, tag = "27")]
    Acknowledge(Acknowledge),
    #[prost(message, tag = "28")]
    ShutdownFramework(v1::FrameworkId),
    #[prost(message, tag = "29")]
    Ping(Empty),
    /// JSON.
    #[prost(string, tag = "30")]
    Overlay(String),
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct Register {
    #[prost(message, required, tag = "1")]
    pub(super) agent: v1::AgentInfo,
    #[prost(message, repeated, tag = "2")]
    pub(super) frameworks: Vec<v1::FrameworkInfo>,
    #[prost(message, repeated, tag = "3")]
    pub(super) tasks: Vec<v1::Task>,
    /// JSON.
    #[prost(string, tag = "4")]
    pub(super) overlay: String,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct StatusUpdate {
    #[prost(message, required, tag = "1")]
    pub(super) framework_id: v1::FrameworkId,
    #[prost(message, required, tag = "2")]
    pub(super) status: v1::TaskStatus,
    #[prost(enumeration = "v1::TaskState", required, tag = "3")]
    pub(super) latest_state: i32,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct Registered {
    #[prost(message, required, tag = "1")]
    pub(super) agent_id: v1::AgentId,
    #[prost(message, required, tag = "2")]
    pub(super) duty: DutyBody,
    /// JSON; empty if there is none.
    #[prost(string, tag = "3")]
    pub(super) overlay: String,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct DutyBody {
    #[prost(enumeration = "DutyKind", tag = "1")]
    pub(super) kind: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) drain: Option<v1::DrainConfig>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
#[doc(hidden)]
pub enum DutyKind {
    Unknown = 0,
    Serve = 1,
    Maintain = 2,
    Drain = 3,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct RunTask {
    #[prost(message, required, tag = "1")]
    pub(super) framework: v1::FrameworkInfo,
    #[prost(message, required, tag = "2")]
    pub(super) task: v1::TaskInfo,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct KillTask {
    #[prost(message, required, tag = "1")]
    pub(super) framework_id: v1::FrameworkId,
    #[prost(message, required, tag = "2")]
    pub(super) task_id: v1::TaskId,
    #[prost(message, optional, tag = "3")]
    pub(super) kill_policy: Option<v1::KillPolicy>,
}

#[doc(hidden)]
#[derive(Clone, PartialEq, Message)]
pub struct Acknowledge {
    #[prost(message, required, tag = "1")]
    pub(super) framework_id: v1::FrameworkId,
    #[prost(message, required, tag = "2")]
    pub(super) task_id: v1::TaskId,
    #[prost(bytes = "vec", required, tag = "3")]
    pub(super) uuid: Vec<u8>,
}
