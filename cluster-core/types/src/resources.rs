//! Resources: what an agent has, what an offer holds, what a task uses.
//!
//! A [`Resource`] is an amount with its properties: who reserved it, to whom it is
//! allocated, which disk it is. [`Resources`] is a collection that keeps equal
//! ones merged and can be added, subtracted and asked what it contains, with the
//! rules of Mesos: amounts are counted in thousandths, volumes and whole disks
//! never merge, shared volumes are counted in copies.
//!
//! ```text
//! Scalar, Ranges, Value ── value.rs        Quantities ── quantities.rs (name → amount)
//! Resource ── here                         Resources ── collection.rs, select.rs
//! text form ── text.rs                     role names ── role.rs
//! ```

mod collection;
mod quantities;
mod role;
mod select;
mod text;
mod value;

pub use collection::Resources;
pub use quantities::Quantities;
pub use role::{ANY_ROLE, RoleError, check_role, is_below};
pub use value::{Ranges, Scalar, Value, checked_ranges, checked_set};

use std::sync::Arc;

/// Why something is no resource.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ResourceError {
    /// A part of the text form that is not `name:value`.
    #[error("bad resource '{0}', expected 'name:value' or 'name(role):value'")]
    Token(String),
    /// A value that cannot be read.
    #[error("bad value '{0}'")]
    Value(String),
    /// Less than nothing.
    #[error("resource '{name}' is negative: {value}")]
    Negative {
        /// Of the resource.
        name: String,
        /// As it came.
        value: f64,
    },
    /// NaN, infinite, or beyond what thousandths can count.
    #[error("resource '{name}' has no usable amount: {value}")]
    NotFinite {
        /// Of the resource.
        name: String,
        /// As it came.
        value: f64,
    },
    /// A resource without a name.
    #[error("a resource has no name")]
    Unnamed,
    /// The type names one kind of value and another one, or none, is there.
    #[error("resource '{0}' has no value of its type")]
    NoValue(String),
    /// One name with two kinds of values.
    #[error("resource '{0}' has values of different types")]
    MixedTypes(String),
    /// Such as `[5-1]`.
    #[error("range {begin}-{end} ends before it begins")]
    RangeBackwards {
        /// First number.
        begin: u64,
        /// Last number.
        end: u64,
    },
    /// Ranges of one resource share numbers.
    #[error("ranges {}-{} and {}-{} overlap", first.0, first.1, second.0, second.1)]
    RangesOverlap {
        /// The lower one.
        first: (u64, u64),
        /// The upper one.
        second: (u64, u64),
    },
    /// An item of a set is there twice.
    #[error("item '{0}' is there twice")]
    ItemTwice(String),
    /// GPUs come whole.
    #[error("'gpus' must be a whole number, not {0}")]
    GpusFraction(Scalar),
    /// A role that is none.
    #[error("resource '{name}' has a bad role")]
    Role {
        /// Of the resource.
        name: String,
        /// What is wrong with it.
        source: RoleError,
    },
    /// A reservation that breaks the rules of a stack.
    #[error("resource '{name}' has a bad reservation: {reason}")]
    Reservation {
        /// Of the resource.
        name: String,
        /// Which rule.
        reason: &'static str,
    },
    /// A disk, volume or sharing that breaks the rules.
    #[error("resource '{name}' has a bad disk: {reason}")]
    Disk {
        /// Of the resource.
        name: String,
        /// Which rule.
        reason: &'static str,
    },
}

/// A key with an optional value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Option<String>,
}

/// Who set a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationKind {
    /// The agent's configuration.
    Static,
    /// A framework or an operator, who may take it back.
    Dynamic,
}

/// One reservation; a stack of them narrows from role to role below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// Who set it.
    pub kind: ReservationKind,
    /// For which role.
    pub role: Arc<str>,
    /// The principal who set it.
    pub principal: Option<String>,
    labels: Vec<Label>,
}

impl Reservation {
    /// A reservation by the agent's configuration.
    pub fn fixed(role: impl Into<Arc<str>>) -> Self {
        Self {
            kind: ReservationKind::Static,
            role: role.into(),
            principal: None,
            labels: Vec::new(),
        }
    }

    /// A reservation that can be taken back.
    pub fn dynamic(role: impl Into<Arc<str>>, principal: Option<String>) -> Self {
        Self { kind: ReservationKind::Dynamic, role: role.into(), principal, labels: Vec::new() }
    }

    /// With labels, whose order does not matter.
    #[must_use]
    pub fn with_labels(mut self, mut labels: Vec<Label>) -> Self {
        labels.sort_unstable();
        self.labels = labels;
        self
    }

    /// Its labels, sorted.
    #[must_use]
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }
}

/// Where a disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DiskKind {
    /// A directory, which can be divided.
    Path,
    /// A whole file system.
    Mount,
    /// A whole block device.
    Block,
    /// Not yet made into one of the others.
    Raw,
}

/// The origin of a disk that is not the agent's own work directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskSource {
    /// Kind.
    pub kind: DiskKind,
    /// Directory, for paths and mounts.
    pub root: Option<String>,
    /// Vendor of a storage plugin.
    pub vendor: Option<String>,
    /// The plugin's name for it.
    pub id: Option<String>,
    /// The plugin's metadata, sorted.
    pub metadata: Vec<Label>,
    /// The plugin's profile.
    pub profile: Option<String>,
}

/// Makes a disk survive the task that wrote it.
#[derive(Debug, Clone)]
pub struct Persistence {
    /// Unique on its agent for its role.
    pub id: String,
    /// The principal who made it.
    pub principal: Option<String>,
}

