//! The Mesos v1 messages and their JSON, generated from our own description.
//!
//! One Rust type per message, two encodings: protobuf by `prost`, JSON by the
//! generator in `build.rs`, in Mesos' own mapping (field names as spelled, enum
//! names, 64-bit integers as numbers, bytes as base64).

pub mod link;
pub mod resources;

/// Package `mesos.v1`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));

    /// Package `mesos.v1.scheduler`.
    pub mod scheduler {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.scheduler.rs"));
    }
}
