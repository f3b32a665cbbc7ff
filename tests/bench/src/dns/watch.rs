//! Asks for one address until it is another one: when a change is seen, and for how
//! long the server said nothing meanwhile.

use super::datagrams::socket;
use super::question::{Kind, Reply, question};
use anyhow::{Context, Result, ensure};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two questions; a part of what is measured.
const PAUSE: Duration = Duration::from_micros(50);
/// After which a question is asked once more: one that a server took and died with is
/// answered by nobody, and this is part of what is measured, too.
const PATIENCE: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(60);

/// What was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// When the wanted address was answered first.
    pub at: Instant,
    /// The longest time between two answers.
    pub gap: Duration,
}

/// A thread that asks.
pub(super) struct Watch {
    thread: JoinHandle<Result<Seen>>,
}

impl Watch {
    /// Starts to ask `server` for `name`, and returns when the first answer has come.
    pub(super) fn start(server: SocketAddr, name: &str, wanted: Ipv4Addr) -> Result<Self> {
        let question = question(name, Kind::A)?;
        let (ready, answered) = channel();
        let thread = thread::spawn(move || watch(server, question, wanted, &ready));
        wait(&answered)?;
        Ok(Self { thread })
    }

    /// Waits until it has seen the address.
    pub(super) fn seen(self) -> Result<Seen> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the thread that asks has panicked"))?
    }
}

/// Waits until `server` answers `name` with `wanted`.
pub(super) fn until_served(server: SocketAddr, name: &str, wanted: Ipv4Addr) -> Result<Seen> {
    let (ready, _answered) = channel();
    watch(server, question(name, Kind::A)?, wanted, &ready)
}

fn wait(answered: &Receiver<()>) -> Result<()> {
    answered.recv_timeout(LIMIT).context("the server gives no answer")
}

fn watch(
    server: SocketAddr,
    mut question: Vec<u8>,
    wanted: Ipv4Addr,
    ready: &Sender<()>,
) -> Result<Seen> {
    let socket = socket("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let (begun, mut buffer) = (Instant::now(), [0; 1500]);
    let (mut last, mut gap) = (None::<Instant>, Duration::ZERO);
    for id in (0..=u16::MAX).cycle() {
        ensure!(begun.elapsed() < LIMIT, "{wanted} was not answered within {LIMIT:?}");
        question[..2].copy_from_slice(&id.to_be_bytes());
        // Whoever does not listen yet refuses; the next question may be answered.
        let length = socket.send(&question).and_then(|_| socket.recv(&mut buffer)).unwrap_or(0);
        let answer = &buffer[..length];
        // A late answer is one, too: a new server may have found the question waiting.
        if Reply::of(answer).is_some_and(|reply| reply.good) {
            let at = Instant::now();
            gap = gap.max(last.map_or(Duration::ZERO, |last| at - last));
            if last.replace(at).is_none() {
                // Nobody waits for it but at the beginning.
                let _ = ready.send(());
            }
            if answer.windows(4).any(|bytes| bytes == wanted.octets()) {
                return Ok(Seen { at, gap });
            }
        }
        thread::sleep(PAUSE);
    }
    anyhow::bail!("no more ids")
}
