//! What can go wrong between us and the kernel.

use std::io;
use std::path::PathBuf;

use netlink_packet_core::DecodeError;

/// A failed conversation with the kernel.
///
/// Every variant names the object and the request. The kernel's own error is the
/// `source`; its explanation, where it gave one, is part of the text.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket: the family is missing, or file descriptors ran out.
    #[error("cannot open a netlink socket")]
    Open {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A network namespace could not be entered.
    #[error("cannot enter network namespace `{}`", path.display())]
    Namespace {
        /// Path of the namespace.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused, or the socket broke.
    #[error("cannot {request} {object}{}", explained(detail.as_deref()))]
    Request {
        /// What was asked, as a verb: `create`, `look up`, `set`.
        request: &'static str,
        /// On what: ``link `m-dcos` ``.
        object: String,
        /// The kernel's explanation (extended acknowledgement), if it gave one.
        detail: Option<String>,
        /// The kernel's error number.
        #[source]
        source: io::Error,
    },
    /// Something of that name exists and is not what we would have made.
    /// Removing what we did not create is the operator's decision.
    #[error("{object} exists with another {attribute}")]
    Foreign {
        /// What exists.
        object: String,
        /// The first attribute that differs.
        attribute: &'static str,
    },
    /// A request succeeded and left nothing behind; somebody else removed it.
    #[error("{object} vanished while it was being configured")]
    Vanished {
        /// What vanished.
        object: String,
    },
}

impl NetlinkError {
    /// Whether trying again without a change of plan may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Vanished { .. } => true,
            Self::Request { .. } => self.is_any_of(&[
                libc::EAGAIN,
                libc::EBUSY,
                libc::EINTR,
                libc::ENOBUFS,
                libc::ENOMEM,
            ]),
            Self::Open { .. } | Self::Namespace { .. } | Self::Foreign { .. } => false,
        }
    }

    /// Whether the kernel said that the object, or what it refers to, is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.is_any_of(&[libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::EADDRNOTAVAIL])
    }

    /// Whether the kernel said that such an object is already there.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.is_any_of(&[libc::EEXIST])
    }

    /// Whether the kernel has no such kind of object.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.is_any_of(&[libc::EOPNOTSUPP])
    }

    fn is_any_of(&self, numbers: &[i32]) -> bool {
        match self {
            Self::Request { source, .. }
            | Self::Namespace { source, .. }
            | Self::Open { source } => {
                source.raw_os_error().is_some_and(|number| numbers.contains(&number))
            }
            Self::Foreign { .. } | Self::Vanished { .. } => false,
        }
    }
}

/// A refusal before it is known what was asked of whom.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) source: io::Error,
    pub(crate) detail: Option<String>,
}

impl Refusal {
    /// Attaches the request (a verb) and the object.
    pub(crate) fn to(self, request: &'static str, object: impl Into<String>) -> NetlinkError {
        let Self { source, detail } = self;
        NetlinkError::Request { request, object: object.into(), detail, source }
    }

    pub(crate) fn is(&self, number: i32) -> bool {
        self.source.raw_os_error() == Some(number)
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, detail: None }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error).into()
    }
}

fn explained(detail: Option<&str>) -> String {
    detail.map_or_else(String::new, |text| format!(" ({text})"))
}
