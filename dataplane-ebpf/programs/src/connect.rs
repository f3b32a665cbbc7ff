//! `connect()` to a VIP.

use mizzen_ebpf_abi::{Be16, Ip16, Slot, stage};

use crate::choose::{Request, Stop, choose};
use crate::counts::add;
use crate::endpoint::Endpoint;
use crate::maps::ROWS;
use crate::sockets;

/// Replaces the VIP by a backend and remembers what was asked for.
#[inline(always)]
pub fn translate<E: Endpoint>(end: &E) -> Result<(), Stop> {
    let key = end.vip_key();
    let (cookie, netns, now) = (end.cookie(), end.netns(), sockets::now());
    let mut request = Request::new(key, E::CONNECTS_TO, cookie, netns, now);
    let slot = choose(&mut request)?;
    let begun = match key.protocol {
        // Nothing tells when the first datagram leaves.
        IPPROTO_UDP => Begun::Flow,
        _ => Begun::Nothing,
    };
    record(&request, slot, begun, 0);
    end.set(slot.address, slot.port);
    Ok(())
}

/// IP protocol number of UDP.
pub const IPPROTO_UDP: u8 = 17;

/// What begins with a choice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// A flow of datagrams, at once.
    Flow,
    /// Nothing yet, or nothing that is followed.
    Nothing,
}

/// Counts the choice and records it for the socket.
#[inline(always)]
pub fn record(request: &Request, slot: &Slot, begun: Begun, flags: u8) {
    let epoch = count_choice(slot.row, begun);
    let Some(place) = sockets::reserve(request.connection, request.now) else { return };
    // SAFETY: the place is this socket's now. A reader that takes it for its former owner's compares
    // addresses before it acts.
    unsafe {
        (*place).cookie = request.connection;
        (*place).vip = request.vip.address;
        (*place).vip_port = request.vip.port;
        (*place).backend = slot.address;
        (*place).backend_port = slot.port;
        (*place).row = slot.row;
        (*place).epoch = epoch;
        (*place).protocol = request.vip.protocol;
        (*place).flags = flags;
        (*place).chosen_at = request.now;
        (*place).established_at = 0;
        (*place).netns = request.client;
        (*place).local = Ip16::UNSPECIFIED;
        (*place).local_port = Be16::new(0);
        (*place).decision = request.decision;
        (*place).stage = if begun == Begun::Flow { stage::STARTED } else { stage::CHOSEN };
    }
}

/// Counts a choice; returns the epoch of the row, by which its end is counted only if the row is
/// the same backend's then.
#[inline(always)]
pub fn count_choice(row: u32, begun: Begun) -> u32 {
    let Some(row) = ROWS.get_ptr_mut(row) else { return 0 };
    // SAFETY: an element of an array map: aligned, never freed, its counts changed by programs
    // through atomics only.
    unsafe {
        add(&raw mut (*row).chosen, 1);
        if begun == Begun::Flow {
            add(&raw mut (*row).started, 1);
            add(&raw mut (*row).established, 1);
            add(&raw mut (*row).in_flight, 1);
        }
        (&raw const (*row).epoch).read_volatile()
    }
}
