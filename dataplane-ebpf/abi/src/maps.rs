//! Names and capacities of the maps, for both sides.
//!
//! Everything is allocated when the maps are made: about 21 MiB of kernel memory
//! in all, and no connect or change fails later for want of it.

/// Hash of [`VipKey`](crate::VipKey) to [`VipValue`](crate::VipValue).
pub const VIPS: &str = "VIPS";
/// Array of [`Slot`](crate::Slot).
pub const SLOTS: &str = "SLOTS";
/// Array of [`Counters`](crate::Counters).
pub const ROWS: &str = "ROWS";
/// LRU hash of socket cookie to [`Origin`](crate::Origin).
pub const ORIGINS: &str = "ORIGINS";
/// LRU hash of [`DatagramKey`](crate::DatagramKey) to [`DatagramOrigin`](crate::DatagramOrigin).
pub const DATAGRAMS: &str = "DATAGRAMS";
/// Array of one [`Control`](crate::Control).
pub const CONTROL: &str = "CONTROL";
/// Every map, in the order in which user space lists them.
pub const ALL: [&str; 6] = [VIPS, SLOTS, ROWS, ORIGINS, DATAGRAMS, CONTROL];

/// VIPs at once: ten thousand services with an IPv6 twin each, and room to spare.
pub const VIPS_CAPACITY: usize = 1 << 15;
/// Backends of one VIP, and of all VIPs together.
pub const BACKENDS_CAPACITY: usize = 1 << 16;
/// Slots: each backend once, and once more for the run that replaces the largest VIP.
pub const SLOTS_CAPACITY: usize = 2 * BACKENDS_CAPACITY;
/// Rows: one for each backend and one for each VIP.
pub const ROWS_CAPACITY: usize = BACKENDS_CAPACITY + VIPS_CAPACITY;
/// Translated sockets that are open at once; the coldest give way.
pub const ORIGINS_CAPACITY: usize = 1 << 16;
/// UDP flows of unconnected sockets; the coldest give way.
pub const DATAGRAMS_CAPACITY: usize = 1 << 14;
