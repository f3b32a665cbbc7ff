//! The thread beside the queues: it looks after time-outs, after how many connections are
//! watched, and after the connections of backends that have left.
//!
//! Rules show the queues the SYN-ACK and the end of connections. That costs about as much as
//! their beginning, so at high rates only those of some classes of client ports are shown, and
//! each stands for several.

mod severing;

use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::conntrack::{Entry, Stage, write_dump, write_get, write_get_by_reply};
use crate::filter::Filter;
use crate::flows::{Beginning, Key};
use crate::packet::Flow;
use crate::shared::{Classes, Shared, now};
use crate::table::Family;
use crate::wire::Messages;
use crate::words::{Removal, VipAddress};
use severing::Severing;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;

/// How often it looks after time-outs.
const TICK: u64 = 200 * MILLI;

/// Packets a second above which not all classes are watched; then so many classes are as show no
/// more than a few. Well below the limit, all are watched again.
const MANY: u64 = 14_000;
const FEW: u64 = 3_000;
const EASY: u64 = 10_000;

/// The shortest time that a rate is taken from.
const GLANCE: u64 = 10 * MILLI;

/// How often more classes may be watched again.
const CALM: u64 = SECOND;

/// Every so often some connections of that age are looked up: their ends may have been missed.
const AUDIT: u64 = 5 * SECOND;
const OLD: u64 = 60 * SECOND;
const AUDITED: usize = 512;

/// What the engine asks of the thread.
#[derive(Debug)]
pub(crate) enum Order {
    /// These backends have left their VIP; `removal` says what becomes of their connections.
    Left { vip: VipAddress, backends: BTreeSet<SocketAddr>, removal: Removal },
    /// Very many packets are shown.
    Adapt,
    /// The engine ends.
    End,
}

/// The thread's conversations.
pub(crate) struct Watcher {
    shared: Arc<Shared>,
    filter: Arc<Mutex<Filter>>,
    conntrack: Channel,
    orders: Receiver<Order>,
    /// When what is due.
    expire: u64,
    /// When packets that were shown were counted last.
    counted: u64,
    calm: u64,
    audit: u64,
    severing: Severing,
}

impl Watcher {
    pub fn new(
        shared: Arc<Shared>,
        filter: Arc<Mutex<Filter>>,
        conntrack: Channel,
        orders: Receiver<Order>,
    ) -> Self {
        let now = now();
        let (expire, audit) = (now + TICK, now + AUDIT);
        Self {
            shared,
            filter,
            conntrack,
            orders,
            expire,
            counted: now,
            calm: 0,
            audit,
            severing: Severing::default(),
        }
    }

    /// Works until the engine ends.
    pub fn run(mut self) {
        loop {
            let wait = Duration::from_nanos(self.expire.saturating_sub(now()));
            match self.orders.recv_timeout(wait) {
                Ok(Order::Left { vip, backends, removal }) => self.sever(vip, backends, removal),
                Ok(Order::Adapt) => self.hurry(now()),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick(now());
        }
    }

    fn tick(&mut self, now: u64) {
        if now >= self.expire {
            self.expire = now + TICK;
            self.shared.flows.lock().expire(now);
            if let Err(error) = self.doubt(now) {
                tracing::debug!(error = &error as &dyn Error, "cannot look up handshakes");
            }
            self.count(now);
            self.go_on_severing();
        }
        if now >= self.audit {
            self.audit = now + AUDIT;
            if let Err(error) = self.audit(now) {
                tracing::debug!(error = &error as &dyn Error, "cannot look up old connections");
            }
        }
    }

    /// Counts before its time. Many of these orders may come for the same packets.
    fn hurry(&mut self, now: u64) {
        if now >= self.counted + GLANCE {
            self.count(now);
        }
    }

    fn count(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.counted).max(GLANCE);
        self.counted = now;
        self.adapt(self.shared.take_glimpses() * SECOND / elapsed, now);
    }

    /// Looks how handshakes stand whose backend seems not to answer.
    fn doubt(&mut self, now: u64) -> io::Result<()> {
        let doubtful = self.shared.flows.lock().doubtful(AUDITED, now);
        if doubtful.is_empty() {
            return Ok(());
        }
        let mut requests = Messages::default();
        for (index, found) in doubtful.iter().enumerate() {
            write_get(&mut requests, index as u32, &found.flow);
        }
        let tuning = self.shared.tuning();
        self.conntrack.transact(requests.bytes(), |message| {
            let found = doubtful.get(message.sequence as usize);
            let (Some(found), Some(entry)) = (found, Entry::read(message)) else { return };
            // A client that was led elsewhere meanwhile says nothing about this one.
            if entry.backend != found.backend.address {
                return;
            }
            match entry.stage {
                Stage::Asked => found.backend.failed(0, found.reason, now, &tuning),
                Stage::Alive => found.backend.answered(now),
                _ => {}
            }
        })
    }

