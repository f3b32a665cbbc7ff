//! The program behind a VIP: one thread that answers HTTP, and echoes the rest. On
//! a port of their own, connections are closed as soon as they are taken: they
//! show what a connection costs, and nothing else.

use crate::sandbox::{self, CONGESTION_CONTROL};
use anyhow::{Context, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use std::collections::HashMap;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};

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
}

/// The two listeners.
struct Listeners {
    answering: TcpListener,
    closing: TcpListener,
}

/// Serves as `options` say, until it is killed. It says where it listens, in a
/// line on stdout.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    let ports = parse(options)?;
    let listeners = listen(ports).with_context(|| format!("cannot listen at {ports:?}"))?;
    let (answering, closing) =
        (listeners.answering.local_addr()?.port(), listeners.closing.local_addr()?.port());
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening {answering} {closing}").and_then(|()| stdout.flush())?;
    drop(stdout);
    serve(&listeners).context("cannot serve")
}

/// Returns the ports; the other options are carried out.
fn parse(options: &[&str]) -> Result<Ports> {
    let mut ports = Ports { answering: 0, closing: 0 };
    for pair in options.chunks(2) {
        match pair {
            ["--port", value] => ports.answering = value.parse().context("a port")?,
            ["--closing", value] => ports.closing = value.parse().context("a port")?,
            ["--cpu", value] => sandbox::hold_on(value.parse().context("the number of a core")?)?,
            _ => bail!("`serve` does not know {}", pair.join(" ")),
        }
    }
    Ok(ports)
}

fn listen(ports: Ports) -> Result<Listeners> {
    let listener = |port| -> Result<TcpListener> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
        listener.set_nonblocking(true)?;
        // Connections have it from their listener.
        sockopt::set_tcp_congestion(&listener, CONGESTION_CONTROL)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(listener)
    };
    Ok(Listeners { answering: listener(ports.answering)?, closing: listener(ports.closing)? })
}

fn serve(listeners: &Listeners) -> Result<()> {
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    let Listeners { answering, closing } = listeners;
    for (listener, key) in [(answering, LISTENER), (closing, CLOSING_LISTENER)] {
        epoll::add(&poll, listener, EventData::new_u64(key), EventFlags::IN)?;
    }
    let mut open: HashMap<u64, OwnedFd> = HashMap::new();
    let mut next = CLOSING_LISTENER + 1;
    let mut events = Vec::with_capacity(256);
    loop {
        match epoll::wait(&poll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => {
                    while let Some(connection) = take(answering) {
                        // Most of them have sent their request already.
                        if answer(&connection) == After::Open {
                            let key = EventData::new_u64(next);
                            epoll::add(&poll, &connection, key, EventFlags::IN)?;
                            open.insert(next, connection);
                            next += 1;
                        }
                    }
                }
                CLOSING_LISTENER => while take(closing).is_some() {},
                key => {
                    if open.get(&key).is_none_or(|connection| answer(connection) == After::Done) {
                        open.remove(&key);
                    }
                }
            }
        }
    }
}

/// The next connection that waits.
fn take(listener: &TcpListener) -> Option<OwnedFd> {
    accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC).ok()
}

fn answer(connection: &OwnedFd) -> After {
    let mut buffer = [0; 4096];
    let received = match rustix::io::read(connection, &mut buffer) {
        Err(Errno::AGAIN) => return After::Open,
        Ok(0) | Err(_) => return After::Done,
        Ok(length) => &buffer[..length],
    };
    if received.starts_with(b"GET ") || received.starts_with(b"HEAD ") {
        let _ = rustix::io::write(connection, ANSWER);
        return After::Done;
    }
    match rustix::io::write(connection, received) {
        Ok(length) if length == received.len() => After::Open,
        _ => After::Done,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api;
    use std::net::SocketAddr;

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
        let listeners = listen(Ports { answering: 0, closing: 0 }).unwrap();
        let local = |listener: &TcpListener| {
            SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()))
        };
        let servers =
            Servers { answering: local(&listeners.answering), closing: local(&listeners.closing) };
        std::thread::spawn(move || serve(&listeners));
        servers
    }
}
