//! The rules, which never change while the engine runs: which packets are queued,
//! shown, refused.
//!
//! ```text
//!  prerouting, output              raw  SYN, or datagram of no known flow, to an element of `vips` ─▶ queue
//!                                       (conntrack finds the entry that we wrote meanwhile)
//!                      behind conntrack datagram to an element of `vips` with an entry ─▶ `flows`
//!                                       SYN-ACK, FIN, RST from a backend, RST to a VIP,
//!                                       of a `watched` port ─▶ shown
//!  output, input                   nat  first packet that still goes to an element of `vips` ─▶ refused
//!  forward                      filter  anything that still goes there ─▶ refused
//!  prerouting, postrouting         nat  nothing: conntrack translates only where such chains are
//! ```
//!
//! One table for each address family, because a table for both cannot have chains for
//! address translation before Linux 5.2.

use ipnet::IpNet;

use crate::expression::{Field, Rule};
use crate::table::{
    Chain, Family, Filled, SetSpec, TYPE_BITS, TYPE_INTEGER, TYPE_PORT, TYPE_PROTOCOL, Table,
    octets,
};
use crate::uapi::conntrack;
use crate::wire::Messages;

/// Set of the VIPs: transport, address, port.
pub(crate) const VIPS: &str = "vips";
/// Set of the UDP flows whose datagrams need not be queued: source and destination.
pub(crate) const FLOWS: &str = "flows";
/// Set of the classes of client ports whose connections are shown.
pub(crate) const WATCHED: &str = "watched";

/// Bits of the lower byte of a port that make its class. The lowest is left out: it says
/// only whether a program had the kernel choose the port.
pub(crate) const CLASS_BITS: u8 = 0x3e;

/// How long a UDP flow stays known after its last datagram. Shorter than any time-out of
/// conntrack, so that a flow that is known has its entry; and a flow whose entry was removed
/// gets a new one after so long a pause at the latest.
const FLOW_MILLIS: u64 = 3_000;

/// VIPs of one family.
const VIPS_SIZE: u32 = 65_536;

/// Flows that can be known at a time; datagrams of others are queued one by one.
const FLOWS_SIZE: u32 = 262_144;

/// Bytes of a packet that are shown: headers of both layers, IPv6 with some extensions.
const SHOWN_BYTES: u32 = 96;

/// Just behind conntrack (-200), before addresses are translated (-100).
const BEHIND_CONNTRACK: i32 = -199;

/// Index of the loopback link, in every network namespace.
const LOOPBACK: u32 = 1;

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// How packets get into a queue; a fact of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueBy {
    /// The expression of nf_tables.
    Expression,
    /// The target of iptables inside an nf_tables rule.
    Target,
}

/// What the rules are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RulesSpec {
    /// Name of the tables.
    pub table: String,
    pub queue_by: QueueBy,
    pub first_queue: u16,
    pub queues: u16,
    /// Group of the packets that are shown.
    pub group: u16,
    /// Networks that VIPs come from: what goes there and is no VIP is refused as well.
    pub networks: Vec<IpNet>,
}

impl RulesSpec {
    /// Adds the requests that make table, sets, chains and rules of one family; each set has
    /// `watched` client port classes and no VIP.
    pub fn write(&self, requests: &mut Messages, family: Family, mark: &str, watched: &[u8]) {
        let mut table = Table { requests, family, name: &self.table, mark };
        table.create();
        sets(family).iter().for_each(|set| table.set(set));
        table.elements(WATCHED, watched.iter().map(std::slice::from_ref));
        for (name, hook) in
            [("raw-output", libc::NF_INET_LOCAL_OUT), ("raw-prerouting", libc::NF_INET_PRE_ROUTING)]
        {
            let chain = Chain { name, hook, priority: libc::NF_IP_PRI_RAW, kind: "filter" };
            table.chain(&chain);
            self.queueing(&mut table, name);
        }
        self.watching(&mut table);
        self.refusing(&mut table);
    }

