//! CNI without I/O: requests, answers, leases and plans.
//!
//! Both sides of the interface live here. A plugin reads its environment and
//! standard input with [`request`], decides with [`ipam`], [`plan`], [`check`] and
//! [`gc`], and answers with [`result`] or [`error`]. A runtime prepares a plugin's
//! environment and input, and reads what comes back, with [`invoke`]; [`list`] says which
//! plugins there are.
//!
//! The crate opens no file and no socket and reads no environment of its own; the
//! executables of the package `mizzen-cni` do that.

pub mod check;
pub mod config;
pub mod error;
pub mod gc;
pub mod invoke;
pub mod ipam;
pub mod list;
pub mod plan;
pub mod portmap;
pub mod report;
pub mod request;
pub mod result;
pub mod runtime;
pub mod state;
pub mod version;

use std::fmt;

/// One interface of one container: what a lease and a host-side link belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentKey {
    /// The runtime's name of the container.
    pub container_id: String,
    /// Name of the interface inside the container.
    pub ifname: String,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface `{}` of container `{}`", self.ifname, self.container_id)
    }
}
