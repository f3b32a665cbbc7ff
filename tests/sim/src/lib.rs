//! A whole node in one thread: virtual time, a seeded order of events, crashes anywhere.
//!
//! Master, agent and service scheduler are the real ones; they are values, so nothing
//! has to be faked but what lies around them: [`machine`] is the kernel and the disk,
//! which survive a crash, [`node`] is the daemon's loop, which does not. A crash can
//! fall between any two effects, as `kill -9` can.

pub mod machine;
pub mod node;
