//! Network policy, as maps hold it.
//!
//! ```text
//! POLICY_CLASSES[prefix] ─▶ Class                          whose address it is
//! POLICY_RULES[classes of both ends, protocol, port] ─▶ Ruling     what the rules say
//! POLICY_FLOWS[both ends] ─▶ Flow                          datagrams that were allowed: answers pass
//! POLICY_LOCALS[address] ─▶ Local                          a container of this node
//! POLICY_SPEAKERS[network namespace] ─▶ Speaker            whose sockets these are
//! POLICY_SWITCH[0] ─▶ Switch                               whether anything of this is used
//! POLICY_COUNTS, POLICY_EVENTS, POLICY_PACES               what was decided
//! POLICY_LINKS[link] ─▶ stand                              where programs stand
//! ```
//!
//! The meaning of all this is in `mizzen_ebpf_core::policy`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{Be16, Ip16};

pub use crate::overlay::Prefix;

/// Version of everything in this module.
pub const POLICY_ABI_VERSION: u32 = 1;

/// The bit of a packet's mark that says that it was judged on this node, and may pass.
pub const JUDGED_MARK: u32 = 1 << 27;

/// Names and capacities of the maps, for both sides.
pub mod maps {
    /// Longest-prefix table of [`Prefix`](super::Prefix) to [`Class`](super::Class).
    pub const CLASSES: &str = "POLICY_CLASSES";
    /// Longest-prefix table of [`RuleKey`](super::RuleKey) to [`Ruling`](super::Ruling).
    pub const RULES: &str = "POLICY_RULES";
    /// LRU hash of [`FlowKey`](super::FlowKey) to [`Flow`](super::Flow).
    pub const FLOWS: &str = "POLICY_FLOWS";
    /// Hash of [`Ip16`](crate::Ip16) to [`Local`](super::Local).
    pub const LOCALS: &str = "POLICY_LOCALS";
    /// Hash of the cookie of a network namespace to [`Speaker`](super::Speaker).
    pub const SPEAKERS: &str = "POLICY_SPEAKERS";
    /// Array of one [`Switch`](super::Switch).
    pub const SWITCH: &str = "POLICY_SWITCH";
    /// Per-CPU array of [`Count`](super::Count), by number of the rule.
    pub const COUNTS: &str = "POLICY_COUNTS";
    /// Per-CPU array of one [`Pace`](super::Pace).
    pub const PACES: &str = "POLICY_PACES";
    /// Ring of [`Event`](super::Event).
    pub const EVENTS: &str = "POLICY_EVENTS";
    /// Hash of the number of a link to [`stand`](super::stand): where the programs stand. User space's memory.
    pub const LINKS: &str = "POLICY_LINKS";
    /// Every map.
    pub const ALL: [&str; 10] =
        [CLASSES, RULES, FLOWS, LOCALS, SPEAKERS, SWITCH, COUNTS, PACES, EVENTS, LINKS];

    /// Addresses of the whole cluster's containers, and networks that policies name.
    pub const CLASSES_CAPACITY: usize = 1 << 18;
    /// Pairs of classes, with protocols and ports.
    pub const RULES_CAPACITY: usize = 1 << 18;
    /// Flows of datagrams that guarded containers have a part in; the coldest give way.
    pub const FLOWS_CAPACITY: usize = 1 << 16;
    /// Addresses of containers of this node.
    pub const LOCALS_CAPACITY: usize = 1 << 13;
    /// Network namespaces of containers of this node.
    pub const SPEAKERS_CAPACITY: usize = 1 << 13;
    /// Links of these containers, and tunnels.
    pub const LINKS_CAPACITY: usize = LOCALS_CAPACITY;
    /// Rules that are counted, the defaults among them.
    pub const COUNTS_CAPACITY: usize = 1 << 12;
    /// Bytes of the ring of events.
    pub const EVENTS_BYTES: usize = 1 << 18;
}

/// Value of `POLICY_CLASSES`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Class {
    /// Its number.
    pub class: u32,
    /// Number of the overlay; zero outside of overlays.
    pub overlay: u32,
    /// Flags of `mizzen_ebpf_core::policy::Class`.
    pub flags: u32,
}

/// Key of `POLICY_RULES`: a pair of classes, and as much of protocol and port as `length` says.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct RuleKey {
    /// How many bits of what follows: [`RuleKey::PAIR`] and more.
    pub length: u32,
    /// Number of the sender's class.
    pub from: u32,
    /// Number of the receiver's class.
    pub to: u32,
    /// IP protocol number; ICMP's is 1 for both families.
    pub protocol: u8,
    /// Zero.
    pub reserved: u8,
    /// The receiver's port (network order).
    pub port: u16,
}

impl RuleKey {
    /// Bits of a pair of classes.
    pub const PAIR: u32 = 64;
    /// Bits of these and of a protocol.
    pub const PROTOCOL: u32 = Self::PAIR + 8;
    /// Bits before the port.
    pub const BEFORE_PORT: u32 = Self::PAIR + 16;
    /// Bits of all.
    pub const WHOLE: u32 = Self::BEFORE_PORT + 16;
}

