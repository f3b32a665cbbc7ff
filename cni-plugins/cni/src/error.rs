//! Everything that can end a request, and its code.

use std::io;
use std::path::PathBuf;

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::check::CheckError;
use mizzen_cni_core::config::ConfigError;
use mizzen_cni_core::error::{Code, to_json};
use mizzen_cni_core::invoke::InvokeError;
use mizzen_cni_core::ipam::PoolError;
use mizzen_cni_core::portmap::PortmapError;
use mizzen_cni_core::request::RequestError;
use mizzen_cni_core::version::SpecVersion;
use mizzen_netlink::{NetlinkError, PortEntry};
use serde_json::Value;

use crate::leases::LeaseError;

/// A request that was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("cannot read standard input")]
    Input(#[source] io::Error),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Kernel(#[from] NetlinkError),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Delegate(#[from] InvokeError),
    #[error("CNI_NETNS is `{}`, which is the host's own network namespace", netns.display())]
    HostNamespace { netns: PathBuf },
    #[error("CNI_NETNS is `{}`, which cannot be entered", netns.display())]
    NoNamespace {
        netns: PathBuf,
        #[source]
        source: NetlinkError,
    },
    #[error("no executable `{plugin}` in CNI_PATH")]
    NoPlugin { plugin: String },
    #[error("cannot run `{}`", plugin.display())]
    Run {
        plugin: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{key} is connected already; DEL comes before another ADD")]
    Attached { key: AttachmentKey },
    #[error("{key} has no lease")]
    NoLease { key: AttachmentKey },
    #[error("cannot read `{}`, where the daemon says what overlay `{overlay}` is", path.display())]
    State {
        overlay: String,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Portmap(#[from] PortmapError),
    #[error("{entry:?} is not in the kernel, or somebody else's")]
    NotPublished { entry: PortEntry },
    #[error("no ADD would succeed")]
    NotAvailable(#[source] Box<PluginError>),
}

impl PluginError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Input(_) | Self::Run { .. } => Code::Io,
            Self::Request(error) => error.code(),
            Self::Config(error) => error.code(),
            Self::Pool(error) => error.code(),
            Self::Lease(error) => error.code(),
            Self::Attached { .. } => Code::Conflict,
            Self::Kernel(error) => kernel_code(error),
            Self::Check(CheckError::NoPreviousResult) => Code::InvalidConfig,
            Self::State { .. } => Code::TryAgain,
            Self::Portmap(_) => Code::InvalidConfig,
            Self::Check(_) | Self::NoLease { .. } | Self::NotPublished { .. } => Code::CheckFailed,
            Self::Delegate(InvokeError::BadType { .. }) => Code::InvalidConfig,
            Self::Delegate(error) if error.is_transient() => Code::TryAgain,
            Self::Delegate(_) => Code::Delegate,
            Self::HostNamespace { .. } | Self::NoNamespace { .. } => Code::InvalidEnvironment,
            Self::NoPlugin { .. } => Code::InvalidConfig,
            Self::NotAvailable(_) => Code::NotAvailable,
        }
    }

    pub(crate) fn to_json(&self, version: SpecVersion) -> Value {
        to_json(version, self.code(), self)
    }
}

fn kernel_code(error: &NetlinkError) -> Code {
    if error.is_transient() {
        return Code::TryAgain;
    }
    if error.is_taken() || matches!(error, NetlinkError::Foreign { .. }) {
        return Code::Conflict;
    }
    Code::Kernel
}
