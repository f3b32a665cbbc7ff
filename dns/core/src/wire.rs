//! Data of records as they are sent, without compression, and back.

use crate::name::DnsName;
use crate::record::{ALPN, Binding, Data, IPV4_HINT, IPV6_HINT, PORT, Start};
use crate::store::node::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use std::net::{Ipv4Addr, Ipv6Addr};

const PTR: u16 = 12;
const MX: u16 = 15;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
/// Bytes of the serial and the timers at the end of SOA data.
pub(crate) const SOA_NUMBERS: usize = 20;

impl Data {
    /// The number of its type.
    pub(crate) fn number(&self) -> u16 {
        self.kind().into()
    }

    /// Appends the data as they are sent; an SOA record's serial is 0.
    pub(crate) fn push_bytes(&self, out: &mut Vec<u8>) {
        match self {
            Self::A(address) => out.extend_from_slice(&address.octets()),
            Self::Aaaa(address) => out.extend_from_slice(&address.octets()),
            Self::Cname(name) | Self::Ns(name) | Self::Ptr(name) => name.push_wire(out),
            Self::Soa(start) => start.push_bytes(out),
            Self::Srv { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
                target.push_wire(out);
            }
            Self::Txt(texts) => {
                for text in texts {
                    let text = &text[..text.len().min(usize::from(u8::MAX))];
                    out.push(text.len() as u8);
                    out.extend_from_slice(text);
                }
            }
            Self::Mx { preference, exchange } => {
                out.extend_from_slice(&preference.to_be_bytes());
                exchange.push_wire(out);
            }
            Self::Svcb(binding) | Self::Https(binding) => out.extend(binding.to_bytes()),
            Self::Raw { bytes, .. } => out.extend_from_slice(bytes),
        }
    }

    /// Whether data of this type have a form of their own here.
    pub(crate) fn is_known(kind: u16) -> bool {
        matches!(kind, A | AAAA | CNAME | NS | PTR | SOA | SRV | TXT | MX | SVCB | HTTPS)
    }

    /// Reads what [`Self::push_bytes`] wrote.
    pub(crate) fn from_bytes(kind: u16, bytes: &[u8]) -> Self {
        Self::known(kind, bytes).unwrap_or_else(|| Self::Raw { kind, bytes: bytes.to_vec() })
    }

    fn known(kind: u16, bytes: &[u8]) -> Option<Self> {
        let name = || DnsName::from_bytes(bytes);
        Some(match kind {
            A => Self::A(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            AAAA => Self::Aaaa(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            CNAME => Self::Cname(name()?),
            NS => Self::Ns(name()?),
            PTR => Self::Ptr(name()?),
            SOA => Self::Soa(Box::new(Start::from_bytes(bytes)?)),
            SRV => {
                let (fixed, target) = bytes.split_first_chunk::<6>()?;
                let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
                let target = DnsName::from_bytes(target)?;
                Self::Srv { priority: word(0), weight: word(2), port: word(4), target }
            }
            TXT => Self::Txt(texts(bytes)?),
            MX => {
                let (preference, exchange) = bytes.split_first_chunk::<2>()?;
                let preference = u16::from_be_bytes(*preference);
                Self::Mx { preference, exchange: DnsName::from_bytes(exchange)? }
            }
            SVCB => Self::Svcb(Box::new(Binding::from_bytes(bytes)?)),
            HTTPS => Self::Https(Box::new(Binding::from_bytes(bytes)?)),
            _ => return None,
        })
    }
}

impl Start {
    fn push_bytes(&self, out: &mut Vec<u8>) {
        self.server.push_wire(out);
        self.mailbox.push_wire(out);
        for number in self.numbers(0) {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (names, numbers) = bytes.split_at_checked(bytes.len().checked_sub(SOA_NUMBERS)?)?;
        let (server, mailbox) = names.split_at_checked(DnsName::length_of(names)?)?;
        let number = |at: usize| {
            let bytes = [numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]];
            u32::from_be_bytes(bytes)
        };
        Some(Self {
            server: DnsName::from_bytes(server)?,
            mailbox: DnsName::from_bytes(mailbox)?,
            retry: u16::try_from(number(8)).ok()?,
            negative_ttl: number(16),
        })
    }
}

impl Binding {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (priority, rest) = bytes.split_first_chunk::<2>()?;
        let (target, mut rest) = rest.split_at_checked(DnsName::length_of(rest)?)?;
        let mut binding = Self {
            priority: u16::from_be_bytes(*priority),
            target: DnsName::from_bytes(target)?,
            alpn: Vec::new(),
            port: None,
            ipv4: Vec::new(),
            ipv6: Vec::new(),
        };
        while let Some(([a, b, c, d], after)) = rest.split_first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([*c, *d]));
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            binding.take(u16::from_be_bytes([*a, *b]), value)?;
        }
        rest.is_empty().then_some(binding)
    }

    /// Takes up a parameter; `None` for one that it has no place for.
    fn take(&mut self, number: u16, value: &[u8]) -> Option<()> {
        match number {
            ALPN => {
                let ids = texts(value)?.into_iter().map(String::from_utf8);
                self.alpn = ids.collect::<Result<_, _>>().ok()?;
            }
            PORT => self.port = Some(u16::from_be_bytes(value.try_into().ok()?)),
            IPV4_HINT => {
                self.ipv4 = whole(value.as_chunks())?.iter().map(|a| (*a).into()).collect();
            }
            IPV6_HINT => {
                self.ipv6 = whole::<16>(value.as_chunks())?.iter().map(|a| (*a).into()).collect();
            }
            _ => return None,
        }
        Some(())
    }
}

