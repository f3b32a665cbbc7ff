//! Short connections, many at a time: a crowd of clients, each of which makes its
//! next connection when the last one has ended.

use super::targets::{Draw, Targets};
use super::{Block, Quantiles};
use crate::sandbox;
use crate::server::ONE_SHOT;
use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Clients of each thread of a saturating block.
const WIDTH: usize = 16;

/// Longer than anything but a lost packet takes.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often impatience is looked for.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Clients of one thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd<'a> {
    pub targets: &'a Targets,
    /// How many there are.
    pub width: usize,
    /// After which a client gives a connection up.
    pub patience: Duration,
}

/// A connection that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub begun: Instant,
    /// Until it was made; none if it never was.
    pub connect: Option<Duration>,
    /// Until its end.
    pub whole: Duration,
    /// What the server said; none if it failed.
    pub answer: Option<u8>,
}

/// A connection under way.
struct Conversation {
    socket: OwnedFd,
    begun: Instant,
    connect: Option<Duration>,
    answer: Option<u8>,
}

/// Where a conversation is after it was looked at.
enum After {
    Connecting,
    Waiting,
    Over(Option<u8>),
}

impl Crowd<'_> {
    /// Lets everybody go on as long as there is `more` to do, tells of every end,
    /// and waits for the last ones.
    pub(crate) fn run(
        &self,
        draw: &mut Draw,
        mut more: impl FnMut() -> bool,
        mut ended: impl FnMut(Ended),
    ) -> Result<()> {
        let poll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut clients: Vec<Option<Conversation>> = (0..self.width).map(|_| None).collect();
        let mut idle: Vec<usize> = (0..self.width).collect();
        let mut events = Vec::with_capacity(self.width.max(1));
        let (mut looked, mut enough) = (Instant::now(), false);
        loop {
            while !enough && let Some(client) = idle.pop() {
                enough = !more();
                match (!enough).then(|| begin(&poll, self.targets.draw(draw), client)) {
                    Some(Ok(conversation)) => clients[client] = Some(conversation),
                    // After a pause, not to do nothing but fail.
                    Some(Err(begun)) => {
                        idle.push(client);
                        ended(failed(begun, None));
                        break;
                    }
                    None => idle.push(client),
                }
            }
            if enough && idle.len() == self.width {
                return Ok(());
            }
            for client in ready(&poll, &mut events)? {
                if let Some(end) = go_on(&mut clients[client], &poll, client) {
                    idle.push(client);
                    ended(end);
                }
            }
            if looked.elapsed() > Duration::from_millis(10) {
                looked = Instant::now();
                idle.extend(self.give_up(&mut clients, &mut ended));
            }
        }
    }

    /// Ends what has taken too long, and returns whose it was.
    fn give_up(
        &self,
        clients: &mut [Option<Conversation>],
        ended: &mut impl FnMut(Ended),
    ) -> Vec<usize> {
        let mut freed = Vec::new();
        for (client, slot) in clients.iter_mut().enumerate() {
            let late = |c: &mut Conversation| c.begun.elapsed() > self.patience;
            if let Some(late) = slot.take_if(late) {
                freed.push(client);
                ended(failed(late.begun, late.connect));
            }
        }
        freed
    }
}

impl Conversation {
    /// Does what can be done now; returns the answer, or none for a failure, once
    /// it is over.
    fn go_on(&mut self, poll: &OwnedFd, client: usize) -> Option<Option<u8>> {
        let after = match self.connect {
            None => self.say(),
            Some(_) => self.listen(),
        };
        match after {
            After::Connecting => None,
            After::Over(answer) => Some(answer),
            After::Waiting => {
                if self.connect.is_none() {
                    self.connect = Some(self.begun.elapsed());
                    let data = EventData::new_u64(client as u64);
                    if epoll::modify(poll, &self.socket, data, EventFlags::IN).is_err() {
                        return Some(None);
                    }
                }
                None
            }
        }
    }

    fn say(&self) -> After {
        match rustix::io::write(&self.socket, &[ONE_SHOT]) {
            Ok(_) => After::Waiting,
            Err(Errno::AGAIN) => After::Connecting,
            Err(_) => After::Over(None),
        }
    }

    fn listen(&mut self) -> After {
        let mut buffer = [0; 8];
        loop {
            match rustix::io::read(&self.socket, &mut buffer) {
                Ok(0) => return After::Over(self.answer),
                Ok(_) => self.answer = Some(buffer[0]),
                Err(Errno::AGAIN) => return After::Waiting,
                Err(_) => return After::Over(None),
            }
        }
    }

    fn end(&self, answer: Option<u8>) -> Ended {
        Ended { begun: self.begun, connect: self.connect, whole: self.begun.elapsed(), answer }
    }
}

