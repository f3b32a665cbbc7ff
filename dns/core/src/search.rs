//! Names that nobody else needs to be asked about.
//!
//! Stub resolvers append the suffixes of their search list, so that one question for
//! `web.marathon.mesos` becomes a second one for `web.marathon.mesos.example.com`, and
//! more. The same holds for names without a dot and for addresses of private networks
//! (RFC 6303): nobody outside can know them, and he should not learn that they are asked
//! for.
//!
//! What kind of "nothing" is said differs:
//!
//! * below an empty zone, NXDOMAIN with that zone's SOA record, so that it is remembered.
//!   For a name that a search list made, the zone is ours with the suffix: we say nothing
//!   about other names below the suffix, which is somebody else's. A name is made by a
//!   search list only if it lies below one of our zones: `mesos.example.com` itself may
//!   be a machine, and is asked for outside. A name that our zones hold something below
//!   (`0.0.10.in-addr.arpa`, with a node's address) exists and has no records: NXDOMAIN
//!   would hide what is below it from resolvers (RFC 8020);
//! * for a name without a dot, an empty answer without a SOA record: the root is not ours,
//!   and NXDOMAIN would let resolvers conclude that nothing exists below `com` (RFC 8020).

use crate::name::DnsName;
use crate::relayed::{HEADER, Relayed, Section};
use crate::zone::Zones;

/// How long clients may remember that there is nothing, in seconds.
const TTL: u32 = 300;
const NO_ERROR: u16 = 0;
const NXDOMAIN: u16 = 3;
const SOA: u16 = 6;
/// `nobody.invalid`, as RFC 6303, 3 has it.
const NOBODY: &[u8] = b"\x06nobody\x07invalid\x00";
/// A, AAAA, SVCB, HTTPS and ANY: what programs ask of a host's name. Others, such as DS
/// and DNSKEY of a top-level domain, are asked for outside.
const HOST_TYPES: [u16; 5] = [1, 28, 64, 65, 255];

/// Zones that are empty here whoever asks (RFC 6303, 4; RFC 7686). Those of
/// 172.16.0.0/12 and 100.64.0.0/10 are told by their numbers.
const EMPTY_ZONES: [&str; 19] = [
    "0.in-addr.arpa",
    "10.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "168.192.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
    "invalid",
    "onion",
];

/// Answers that need nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNames {
    search: Vec<DnsName>,
}

impl LocalNames {
    /// * `search` — suffixes that stub resolvers of this cluster append.
    #[must_use]
    pub fn new(search: Vec<DnsName>) -> Self {
        Self { search }
    }

    /// The answer for a name that is in none of `zones`; `None` if others may know it.
    ///
    /// * `wire` — the same name in wire form.
    /// * `kind` — number of the type that is asked for.
    #[must_use]
    pub fn answer(&self, zones: &Zones, name: &DnsName, wire: &[u8], kind: u16) -> Option<Relayed> {
        let labels = name.labels().count();
        if labels == 1 && HOST_TYPES.contains(&kind) {
            return Some(Relayed::bare(NO_ERROR, None));
        }
        let zone = empty_zone(name).or_else(|| self.made_by_search(zones, name))?;
        let code = if zones.node(name).is_some() { NO_ERROR } else { NXDOMAIN };
        Some(nothing(wire, labels.checked_sub(zone)?, kind, code))
    }

    /// How many labels the empty zone has in which a search list puts `name`.
    fn made_by_search(&self, zones: &Zones, name: &DnsName) -> Option<usize> {
        self.search.iter().find_map(|suffix| {
            let head = DnsName::root().under(name.before(suffix).filter(|head| !head.is_empty())?);
            let zone = zones.locate(&head)?.apex_shown;
            (zone != head).then(|| zone.labels().count() + suffix.labels().count())
        })
    }
}

/// How many labels the empty zone has that holds `name`.
fn empty_zone(name: &DnsName) -> Option<usize> {
    let holds = |suffix: &&str| EMPTY_ZONES.contains(suffix) || is_numbered_zone(suffix);
    name.lineage().find(holds).map(|suffix| suffix.split('.').count())
}

fn is_numbered_zone(suffix: &str) -> bool {
    let number = |tail| suffix.strip_suffix(tail).and_then(|head: &str| head.parse::<u8>().ok());
    number(".172.in-addr.arpa").is_some_and(|number| (16..32).contains(&number))
        || number(".100.in-addr.arpa").is_some_and(|number| (64..128).contains(&number))
}

/// What an empty zone says of a name that has `above` labels above the zone's.
///
/// * `code` — whether the name exists.
fn nothing(wire: &[u8], above: usize, kind: u16, code: u16) -> Relayed {
    let start = (0..above).fold(0, |at, _| at + 1 + wire.get(at).map_or(0, |l| usize::from(*l)));
    let record = start_of_authority(u16::try_from(HEADER + start).unwrap_or(0));
    // Behind the record's name, type and class.
    let ttl_at = 6;
    match (above, kind) {
        (0, SOA) => Relayed::own(NO_ERROR, Section::Answer, &record, ttl_at),
        (0, _) => Relayed::own(NO_ERROR, Section::Authority, &record, ttl_at),
        _ => Relayed::own(code, Section::Authority, &record, ttl_at),
    }
}

