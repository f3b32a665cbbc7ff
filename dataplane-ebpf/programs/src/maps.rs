//! The maps.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use mizzen_ebpf_abi::maps::{
    DATAGRAMS_CAPACITY, FLOWS_CAPACITY, HISTOGRAMS_CAPACITY, LINKS_CAPACITY, ORIGINS_CAPACITY,
    RINGS_CAPACITY, ROWS_CAPACITY, SLOTS_CAPACITY, SOCKETS_CAPACITY, VIPS_CAPACITY,
};
use mizzen_ebpf_abi::{
    Control, DatagramKey, DatagramOrigin, Flow, FlowKey, Histogram, Link, Origin, Owner, Place,
    Row, Settings, Slot, VipKey, VipValue,
};

/// Where each VIP's backends lie.
#[btf_map]
pub static VIPS: HashMap<VipKey, VipValue, VIPS_CAPACITY> = HashMap::new();

/// The backends of all VIPs.
#[btf_map]
pub static SLOTS: Array<Slot, SLOTS_CAPACITY, MAPPABLE> = Array::new();

/// Counts and standing of each backend and each VIP.
#[btf_map]
pub static ROWS: Array<Row, ROWS_CAPACITY, MAPPABLE> = Array::new();

/// The places of all rings.
#[btf_map]
pub static RINGS: Array<Place, RINGS_CAPACITY, MAPPABLE> = Array::new();

/// Latencies of handshakes and connections.
#[btf_map]
pub static HISTOGRAMS: PerCpuArray<Histogram, HISTOGRAMS_CAPACITY> = PerCpuArray::new();

/// Who has which place in `SOCKETS`.
#[btf_map]
pub static OWNERS: Array<Owner, SOCKETS_CAPACITY, MAPPABLE> = Array::new();

/// What a socket had asked for, by its cookie modulo the capacity.
#[btf_map]
pub static SOCKETS: Array<Origin, SOCKETS_CAPACITY, MAPPABLE> = Array::new();

/// The same for sockets that found their place taken, by cookie.
#[btf_map]
pub static ORIGINS: LruHashMap<u64, Origin, ORIGINS_CAPACITY> = LruHashMap::new();

/// What an unconnected UDP socket had asked for, by its cookie and the backend.
#[btf_map]
pub static DATAGRAMS: LruHashMap<DatagramKey, DatagramOrigin, DATAGRAMS_CAPACITY> =
    LruHashMap::new();

/// What arrives from elsewhere: what becomes of packets with these ends.
#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, FLOWS_CAPACITY> = LruHashMap::new();

/// Links by which it may arrive.
#[btf_map]
pub static LINKS: HashMap<u32, Link, LINKS_CAPACITY> = HashMap::new();

/// What user space wants of the programs.
#[btf_map]
pub static SETTINGS: Array<Settings, 1, MAPPABLE> = Array::new();

/// User space's memory; no program reads it.
#[btf_map]
pub static CONTROL: Array<Control, 1, MAPPABLE> = Array::new();

/// What user space wants of the programs; nothing is ever ejected before it has said so.
#[inline(always)]
pub fn settings() -> &'static Settings {
    SETTINGS.get(0).unwrap_or(&UNSET)
}

/// User space reads and writes the array as its own memory.
const MAPPABLE: usize = BPF_F_MMAPABLE as usize;

// Without this its symbol would have a number that depends on where the sources lie.
#[unsafe(no_mangle)]
static UNSET: Settings = Settings {
    failures: 0,
    least_left: 0,
    pause: 0,
    longest_pause: 0,
    handshake: u64::MAX,
    short: 0,
    idle: u64::MAX,
    netns: 0,
};
