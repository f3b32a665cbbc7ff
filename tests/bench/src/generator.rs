//! A generator: a process in a cgroup of its own choice that makes one block of
//! connections, or of requests on one connection, when it is told to.
//!
//! ```text
//! section ── "connect 11.0.0.1:80 400" ──▶ generator
//!         ◀── "11620384 0" ──              nanoseconds, failures
//! ```

use crate::sandbox::{self, CONGESTION_CONTROL};
use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// No block takes this long, whatever goes wrong.
const LIMIT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Longer than anything but a lost packet takes.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a request, and of its answer.
const REQUEST: usize = 64;

/// What is repeated in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// A connection is made, taken, and closed by both ends.
    ///
    /// Client and server take turns at every one of them. Where the client need not
    /// wait, the scheduler lets it run ahead by one connection or by hundreds, as
    /// it likes, and that changes the price by a half.
    Connect,
    /// A request and its answer, on a connection that stays open for the block.
    Exchange,
}

impl Work {
    fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Exchange => "exchange",
        }
    }
}

/// What one block took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub time: Duration,
    pub failures: u64,
}

/// A generator, from the section's side; it ends when dropped.
pub(crate) struct Generator {
    child: Child,
    orders: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts one in `cgroup`, on core `cpu`.
    pub(crate) fn start(cgroup: &Path, cpu: usize) -> Result<Self> {
        let mut child = Command::new(sandbox::ourselves()?)
            .arg("generate")
            .arg(cgroup)
            .arg(cpu.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a generator")?;
        let (Some(orders), Some(results)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a generator without pipes");
        };
        Ok(Self { child, orders, results: BufReader::new(results) })
    }

    /// Has it do one block of `count` and waits for the end.
    pub(crate) fn block(&mut self, work: Work, target: SocketAddr, count: u32) -> Result<Block> {
        writeln!(self.orders, "{} {target} {count}", work.word()).context("a generator ended")?;
        let ready = poll(&mut [PollFd::new(self.results.get_ref(), PollFlags::IN)], Some(&LIMIT))?;
        ensure!(ready > 0, "a block of {} to {target} hangs", work.word());
        let mut line = String::new();
        self.results.read_line(&mut line)?;
        let (time, failures) = line
            .trim()
            .split_once(' ')
            .with_context(|| format!("the generator of {} to {target} failed", work.word()))?;
        Ok(Block { time: Duration::from_nanos(time.parse()?), failures: failures.parse()? })
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
    for line in std::io::stdin().lines() {
        let Order { work, target, count } = line?.parse()?;
        let block = match work {
            Work::Connect => connect_block(target, count),
            // A new one for each block: connections differ a little for good, by where
            // the kernel has put them.
            Work::Exchange => exchange_block(&mut open(target)?, count)?,
        };
        println!("{} {}", block.time.as_nanos(), block.failures);
    }
    Ok(())
}

/// A line of stdin.
#[derive(Debug, PartialEq)]
struct Order {
    work: Work,
    target: SocketAddr,
    count: u32,
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [work, target, count] = words[..] else { bail!("`{line}` is no order") };
        let known = [Work::Connect, Work::Exchange].into_iter().find(|known| known.word() == work);
        let work = known.with_context(|| format!("`{work}` is no work"))?;
        Ok(Self { work, target: target.parse()?, count: count.parse()? })
    }
}

fn connect_block(target: SocketAddr, count: u32) -> Block {
    let mut failures = 0;
    let started = Instant::now();
    for _ in 0..count {
        failures += u64::from(!matches!(connect_and_close(target), Ok(0)));
    }
    Block { time: started.elapsed(), failures }
}

/// Returns how many bytes the server sent before it closed.
fn connect_and_close(target: SocketAddr) -> rustix::io::Result<usize> {
    let socket = socket(target)?;
    rustix::net::connect(&socket, &target)?;
    let sent = rustix::io::read(&socket, &mut [0; 8])?;
    // A reset: otherwise the server's ports would wait for a minute each.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    Ok(sent)
}

fn socket(target: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn exchange_block(stream: &mut TcpStream, count: u32) -> Result<Block> {
    let started = Instant::now();
    for _ in 0..count {
        exchange(stream)?;
    }
    Ok(Block { time: started.elapsed(), failures: 0 })
}

fn open(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, TIMEOUT)
        .with_context(|| format!("cannot connect to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    sockopt::set_tcp_congestion(&stream, CONGESTION_CONTROL)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [b'x'; REQUEST];
    stream.write_all(&buffer).context("cannot send a request")?;
    stream.read_exact(&mut buffer).context("no answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders() {
        let target: SocketAddr = "11.0.0.1:80".parse().unwrap();
        let order: Order = "connect 11.0.0.1:80 400".parse().unwrap();
        assert_eq!(order, Order { work: Work::Connect, target, count: 400 });
        let order: Order = "exchange 11.0.0.1:80 3".parse().unwrap();
        assert_eq!(order, Order { work: Work::Exchange, target, count: 3 });
        for bad in ["", "connect", "connect 11.0.0.1 4", "swim 11.0.0.1:80 4", "connect a:1 b c"] {
            assert!(bad.parse::<Order>().is_err(), "{bad:?}");
        }
    }

    /// Against the real server, over loopback.
    #[test]
    fn blocks_are_served() {
        let servers = crate::server::tests::start();
        assert_eq!(connect_block(servers.closing, 200).failures, 0);
        let mut stream = open(servers.answering).unwrap();
        assert_eq!(exchange_block(&mut stream, 50).unwrap().failures, 0);
    }

    #[test]
    fn failures_are_counted() {
        // Bound and not listening: every connect is refused.
        let taken = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::bind(&taken, &any).unwrap();
        let name = rustix::net::getsockname(&taken).unwrap();
        let target = SocketAddr::try_from(name).unwrap();
        assert_eq!(connect_block(target, 3).failures, 3);
    }
}
