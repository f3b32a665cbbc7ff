//! `connect()` to a VIP.

use core::mem::MaybeUninit;

use mizzen_ebpf_abi::{Be16, Ip16, Slot, stage};

use crate::choose::{Chance, Request, Stop, choose, look_up};
use crate::counts::{add, epoch_of};
use crate::endpoint::Endpoint;
use crate::maps::ROWS;
use crate::{sockets, standing};

/// Replaces the VIP by a backend and remembers what was asked for.
#[inline(always)]
pub fn translate<E: Endpoint>(end: &E) -> Result<(), Stop> {
    let mut place = MaybeUninit::uninit();
    let Some(vip) = look_up(Request::key(&mut place, end.vip_key())) else {
        return Err(Stop::NotAVip);
    };
    let numbers = (end.cookie(), end.netns(), sockets::now());
    let request = Request::fill(&mut place, vip, E::CONNECTS_TO, numbers, Chance::Random);
    let slot = choose(request)?;
    let begun = match request.asked.vip.protocol {
        // Nothing tells when the first datagram leaves.
        IPPROTO_UDP => Begun::Flow,
        _ => Begun::Nothing,
    };
    record(request, slot, begun, 0);
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
    let Request { asked, answer } = request;
    let Some(place) = sockets::reserve(asked.connection, asked.now) else {
        return count_unstarted(slot.row);
    };
    let epoch = epoch_of(slot.row);
    // SAFETY: the place is this socket's now. A reader that takes it for its former owner's compares
    // addresses before it acts.
    unsafe {
        (*place).cookie = asked.connection;
        (*place).vip = asked.vip.address;
        (*place).vip_port = asked.vip.port;
        (*place).backend = slot.address;
        (*place).backend_port = slot.port;
        (*place).row = slot.row;
        (*place).epoch = epoch;
        (*place).protocol = asked.vip.protocol;
        (*place).flags = flags;
        (*place).chosen_at = asked.now;
        (*place).established_at = 0;
        (*place).netns = asked.client;
        (*place).local = Ip16::UNSPECIFIED;
        (*place).local_port = Be16::new(0);
        (*place).decision = answer.decision;
        (*place).stage = if begun == Begun::Flow { stage::STARTED } else { stage::CHOSEN };
    }
    if begun == Begun::Flow
        && let Some(row) = ROWS.get_ptr_mut(slot.row)
    {
        // SAFETY: an element of `ROWS`.
        unsafe { standing::begins(row) };
    }
}

/// Counts a choice of which nothing more will be known.
#[inline(always)]
pub fn count_unstarted(row: u32) {
    if let Some(row) = ROWS.get_ptr_mut(row) {
        // SAFETY: an element of `ROWS`.
        unsafe { add(&raw mut (*row).unstarted, 1) };
    }
}
