//! Records of an owner, made ready to be put into the zones: sorted, in wire form, with the
//! hashes of their names. It needs nothing of the zones but their key, so another thread can
//! do it.

use crate::hash::Seed;
use crate::owner::OwnerKey;
use crate::record::Record;
use crate::store::delivery::Delivery;
use crate::store::owners::Row;
use mizzen_types::time::Wall;

/// What an owner brings; see [`crate::Zones::put`].
#[derive(Debug)]
pub struct Prepared {
    /// The owner.
    pub(crate) key: Vec<u8>,
    pub(crate) delivery: Delivery,
    /// What it brings in short.
    pub(crate) rows: Vec<Row>,
    pub(crate) since: Option<Wall>,
}

impl Prepared {
    /// Makes an owner's records ready for the zones that have this key.
    ///
    /// * `since` — since when it is so: that of the task's start, or of the change.
    #[must_use]
    pub fn new(seed: Seed, owner: &OwnerKey, records: &[Record], since: Option<Wall>) -> Self {
        let delivery = Delivery::new(seed, records);
        let rows = delivery.parcels().map(|parcel| parcel.row(seed)).collect();
        Self { key: owner.to_bytes(), delivery, rows, since }
    }
}
