//! Owner logs, and the view of the cluster that they add up to.
//!
//! [`log::OwnerLog`] is the writer's side: one per owner, only that owner appends.
//! [`view::View`] is the reader's side: the newest fact per key and owner, whoever
//! carried it here. Names and VIPs are computed from a view and from nothing else.

pub mod log;
pub mod view;
