//! Echo requests: how long another machine takes to answer, and the largest packet that reaches
//! it. Those of the latter nobody on the way may cut, so routers that drop what is too large
//! without a word are found as well.

use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout, set_ip_mtu_discover,
    set_ipv6_mtu_discover, set_socket_timeout,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// What is not answered in this time is asked once more, and then taken for lost.
const ANSWER: Duration = Duration::from_millis(300);
const TRIES: u16 = 2;
/// Every path of IPv6 takes this, and every sane one of IPv4.
const LEAST: u32 = 1280;
/// What other programs that ask for echoes send, in bytes.
const USUAL: u32 = 84;
/// Tells the probes of this process apart.
static PROBES: AtomicU16 = AtomicU16::new(0);
/// Closer than this nobody needs to know.
const STEP: u32 = 4;

/// Echo requests of one family.
struct Echo {
    request: u8,
    reply: u8,
    /// Bytes of the IP header, which the size of a packet includes.
    header: usize,
    /// Whether answers come with that header.
    with_header: bool,
}

const V4: Echo = Echo { request: 8, reply: 0, header: 20, with_header: true };
const V6: Echo = Echo { request: 128, reply: 129, header: 40, with_header: false };

/// The largest packet, up to `largest` bytes with its IP header, that `to` answers. `None` if
/// it does not answer at all. Takes some seconds where packets are lost.
///
/// # Errors
///
/// If this machine cannot send: no rights, or no way there.
pub fn probe_path(to: IpAddr, largest: u32) -> io::Result<Option<u32>> {
    let mut probe = Probe::open(to)?;
    if probe.reaches(largest)? {
        return Ok(Some(largest));
    }
    if largest <= LEAST || !probe.reaches(LEAST)? {
        return Ok(None);
    }
    let (mut good, mut bad) = (LEAST, largest);
    while bad - good > STEP {
        let middle = good.midpoint(bad);
        match probe.reaches(middle)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    Ok(Some(good))
}

/// Sends one echo request, and says how long its answer took; `None` if none came in `wait`.
///
/// # Errors
///
/// If this machine cannot send: no rights, or no way there.
pub fn echo(to: IpAddr, wait: Duration) -> io::Result<Option<Duration>> {
    let probe = Probe::open(to)?;
    set_socket_timeout(&probe.socket, Timeout::Recv, Some(wait))?;
    let started = Instant::now();
    send(&probe.socket, &probe.request(USUAL), SendFlags::empty())?;
    Ok(probe.hears(wait)?.then(|| started.elapsed()))
}

struct Probe {
    socket: OwnedFd,
    echo: Echo,
    identifier: u16,
    sequence: u16,
}

impl Probe {
    fn open(to: IpAddr) -> io::Result<Self> {
        let (family, protocol, echo) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, V4),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, V6),
        };
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol))?;
        match to {
            IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE)?,
            IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?,
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER))?;
        connect(&socket, &SocketAddr::new(to, 0))?;
        let number = PROBES.fetch_add(1, Ordering::Relaxed);
        let identifier = (std::process::id() as u16).wrapping_add(number.rotate_right(8));
        Ok(Self { socket, echo, identifier, sequence: 0 })
    }

    fn reaches(&mut self, size: u32) -> io::Result<bool> {
        for _ in 0..TRIES {
            self.sequence = self.sequence.wrapping_add(1);
            match send(&self.socket, &self.request(size), SendFlags::empty()) {
                Ok(_) => {}
                // This machine's own link takes no more.
                Err(Errno::MSGSIZE) => return Ok(false),
                // An answer to an earlier one: that it was too large, for instance.
                Err(Errno::CONNREFUSED | Errno::HOSTUNREACH) => continue,
                Err(error) => return Err(error.into()),
            }
            if self.hears(ANSWER)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the answer to the last request comes in time.
    fn hears(&self, wait: Duration) -> io::Result<bool> {
        let mut buffer = [0; 128];
        let until = Instant::now() + wait;
        while Instant::now() < until {
            let (_, length) = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR | Errno::MSGSIZE | Errno::HOSTUNREACH) => continue,
                Err(error) => return Err(error.into()),
            };
            let packet = buffer.get(..length.min(buffer.len())).unwrap_or_default();
            if self.is_answer(packet) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_answer(&self, packet: &[u8]) -> bool {
        // The length of IPv4's header is in its first byte, in words.
        let skip = match packet.first() {
            Some(first) if self.echo.with_header => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let message = packet.get(skip..).unwrap_or_default();
        let [identifier, sequence] = [self.identifier, self.sequence].map(u16::to_be_bytes);
        message.first() == Some(&self.echo.reply)
            && message.get(4..8) == Some(&[identifier, sequence].concat()[..])
    }

    /// A packet of `size` bytes with its IP header, which the kernel writes.
    fn request(&self, size: u32) -> Vec<u8> {
        let length = (size as usize).saturating_sub(self.echo.header).max(8);
        let mut message = vec![0; length];
        message[0] = self.echo.request;
        message[4..6].copy_from_slice(&self.identifier.to_be_bytes());
        message[6..8].copy_from_slice(&self.sequence.to_be_bytes());
        // The kernel does it for IPv6 itself, whatever is there.
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        message
    }
}

/// The Internet checksum (RFC 1071) of a message whose own checksum is zero.
fn checksum(message: &[u8]) -> u16 {
    let word =
        |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default());
    let mut sum: u32 = message.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_an_echo_request() {
        assert_eq!(checksum(&[8, 0, 0, 0, 0x12, 0x34, 0, 1]), 0xe5ca);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }
}
