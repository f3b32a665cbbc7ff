//! Datagrams of sockets that are not connected.
//!
//! A socket that talks to one VIP has a flow: a record like that of a connection, which
//! ends when it has been silent for a while or is closed. A socket that talks to several
//! at once has one flow; for the others a hash of the socket decides, so that all
//! datagrams for one VIP go to one backend while the VIP stays as it is.

use core::mem::MaybeUninit;

use mizzen_ebpf_abi::{DatagramKey, DatagramOrigin, Origin, Settings, Slot, VipKey, stage};

use crate::choose::{Chance, Request, Stop, choose, look_up};
use crate::connect::{Begun, IPPROTO_UDP, count_unstarted, record};
use crate::counts::row_of;
use crate::endpoint::Endpoint;
use crate::maps::{DATAGRAMS, settings};
use crate::{peername, sockets};

/// Replaces the VIP by a backend and remembers under which name it may answer.
#[inline(always)]
pub fn translate<E: Endpoint>(end: &E) -> Result<(), Stop> {
    let key = end.vip_key();
    let cookie = end.cookie();
    let mut chance = Chance::Random;
    if let Some(flow) = sockets::find(cookie) {
        let (settings, now) = (settings(), sockets::now());
        if is_for(flow, &key) && goes_on(flow, settings, now) {
            // SAFETY: a record of this socket.
            unsafe {
                (&raw mut (*flow).chosen_at).write_volatile(now);
                end.set((*flow).backend, (*flow).backend_port);
            }
            return Ok(());
        }
        if is_busy_elsewhere(flow, &key, settings, now) {
            chance = Chance::Sticky;
        }
    }
    let mut place = MaybeUninit::uninit();
    let Some(vip) = look_up(Request::key(&mut place, key)) else { return Err(Stop::NotAVip) };
    let numbers = (cookie, end.netns(), sockets::now());
    let request = Request::fill(&mut place, vip, E::SENDS_TO, numbers, chance);
    let slot = choose(request)?;
    if chance == Chance::Random {
        record(request, slot, Begun::Flow, Origin::UNCONNECTED);
    } else {
        remember(cookie, &key, slot);
    }
    end.set(slot.address, slot.port);
    Ok(())
}

/// Shows the VIP as the source of what a backend answered.
#[inline(always)]
pub fn restore<E: Endpoint>(end: &E) {
    if peername::restore(end) {
        return;
    }
    let flow = DatagramKey {
        cookie: end.cookie(),
        backend: end.address(),
        backend_port: end.port(),
        reserved: [0; 6],
    };
    // SAFETY: read at once; if the record is evicted meanwhile, one datagram shows a wrong name.
    if let Some(origin) = unsafe { DATAGRAMS.get(flow) } {
        end.set(origin.vip, origin.vip_port);
    }
}

#[inline(always)]
fn is_for(flow: *mut Origin, key: &VipKey) -> bool {
    // SAFETY: a record of this socket, whose calls may run at once on several CPUs; a torn read
    // costs a new choice.
    unsafe {
        (*flow).protocol == IPPROTO_UDP
            && (*flow).stage == stage::STARTED
            && (*flow).vip_port == key.port
            && (*flow).vip == key.address
    }
}

/// Whether the backend is still one of the VIP's, and the flow not over.
#[inline(always)]
fn goes_on(flow: *mut Origin, settings: &Settings, now: u64) -> bool {
    // SAFETY: as in `is_for`.
    let last = unsafe { (&raw const (*flow).chosen_at).read_volatile() };
    now.saturating_sub(last) <= settings.idle && row_of(flow).is_some()
}

/// Whether the socket's record is needed for another VIP.
#[inline(always)]
fn is_busy_elsewhere(flow: *mut Origin, key: &VipKey, settings: &Settings, now: u64) -> bool {
    !is_for(flow, key) && goes_on(flow, settings, now)
}

/// Notes who may answer; the note is written once for each backend.
#[inline(always)]
fn remember(cookie: u64, key: &VipKey, slot: &Slot) {
    let flow =
        DatagramKey { cookie, backend: slot.address, backend_port: slot.port, reserved: [0; 6] };
    let origin = DatagramOrigin { vip: key.address, vip_port: key.port, reserved: 0 };
    // SAFETY: the record is compared at once; a wrong answer costs one more write.
    let known = unsafe { DATAGRAMS.get(flow) }.is_some_and(|known| *known == origin);
    if !known {
        count_unstarted(slot.row);
        // Without the record the answer arrives under the backend's name.
        let _ = DATAGRAMS.insert(flow, origin, 0);
    }
}
