//! How one VIP stands, without a look at the others.

use std::net::SocketAddr;

use crate::words::{counts_at, slot_address};
use crate::{Counts, Dataplane, MapError, VipAddress, clock};

/// What happened to one VIP, and how its backends stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Connects and datagrams that found no admitted backend.
    pub refused: u64,
    /// Every backend with its counts, in the order of their addresses.
    pub backends: Vec<(SocketAddr, Counts)>,
}

impl Dataplane {
    /// Reads how `vip` stands; none if there is no such VIP.
    ///
    /// # Errors
    ///
    /// [`MapError::Vip`] if the kernel refuses.
    pub fn standing(&self, vip: VipAddress) -> Result<Option<Standing>, MapError> {
        let Some(run) = self.slab.present(vip)? else { return Ok(None) };
        let (now, rows) = (clock::monotonic(), &self.slab.rows);
        let counts = |row| rows.get(row).map(|row| counts_at(&row, now)).unwrap_or_default();
        let mut backends: Vec<(SocketAddr, Counts)> =
            run.slots.iter().map(|slot| (slot_address(slot), counts(slot.row))).collect();
        backends.sort_unstable_by_key(|(address, _)| *address);
        let refused = rows.get(run.value.row).map_or(0, |row| row.refused);
        Ok(Some(Standing { refused, backends }))
    }
}
