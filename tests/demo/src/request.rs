//! One request, and the backend that it was led to if it takes long.

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

/// A request is given up after this long without an answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// After this long it is worth a look where it went.
const SLOW: Duration = Duration::from_millis(100);

/// A request that was not answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Lost {
    /// Why.
    pub why: String,
    /// When it began, since 1970: nodes of one machine share its clock.
    pub began: Duration,
    /// The backend that it was led to, if it lasted long enough for a look.
    pub backend: Option<SocketAddr>,
}

/// One request on a connection of its own; the answer's body, trimmed.
pub(crate) fn request(address: SocketAddr) -> Result<String> {
    asked(address, &mut None)
}

/// The same for somebody who wants to know what became of it otherwise.
pub(crate) fn request_or_lost(address: SocketAddr) -> Result<String, Lost> {
    let (began, mut backend) = (now(), None);
    asked(address, &mut backend).map_err(|error| Lost { why: format!("{error:#}"), began, backend })
}

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn asked(address: SocketAddr, backend: &mut Option<SocketAddr>) -> Result<String> {
    let mut stream = connect(address, backend).context("connect")?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: demo\r\n\r\n").context("send")?;
    if !is_ready(&stream, PollFlags::IN, SLOW)? {
        *backend = led_to(&stream);
    }
    let mut answer = String::new();
    if let Err(error) = stream.read_to_string(&mut answer) {
        // The cable may be pulled in the middle of an answer.
        *backend = backend.or_else(|| led_to(&stream));
        return Err(error).context("receive");
    }
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    if !head.contains(" 200 ") {
        bail!("the answer is {}", head.lines().next().unwrap_or(head));
    }
    Ok(body.trim().to_owned())
}

fn connect(address: SocketAddr, backend: &mut Option<SocketAddr>) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            return Err(error.into());
        }
        _ => {}
    }
    if !is_ready(&socket, PollFlags::OUT, SLOW)? {
        *backend = led_to(&socket);
        if !is_ready(&socket, PollFlags::OUT, TIMEOUT - SLOW)? {
            bail!("no answer within {TIMEOUT:?}");
        }
    }
    if let Some(error) = socket.take_error()? {
        return Err(error.into());
    }
    socket.set_nonblocking(false)?;
    Ok(socket.into())
}

fn is_ready(socket: &impl rustix::fd::AsFd, what: PollFlags, wait: Duration) -> Result<bool> {
    let wait = Timespec::try_from(wait)?;
    Ok(poll(&mut [PollFd::new(socket, what)], Some(&wait))? > 0)
}

/// Whom a socket is really connected to, as the kernel has it: `getpeername` shows the VIP.
fn led_to(socket: &impl rustix::fd::AsFd) -> Option<SocketAddr> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino.to_string();
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = row.into_iter().find(|row| row.get(9) == Some(&inode.as_str()))?;
    let (address, port) = row.get(2)?.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
    Some((Ipv4Addr::from(address), u16::from_str_radix(port, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn who_does_not_answer_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        assert_eq!(led_to(&stream), Some(address));
        let lost = request_or_lost(address).unwrap_err();
        assert_eq!(lost.backend, Some(address), "{lost:?}");
        assert!(lost.began <= now() && !lost.why.is_empty());
        drop(listener);
        assert_eq!(request_or_lost(address).unwrap_err().backend, None, "it was refused at once");
    }
}
