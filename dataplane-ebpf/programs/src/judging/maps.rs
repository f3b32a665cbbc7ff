//! The maps.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::policy::maps::{
    CLASSES_CAPACITY, COUNTS_CAPACITY, EVENTS_BYTES, FLOWS_CAPACITY, LINKS_CAPACITY,
    LOCALS_CAPACITY, RULES_CAPACITY, SPEAKERS_CAPACITY,
};
use mizzen_ebpf_abi::policy::{
    Class, Count, Event, Flow, FlowKey, Local, Pace, Prefix, RuleKey, Ruling, Speaker, Switch,
};
use mizzen_ebpf_abi::{Be16, Ip16};
use mizzen_ebpf_core::policy;

/// Whose an address is.
#[btf_map]
pub static POLICY_CLASSES: LpmTrie<Ip16, Class, CLASSES_CAPACITY> = LpmTrie::new();

/// What the rules say.
#[btf_map]
pub static POLICY_RULES: LpmTrie<[u32; 3], Ruling, RULES_CAPACITY> = LpmTrie::new();

/// Flows that were allowed.
#[btf_map]
pub static POLICY_FLOWS: LruHashMap<FlowKey, Flow, FLOWS_CAPACITY> = LruHashMap::new();

/// The addresses of this node's containers.
#[btf_map]
pub static POLICY_LOCALS: HashMap<Ip16, Local, LOCALS_CAPACITY> = HashMap::new();

/// Whose sockets those of a network namespace are.
#[btf_map]
pub static POLICY_SPEAKERS: HashMap<u64, Speaker, SPEAKERS_CAPACITY> = HashMap::new();

/// Whether any of this is used.
#[btf_map]
pub static POLICY_SWITCH: Array<Switch, 1> = Array::new();

/// What was decided, by the number of the rule.
#[btf_map]
pub static POLICY_COUNTS: PerCpuArray<Count, COUNTS_CAPACITY> = PerCpuArray::new();

/// How many events each CPU wrote.
#[btf_map]
pub static POLICY_PACES: PerCpuArray<Pace, 1> = PerCpuArray::new();

/// What was refused.
#[btf_map]
pub static POLICY_EVENTS: RingBuf<Event, EVENTS_BYTES> = RingBuf::new();

/// User space's memory; no program reads it.
#[btf_map]
pub static POLICY_LINKS: HashMap<u32, u32, LINKS_CAPACITY> = HashMap::new();

/// What is to be done at all; nothing if policies do not count.
#[inline(always)]
pub fn switch() -> Option<&'static Switch> {
    POLICY_SWITCH.get(0).filter(|switch| switch.flags & Switch::ON != 0)
}

/// The container of this node that has `address`.
#[inline(always)]
pub fn local(address: Ip16) -> Option<&'static Local> {
    // SAFETY: plain numbers, and whoever replaces them replaces the flags at once.
    unsafe { POLICY_LOCALS.get(address) }
}

/// Whether a container of this node has this address, and nothing that it sends or gets has to be looked at. One that
/// nobody has told of yet is looked at.
#[inline(always)]
pub fn is_at_ease(address: Ip16) -> bool {
    local(address).is_some_and(|local| local.flags == 0)
}

/// Whether what a container of this node with this address sends or gets is to be looked at.
#[inline(always)]
pub fn concerns(address: Ip16) -> bool {
    local(address).is_some_and(|local| local.flags != 0)
}

/// Whose an address is; the world's if nobody knows.
#[inline(always)]
pub fn class(address: Ip16) -> policy::Class {
    let Prefix { length, address } = Prefix::whole(address);
    match POLICY_CLASSES.get(&Key::new(length, address)) {
        Some(&Class { class, overlay, flags }) => policy::Class { class, overlay, flags },
        None => policy::Class::default(),
    }
}

/// What the rules say, if they say anything.
#[inline(always)]
pub fn ruling(
    from: &policy::Class,
    to: &policy::Class,
    protocol: u8,
    port: Be16,
) -> Option<policy::Ruling> {
    let [low, high] = port.to_network().to_ne_bytes();
    let last = u32::from_ne_bytes([protocol, 0, low, high]);
    let found = POLICY_RULES.get(&Key::new(RuleKey::WHOLE, [from.class, to.class, last]))?;
    let action = policy::Action::from_number(found.action);
    Some(policy::Ruling { rule: found.rule, action })
}
