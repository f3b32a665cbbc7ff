//! Rules for packets that this machine passes on: overlays kept apart, TCP made to fit.

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    Bitwise, DataAttribute, Expressions, Immediate, MetaKey, Operator, Register, Verdict,
    VerdictAttribute,
};

use super::{REGISTER, Side, compare, compare_net, link_name, load, load_bytes, other};

/// A rule for packets that are passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardRule {
    /// What has any of these bits in its mark passes, whatever later rules say.
    PassMarked {
        /// The bits.
        bits: u32,
    },
    /// What came by this link is not for that network, unless the sender meant a published
    /// port of this machine: dropped.
    DropTo {
        /// The link.
        link: String,
        /// The network.
        network: IpNet,
    },
    /// What leaves by this link is not from that network, with the same exception: dropped.
    DropFrom {
        /// The link.
        link: String,
        /// The network.
        network: IpNet,
    },
    /// TCP connections that leave by this link have no larger segments than their route takes.
    FitSegments {
        /// The link.
        link: String,
    },
}

impl ForwardRule {
    pub(super) fn expressions(&self) -> Vec<Expressions> {
        match self {
            Self::PassMarked { bits } => {
                let marked = [load(MetaKey::Mark), masked(bits.to_ne_bytes().to_vec())];
                let mut list = marked.to_vec();
                list.extend([compare(Operator::NotEqual, vec![0; 4]), pass_it()]);
                list
            }
            Self::DropTo { link, network } => {
                let mut list = by_link(MetaKey::Iifname, link);
                list.extend(of_network(Side::Destination, network));
                list.extend(not_redirected());
                list.push(drop_it());
                list
            }
            Self::DropFrom { link, network } => {
                let mut list = by_link(MetaKey::Oifname, link);
                list.extend(of_network(Side::Source, network));
                list.extend(not_redirected());
                list.push(drop_it());
                list
            }
            Self::FitSegments { link } => {
                let mut list = by_link(MetaKey::Oifname, link);
                list.extend(fit_segments());
                list
            }
        }
    }
}

fn by_link(key: MetaKey, link: &str) -> Vec<Expressions> {
    vec![load(key), compare(Operator::Equal, link_name(link))]
}

fn of_network(side: Side, network: &IpNet) -> Vec<Expressions> {
    let protocol = match network {
        IpNet::V4(_) => NetfilterProtoFamily::IPv4,
        IpNet::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let mut list = vec![load(MetaKey::Nfproto), compare(Operator::Equal, vec![protocol.into()])];
    list.extend(compare_net(side, Operator::Equal, *network));
    list
}

/// Whether the connection's destination is the one that the sender wrote.
fn not_redirected() -> Vec<Expressions> {
    /// `NFT_CT_STATUS` and `IPS_DST_NAT` of the kernel.
    const STATUS: u32 = 2;
    const REDIRECTED: u32 = 1 << 5;
    vec![
        other("ct", &[(1, REGISTER.into()), (2, STATUS)]),
        masked(REDIRECTED.to_ne_bytes().to_vec()),
        compare(Operator::Equal, vec![0; 4]),
    ]
}

pub(super) fn drop_it() -> Expressions {
    decide(libc::NF_DROP)
}

fn pass_it() -> Expressions {
    decide(libc::NF_ACCEPT)
}

fn decide(verdict: libc::c_int) -> Expressions {
    let verdict = VerdictAttribute::Code(Verdict::Other(verdict as u32));
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![verdict])),
    ])
}

/// A TCP segment with SYN: its option of the largest segment becomes what the route takes, if
/// that is less.
fn fit_segments() -> Vec<Expressions> {
    /// Place of the flags in TCP's header, and SYN among them.
    const FLAGS_AT: u32 = 13;
    const SYN: u8 = 2;
    /// `NFT_RT_TCPMSS`.
    const SEGMENT: u32 = 3;
    /// `NFT_BYTEORDER_HTON`.
    const TO_NETWORK: u32 = 1;
    vec![
        load(MetaKey::L4Proto),
        compare(Operator::Equal, vec![libc::IPPROTO_TCP as u8]),
        load_bytes(libc::NFT_PAYLOAD_TRANSPORT_HEADER, FLAGS_AT, 1),
        masked(vec![SYN]),
        compare(Operator::NotEqual, vec![0]),
        other("rt", &[(1, REGISTER.into()), (2, SEGMENT)]),
        other(
            "byteorder",
            &[(1, REGISTER.into()), (2, REGISTER.into()), (3, TO_NETWORK), (4, 2), (5, 2)],
        ),
        write_segment_option(),
    ]
}

/// Writes two bytes behind kind and length of the option.
fn write_segment_option() -> Expressions {
    /// The option's kind in TCP, and `NFT_EXTHDR_OP_TCPOPT`.
    const SEGMENT_SIZE: u8 = 2;
    const TCP_OPTION: u32 = 1;
    let number = |kind: u16, value: u32| DefaultNla::new(kind, value.to_be_bytes().to_vec());
    Expressions::Other {
        expression_type: "exthdr".to_owned(),
        attributes: vec![
            DefaultNla::new(2, vec![SEGMENT_SIZE]),
            number(3, 2),
            number(4, 2),
            number(6, TCP_OPTION),
            number(7, REGISTER.into()),
        ],
    }
}

fn masked(mask: Vec<u8>) -> Expressions {
    let length = mask.len();
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(REGISTER),
        Bitwise::DestinationRegister(REGISTER),
        Bitwise::Length(length as u32),
        Bitwise::Mask(DataAttribute::Value(mask)),
        Bitwise::Xor(DataAttribute::Value(vec![0; length])),
    ])
}
