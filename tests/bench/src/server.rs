//! The program behind a VIP: one thread, or one on each core, that answers HTTP and
//! echoes the rest, except what begins with [`ONE_SHOT`] or [`SINK`]. On a port of
//! their own, connections are closed as soon as they are taken: they show what a
//! connection costs, and nothing else.

use crate::sandbox::{self, CONGESTION_CONTROL};
use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, sockopt};
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::thread;

/// A connection that begins with it gets it back and is closed.
pub(crate) const ONE_SHOT: u8 = b'C';

/// A connection that begins with it is read to its end.
pub(crate) const SINK: u8 = b'S';

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// Answer to every HTTP request.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

/// Waiting connections; the kernel's own limit is 4096 as well.
const BACKLOG: i32 = 4096;

/// As [`EventData`]; connections count on from there.
const LISTENER: u64 = 0;
const CLOSING_LISTENER: u64 = 1;

/// What a connection is after it was looked at.
#[derive(Debug, PartialEq)]
enum After {
    Open,
    Done,
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    /// Where requests are answered.
    answering: u16,
    /// Where connections are closed.
    closing: u16,
    threads: Threads,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Threads {
    /// One, wherever it may run.
    One,
    /// One on each core; the kernel deals connections out.
    OnePerCore,
}

/// The two listeners.
struct Listeners {
    answering: OwnedFd,
    closing: OwnedFd,
}

/// A connection that is open.
struct Connection {
    socket: OwnedFd,
    sink: bool,
}

/// Serves as `options` say, until it is killed. It says where it listens, in a
/// line on stdout.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let ports = parse(options)?;
    let threads = match ports.threads {
        Threads::One => 1,
        Threads::OnePerCore => sandbox::core() + 1,
    };
    let all = (0..threads).map(|_| listen(ports)).collect::<Result<Vec<_>>>();
    let all = all.with_context(|| format!("cannot listen at {ports:?}"))?;
    if let Some(first) = all.first() {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "listening {} {}", port(&first.answering)?, port(&first.closing)?)?;
        stdout.flush()?;
    }
    if let [only] = &all[..] {
        return serve(only).context("cannot serve");
    }
    thread::scope(|scope| {
        for (cpu, listeners) in all.iter().enumerate() {
            scope.spawn(move || sandbox::hold_on(cpu).and_then(|()| serve(listeners)));
        }
    });
    bail!("nothing serves any more")
}

/// Returns the ports; the core is taken.
fn parse(options: &[&str]) -> Result<Ports> {
    let mut ports = Ports { answering: 0, closing: 0, threads: Threads::One };
    for pair in options.chunks(2) {
        match pair {
            ["--port", value] => ports.answering = value.parse().context("a port")?,
            ["--closing", value] => ports.closing = value.parse().context("a port")?,
            ["--cpu", "all"] => ports.threads = Threads::OnePerCore,
            ["--cpu", value] => sandbox::hold_on(value.parse().context("the number of a core")?)?,
            _ => bail!("`serve` does not know {}", pair.join(" ")),
        }
    }
    Ok(ports)
}

fn listen(ports: Ports) -> Result<Listeners> {
    let shared = ports.threads == Threads::OnePerCore;
    Ok(Listeners {
        answering: listener(ports.answering, shared)?,
        closing: listener(ports.closing, shared)?,
    })
}

/// A listener on every address; a `shared` port may have many.
pub(crate) fn listener(port: u16, shared: bool) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_socket_reuseport(&listener, shared)?;
    // Connections have it from their listener.
    sockopt::set_tcp_congestion(&listener, CONGESTION_CONTROL)?;
    rustix::net::bind(&listener, &SocketAddr::from(([0, 0, 0, 0], port)))?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn port(listener: &OwnedFd) -> Result<u16> {
    Ok(SocketAddr::try_from(rustix::net::getsockname(listener)?)?.port())
}

fn serve(listeners: &Listeners) -> Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let Listeners { answering, closing } = listeners;
    for (listener, key) in [(answering, LISTENER), (closing, CLOSING_LISTENER)] {
        epoll::add(&poll, listener, EventData::new_u64(key), EventFlags::IN)?;
    }
    let mut open: HashMap<u64, Connection> = HashMap::new();
    let mut next = CLOSING_LISTENER + 1;
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; BUFFER];
    loop {
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    while let Some(socket) = take(answering) {
                        let mut connection = Connection { socket, sink: false };
                        // Most of them have sent their request already.
                        if connection.answer(&mut buffer) == After::Open {
                            let key = EventData::new_u64(next);
                            epoll::add(&poll, &connection.socket, key, EventFlags::IN)?;
                            open.insert(next, connection);
                            next += 1;
                        }
                    }
                }
                CLOSING_LISTENER => while take(closing).is_some() {},
                key => {
                    let connection = open.get_mut(&key);
                    if connection.is_none_or(|c| c.answer(&mut buffer) == After::Done) {
                        open.remove(&key);
                    }
                }
            }
        }
    }
}

/// The next connection that waits.
pub(crate) fn take(listener: &OwnedFd) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).ok()
}

impl Connection {
    fn answer(&mut self, buffer: &mut [u8]) -> After {
        // A stream is read in large pieces; others send one small request.
        let size = if self.sink { buffer.len() } else { 4096 };
        let received = match rustix::io::read(&self.socket, &mut buffer[..size]) {
            Err(Errno::AGAIN) => return After::Open,
            Ok(0) | Err(_) => return After::Done,
            Ok(length) => &buffer[..length],
        };
        if self.sink || received.starts_with(&[SINK]) {
            self.sink = true;
            return After::Open;
        }
        if received.starts_with(b"GET ") || received.starts_with(b"HEAD ") {
            let _ = rustix::io::write(&self.socket, ANSWER);
            return After::Done;
        }
        match rustix::io::write(&self.socket, received) {
            Ok(length) if length == received.len() && received[0] != ONE_SHOT => After::Open,
            _ => After::Done,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api;

    #[test]
    fn http_is_answered_beside_open_connections() {
        let servers = start();
        let _idle = std::net::TcpStream::connect(servers.answering).unwrap();
        for _ in 0..3 {
            api::request(servers.answering).unwrap();
        }
    }

    /// Where a server listens on loopback, as long as the tests live.
    pub(crate) struct Servers {
        pub answering: SocketAddr,
        pub closing: SocketAddr,
    }

    pub(crate) fn start() -> Servers {
        let ports = Ports { answering: 0, closing: 0, threads: Threads::One };
        let listeners = listen(ports).unwrap();
        let local =
            |listener: &OwnedFd| SocketAddr::from(([127, 0, 0, 1], port(listener).unwrap()));
        let servers =
            Servers { answering: local(&listeners.answering), closing: local(&listeners.closing) };
        thread::spawn(move || serve(&listeners));
        servers
    }
}
