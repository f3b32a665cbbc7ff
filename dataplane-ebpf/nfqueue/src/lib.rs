//! VIPs for kernels without BPF, as one value.
//!
//! ```text
//!  first packet ─▶ rule ─▶ queue ─▶ choice ─▶ entry of conntrack ─▶ the packet goes on, translated
//!                                                  │
//!  all other packets ─────────────────────────────▶┘ nobody here sees them
//! ```
//!
//! Only the first packet of a flow comes to user space; what follows is translated by the
//! kernel's conntrack, whether we live or not. While no engine runs, new connections to VIPs
//! are refused at once by a rule.
//!
//! The kernel keeps the rules and the set of VIPs; which backends they have is known to this
//! process alone. Dropping an [`Engine`] leaves the rules; [`teardown`] removes everything.

mod backend;
mod channel;
mod choice;
mod conntrack;
mod cpu;
mod engine;
mod entries;
mod error;
mod expression;
mod filter;
mod flows;
mod hash;
mod pace;
mod packet;
mod queue;
mod recent;
mod routes;
mod rules;
mod runs;
mod shared;
mod table;
mod uapi;
mod watch;
mod wire;
mod words;

pub use engine::{Engine, Options, teardown};
pub use error::{OpenError, QueueError};
pub use routes::Masquerade;
pub use words::{
    Admission, BackendWanted, Connection, ConnectionStage, Counts, Decision, Distance, Latencies,
    Locality, Policy, Reason, Removal, Rule, TCP, Tuning, UDP, VipAddress, VipWanted,
};
