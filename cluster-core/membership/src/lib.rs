//! Who is alive, what each owner says, and the view of the cluster that it adds up to.
//!
//! Everything here is a value that decides: no clock, no socket, chance from a seed.
//!
//! | Module | What it knows |
//! |---|---|
//! | [`membership`] | a node's whole part in the cluster; what an adapter drives |
//! | [`swim`] | who is alive, by datagrams |
//! | [`exchange`] | every owner's log, by messages over streams |
//! | [`nodes`] | the nodes as a person sees them |
//! | [`log`] | the log of one owner, as its writer holds it |
//! | [`view`] | the newest fact per key and owner, whoever carried it here |
//!
//! Names and VIPs are computed from a view and from nothing else.

mod coding;
pub mod exchange;
pub mod identity;
pub mod log;
pub mod membership;
pub mod nodes;
pub mod swim;
pub mod view;
mod wire;

pub use coding::Garbage;
