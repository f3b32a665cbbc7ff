//! The daemon's side of containers: cgroups, networks, and the handle on the launcher.
//!
//! [`Containerizer`] is the only thing that the daemon needs. A launch goes through
//! these steps; if one fails, all before it are undone in reverse order.
//!
//! ```text
//! run directory ─▶ cgroups ─▶ mizzen-launch ─▶ Ready ─▶ CNI ADD ─▶ launcher.json ─▶ Go ─▶ Forked
//! ```
//!
//! Nothing here decides what should run: it carries out, and it reads back. What a
//! later process of the daemon needs is in the run directory (`rundir`), and whether
//! a container runs is asked of the kernel.

pub mod cgroup;
mod cni;
mod command;
mod containerizer;
mod descriptors;
mod destroy;
mod enter;
mod gc;
mod launch;
mod launcher;
mod process;
mod rundir;
mod wait;

pub use cgroup::{CgroupError, CpuLimit, Limits, Oom, Statistics};
pub use cni::{Attachment, CniError, NetworkRequest};
pub use containerizer::{Containerizer, Recovered, Settings, SignalError};
pub use descriptors::limit_descriptors_of_children;
pub use destroy::DestroyError;
pub use enter::{CommandOutcome, EnterError};
pub use launch::{LaunchError, LaunchFailure, LaunchRequest, Launched};
pub use launcher::LauncherError;
pub use process::ProcessIdentity;
pub use wait::Ended;
