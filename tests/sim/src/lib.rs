//! A whole node, and agents on further ones, in one thread: virtual time, a seeded order
//! of events, crashes anywhere, links that break.
//!
//! Master, agent and service scheduler are the real ones; they are values, so nothing
//! has to be faked but what lies around them: [`machine`] is the kernel and the disk,
//! which survive a crash, [`node`] is the daemon's loop, which does not, [`worker`] the agent's
//! part of it. [`cluster`] adds agents on other machines, and the network between them and
//! the master. A crash can fall between any two effects, as `kill -9` can.

pub mod cluster;
pub mod machine;
pub mod node;
pub mod worker;