/// Whether a volume can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VolumeMode {
    /// Read and write.
    ReadWrite,
    /// Read only.
    ReadOnly,
}

/// Where a volume is seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DiskVolume {
    /// Path inside.
    pub container_path: String,
    /// Path on the host.
    pub host_path: Option<String>,
    /// Access.
    pub mode: VolumeMode,
}

/// What makes a disk more than space in the work directory.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// For persistent volumes.
    pub persistence: Option<Persistence>,
    /// Where it is mounted: says how it is used, not what it is.
    pub volume: Option<DiskVolume>,
    /// Where it comes from.
    pub source: Option<DiskSource>,
}

impl PartialEq for Disk {
    /// The same disk, wherever it is mounted and whoever made it.
    fn eq(&self, other: &Self) -> bool {
        let id = |disk: &Self| disk.persistence.as_ref().map(|p| p.id.clone());
        self.source == other.source && id(self) == id(other)
    }
}

/// An amount with its properties.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// `cpus`, `mem`, `disk`, `ports`, or any other name.
    pub name: Arc<str>,
    /// How much.
    pub value: Value,
    /// Who provides it, if not the agent itself.
    pub provider: Option<Arc<str>>,
    /// Reservations, the widest first; empty if unreserved.
    pub reservations: Vec<Reservation>,
    /// The role that it is offered or allocated to.
    pub allocation: Option<Arc<str>>,
    /// For disks other than plain space.
    pub disk: Option<Box<Disk>>,
    /// Can be taken back at any time.
    pub revocable: bool,
    /// Can be used by several tasks at once.
    pub shared: bool,
}

impl Resource {
    /// An amount without properties.
    pub fn new(name: impl Into<Arc<str>>, value: Value) -> Self {
        Self {
            name: name.into(),
            value,
            provider: None,
            reservations: Vec::new(),
            allocation: None,
            disk: None,
            revocable: false,
            shared: false,
        }
    }

    /// The reservation that counts: the innermost.
    #[must_use]
    pub fn reservation(&self) -> Option<&Reservation> {
        self.reservations.last()
    }

    /// Whether `role` can be given this: unreserved, its own, or an ancestor's.
    #[must_use]
    pub fn is_allocatable_to(&self, role: &str) -> bool {
        self.reservation().is_none_or(|r| *r.role == *role || is_below(role, &r.role))
    }

    /// Whether this is a volume that outlives its task.
    #[must_use]
    pub fn is_persistent_volume(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.persistence.is_some())
    }

    /// Whether a smaller piece of it would still be of the same kind.
    #[must_use]
    pub fn is_divisible(&self) -> bool {
        let Some(disk) = &self.disk else { return true };
        let whole = disk.source.as_ref().is_some_and(|source| match source.kind {
            DiskKind::Mount | DiskKind::Block => true,
            DiskKind::Raw => source.id.is_some(),
            DiskKind::Path => false,
        });
        disk.persistence.is_none() && !whole
    }

    /// Whether all but the amounts agree.
    #[must_use]
    pub fn same_kind(&self, other: &Self) -> bool {
        self.name == other.name
            && self.value.same_kind(&other.value)
            && self.reservations == other.reservations
            && self.allocation == other.allocation
            && self.provider == other.provider
            && self.disk == other.disk
            && self.revocable == other.revocable
            && self.shared == other.shared
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    ///
    /// [`ResourceError`] names the first rule that is broken.
    pub fn check(&self) -> Result<(), ResourceError> {
        if self.name.is_empty() {
            return Err(ResourceError::Unnamed);
        }
        if let Value::Scalar(scalar) = self.value {
            if scalar < Scalar::ZERO {
                let name = self.name.to_string();
                return Err(ResourceError::Negative { name, value: scalar.as_f64() });
            }
            if *self.name == *"gpus" && scalar.milli() % 1000 != 0 {
                return Err(ResourceError::GpusFraction(scalar));
            }
        }
        self.check_stack()?;
        self.check_disk()
    }

    fn check_stack(&self) -> Result<(), ResourceError> {
        let name = || self.name.to_string();
        let bad = |reason| ResourceError::Reservation { name: name(), reason };
        for (at, reservation) in self.reservations.iter().enumerate() {
            check_role(&reservation.role)
                .map_err(|source| ResourceError::Role { name: name(), source })?;
            if *reservation.role == *ANY_ROLE {
                return Err(bad("nothing can be reserved for role '*'"));
            }
            if reservation.kind == ReservationKind::Static
                && (reservation.principal.is_some() || !reservation.labels.is_empty())
            {
                return Err(bad("a static reservation has neither principal nor labels"));
            }
            let Some(outer) = at.checked_sub(1).map(|at| &self.reservations[at]) else { continue };
            if reservation.kind == ReservationKind::Static {
                return Err(bad("only the first reservation can be static"));
            }
            if !is_below(&reservation.role, &outer.role) {
                return Err(bad("a refined reservation must be for a role below the one before"));
            }
        }
        Ok(())
    }

    fn check_disk(&self) -> Result<(), ResourceError> {
        let bad = |reason| ResourceError::Disk { name: self.name.to_string(), reason };
        if self.shared && !self.is_persistent_volume() {
            return Err(bad("only persistent volumes can be shared"));
        }
        let Some(disk) = &self.disk else { return Ok(()) };
        if *self.name != *"disk" {
            return Err(bad("only 'disk' resources have disk information"));
        }
        if disk.persistence.is_some() {
            if self.revocable {
                return Err(bad("a persistent volume cannot be revocable"));
            }
            if self.reservations.is_empty() {
                return Err(bad("a persistent volume must be reserved"));
            }
        }
        Ok(())
    }
}
