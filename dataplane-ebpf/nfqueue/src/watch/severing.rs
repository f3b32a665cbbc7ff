//! Ends the connections of backends that have left.

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::SocketAddr;

use super::{Watcher, dump};
use crate::conntrack::{Entry, write_delete};
use crate::filter::forget;
use crate::flows::Key;
use crate::packet::Flow;
use crate::shared::now;
use crate::table::Family;
use crate::wire::Messages;
use crate::words::{Removal, TCP, UDP, VipAddress};

/// Entries that are deleted in one send, which takes what the system lets every socket send.
const DELETES: usize = 500;

/// How often it is tried, once in a tick.
const ATTEMPTS: u32 = 50;

/// What is still to be done.
#[derive(Default)]
pub(super) struct Severing {
    left: Vec<Left>,
    /// Flows of datagrams whose next ones have to be queued again.
    unforgotten: BTreeSet<Flow>,
    /// How often those were tried in vain.
    failures: u32,
}

/// Backends that left their VIP, and how often it was tried to end their connections.
struct Left {
    vip: VipAddress,
    backends: BTreeSet<SocketAddr>,
    failures: u32,
}

impl Watcher {
    /// Ends connections of backends that have left.
    pub(super) fn sever(
        &mut self,
        vip: VipAddress,
        backends: BTreeSet<SocketAddr>,
        removal: Removal,
    ) {
        let ends = match removal {
            Removal::EndDatagrams => vip.protocol == UDP,
            Removal::EndAll => matches!(vip.protocol, TCP | UDP),
            Removal::Keep => false,
        };
        if ends {
            self.severing.left.push(Left { vip, backends, failures: 0 });
            self.go_on_severing();
        }
    }

    /// Does what is still to be done.
    pub(super) fn go_on_severing(&mut self) {
        for mut left in std::mem::take(&mut self.severing.left) {
            if let Err(error) = self.end_connections(&left) {
                left.failures += 1;
                let again = left.failures < ATTEMPTS;
                let error = &error as &dyn Error;
                tracing::warn!(vip = %left.vip, error, again, "cannot end connections");
                self.severing.left.extend(again.then_some(left));
            }
        }
        if self.severing.unforgotten.is_empty() {
            return;
        }
        let Severing { unforgotten, failures, .. } = &mut self.severing;
        match forget(&self.filter, unforgotten) {
            Ok(()) => *failures = 0,
            Err(error) => {
                *failures += 1;
                let again = *failures < ATTEMPTS;
                let error = &error as &dyn Error;
                tracing::warn!(error, again, "cannot have flows of datagrams queued again");
                if !again {
                    unforgotten.clear();
                    *failures = 0;
                }
            }
        }
    }

    fn end_connections(&mut self, left: &Left) -> io::Result<()> {
        let Left { vip, backends, .. } = left;
        let mut entries = Vec::new();
        dump(&mut self.conntrack, Family::of(vip.socket.ip()), |entry| {
            let Flow { protocol, destination, .. } = entry.flow;
            let is_of_vip = destination == vip.socket && protocol == vip.protocol;
            if is_of_vip && backends.contains(&entry.backend) {
                entries.push(entry);
            }
        })?;
        // One that was tried in vain before may have come back.
        if let Some(vip) = self.shared.vip(vip) {
            entries.retain(|entry| vip.backend(entry.backend).is_none());
        }
        let mut done = Ok(());
        for entries in entries.chunks(DELETES) {
            done = done.and(self.delete(entries));
        }
        tracing::debug!(%vip, connections = entries.len(), "ended for backends that left");
        done
    }

    /// Deletes entries; those that are gone are fine.
    fn delete(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut requests = Messages::default();
        entries.iter().for_each(|entry| write_delete(&mut requests, 0, &entry.flow));
        self.conntrack.answers(requests.bytes())?;
        let now = now();
        let mut flows = self.shared.flows.lock();
        for Entry { flow, backend, .. } in entries {
            let key = Key { protocol: flow.protocol, client: flow.source, backend: *backend };
            flows.lose(&key, now);
        }
        let datagrams = entries.iter().map(|entry| entry.flow).filter(|flow| flow.protocol == UDP);
        self.severing.unforgotten.extend(datagrams);
        Ok(())
    }
}
