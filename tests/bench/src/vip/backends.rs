//! Backends that can be slow: a server on every address, each of which answers as
//! late as it is told to, and says who it is.
//!
//! ```text
//! stdin  "4 50"        10.20.0.4 answers after 50 ms from now on
//! client ── a byte ──▶ … ◀── 4, and the end
//! ```

use super::stage::{Port, Stage};
use crate::process::first_line;
use crate::sandbox::{self, Sandbox};
use crate::server::{listener, take};
use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// As [`EventData`]; connections count on from there.
const LISTENER: u64 = 0;
const STDIN: u64 = 1;

/// The process of the backends, from the row's side; it ends when dropped.
pub(super) struct Backends {
    child: Child,
    orders: ChildStdin,
}

impl Backends {
    /// Starts it behind [`Port::Slow`]; everybody answers at once.
    pub(super) fn start(sandbox: &Sandbox, stage: &Stage) -> Result<Self> {
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("join").arg(sandbox.cgroup("servers")?).arg("--").arg(sandbox::ourselves()?);
        command.arg("backends").arg((Port::Slow as u16).to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let (mut child, _) = first_line(stage.backends.spawn(&mut command)?)?;
        let orders = child.stdin.take().context("backends without stdin")?;
        Ok(Self { child, orders })
    }

    /// Lets the backend whose address ends with `number` answer after `delay`.
    pub(super) fn delay(&mut self, number: u8, delay: Duration) -> Result<()> {
        // In one piece, so that it is read in one piece.
        let order = format!("{number} {}\n", delay.as_millis());
        self.orders.write_all(order.as_bytes()).context("the backends ended")
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who answers, and when.
#[derive(Debug)]
struct Server {
    delays: [Duration; 256],
    open: HashMap<u64, OwnedFd>,
    /// Answers that are due, the earliest on top.
    due: BinaryHeap<Reverse<(Instant, u64)>>,
    next: u64,
    poll: OwnedFd,
}

/// Is the backends, until it is killed or its stdin ends.
pub(crate) fn run(port: u16) -> Result<()> {
    let listener = listener(port, false).context("cannot listen")?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let stdin = std::io::stdin();
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&poll, &stdin, EventData::new_u64(STDIN), EventFlags::IN)?;
    println!("listening");
    let mut server = Server {
        delays: [Duration::ZERO; 256],
        open: HashMap::new(),
        due: BinaryHeap::new(),
        next: STDIN + 1,
        poll,
    };
    let mut events = Vec::with_capacity(256);
    loop {
        let wait = server.answer_due();
        match epoll::wait(&server.poll, spare_capacity(&mut events), wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    while let Some(connection) = take(&listener) {
                        server.welcome(connection)?;
                    }
                }
                STDIN => {
                    let mut buffer = [0; 256];
                    let length = rustix::io::read(&stdin, &mut buffer)?;
                    if length == 0 {
                        return Ok(());
                    }
                    server.obey(&String::from_utf8_lossy(&buffer[..length]));
                }
                key => server.hear(key)?,
            }
        }
    }
}

impl Server {
    /// Says what is due, and returns how long until something is.
    fn answer_due(&mut self) -> Option<Timespec> {
        loop {
            let Reverse((at, key)) = *self.due.peek()?;
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let (tv_sec, tv_nsec) = (left.as_secs().cast_signed(), left.subsec_nanos().into());
                return Some(Timespec { tv_sec, tv_nsec });
            }
            self.due.pop();
            if let Some(connection) = self.open.remove(&key) {
                let _ = rustix::io::write(&connection, &[number(&connection)]);
            }
        }
    }

    fn welcome(&mut self, connection: OwnedFd) -> Result<()> {
        let key = self.next;
        self.next += 1;
        epoll::add(&self.poll, &connection, EventData::new_u64(key), EventFlags::IN)?;
        self.open.insert(key, connection);
        Ok(())
    }

    /// A request came, or the client went.
    fn hear(&mut self, key: u64) -> Result<()> {
        let Some(connection) = self.open.get(&key) else { return Ok(()) };
        let mut buffer = [0; 64];
        match rustix::io::read(connection, &mut buffer) {
            Err(Errno::AGAIN) => {}
            Ok(0) | Err(_) => drop(self.open.remove(&key)),
            Ok(_) => {
                epoll::delete(&self.poll, connection)?;
                let delay = self.delays[usize::from(number(connection))];
                self.due.push(Reverse((Instant::now() + delay, key)));
            }
        }
        Ok(())
    }

    fn obey(&mut self, lines: &str) {
        for line in lines.lines() {
            let Some((number, delay)) = line.split_once(' ') else { continue };
            if let (Ok(number), Ok(delay)) = (number.parse::<u8>(), delay.parse()) {
                self.delays[usize::from(number)] = Duration::from_millis(delay);
            }
        }
    }
}

/// The end of the address that a client of ours was led to.
fn number(connection: &OwnedFd) -> u8 {
    let name = rustix::net::getsockname(connection).ok();
    let address = name.and_then(|name| SocketAddr::try_from(name).ok());
    match address.map(|address| address.ip()) {
        Some(IpAddr::V4(ip)) => ip.octets()[3],
        _ => 0,
    }
}
