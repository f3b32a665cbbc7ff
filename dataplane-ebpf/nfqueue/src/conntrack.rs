//! Entries of conntrack: how a flow is translated.

use std::net::{IpAddr, SocketAddr};

use crate::packet::Flow;
use crate::table::Family;
use crate::uapi::{conntrack as ct, message};
use crate::wire::{Attributes, Head, Message, Messages, read_be16, read_be32};
use crate::words::{TCP, UDP};

/// Seconds for which an entry waits for the packet that it was written for.
const WAIT: u32 = 10;

/// How a flow's packets are to be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// Where they go instead.
    pub backend: SocketAddr,
    /// Whose they seem to be.
    pub source: Source,
}

/// What a backend sees of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Address and port. The entry is refused if that is how another flow comes to the backend.
    Kept,
    /// Its address, and the port if that is free.
    AnyPort,
    /// Another address, with any port.
    Replaced(IpAddr),
}

/// An entry as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub flow: Flow,
    /// Where its packets go; the flow's own destination if they are not changed.
    pub backend: SocketAddr,
    pub stage: Stage,
}

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its destination is not translated.
    Foreign,
    /// TCP: nobody has answered yet.
    Asked,
    /// TCP: it is established, or nearly; UDP: it exists.
    Alive,
    /// TCP: at least one side has ended.
    Ending,
}

/// Adds the request for a new entry; the kernel refuses it if there is one.
pub(crate) fn write_insert(m: &mut Messages, sequence: u32, flow: &Flow, to: &Translation) {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    m.message(head(message::CONNTRACK_NEW, flags, sequence, flow), |m| {
        write_tuple(m, ct::TUPLE_ORIG, flow);
        let Flow { protocol, source, destination } = *flow;
        let reply = Flow { protocol, source: destination, destination: source };
        write_tuple(m, ct::TUPLE_REPLY, &reply);
        m.be32(ct::TIMEOUT, WAIT);
        if protocol == TCP {
            m.nest(ct::PROTOINFO, |m| {
                m.nest(ct::PROTOINFO_TCP, |m| m.attribute(ct::TCP_STATE, &[ct::TCP_SYN_SENT]));
            });
        }
        m.nest(ct::NAT_DST, |m| write_range(m, to.backend.ip(), Some(to.backend.port())));
        let (address, port) = match to.source {
            Source::Kept => (source.ip(), Some(source.port())),
            Source::AnyPort => (source.ip(), None),
            Source::Replaced(address) => (address, None),
        };
        m.nest(ct::NAT_SRC, |m| write_range(m, address, port));
    });
}

/// Adds the request for the entry of a flow.
pub(crate) fn write_get(m: &mut Messages, sequence: u32, flow: &Flow) {
    let head = head(message::CONNTRACK_GET, 0, sequence, flow);
    m.message(head, |m| write_tuple(m, ct::TUPLE_ORIG, flow));
}

/// Adds the request for the entry whose answers are `reply`.
pub(crate) fn write_get_by_reply(m: &mut Messages, sequence: u32, reply: &Flow) {
    let head = head(message::CONNTRACK_GET, 0, sequence, reply);
    m.message(head, |m| write_tuple(m, ct::TUPLE_REPLY, reply));
}

/// Adds the request to delete the entry of a flow.
pub(crate) fn write_delete(m: &mut Messages, sequence: u32, flow: &Flow) {
    let head = head(message::CONNTRACK_DELETE, 0, sequence, flow);
    m.message(head, |m| write_tuple(m, ct::TUPLE_ORIG, flow));
}

/// Adds the request for all entries of a family.
pub(crate) fn write_dump(m: &mut Messages, family: Family) {
    let flags = libc::NLM_F_DUMP as u16;
    let kind = message::CONNTRACK_GET;
    m.message(Head { kind, flags, sequence: 0, family: family.number(), resource: 0 }, |_| {});
}

impl Entry {
    /// Reads an entry of TCP or UDP.
    pub fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != message::CONNTRACK_NEW {
            return None;
        }
        let attributes = message.attributes();
        let flow = read_tuple(attributes.inside(ct::TUPLE_ORIG))?;
        let backend = read_tuple(attributes.inside(ct::TUPLE_REPLY))?.source;
        let status = attributes.find(ct::STATUS).map_or(0, read_be32);
        let tcp = attributes.inside(ct::PROTOINFO).inside(ct::PROTOINFO_TCP);
        let state = tcp.find(ct::TCP_STATE).and_then(<[u8]>::first);
        let stage = match state {
            _ if status & ct::IPS_DST_NAT == 0 => Stage::Foreign,
            Some(&(ct::TCP_SYN_SENT | ct::TCP_SYN_SENT2)) => Stage::Asked,
            Some(&(ct::TCP_SYN_RECV | ct::TCP_ESTABLISHED)) | None => Stage::Alive,
            Some(_) => Stage::Ending,
        };
        Some(Self { flow, backend, stage })
    }
}