fn whole<'a, const N: usize>((chunks, rest): (&'a [[u8; N]], &[u8])) -> Option<&'a [[u8; N]]> {
    rest.is_empty().then_some(chunks)
}

/// Texts with their lengths in front.
fn texts(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = bytes.split_first() {
        let (text, after) = rest.split_at_checked(usize::from(*length))?;
        texts.push(text.to_vec());
        bytes = after;
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_survive_the_way_to_bytes_and_back() {
        let name = |text| DnsName::parse(text).expect("a name");
        let binding = Box::new(Binding {
            priority: 1,
            target: name("w.mesos"),
            alpn: vec!["h2".into(), "http/1.1".into()],
            port: Some(8080),
            ipv4: vec![[11, 0, 0, 7].into()],
            ipv6: vec!["fd01:c::7".parse().unwrap()],
        });
        let start = Start {
            server: name("ns1.mesos"),
            mailbox: name("root.ns1.mesos"),
            retry: 600,
            negative_ttl: 7,
        };
        let odd = DnsName::from_wire(
            &hickory_proto::rr::Name::from_labels([&b"a.b"[..], b"\0\\"]).expect("a name"),
        );
        let all = [
            Data::A([10, 0, 0, 1].into()),
            Data::Aaaa("fd00::1".parse().unwrap()),
            Data::Cname(odd),
            Data::Ns(DnsName::root()),
            Data::Ptr(name("a.b")),
            Data::Soa(Box::new(start)),
            Data::Srv { priority: 1, weight: 2, port: 3, target: name("t.mesos") },
            Data::Txt(vec![b"a".to_vec(), Vec::new(), vec![0; 255]]),
            Data::Mx { preference: 10, exchange: name("mx") },
            Data::Svcb(binding.clone()),
            Data::Https(binding),
            Data::Raw { kind: 4711, bytes: vec![1, 2, 3] },
            Data::Raw { kind: 1, bytes: vec![1, 2, 3] },
        ];
        for data in all {
            let mut bytes = Vec::new();
            data.push_bytes(&mut bytes);
            assert_eq!(Data::from_bytes(data.number(), &bytes), data);
            // hickory writes the same bytes.
            let record = data.to_wire(0).expect("a record");
            let mut wire = Vec::new();
            let mut encoder = hickory_proto::serialize::binary::BinEncoder::new(&mut wire);
            encoder.set_name_encoding(hickory_proto::serialize::binary::NameEncoding::Uncompressed);
            hickory_proto::serialize::binary::BinEncodable::emit(&record, &mut encoder)
                .expect("it is encoded");
            assert_eq!(wire, bytes, "{data:?}");
        }
    }
}
