//! Names and capacities of the maps, for both sides.
//!
//! Arrays can be mapped into the daemon's memory. Everything is allocated when the maps are made: about 70 MiB of kernel memory and
//! 3.4 MiB for each CPU, and no connect or change fails later for want of it.

/// Hash of [`VipKey`](crate::VipKey) to [`VipValue`](crate::VipValue).
pub const VIPS: &str = "VIPS";
/// Array of [`Slot`](crate::Slot).
pub const SLOTS: &str = "SLOTS";
/// Array of [`Row`](crate::Row).
pub const ROWS: &str = "ROWS";
/// Array of [`Place`](crate::Place): those of all rings.
pub const RINGS: &str = "RINGS";
/// Per-CPU array of [`Histogram`](crate::Histogram), two for each backend that has them.
pub const HISTOGRAMS: &str = "HISTOGRAMS";
/// Array of [`Owner`](crate::Owner), by socket cookie modulo its capacity.
pub const OWNERS: &str = "OWNERS";
/// Array of [`Origin`](crate::Origin), likewise.
pub const SOCKETS: &str = "SOCKETS";
/// LRU hash of socket cookie to [`Origin`](crate::Origin), for those that found no place in `SOCKETS`.
pub const ORIGINS: &str = "ORIGINS";
/// LRU hash of [`DatagramKey`](crate::DatagramKey) to [`DatagramOrigin`](crate::DatagramOrigin).
pub const DATAGRAMS: &str = "DATAGRAMS";
/// LRU hash of [`FlowKey`](crate::FlowKey) to [`Flow`](crate::Flow), two for each flow that arrives.
pub const FLOWS: &str = "FLOWS";
/// Hash of a link's number to [`Link`](crate::Link).
pub const LINKS: &str = "LINKS";
/// Array of one [`Settings`](crate::Settings).
pub const SETTINGS: &str = "SETTINGS";
/// Array of one [`Control`](crate::Control).
pub const CONTROL: &str = "CONTROL";
/// Every map, in the order in which user space lists them.
pub const ALL: [&str; 13] = [
    VIPS, SLOTS, ROWS, RINGS, HISTOGRAMS, OWNERS, SOCKETS, ORIGINS, DATAGRAMS, FLOWS, LINKS,
    SETTINGS, CONTROL,
];

/// VIPs at once: ten thousand services with an IPv6 twin each, and room to spare.
pub const VIPS_CAPACITY: usize = 1 << 15;
/// Backends of one VIP, and of all VIPs together.
pub const BACKENDS_CAPACITY: usize = 1 << 16;
/// Slots: each backend once, and once more for the run that replaces the largest VIP.
pub const SLOTS_CAPACITY: usize = 2 * BACKENDS_CAPACITY;
/// Rows: one for each backend and one for each VIP.
pub const ROWS_CAPACITY: usize = BACKENDS_CAPACITY + VIPS_CAPACITY;
/// Places of all rings: sixteen VIPs of a hundred backends, or hundreds of small ones.
pub const RINGS_CAPACITY: usize = 1 << 20;
/// Histograms: two for each of the first so many backends.
pub const HISTOGRAMS_CAPACITY: usize = 1 << 14;
/// Translated sockets that have a place of their own.
pub const SOCKETS_CAPACITY: usize = 1 << 16;
/// Translated sockets that are open besides; the coldest give way.
pub const ORIGINS_CAPACITY: usize = 1 << 16;
/// UDP flows of sockets that talk to several VIPs; the coldest give way.
pub const DATAGRAMS_CAPACITY: usize = 1 << 14;
/// Two for each flow that arrives from elsewhere; the coldest give way.
pub const FLOWS_CAPACITY: usize = 1 << 17;
/// Links that programs are attached to.
pub const LINKS_CAPACITY: usize = 1 << 12;
