//! Loads that are put right.
//!
//! Programs count the end of a connection by its record, and the tables of flows and of sockets without a place of their
//! own are LRU tables: when one is full the coldest record goes, and nobody will count that connection's end. So what
//! rows say is compared now and then with what the tables still hold.
//!
//! Connections begin and end while the tables are read, and a row may be some nanoseconds ahead of a record. Therefore
//! only that is taken off which must be surplus however the reading met the changes, and only if it was so the last
//! time as well.

use std::collections::{BTreeMap, HashMap};

use mizzen_ebpf_abi::{Row, stage};

use crate::slab::Slab;
use crate::{MapError, UDP};

/// Connections and flows, and handshakes under way among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    connections: u64,
    handshakes: u64,
}

/// A row and its epoch.
type Owner = (u32, u32);

/// One look at the tables: begun before they are read.
#[derive(Debug)]
pub struct Recount {
    /// Connections that each row had counted as begun.
    started: BTreeMap<Owner, u64>,
    seen: HashMap<Owner, Load>,
}

/// What seemed to be surplus the last time.
#[derive(Debug, Default)]
pub struct Suspicions(BTreeMap<Owner, Load>);

impl Recount {
    /// Notes how far the rows of all backends have come.
    pub fn begin(slab: &Slab) -> Result<Self, MapError> {
        let mut started = BTreeMap::new();
        for run in slab.runs()?.values() {
            for index in run.slots.iter().map(|slot| slot.row) {
                if let Some(row) = slab.rows.get(index).filter(|row| row.epoch != 0) {
                    started.insert((index, row.epoch), row.started);
                }
            }
        }
        Ok(Self { started, seen: HashMap::new() })
    }

    /// A record of a connection or flow that lives.
    pub fn see(&mut self, row: u32, epoch: u32, protocol: u8, stage: u8) {
        let load = self.seen.entry((row, epoch)).or_default();
        match stage {
            stage::STARTED if protocol != UDP => {
                load.connections += 1;
                load.handshakes += 1;
            }
            stage::STARTED | stage::ESTABLISHED => load.connections += 1,
            _ => {}
        }
    }

    /// Takes off what is surplus now and was the last time; how many connections that were.
    pub fn finish(self, slab: &Slab, suspicions: &mut Suspicions) -> u64 {
        let mut taken = 0;
        let mut next = BTreeMap::new();
        for (owner @ (index, epoch), started) in self.started {
            let Some(row) = slab.rows.get(index).filter(|row| row.epoch == epoch) else { continue };
            let seen = self.seen.get(&owner).copied().unwrap_or_default();
            let surplus = surplus(&row, started, seen);
            let before = suspicions.0.get(&owner).copied().unwrap_or_default();
            let certain = Load {
                connections: surplus.connections.min(before.connections),
                handshakes: surplus.handshakes.min(before.handshakes),
            };
            if certain != Load::default() {
                slab.rows.take_load(index, epoch, certain.connections, certain.handshakes);
                taken += certain.connections;
            }
            let rest = Load {
                connections: surplus.connections - certain.connections,
                handshakes: surplus.handshakes - certain.handshakes,
            };
            if rest != Load::default() {
                next.insert(owner, rest);
            }
        }
        suspicions.0 = next;
        taken
    }
}

/// What a row has, and cannot have, after the tables were read: whatever lived all the time was seen there, and at most
/// as many as began meanwhile were not.
fn surplus(row: &Row, started: u64, seen: Load) -> Load {
    let begun = row.started.wrapping_sub(started);
    let over = |has: u32, seen: u64| u64::from(has).saturating_sub(seen.saturating_add(begun));
    Load {
        connections: over(Row::in_flight(row.load), seen.connections),
        handshakes: over(Row::handshakes(row.load), seen.handshakes),
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn only_what_cannot_be_there_is_surplus() {
        let load = |connections, handshakes| Load { connections, handshakes };
        #[rustfmt::skip]
        let table = [
            // what                          row has, began,  tables had,  surplus
            ("all are there",                 (5, 2), 0, load(5, 2), load(0, 0)),
            ("two records went",              (5, 2), 0, load(3, 2), load(2, 0)),
            ("one of them in its handshake",  (5, 2), 0, load(3, 1), load(2, 1)),
            ("two may have begun since",      (5, 2), 2, load(3, 0), load(0, 0)),
            ("only one has",                  (5, 2), 1, load(3, 1), load(1, 0)),
            ("some ended meanwhile",          (3, 0), 0, load(5, 2), load(0, 0)),
        ];
        for (name, (connections, handshakes), begun, seen, want) in table {
            let load = Row::CONNECTION * connections + Row::HANDSHAKE * handshakes;
            let row = Row { load, started: 100 + begun, ..Row::new_zeroed() };
            assert_eq!(surplus(&row, 100, seen), want, "{name}");
        }
    }
}
