//! The maps.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, DevMapHash, HashMap, LpmTrie, PerCpuArray};
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::overlay::maps::{
    ALIVE_CAPACITY, COUNTS_CAPACITY, COURSES_CAPACITY, LOCALS_CAPACITY, PEERS_CAPACITY,
};
use mizzen_ebpf_abi::overlay::{Course, Local, Peer, Prefix, Switch};

/// The ways to other nodes.
#[btf_map]
pub static PEERS: LpmTrie<Ip16, Peer, PEERS_CAPACITY> = LpmTrie::new();

/// The containers of this node.
#[btf_map]
pub static LOCALS: HashMap<Ip16, Local, LOCALS_CAPACITY> = HashMap::new();

/// Their links, as long as they are there.
#[btf_map]
pub static ALIVE: DevMapHash<ALIVE_CAPACITY> = DevMapHash::new();

/// What was found out about packets that leave.
#[btf_map]
pub static COURSES: PerCpuArray<Course, COURSES_CAPACITY> = PerCpuArray::new();

/// Whether any of this is used.
#[btf_map]
pub static SWITCH: Array<Switch, 1> = Array::new();

/// What was done, by `counter`.
#[btf_map]
pub static COUNTS: PerCpuArray<u64, COUNTS_CAPACITY> = PerCpuArray::new();

/// The generation of what the maps say; nothing if the ordinary path is to be taken.
#[inline(always)]
pub fn generation() -> Option<u32> {
    let switch = SWITCH.get(0)?;
    (switch.on != 0).then_some(switch.generation)
}

/// This CPU's place for what is found out about packets between these two.
#[inline(always)]
pub fn course(from: Ip16, to: Ip16) -> Option<*mut Course> {
    let mix = |sum: u32, word: u32| (sum ^ word).wrapping_mul(0x9e37_79b1).rotate_left(13);
    let [a, b, c, d] = to.words();
    let sum = mix(mix(mix(mix(0, a ^ b), c), d), from.words()[3]);
    COURSES.get_ptr_mut((sum >> 16) & (COURSES_CAPACITY as u32 - 1))
}

/// The container of this node that has `address`.
#[inline(always)]
pub fn local(address: Ip16) -> Option<&'static Local> {
    // SAFETY: plain numbers; one that is replaced meanwhile is read in part before and in part after, and either
    // way leads to a container of this node or to nobody.
    unsafe { LOCALS.get(address) }
}

/// Whether the link of a container is still there. An entry may outlive its container while no daemon runs.
#[inline(always)]
pub fn is_alive(link: u32) -> bool {
    ALIVE.get_ifindex(link).is_some()
}

/// The way to `address`, if it is on another node.
#[inline(always)]
pub fn peer(address: Ip16) -> Option<&'static Peer> {
    let Prefix { length, address } = Prefix::whole(address);
    PEERS.get(&Key::new(length, address))
}

/// Counts one packet.
#[inline(always)]
pub fn count(counter: u32) {
    if let Some(count) = COUNTS.get_ptr_mut(counter) {
        // SAFETY: an element of this CPU's own array, on which no other program of ours runs meanwhile.
        unsafe { *count += 1 };
    }
}
