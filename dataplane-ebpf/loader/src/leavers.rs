//! Backends that left their VIP, and the sockets that they leave behind.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use mizzen_ebpf_abi::{Origin, Owner, Row};

use crate::flows::Flows;
use crate::mapped::Mapped;
use crate::sockets::{Socket, places, socket};
use crate::table::Table;
use crate::words::vip_key;
use crate::{MapError, Removal, TCP, UDP, VipAddress, clock};

/// A backend that is no longer its VIP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// The VIP that it was of.
    pub vip: VipAddress,
    /// Where its connections go.
    pub backend: SocketAddr,
    /// What is to become of its sockets.
    pub removal: Removal,
    pub(crate) row: u32,
    pub(crate) epoch: u32,
}

impl Leaver {
    /// Whether its sockets are to be ended.
    #[must_use]
    pub fn ends_sockets(&self) -> bool {
        match self.removal {
            Removal::EndDatagrams => self.vip.protocol == UDP,
            Removal::EndAll => self.vip.protocol == UDP || self.vip.protocol == TCP,
            Removal::Keep => false,
        }
    }

    /// Whether its row had this epoch while it had the row.
    pub(crate) fn is_epoch(&self, epoch: u32) -> bool {
        // A program that was overtaken by the change has counted in a row without owner.
        epoch == self.epoch || epoch == 0
    }

    fn had(&self, origin: &Origin) -> bool {
        self.is_epoch(origin.epoch)
            && origin.vip == vip_key(&self.vip).address
            && origin.vip_port.get() == self.vip.socket.port()
            && origin.protocol == self.vip.protocol
    }
}

/// The tables of translated sockets and flows, for a thread of its own to read.
#[derive(Debug)]
pub struct SocketTable {
    pub(crate) owners: Mapped<Owner>,
    pub(crate) sockets: Mapped<Origin>,
    pub(crate) rows: Mapped<Row>,
    pub(crate) spilled: Table<u64, Origin>,
    pub(crate) flows: Flows,
}

impl SocketTable {
    /// Whether a backend that left may still have connections. Costs nothing, where [`SocketTable::sockets_of`] reads
    /// everything.
    #[must_use]
    pub fn may_have_sockets(&self, leaver: &Leaver) -> bool {
        // A row that has another owner by now says nothing about the former one.
        self.rows.get(leaver.row).is_none_or(|row| row.epoch != 0 || row.load != 0)
    }

    /// Ends the flows that come from elsewhere and go to backends that left: their next packet is refused, or goes to
    /// another backend. Returns how many each VIP had.
    ///
    /// # Errors
    ///
    /// [`MapError::Request`] if the kernel refuses.
    pub fn end_flows_of(&self, leavers: &[Leaver]) -> Result<BTreeMap<VipAddress, u64>, MapError> {
        self.flows.end_of(leavers)
    }

    /// The open connected sockets of backends that left.
    ///
    /// # Errors
    ///
    /// The kernel's, if the table of those that found no place in the first cannot be read.
    pub fn sockets_of(&self, leavers: &[Leaver]) -> io::Result<Vec<Socket>> {
        let by_row: BTreeMap<u32, &Leaver> =
            leavers.iter().map(|leaver| (leaver.row, leaver)).collect();
        let now = clock::monotonic();
        let is_theirs = |origin: &Origin| {
            origin.flags & Origin::UNCONNECTED == 0
                && by_row.get(&origin.row).is_some_and(|leaver| leaver.had(origin))
        };
        let mut found = Vec::new();
        let mut has_spilled = false;
        places(&self.owners, &self.sockets, |_, owner, origin| {
            has_spilled |= owner.spilled != 0;
            if owner.cookie != 0 && owner.cookie == origin.cookie && is_theirs(&origin) {
                found.push(socket(&origin, None, now));
            }
        })?;
        if has_spilled {
            let spilled = self.spilled.entries()?.into_iter();
            let theirs = spilled.filter(|(_, origin)| is_theirs(origin));
            found.extend(theirs.map(|(_, origin)| socket(&origin, None, now)));
        }
        Ok(found)
    }
}