    /// Watches as few classes as the rate asks for, or all again.
    fn adapt(&mut self, rate: u64, now: u64) {
        let (classes, _) = self.shared.watch();
        let wanted = adapted(classes, rate);
        if wanted == classes || wanted.count() > classes.count() && now < self.calm {
            return;
        }
        self.calm = now + CALM;
        // More are asked for before, fewer after they are there, so that nothing waits in vain.
        let fewer = wanted.count() < classes.count();
        if fewer {
            self.shared.set_watch(wanted);
        }
        if let Err(error) = self.filter.lock().watch(&wanted.bytes()) {
            tracing::warn!(%error, "cannot change how many connections are watched");
            self.shared.set_watch(classes);
            return;
        }
        self.shared.set_watch(wanted);
        if fewer {
            self.shared.flows.lock().retain(|key| wanted.has(key.client.port()), now);
        }
        tracing::debug!(rate, of_32 = wanted.count(), "client port classes watched");
    }

    /// Looks whether old connections still exist.
    fn audit(&mut self, now: u64) -> io::Result<()> {
        let keys = self.shared.flows.lock().older(now.saturating_sub(OLD), AUDITED);
        if keys.is_empty() {
            return Ok(());
        }
        let mut requests = Messages::default();
        for (index, key) in keys.iter().enumerate() {
            let Key { protocol, client, backend } = *key;
            let reply = Flow { protocol, source: backend, destination: client };
            write_get_by_reply(&mut requests, index as u32, &reply);
        }
        let mut alive = BTreeSet::new();
        self.conntrack.transact(requests.bytes(), |message| {
            let entry = Entry::read(message).filter(|entry| entry.stage == Stage::Alive);
            alive.extend(entry.map(|_| message.sequence));
        })?;
        let mut flows = self.shared.flows.lock();
        for (index, key) in keys.iter().enumerate() {
            match alive.contains(&(index as u32)) {
                true => flows.touch(key, now),
                false => flows.lose(key, now),
            }
        }
        Ok(())
    }
}

/// Takes in the connections that a former process began. None must begin meanwhile, or it
/// would be taken in twice.
pub(crate) fn adopt(shared: &Shared, conntrack: &mut Channel) -> io::Result<()> {
    let mut entries = Vec::new();
    for family in Family::BOTH {
        dump(conntrack, family, |entry| entries.push(entry))?;
    }
    let (classes, _) = shared.watch();
    let known = |entry: Entry| {
        let Entry { flow: Flow { protocol, source: client, destination: vip }, .. } = entry;
        let found = shared.vip(&VipAddress { socket: vip, protocol })?;
        let key = Key { protocol, client, backend: entry.backend };
        let backend = Arc::clone(found.backend(entry.backend)?);
        let counts = entry.stage == Stage::Alive && classes.has(client.port());
        counts.then_some(Beginning { key, vip, backend, decision: None, share: 1 })
    };
    // The VIPs and the flows are not locked together.
    let known: Vec<Beginning> = entries.into_iter().filter_map(known).collect();
    let now = now();
    let mut flows = shared.flows.lock();
    known.into_iter().for_each(|beginning| flows.adopt(beginning, now));
    Ok(())
}

fn dump(conntrack: &mut Channel, family: Family, mut take: impl FnMut(Entry)) -> io::Result<()> {
    let mut request = Messages::default();
    write_dump(&mut request, family);
    conntrack.dump(request.bytes(), |message| {
        if let Some(entry) = Entry::read(message) {
            take(entry);
        }
    })
}

/// The classes to watch where `rate` packets a second of the present ones are seen.
fn adapted(classes: Classes, rate: u64) -> Classes {
    let all = Classes::ALL.count();
    let of_all = rate * u64::from(all) / u64::from(classes.count().max(1));
    if of_all < EASY {
        return Classes::ALL;
    }
    let is_sampled = classes != Classes::ALL;
    if of_all < MANY || is_sampled && rate < 2 * FEW {
        return classes;
    }
    let mut count = all;
    while count > 1 && of_all * u64::from(count) > FEW * u64::from(all) {
        count /= 2;
    }
    // The highest classes; which of them makes no difference.
    Classes(u32::MAX << (all - count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_are_watched_at_high_rates_and_all_at_low_ones() {
        let mut classes = Classes::ALL;
        let mut counts = Vec::new();
        for rate in [0, 9_000, 13_000, 14_000, 2_600, 1_500, 1_200, 50_000, 2_900, 7_000, 100, 0] {
            classes = adapted(classes, rate);
            counts.push(classes.count());
        }
        assert_eq!(counts, [32, 32, 32, 4, 4, 4, 32, 1, 1, 1, 32, 32]);
    }
}