/// Value of `POLICY_RULES`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Ruling {
    /// Number of the rule.
    pub rule: u32,
    /// `mizzen_ebpf_core::policy::Action`.
    pub action: u32,
}

/// Key of `POLICY_FLOWS`: who began a flow, and with whom.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FlowKey {
    /// Who began.
    pub from: Ip16,
    /// With whom.
    pub to: Ip16,
    /// Port of who began; of an ICMP echo, its number.
    pub from_port: Be16,
    /// Port of the other; likewise.
    pub to_port: Be16,
    /// IP protocol number.
    pub protocol: u32,
}

/// Value of `POLICY_FLOWS`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// Nanoseconds of `CLOCK_MONOTONIC` at the last packet of either direction.
    pub last: u64,
    /// [`Switch::generation`] when it was allowed; it is judged again under another one.
    pub generation: u32,
    /// Zero.
    pub reserved: u32,
}

/// Value of `POLICY_LOCALS`: a container's address.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Local {
    /// The host's end of the container's pair of links, which alone may use the address.
    pub link: u32,
    /// Flags of its class, and [`Local::WAYS`]; with none of them no packet has to be looked at.
    pub flags: u32,
}

impl Local {
    /// Some rule lets packets pass between overlays, so flows between these are followed.
    pub const WAYS: u32 = 1 << 31;
}

/// Value of `POLICY_SPEAKERS`: the addresses that sockets of a network namespace speak from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Speaker {
    /// Its IPv4 address; unspecified if it has none, or several.
    pub v4: Ip16,
    /// Its IPv6 address, likewise.
    pub v6: Ip16,
}

/// Element of `POLICY_SWITCH`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Switch {
    /// [`Switch::ON`], [`Switch::TOGETHER`], [`Switch::WAYS`].
    pub flags: u32,
    /// Another one after each change of a map.
    pub generation: u32,
}

impl Switch {
    /// Policies count.
    pub const ON: u32 = 1;
    /// Overlays are not kept apart.
    pub const TOGETHER: u32 = 2;
    /// Some rule lets packets pass between overlays.
    pub const WAYS: u32 = 4;
}

/// Element of `POLICY_COUNTS`: connections and flows that a rule decided about. Refused ones are counted each time that
/// somebody tries.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Count {
    /// They passed.
    pub allowed: u64,
    /// They did not.
    pub refused: u64,
    /// They passed, and a policy that is being tried out would have refused them.
    pub would_refuse: u64,
}

/// Element of `POLICY_PACES`: how many events this CPU wrote lately.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Pace {
    /// Second of `CLOCK_MONOTONIC`.
    pub second: u64,
    /// Events in that second.
    pub written: u64,
    /// Events that were not written since the maps were made, for their rate or because nobody read the ring.
    pub lost: u64,
}

impl Pace {
    /// Events a second and CPU.
    pub const LIMIT: u64 = 200;
}

/// Element of `POLICY_EVENTS`: a refusal, or what a policy that is being tried out would have refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub at: u64,
    /// The sender.
    pub from: Ip16,
    /// The receiver.
    pub to: Ip16,
    /// Number of the sender's class.
    pub from_class: u32,
    /// Number of the receiver's class.
    pub to_class: u32,
    /// Number of the rule.
    pub rule: u32,
    /// The sender's port; zero if it has none, or none yet.
    pub from_port: Be16,
    /// The receiver's port; zero if it has none.
    pub to_port: Be16,
    /// IP protocol number; ICMP's is 1 for both families.
    pub protocol: u8,
    /// [`Event::REFUSED`] or [`Event::WOULD_REFUSE`].
    pub verdict: u8,
    /// One of [`place`].
    pub place: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

impl Event {
    /// It did not pass.
    pub const REFUSED: u8 = 1;
    /// It passed.
    pub const WOULD_REFUSE: u8 = 2;
}

/// Which programs stand on a link; bits.
pub mod stand {
    /// What a container sends is looked at.
    pub const SENDER: u32 = 1;
    /// What a container gets is looked at.
    pub const RECEIVER: u32 = 2;
    /// What comes out of a tunnel is looked at.
    pub const TUNNEL: u32 = 4;
}

/// Where something was judged.
pub mod place {
    /// At the sender's socket, when it connected.
    pub const SOCKET: u8 = 1;
    /// At the link of the sending container.
    pub const SENDER: u8 = 2;
    /// Where it came out of a tunnel.
    pub const TUNNEL: u8 = 3;
    /// At the link of the receiving container.
    pub const RECEIVER: u8 = 4;
}

const _: () = assert!(size_of::<Class>() == 12, "POLICY_CLASSES value is part of the ABI");
const _: () = assert!(size_of::<RuleKey>() == 16, "POLICY_RULES key is part of the ABI");
const _: () = assert!(size_of::<FlowKey>() == 40, "POLICY_FLOWS key is part of the ABI");
const _: () = assert!(size_of::<Flow>() == 16, "POLICY_FLOWS value is part of the ABI");
const _: () = assert!(size_of::<Event>() == 64, "POLICY_EVENTS element is part of the ABI");
