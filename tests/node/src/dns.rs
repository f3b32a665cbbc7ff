//! Questions to a resolver.

use crate::{SOON, eventually};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Where the node's resolver answers.
pub const RESOLVER: &str = "198.51.100.1:53";

/// For an answer, unless something is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a question travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A datagram each way.
    Udp,
    /// A connection.
    Tcp,
}

/// Asks once.
///
/// # Errors
///
/// If no answer comes, or none that can be read.
pub fn ask(by: By, at: SocketAddr, name: &str, kind: RecordType) -> std::io::Result<Message> {
    match by {
        By::Udp => Waiting::ask(at, name, kind)?.receive(TIMEOUT),
        By::Tcp => {
            let answer = exchange_tcp(at, &question(name, kind)?)?;
            Message::from_vec(&answer).map_err(std::io::Error::other)
        }
    }
}

/// Asks for addresses by UDP, and once more if there is no answer `after` a while; says whether
/// it had to. The answer may be that to either question.
///
/// # Errors
///
/// If nobody listens, or no answer comes.
pub fn ask_twice(at: SocketAddr, name: &str, after: Duration) -> std::io::Result<(Message, u32)> {
    let waiting = Waiting::ask(at, name, RecordType::A)?;
    match waiting.receive(after) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            waiting.socket.send(&waiting.question)?;
            Ok((waiting.answer()?, 1))
        }
        received => Ok((received?, 0)),
    }
}

/// A question that was sent by UDP.
#[derive(Debug)]
pub struct Waiting {
    socket: UdpSocket,
    question: Vec<u8>,
}

impl Waiting {
    /// Asks.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub fn ask(at: SocketAddr, name: &str, kind: RecordType) -> std::io::Result<Self> {
        let question = question(name, kind)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(at)?;
        socket.send(&question)?;
        Ok(Self { socket, question })
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// If none comes in a time in which every daemon starts.
    pub fn answer(&self) -> std::io::Result<Message> {
        self.receive(SOON)
    }

    fn receive(&self, limit: Duration) -> std::io::Result<Message> {
        self.socket.set_read_timeout(Some(limit))?;
        let mut answer = vec![0; 4096];
        let length = self.socket.recv(&mut answer)?;
        Message::from_vec(&answer[..length]).map_err(std::io::Error::other)
    }
}

/// Addresses of a name; empty if there are none.
///
/// # Panics
///
/// If the resolver does not answer.
#[must_use]
pub fn addresses(by: By, name: &str) -> Vec<IpAddr> {
    addresses_of(&must_ask(by, name, RecordType::A))
}

/// IPv4 addresses in an answer.
#[must_use]
pub fn addresses_of(answer: &Message) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0.into()),
            _ => None,
        })
        .collect();
    addresses.sort();
    addresses
}

/// Ports and targets of a service.
///
/// # Panics
///
/// If the resolver does not answer.
#[must_use]
pub fn services(by: By, name: &str) -> Vec<(u16, String)> {
    let answer = must_ask(by, name, RecordType::SRV);
    let mut services: Vec<(u16, String)> = answer
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(service) => Some((service.port, service.target.to_ascii())),
            _ => None,
        })
        .collect();
    services.sort();
    services
}

/// Whether there is no such name.
///
/// # Panics
///
/// If the resolver does not answer.
#[must_use]
pub fn is_unknown(by: By, name: &str) -> bool {
    must_ask(by, name, RecordType::A).metadata.response_code == ResponseCode::NXDomain
}

/// Waits until a name has these addresses.
pub fn await_addresses(name: &str, want: &[IpAddr]) {
    let mut want = want.to_vec();
    want.sort();
    eventually(&format!("{name} has the addresses {want:?}"), SOON, || {
        (addresses(By::Udp, name) == want).then_some(())
    });
}

/// The node's resolver.
///
/// # Panics
///
/// Never.
#[must_use]
pub fn resolver() -> SocketAddr {
    RESOLVER.parse().expect("an address")
}

fn must_ask(by: By, name: &str, kind: RecordType) -> Message {
    ask(by, resolver(), name, kind).unwrap_or_else(|error| panic!("{kind} {name}: {error}"))
}

fn question(name: &str, kind: RecordType) -> std::io::Result<Vec<u8>> {
    let mut question = Message::query();
    let name = Name::from_ascii(name).map_err(std::io::Error::other)?;
    question.add_query(Query::query(name, kind));
    question.metadata.recursion_desired = true;
    question.to_vec().map_err(std::io::Error::other)
}

fn exchange_tcp(at: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
