//! Network policy: documents become rulings about classes of addresses.
//!
//! ```text
//! document ─read─▶ Policy ─┐
//! facts of tasks and nodes ┴─▶ PolicyPlanner ─▶ PolicyWanted ─▶ kernel
//!                                    └─ explain: the same judge, in words
//! ```
//!
//! Each node works out by itself which containers of the cluster, and which networks that policies
//! name, are alike for all policies: a class. Only classes, pairs of classes and ports reach
//! the kernel. One task's change touches its own addresses, and its class if that is a new one.

mod classes;
mod compiled;
pub mod document;
pub mod explain;
mod numbers;
mod planner;
mod rulings;
mod spans;
pub mod spread;
mod subject;

pub use compiled::{RuleRef, rules_of};
pub use mizzen_ebpf_core::policy::{Overlays, PolicyWanted};
pub use numbers::{MAX_RULES, RuleNumbers};
pub use planner::{Ground, Neighbour, PolicyPlanner};
pub use spans::protocol_word;