/// The SOA record of the zone whose name stands at `at` in the message.
fn start_of_authority(at: u16) -> Vec<u8> {
    let zone = (0xc000 | at).to_be_bytes();
    let times = [1, 3600, 1200, 604_800, TTL].map(u32::to_be_bytes).concat();
    let data = [&zone, NOBODY, &times].concat();
    let length = u16::try_from(data.len()).unwrap_or(0).to_be_bytes();
    [&zone, [0, 6, 0, 1].as_slice(), &TTL.to_be_bytes(), &length, &data].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::owner::OwnerKey;
    use crate::record::{Data, Record};
    use crate::relayed::{Age, Asker};
    use hickory_proto::op::Message;
    use hickory_proto::rr::Name;

    fn parse(name: &str) -> DnsName {
        DnsName::parse(name).expect("a name")
    }

    fn said(name: &str, kind: u16) -> Option<(u16, Vec<String>)> {
        let search = ["example.com", "marathon.mesos"].map(|s| DnsName::parse(s).expect("a name"));
        let local = LocalNames::new(search.into());
        let mut zones = Zones::new(&Options::default());
        zones.set(
            OwnerKey::Static("a".into()),
            vec![
                Record::new(parse("3.0.9.10.in-addr.arpa"), 5, Data::Ptr(parse("a.example"))),
                Record::new(parse("a.b.mesos.example.com"), 5, Data::A([10, 0, 9, 3].into())),
            ],
        );
        let wire = Name::from_ascii(format!("{name}.")).expect("a name");
        let wire: Vec<u8> = wire
            .iter()
            .flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l].concat())
            .chain([0])
            .collect();
        let answer = local.answer(&zones, &DnsName::parse(name).expect("a name"), &wire, kind)?;
        let asker = Asker {
            id: 7,
            name: &wire,
            kind,
            class: 1,
            recursion_desired: true,
            checking_disabled: false,
            room: 512,
            opt: None,
        };
        let mut buffer = [0; 512];
        let length = answer.write(&asker, Age::Fresh(0), 0, &mut buffer).expect("room");
        let message = Message::from_vec(&buffer[..length]).expect("a message");
        let section = |mark: &str, records: &[hickory_proto::rr::Record]| {
            let line =
                |r: &hickory_proto::rr::Record| format!("{mark}{} {}", r.name, r.record_type());
            records.iter().map(line).collect::<Vec<_>>()
        };
        let lines = [section("", &message.answers), section("+", &message.authorities)].concat();
        Some((u16::from(message.metadata.response_code), lines))
    }

    #[test]
    fn every_kind_of_local_name() {
        const A: u16 = 1;
        const PTR: u16 = 12;
        const DS: u16 = 43;
        const NS: u16 = 2;
        let in_zone = |code, line: &str| Some((code, vec![line.to_owned()]));
        #[rustfmt::skip]
        let table = [
            ("web.marathon.mesos.example.com",  A,   in_zone(3, "+mesos.example.com. SOA")),
            ("ready.spartan.Example.COM",       A,   in_zone(3, "+spartan.Example.COM. SOA")),
            ("x.l4lb.thisdcos.directory.example.com", A, in_zone(3, "+l4lb.thisdcos.directory.example.com. SOA")),
            ("mesos.example.com",               A,   None),
            ("www.example.com",                 A,   None),
            ("www.example.org",                 A,   None),
            ("example.com",                     A,   None),
            ("web.marathon.mesos.example.org",  A,   None),
            ("host",                            A,   Some((0, vec![]))),
            ("com",                             DS,  None),
            ("com",                             NS,  None),
            ("5.0.0.10.in-addr.arpa",           PTR, in_zone(3, "+10.in-addr.arpa. SOA")),
            ("9.10.in-addr.arpa",               PTR, in_zone(0, "+10.in-addr.arpa. SOA")),
            ("0.9.10.in-addr.arpa",             PTR, in_zone(0, "+10.in-addr.arpa. SOA")),
            ("x.3.0.9.10.in-addr.arpa",         PTR, in_zone(3, "+10.in-addr.arpa. SOA")),
            ("b.mesos.example.com",             A,   in_zone(0, "+mesos.example.com. SOA")),
            ("10.in-addr.arpa",                 SOA, in_zone(0, "10.in-addr.arpa. SOA")),
            ("10.in-addr.arpa",                 NS,  in_zone(0, "+10.in-addr.arpa. SOA")),
            ("1.1.16.172.in-addr.arpa",         PTR, in_zone(3, "+16.172.in-addr.arpa. SOA")),
            ("1.1.31.172.in-addr.arpa",         PTR, in_zone(3, "+31.172.in-addr.arpa. SOA")),
            ("1.1.32.172.in-addr.arpa",         PTR, None),
            ("1.1.64.100.in-addr.arpa",         PTR, in_zone(3, "+64.100.in-addr.arpa. SOA")),
            ("1.1.128.100.in-addr.arpa",        PTR, None),
            ("1.2.168.192.in-addr.arpa",        PTR, in_zone(3, "+168.192.in-addr.arpa. SOA")),
            ("8.8.8.8.in-addr.arpa",            PTR, None),
            ("1.d.f.ip6.arpa",                  PTR, in_zone(3, "+d.f.ip6.arpa. SOA")),
            ("1.e.f.ip6.arpa",                  PTR, None),
            ("x.onion",                         A,   in_zone(3, "+onion. SOA")),
        ];
        for (name, kind, want) in table {
            assert_eq!(said(name, kind), want, "{name} {kind}");
        }
        assert_eq!(said("", A), None, "the root");
    }
}
