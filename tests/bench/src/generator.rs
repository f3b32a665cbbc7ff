//! A generator: a process in a cgroup and a network of its own choice that does one
//! block of work when it is told to.
//!
//! ```text
//! section ── "connect 400 11.0.0.1:80" ──▶ generator
//!         ◀── "11620384 400 0 …" ──        nanoseconds, how many, failures, …
//! ```
//!
//! [`one`] does work one after the other on one core, [`many`] as much at a time as
//! all cores can do.

pub(crate) mod many;
mod one;
mod targets;

use crate::network::Namespace;
use crate::sandbox;
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

pub(crate) use targets::{Draw, Targets};

/// No block takes this long, whatever goes wrong.
const LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// What is repeated in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A connection is made, taken, and closed by both ends.
    ///
    /// Client and server take turns at every one of them. Where the client need not
    /// wait, the scheduler lets it run ahead by one connection or by hundreds, as
    /// it likes, and that changes the price by a half.
    Connect,
    /// A whole short connection: made, a byte there, a byte back, closed by the
    /// server and then by the client.
    Converse,
    /// The same on all cores, many at a time.
    Saturate,
    /// A request and its answer, on a connection that stays open for the block.
    Exchange,
    /// A mebibyte on one connection; a block ends when the server has read all.
    Stream,
}

impl Work {
    const ALL: [Self; 5] =
        [Self::Connect, Self::Converse, Self::Saturate, Self::Exchange, Self::Stream];

    fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Converse => "converse",
            Self::Saturate => "saturate",
            Self::Exchange => "exchange",
            Self::Stream => "stream",
        }
    }
}

/// What one block took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub time: Duration,
    /// Repetitions that came to their end.
    pub count: u64,
    pub failures: u64,
    /// Until a connection was made.
    pub connect: Quantiles,
    /// Of a whole repetition.
    pub whole: Quantiles,
}

/// Of the repetitions in a block; zero where they were not timed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub p50: Duration,
    pub p99: Duration,
}

impl Quantiles {
    /// Of nanoseconds.
    pub(crate) fn of(times: &mut [u64]) -> Self {
        times.sort_unstable();
        let at = |share: usize| {
            let index = times.len() * share / 100;
            Duration::from_nanos(times.get(index).copied().unwrap_or_default())
        };
        Self { p50: at(50), p99: at(99) }
    }
}

/// Where a generator is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat<'a> {
    pub cgroup: &'a Path,
    /// The sandbox's own unless there is another one.
    pub network: Option<&'a Namespace>,
}

/// A generator, from the section's side; it ends when dropped.
pub(crate) struct Generator {
    child: Child,
    orders: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts one. It does what one core can do on core `cpu`.
    pub(crate) fn start(seat: Seat<'_>, cpu: usize) -> Result<Self> {
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("generate").arg(seat.cgroup).arg(cpu.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match seat.network {
            Some(network) => network.spawn(&mut command)?,
            None => command.spawn().context("cannot start a generator")?,
        };
        let (Some(orders), Some(results)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a generator without pipes");
        };
        Ok(Self { child, orders, results: BufReader::new(results) })
    }

    /// Has it do one block of `count` and waits for the end.
    pub(crate) fn block(&mut self, work: Work, targets: &Targets, count: u32) -> Result<Block> {
        let order = Order { work, count, targets: targets.clone() };
        writeln!(self.orders, "{order}").context("a generator ended")?;
        let ready = poll(&mut [PollFd::new(self.results.get_ref(), PollFlags::IN)], Some(&LIMIT))?;
        ensure!(ready > 0, "a block of {} to {targets} hangs", work.word());
        let mut line = String::new();
        self.results.read_line(&mut line)?;
        let block = line.trim().parse();
        block.with_context(|| format!("the generator of {} to {targets} failed", work.word()))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the generator: does what stdin orders, until it ends.
pub(crate) fn run(cgroup: &Path, cpu: usize) -> Result<()> {
    sandbox::join(cgroup)?;
    sandbox::hold_on(cpu)?;
    let mut draw = Draw::new();
    for line in std::io::stdin().lines() {
        let Order { work, count, targets } = line?.parse()?;
        let block = match work {
            Work::Connect => one::connect_block(&targets, &mut draw, count),
            Work::Converse => one::converse_block(&targets, &mut draw, count),
            Work::Saturate => many::saturating_block(&targets, count)?,
            // A new one for each block: connections differ a little for good, by where
            // the kernel has put them.
            Work::Exchange => one::exchange_block(&mut one::open(targets.first())?, count)?,
            Work::Stream => one::stream_block(one::open(targets.first())?, count)?,
        };
        println!("{block}");
    }
    Ok(())
}

/// A line of stdin.
#[derive(Debug, PartialEq)]
struct Order {
    work: Work,
    count: u32,
    targets: Targets,
}

impl std::fmt::Display for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.work.word(), self.count, self.targets)
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [work, count, targets] = words[..] else { bail!("`{line}` is no order") };
        let known = Work::ALL.into_iter().find(|known| known.word() == work);
        let work = known.with_context(|| format!("`{work}` is no work"))?;
        Ok(Self { work, count: count.parse()?, targets: targets.parse()? })
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time, count, failures, connect, whole } = self;
        write!(f, "{} {count} {failures}", time.as_nanos())?;
        for time in [connect.p50, connect.p99, whole.p50, whole.p99] {
            write!(f, " {}", time.as_nanos())?;
        }
        Ok(())
    }
}

impl FromStr for Block {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let numbers: Vec<u64> =
            line.split(' ').map(str::parse).collect::<Result<_, _>>().context("no numbers")?;
        let [time, count, failures, c50, c99, w50, w99] = numbers[..] else {
            bail!("`{line}` is no result")
        };
        let quantiles =
            |p50, p99| Quantiles { p50: Duration::from_nanos(p50), p99: Duration::from_nanos(p99) };
        Ok(Self {
            time: Duration::from_nanos(time),
            count,
            failures,
            connect: quantiles(c50, c99),
            whole: quantiles(w50, w99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        for work in Work::ALL {
            let order =
                Order { work, count: 400, targets: "11.0.0.1:80,11.0.0.2:80".parse().unwrap() };
            assert_eq!(order.to_string().parse::<Order>().unwrap(), order);
        }
        for bad in ["", "connect", "connect 4 11.0.0.1", "swim 4 11.0.0.1:80", "connect b a:1 c"] {
            assert!(bad.parse::<Order>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn results() {
        let block = Block {
            time: Duration::from_nanos(7),
            count: 3,
            failures: 1,
            connect: Quantiles::of(&mut [30, 10, 20]),
            whole: Quantiles::of(&mut (1..=200).collect::<Vec<u64>>()),
        };
        assert_eq!(block.to_string(), "7 3 1 20 30 101 199");
        assert_eq!(block.to_string().parse::<Block>().unwrap(), block);
        assert!("7 3".parse::<Block>().is_err());
    }
}