    fn queueing(&self, table: &mut Table<'_>, chain: &str) {
        let family = table.family;
        let queue = |rule: &mut Rule<'_>| {
            match self.queue_by {
                QueueBy::Expression => rule.queue(self.first_queue, self.queues),
                QueueBy::Target => rule.queue_by_target(self.first_queue, self.queues),
            };
        };
        // Most packets are of this kind, and one rule is all that they meet.
        table.rule(chain, |rule| {
            let flags = rule.protocol(TCP).load(FLAGS, 0).mask(&[FIN | SYN | RST | ACK]);
            flags.differs_from(&[SYN]).accept();
        });
        table.rule(chain, |rule| {
            queue(service(rule.protocol(TCP), family).is_in(VIPS));
        });
        table.rule(chain, |rule| {
            service(rule.protocol(UDP), family).is_in(VIPS);
            queue(flow(rule, family).is_not_in(FLOWS));
        });
    }

    fn watching(&self, table: &mut Table<'_>) {
        let family = table.family;
        // What was shown on its way out is not shown again where it comes in by loopback.
        for (chain, hook, not_by) in [
            ("seen-output", libc::NF_INET_LOCAL_OUT, None),
            ("seen-prerouting", libc::NF_INET_PRE_ROUTING, Some(LOOPBACK)),
        ] {
            table.chain(&Chain { name: chain, hook, priority: BEHIND_CONNTRACK, kind: "filter" });
            // Most packets are of this kind, and one rule is all that they meet.
            table.rule(chain, |rule| {
                rule.protocol(TCP).load(FLAGS, 0).mask(&[FIN | SYN | RST]).equals(&[0]).accept();
            });
            let back = Seen { flags: FIN | SYN | RST, client_port: DESTINATION_PORT, direction: 1 };
            table.rule(chain, |rule| self.show(rule, not_by, back));
            let there = Seen { flags: RST, client_port: SOURCE_PORT, direction: 0 };
            table.rule(chain, |rule| self.show(rule, not_by, there));
            table.rule(chain, |rule| {
                service(rule.protocol(UDP), family).is_in(VIPS);
                rule.conntrack_has(libc::NFT_CT_STATUS, conntrack::IPS_DST_NAT);
                flow(rule, family).keep_in(FLOWS, FLOW_MILLIS);
            });
        }
    }

    fn show(&self, rule: &mut Rule<'_>, not_by: Option<u32>, seen: Seen) {
        rule.protocol(TCP).load(FLAGS, 0).mask(&[seen.flags]).differs_from(&[0]);
        if let Some(link) = not_by {
            rule.not_by_link(link);
        }
        rule.load(seen.client_port, 0).mask(&[CLASS_BITS]).is_in(WATCHED);
        rule.conntrack_has(libc::NFT_CT_STATUS, conntrack::IPS_DST_NAT).direction(seen.direction);
        rule.show(self.group, SHOWN_BYTES);
    }

    /// Refuses what has no entry. Chains for address translation meet packets only as long as
    /// their flow has none, so that this costs others nothing; there is no such chain for what is
    /// forwarded.
    fn refusing(&self, table: &mut Table<'_>) {
        translating(table);
        let priority = libc::NF_IP_PRI_FILTER;
        let hook = libc::NF_INET_FORWARD;
        table.chain(&Chain { name: "filter-forward", hook, priority, kind: "filter" });
        table.rule("filter-forward", |rule| {
            const ESTABLISHED: u32 = 1 << 1;
            const RELATED: u32 = 1 << 2;
            rule.conntrack_has(libc::NFT_CT_STATE, ESTABLISHED | RELATED).accept();
        });
        let family = table.family;
        let networks = self.networks.iter().filter(|net| Family::of(net.addr()) == family);
        let networks: Vec<&IpNet> = networks.collect();
        for name in ["nat-output", "nat-input", "filter-forward"] {
            for protocol in [TCP, UDP] {
                table.rule(name, |rule| {
                    service(rule.protocol(protocol), family).is_in(VIPS);
                    refuse(rule, family, protocol);
                });
                for net in &networks {
                    table.rule(name, |rule| {
                        rule.protocol(protocol).load(family.destination(), 0);
                        rule.mask(&octets(net.netmask())).equals(&octets(net.network()));
                        refuse(rule, family, protocol);
                    });
                }
            }
        }
    }
}

fn sets(family: Family) -> [SetSpec; 3] {
    use Filled::{ByPackets, ByRequests};
    let (cells, address) = (family.cells(), family.address_type());
    let types = |parts: [u32; 3]| parts.iter().fold(0, |sum, part| sum << TYPE_BITS | part);
    let vips = types([TYPE_PROTOCOL, address, TYPE_PORT]);
    let flows = types([address, address, TYPE_INTEGER]);
    let (vip_key, flow_key) = (4 * (2 + cells), 4 * (2 * cells + 1));
    [
        SetSpec {
            name: VIPS,
            id: 1,
            key: vip_key,
            types: vips,
            room: Some(VIPS_SIZE),
            filled: ByRequests,
        },
        SetSpec {
            name: FLOWS,
            id: 2,
            key: flow_key,
            types: flows,
            room: Some(FLOWS_SIZE),
            filled: ByPackets,
        },
        SetSpec {
            name: WATCHED,
            id: 3,
            key: 1,
            types: TYPE_INTEGER,
            room: None,
            filled: ByRequests,
        },
    ]
}

fn translating(table: &mut Table<'_>) {
    for (name, hook, priority) in [
        ("nat-prerouting", libc::NF_INET_PRE_ROUTING, libc::NF_IP_PRI_NAT_DST),
        ("nat-output", libc::NF_INET_LOCAL_OUT, libc::NF_IP_PRI_NAT_DST),
        ("nat-input", libc::NF_INET_LOCAL_IN, libc::NF_IP_PRI_NAT_SRC),
        ("nat-postrouting", libc::NF_INET_POST_ROUTING, libc::NF_IP_PRI_NAT_SRC),
    ] {
        table.chain(&Chain { name, hook, priority, kind: "nat" });
    }
}

/// A glimpse of a connection.
#[derive(Clone, Copy)]
struct Seen {
    /// One of them is set.
    flags: u8,
    /// The lower byte of the client's port.
    client_port: Field,
    /// 0 towards the VIP, before it is translated; 1 back.
    direction: u8,
}

const FLAGS: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 13, length: 1 };
const PORTS: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, length: 4 };
const TO_PORT: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length: 2 };
const SOURCE_PORT: Field = Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 1, length: 1 };
const DESTINATION_PORT: Field =
    Field { base: libc::NFT_PAYLOAD_TRANSPORT_HEADER, offset: 3, length: 1 };

/// Loads the key of [`VIPS`].
fn service<'a, 'b>(rule: &'a mut Rule<'b>, family: Family) -> &'a mut Rule<'b> {
    rule.load_protocol(0).load(family.destination(), 1).load(TO_PORT, 1 + family.cells())
}

/// Loads the key of [`FLOWS`].
fn flow<'a, 'b>(rule: &'a mut Rule<'b>, family: Family) -> &'a mut Rule<'b> {
    let cells = family.cells();
    rule.load(family.source(), 0).load(family.destination(), cells).load(PORTS, 2 * cells)
}

fn refuse(rule: &mut Rule<'_>, family: Family, protocol: u8) {
    match protocol {
        TCP => rule.reset(),
        _ => rule.unreachable(family.port_unreachable()),
    };
}
