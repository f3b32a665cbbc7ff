//! Work that is done one after the other.

use super::targets::{Draw, Targets};
use super::{Block, Quantiles};
use crate::sandbox::CONGESTION_CONTROL;
use crate::server::{ONE_SHOT, SINK};
use anyhow::{Context, Result, ensure};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than anything but a lost packet takes.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Bytes of a request, and of its answer.
const REQUEST: usize = 64;

/// Bytes of one write of a stream.
const CHUNK: usize = 128 * 1024;

/// Chunks of a mebibyte.
const CHUNKS: u32 = 8;

pub(super) fn connect_block(targets: &Targets, draw: &mut Draw, count: u32) -> Block {
    let mut failures = 0;
    let started = Instant::now();
    for _ in 0..count {
        failures += u64::from(!matches!(connect_and_close(targets.draw(draw)), Ok(0)));
    }
    let time = started.elapsed();
    Block { time, count: u64::from(count) - failures, failures, ..Block::default() }
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

pub(super) fn converse_block(targets: &Targets, draw: &mut Draw, count: u32) -> Block {
    let length = usize::try_from(count).unwrap_or_default();
    let (mut connects, mut wholes) = (Vec::with_capacity(length), Vec::with_capacity(length));
    let started = Instant::now();
    for _ in 0..count {
        let target = targets.draw(draw);
        let begun = Instant::now();
        if let Ok(connect) = converse(target) {
            connects.push(nanos(connect));
            wholes.push(nanos(begun.elapsed()));
        }
    }
    let done = connects.len() as u64;
    Block {
        time: started.elapsed(),
        count: done,
        failures: u64::from(count) - done,
        connect: Quantiles::of(&mut connects),
        whole: Quantiles::of(&mut wholes),
    }
}

/// Returns how long it took until the connection was made.
fn converse(target: SocketAddr) -> rustix::io::Result<Duration> {
    let socket = socket(target)?;
    let begun = Instant::now();
    rustix::net::connect(&socket, &target)?;
    let connect = begun.elapsed();
    let mut buffer = [0; 8];
    rustix::io::write(&socket, &[ONE_SHOT])?;
    let answer = rustix::io::read(&socket, &mut buffer)?;
    let end = rustix::io::read(&socket, &mut buffer)?;
    if (answer, end) == (1, 0) { Ok(connect) } else { Err(rustix::io::Errno::PROTO) }
}

pub(super) fn exchange_block(stream: &mut TcpStream, count: u32) -> Result<Block> {
    let mut times = Vec::with_capacity(usize::try_from(count).unwrap_or_default());
    let started = Instant::now();
    let mut last = started;
    for _ in 0..count {
        exchange(stream)?;
        let now = Instant::now();
        times.push(nanos(now - last));
        last = now;
    }
    let time = started.elapsed();
    let whole = Quantiles::of(&mut times);
    Ok(Block { time, count: u64::from(count), whole, ..Block::default() })
}

/// A connection for many requests.
pub(super) fn open(target: SocketAddr) -> Result<TcpStream> {
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

pub(super) fn stream_block(mut stream: TcpStream, mebibytes: u32) -> Result<Block> {
    let mut chunk = vec![0; CHUNK];
    let started = Instant::now();
    stream.write_all(&[SINK]).context("cannot begin a stream")?;
    for _ in 0..mebibytes * CHUNKS {
        stream.write_all(&chunk).context("a stream broke")?;
    }
    stream.shutdown(Shutdown::Write)?;
    let rest = stream.read(&mut chunk).context("a stream was not read to its end")?;
    ensure!(rest == 0, "an answer to a stream");
    Ok(Block { time: started.elapsed(), count: u64::from(mebibytes), ..Block::default() })
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the real server, over loopback.
    #[test]
    fn blocks_are_served() {
        let servers = crate::server::tests::start();
        let (closing, answering) = (servers.closing.into(), servers.answering.into());
        let mut draw = Draw::new();
        assert_eq!(connect_block(&closing, &mut draw, 200).failures, 0);
        let block = converse_block(&answering, &mut draw, 200);
        assert_eq!((block.count, block.failures), (200, 0));
        assert!(block.connect.p50 <= block.whole.p50 && block.whole.p50 <= block.whole.p99);
        let mut stream = open(servers.answering).unwrap();
        assert_eq!(exchange_block(&mut stream, 50).unwrap().count, 50);
        assert_eq!(stream_block(open(servers.answering).unwrap(), 3).unwrap().count, 3);
    }

    #[test]
    fn failures_are_counted() {
        // Bound and not listening: every connect is refused.
        let taken = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::bind(&taken, &any).unwrap();
        let name = rustix::net::getsockname(&taken).unwrap();
        let target = Targets::from(SocketAddr::try_from(name).unwrap());
        let mut draw = Draw::new();
        assert_eq!(connect_block(&target, &mut draw, 3).failures, 3);
        let block = converse_block(&target, &mut draw, 3);
        assert_eq!((block.count, block.failures), (0, 3));
    }
}
