//! Questions to a resolver.

use crate::{SOON, eventually};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Where the node's resolver answers.
pub const RESOLVER: &str = "198.51.100.1:53";

const TIMEOUT: Duration = Duration::from_secs(2);

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
    let mut question = Message::query();
    let name = Name::from_ascii(name).map_err(std::io::Error::other)?;
    question.add_query(Query::query(name, kind));
    question.metadata.recursion_desired = true;
    let bytes = question.to_vec().map_err(std::io::Error::other)?;
    let answer = match by {
        By::Udp => exchange_udp(at, &bytes)?,
        By::Tcp => exchange_tcp(at, &bytes)?,
    };
    Message::from_vec(&answer).map_err(std::io::Error::other)
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

fn exchange_udp(at: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.connect(at)?;
    socket.send(question)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
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