/// Goes on with a client's conversation, if it has one; returns its end.
fn go_on(slot: &mut Option<Conversation>, poll: &OwnedFd, client: usize) -> Option<Ended> {
    let conversation = slot.as_mut()?;
    let answer = conversation.go_on(poll, client)?;
    let end = conversation.end(answer);
    *slot = None;
    Some(end)
}

/// Connects; an error has the time at which it was tried.
fn begin(poll: &OwnedFd, target: SocketAddr, client: usize) -> Result<Conversation, Instant> {
    let begun = Instant::now();
    try_begin(poll, target, client, begun).map_err(|_| begun)
}

fn try_begin(
    poll: &OwnedFd,
    target: SocketAddr,
    client: usize,
    begun: Instant,
) -> rustix::io::Result<Conversation> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let mut conversation = Conversation { socket, begun, connect: None, answer: None };
    // On a machine's own links the handshake is often over by now.
    let interest = match conversation.say() {
        After::Waiting => {
            conversation.connect = Some(begun.elapsed());
            EventFlags::IN
        }
        After::Connecting => EventFlags::OUT,
        After::Over(_) => return Err(Errno::CONNREFUSED),
    };
    epoll::add(poll, &conversation.socket, EventData::new_u64(client as u64), interest)?;
    Ok(conversation)
}

fn failed(begun: Instant, connect: Option<Duration>) -> Ended {
    Ended { begun, connect, whole: begun.elapsed(), answer: None }
}

fn ready(poll: &OwnedFd, events: &mut Vec<Event>) -> Result<Vec<usize>> {
    match epoll::wait(poll, spare_capacity(events), Some(&LOOK)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("cannot wait for connections"),
    }
    let client = |event: Event| usize::try_from(event.data.u64()).unwrap_or_default();
    Ok(events.drain(..).map(client).collect())
}

/// `count` connections by a crowd on each core.
pub(super) fn saturating_block(targets: &Targets, count: u32) -> Result<Block> {
    let left = AtomicU32::new(count);
    let started = Instant::now();
    let threads: Vec<Result<Vec<Ended>>> = thread::scope(|scope| {
        let start = |cpu| {
            let left = &left;
            scope.spawn(move || on_core(cpu, targets, left))
        };
        let started: Vec<_> = (0..=sandbox::core()).map(start).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Vec<Ended>>>| {
            thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked"))
        };
        started.into_iter().map(join).collect()
    });
    let time = started.elapsed();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread?);
    }
    let good = || all.iter().filter(|end| end.answer.is_some());
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let done = good().count() as u64;
    Ok(Block {
        time,
        count: done,
        failures: all.len() as u64 - done,
        connect: Quantiles::of(
            &mut good().filter_map(|e| e.connect.map(nanos)).collect::<Vec<_>>(),
        ),
        whole: Quantiles::of(&mut good().map(|e| nanos(e.whole)).collect::<Vec<_>>()),
    })
}

fn on_core(cpu: usize, targets: &Targets, left: &AtomicU32) -> Result<Vec<Ended>> {
    sandbox::hold_on(cpu)?;
    let mut ends = Vec::new();
    let more = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    let crowd = Crowd { targets, width: WIDTH, patience: PATIENCE };
    crowd.run(&mut Draw::new(), || more().is_ok(), |end| ends.push(end))?;
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_made_once() {
        let servers = crate::server::tests::start();
        let block = saturating_block(&servers.answering.into(), 2000).unwrap();
        assert_eq!((block.count, block.failures), (2000, 0));
        assert!(block.connect.p50 <= block.whole.p50);
    }

    #[test]
    fn nobody_stops_after_a_refusal() {
        // Bound and not listening: every connect is refused.
        let taken = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&taken, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let name = rustix::net::getsockname(&taken).unwrap();
        let block = saturating_block(&SocketAddr::try_from(name).unwrap().into(), 5).unwrap();
        assert_eq!((block.count, block.failures), (0, 5));
    }

    /// One listener takes connections and never answers, another address is closed.
    #[test]
    fn clients_lose_patience() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let targets = silent.local_addr().unwrap().into();
        let crowd = Crowd { targets: &targets, width: 2, patience: Duration::from_millis(500) };
        let mut started = 0;
        let mut ends = Vec::new();
        let more = || {
            started += 1;
            started <= 4
        };
        crowd.run(&mut Draw::new(), more, |end| ends.push(end)).unwrap();
        assert_eq!(ends.len(), 4);
        for end in ends {
            assert!(end.connect.is_some() && end.answer.is_none(), "{end:?}");
        }
    }
}
