//! The Mesos v1 messages and their JSON, generated from our own description.
//!
//! One Rust type per message, two encodings: protobuf by `prost`, JSON by the
//! generator in `build/json.rs`, in Mesos' own mapping (field names as spelled,
//! enum names, 64-bit integers as numbers, bytes as base64; see [`json`]).
//! [`codec`] reads either from a request's body, [`recordio`] frames a stream
//! of them.

pub mod codec;
pub mod convert;
pub mod json;
pub mod link;
pub mod recordio;
pub mod resources;
pub mod summary;

/// The Mesos whose API this is. Clients switch features on and off by it, so it is
/// what they are told as the version of master and agent.
pub const MESOS_VERSION: &str = "1.11.0";

/// Package `mesos.v1`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));

    /// Package `mesos.v1.allocator`.
    pub mod allocator {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.allocator.rs"));
    }

    /// Package `mesos.v1.maintenance`.
    pub mod maintenance {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.maintenance.rs"));
    }

    /// Package `mesos.v1.master`.
    pub mod master {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.master.rs"));
    }

    /// Package `mesos.v1.scheduler`.
    pub mod scheduler {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.scheduler.rs"));
    }
}

#[allow(clippy::all, unused_qualifications, unused_variables, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/json.rs"));
    include!(concat!(env!("OUT_DIR"), "/required.rs"));
}
