//! What can go wrong, with the object and the request in each variant.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aya::EbpfError;
use aya::programs::ProgramError;

use crate::bpf::MapShape;
use crate::{ProbeError, VipAddress};

/// The programs could not be brought into the kernel, or out of it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The machine lacks something that the programs need.
    #[error("BPF programs cannot run on this machine")]
    Probe(#[from] ProbeError),
    /// A directory, pin or cgroup cannot be used.
    #[error("cannot {request} {}", path.display())]
    Path {
        /// What was asked, as a verb.
        request: &'static str,
        /// The object.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The maps could not be made or found.
    #[error("cannot create the maps below {}", directory.display())]
    Object {
        /// Where they are pinned.
        directory: PathBuf,
        /// What aya says.
        #[source]
        source: Box<EbpfError>,
    },
    /// The kernel does not take a program.
    #[error("cannot load program `{program}`")]
    Program {
        /// Its name in the object.
        program: &'static str,
        /// What the verifier says.
        #[source]
        source: Box<ProgramError>,
    },
    /// The embedded object is not the one that this code was written for.
    #[error("the embedded object has no usable program `{program}`")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A pinned map was made by something else.
    #[error(
        "pinned map {} has keys of {key} and values of {value} bytes and {entries} elements; \
         it is not of this version",
        path.display()
    )]
    Layout {
        /// Its pin.
        path: PathBuf,
        /// Bytes of a key.
        key: u32,
        /// Bytes of a value.
        value: u32,
        /// Elements it has room for.
        entries: u32,
    },
    /// The kernel does not take the programs for network links.
    #[error("VIP traffic that arrives from elsewhere is not balanced")]
    Arriving {
        /// Why.
        #[source]
        source: Arc<LoadError>,
    },
    /// The kernel refused a request for a map of the overlay.
    #[error("cannot {request} map {map} of the overlay")]
    Overlay {
        /// What was asked, as a verb.
        request: &'static str,
        /// Name of the map.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The maps that were found cannot be read.
    #[error("cannot take over the pinned maps")]
    Maps(#[from] MapError),
    /// Some pins could not be removed; all others are gone.
    #[error("{count} pins could not be removed, {} first", path.display())]
    Teardown {
        /// How many are left.
        count: usize,
        /// The first of them.
        path: PathBuf,
        /// The kernel's answer for that one.
        #[source]
        source: io::Error,
    },
}

impl LoadError {
    /// For a pinned map of another shape.
    pub(crate) fn layout(path: PathBuf, shape: MapShape) -> Self {
        let MapShape { key_size: key, value_size: value, max_entries: entries, .. } = shape;
        Self::Layout { path, key, value, entries }
    }
}

/// The maps could not be read or written as asked. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The kernel refused a request that concerns no single VIP.
    #[error("cannot {request} map {map}")]
    Request {
        /// What was asked, as a verb.
        request: &'static str,
        /// Name of the map.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request for one VIP.
    #[error("cannot {request} VIP {vip} in map {map}")]
    Vip {
        /// What was asked, as a verb.
        request: &'static str,
        /// The VIP.
        vip: VipAddress,
        /// Name of the map.
        map: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There is no room for the VIP.
    #[error("no room for VIP {vip}: {wanted} elements of map {map} are not to be had at once")]
    Full {
        /// The VIP.
        vip: VipAddress,
        /// Name of the map.
        map: &'static str,
        /// Elements that it needs.
        wanted: usize,
    },
    /// One backend was named twice.
    #[error("VIP {vip} names backend {backend} twice")]
    Duplicate {
        /// The VIP.
        vip: VipAddress,
        /// The backend.
        backend: SocketAddr,
    },
    /// No IPv4 socket can be sent to an IPv6 address.
    #[error("IPv4 VIP {vip} cannot have the IPv6 backend {backend}")]
    Family {
        /// The VIP.
        vip: VipAddress,
        /// The backend.
        backend: SocketAddr,
    },
}
