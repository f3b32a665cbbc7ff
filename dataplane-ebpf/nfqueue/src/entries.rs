//! Entries of conntrack for a batch of packets.

use std::io;
use std::sync::Arc;

use crate::backend::Backend;
use crate::channel::Channel;
use crate::conntrack::{Entry, Source, Stage, Translation, write_delete, write_get, write_insert};
use crate::flows::Key;
use crate::packet::Flow;
use crate::shared::Shared;
use crate::wire::Messages;
use crate::words::{Decision, Reason, TCP, UDP, VipAddress};

/// Number of requests whose answer does not matter.
const NOBODY: u32 = u32::MAX;

/// A packet that waits for its verdict, and what becomes of it.
pub(crate) struct Queued {
    pub flow: Flow,
    pub to: Translation,
    pub backend: Arc<Backend>,
    pub decision: Decision,
    /// Whether a program on this machine sent it.
    pub is_own: bool,
    pub fate: Fate,
}

impl Queued {
    /// Whether an entry that it has can only be an older connection's: TCP here sends no SYN for
    /// one that is established, and asks a second time only if nobody answered in a second.
    fn is_sure_to_begin(&self) -> bool {
        self.is_own && self.flow.protocol == TCP
    }
}

/// What a queued packet is to its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its first one.
    Begins,
    /// Another one of a flow that has its entry.
    GoesOn,
    /// One that the kernel gave no entry.
    Refused,
}

/// The conversation about entries.
pub(crate) struct Entries {
    channel: Channel,
    requests: Messages,
    /// How many the kernel would not have.
    refused: u64,
}

impl Entries {
    pub fn new(channel: Channel) -> Self {
        Self { channel, requests: Messages::default(), refused: 0 }
    }

    /// Writes the entries of all flows.
    pub fn write(&mut self, shared: &Shared, flows: &mut [Queued], now: u64) -> io::Result<()> {
        if flows.is_empty() {
            return Ok(());
        }
        self.requests.clear();
        for (index, queued) in flows.iter().enumerate() {
            if queued.is_sure_to_begin() && shared.recent.begin(&queued.flow, now) {
                write_delete(&mut self.requests, NOBODY, &queued.flow);
            }
            write_insert(&mut self.requests, index as u32, &queued.flow, &queued.to);
        }
        let mut taken = Vec::new();
        for answer in self.channel.answers(self.requests.bytes())? {
            match answer.error {
                0 => {}
                _ if answer.sequence == NOBODY => {}
                libc::EEXIST => taken.push(answer.sequence as usize),
                error => self.refuse(flows, answer.sequence as usize, error),
            }
        }
        if taken.is_empty() { Ok(()) } else { self.mend(shared, flows, &taken, now) }
    }

    /// Replaces entries of ended connections that have the same ports, decides about those of
    /// living ones, and has the kernel choose another port where a port is taken.
    fn mend(
        &mut self,
        shared: &Shared,
        flows: &mut [Queued],
        taken: &[usize],
        now: u64,
    ) -> io::Result<()> {
        let taken = taken.iter().copied().filter(|index| *index < flows.len());
        let (own, others): (Vec<usize>, Vec<usize>) =
            taken.partition(|index| flows[*index].is_sure_to_begin());
        let found = self.look_up(flows, &others)?;
        self.requests.clear();
        for index in own {
            self.write_again(flows, index);
        }
        for index in others {
            match found.iter().find(|(number, _)| *number == index) {
                Some((_, entry)) => compare(shared, &mut flows[index], entry, now),
                None => give_up_port(flows, index),
            }
            self.write_again(flows, index);
        }
        let clashes = self.insert_again(flows)?;
        self.requests.clear();
        for index in clashes {
            give_up_port(flows, index);
            self.write_again(flows, index);
        }
        for index in self.insert_again(flows)? {
            self.refuse(flows, index, libc::EEXIST);
        }
        Ok(())
    }

    /// The entries of flows.
    fn look_up(&mut self, flows: &[Queued], indices: &[usize]) -> io::Result<Vec<(usize, Entry)>> {
        let mut found = Vec::new();
        self.requests.clear();
        for index in indices {
            write_get(&mut self.requests, *index as u32, &flows[*index].flow);
        }
        if !indices.is_empty() {
            self.channel.transact(self.requests.bytes(), |message| {
                found.extend(Entry::read(message).map(|entry| (message.sequence as usize, entry)));
            })?;
        }
        Ok(found)
    }

    /// Adds the requests that replace whatever entry a flow has.
    fn write_again(&mut self, flows: &[Queued], index: usize) {
        if let Some(queued) = flows.get(index).filter(|queued| queued.fate == Fate::Begins) {
            write_delete(&mut self.requests, NOBODY, &queued.flow);
            write_insert(&mut self.requests, index as u32, &queued.flow, &queued.to);
        }
    }

    /// Sends deletions and insertions, and returns the insertions that met another entry.
    fn insert_again(&mut self, flows: &mut [Queued]) -> io::Result<Vec<usize>> {
        let mut clashes = Vec::new();
        if self.requests.is_empty() {
            return Ok(clashes);
        }
        for answer in self.channel.answers(self.requests.bytes())? {
            match answer.error {
                0 => {}
                _ if answer.sequence == NOBODY => {}
                libc::EEXIST => clashes.push(answer.sequence as usize),
                error => self.refuse(flows, answer.sequence as usize, error),
            }
        }
        Ok(clashes)
    }

    /// The kernel gave no entry; the packet goes on without.
    fn refuse(&mut self, flows: &mut [Queued], index: usize, error: i32) {
        self.refused += 1;
        let Some(queued) = flows.get_mut(index) else { return };
        queued.fate = Fate::Refused;
        if self.refused.is_power_of_two() {
            let error = io::Error::from_raw_os_error(error);
            let (vip, count) = (queued.flow.destination, self.refused);
            tracing::warn!(%vip, count, %error, "the kernel refuses entries of conntrack");
        }
    }
}

/// Decides whether a packet begins a flow although there is an entry.
fn compare(shared: &Shared, queued: &mut Queued, entry: &Entry, now: u64) {
    let Flow { protocol, source, destination } = queued.flow;
    let vip = shared.vip(&VipAddress { socket: destination, protocol });
    let present = vip.as_ref().and_then(|vip| vip.backend(entry.backend));
    match entry.stage {
        Stage::Foreign | Stage::Ending => {}
        // A datagram goes where those before it went, as long as that is a backend.
        Stage::Alive if protocol == UDP => {
            if let Some(backend) = present {
                queued.fate = Fate::GoesOn;
                queued.to.backend = backend.address;
                queued.backend = Arc::clone(backend);
            }
        }
        Stage::Alive => queued.fate = Fate::GoesOn,
        // The client asks again: nobody answered.
        Stage::Asked => {
            let key = Key { protocol, client: source, backend: entry.backend };
            let is_watched = shared.watch().0.has(source.port());
            shared.flows.lock().asked_again(&key, now);
            if let Some(backend) = present.filter(|_| !is_watched) {
                backend.failed(0, Reason::Only, now, &shared.tuning());
            }
        }
    }
}

/// Another flow comes to the backend from the same address and port.
fn give_up_port(flows: &mut [Queued], index: usize) {
    if let Some(queued) = flows.get_mut(index)
        && queued.to.source == Source::Kept
    {
        queued.to.source = Source::AnyPort;
    }
}
