//! Words of the cluster: ids, resources, time, the facts of an owner log.
//!
//! Floor 0: types and arithmetic without behaviour. Everything above speaks in
//! these words; nothing here knows a clock, a socket or a file.

pub mod container;
pub mod encryption;
pub mod error;
pub mod fact;
pub mod ids;
pub mod mountinfo;
pub mod overlay;
pub mod place;
pub mod policy;
pub mod random;
pub mod record;
pub mod resources;
mod text;
pub mod time;
pub mod vip;
pub mod vip_service;