fn head(kind: u16, flags: u16, sequence: u32, flow: &Flow) -> Head {
    let family = Family::of(flow.destination.ip()).number();
    Head { kind, flags, sequence, family, resource: 0 }
}

fn write_tuple(m: &mut Messages, kind: u16, flow: &Flow) {
    m.nest(kind, |m| {
        m.nest(ct::TUPLE_IP, |m| match (flow.source.ip(), flow.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                m.attribute(ct::IP_V4_SRC, &source.octets());
                m.attribute(ct::IP_V4_DST, &destination.octets());
            }
            (source, destination) => {
                m.attribute(ct::IP_V6_SRC, &octets16(source));
                m.attribute(ct::IP_V6_DST, &octets16(destination));
            }
        });
        m.nest(ct::TUPLE_PROTO, |m| {
            m.attribute(ct::PROTO_NUM, &[flow.protocol]);
            m.be16(ct::PROTO_SRC_PORT, flow.source.port());
            m.be16(ct::PROTO_DST_PORT, flow.destination.port());
        });
    });
}

fn read_tuple(tuple: Attributes<'_>) -> Option<Flow> {
    let ip = tuple.inside(ct::TUPLE_IP);
    let proto = tuple.inside(ct::TUPLE_PROTO);
    let address = |v4: u16, v6: u16| -> Option<IpAddr> {
        match ip.find(v4) {
            Some(octets) => Some((*octets.first_chunk::<4>()?).into()),
            None => Some((*ip.find(v6)?.first_chunk::<16>()?).into()),
        }
    };
    let port = |kind: u16| proto.find(kind).map(read_be16);
    let protocol = *proto.find(ct::PROTO_NUM)?.first()?;
    let source = SocketAddr::new(address(ct::IP_V4_SRC, ct::IP_V6_SRC)?, port(ct::PROTO_SRC_PORT)?);
    let destination =
        SocketAddr::new(address(ct::IP_V4_DST, ct::IP_V6_DST)?, port(ct::PROTO_DST_PORT)?);
    matches!(protocol, TCP | UDP).then_some(Flow { protocol, source, destination })
}

/// The one address that the kernel may choose, and the one port if it is to be that.
fn write_range(m: &mut Messages, address: IpAddr, port: Option<u16>) {
    match address {
        IpAddr::V4(address) => {
            m.attribute(ct::NAT_V4_MINIP, &address.octets());
            m.attribute(ct::NAT_V4_MAXIP, &address.octets());
        }
        IpAddr::V6(address) => {
            m.attribute(ct::NAT_V6_MINIP, &address.octets());
            m.attribute(ct::NAT_V6_MAXIP, &address.octets());
        }
    }
    if let Some(port) = port {
        m.nest(ct::NAT_PROTO, |m| {
            m.be16(ct::PROTONAT_PORT_MIN, port);
            m.be16(ct::PROTONAT_PORT_MAX, port);
        });
    }
}

fn octets16(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages;

    #[test]
    fn an_entry_is_read_as_the_kernel_writes_it() {
        let at = |text: &str| text.parse().expect("an address");
        for (client, vip, backend) in [
            ("10.0.0.1:4000", "11.0.0.1:80", "10.0.0.2:8080"),
            ("[fd00::1]:4000", "[fd01:c::1]:80", "[fd00::2]:8080"),
        ] {
            let flow = Flow { protocol: TCP, source: at(client), destination: at(vip) };
            let mut m = Messages::default();
            m.message(head(message::CONNTRACK_NEW, 0, 3, &flow), |m| {
                write_tuple(m, ct::TUPLE_ORIG, &flow);
                let reply = Flow { source: at(backend), destination: at(client), ..flow };
                write_tuple(m, ct::TUPLE_REPLY, &reply);
                m.be32(ct::STATUS, ct::IPS_DST_NAT);
                m.nest(ct::PROTOINFO, |m| {
                    m.nest(ct::PROTOINFO_TCP, |m| m.attribute(ct::TCP_STATE, &[7]));
                });
            });
            let message = messages(m.bytes()).next().expect("a message");
            let entry = Entry { flow, backend: at(backend), stage: Stage::Ending };
            assert_eq!(Entry::read(&message), Some(entry));
        }
    }
}
