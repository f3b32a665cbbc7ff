//! Datagrams of sockets that are not connected.
//!
//! All datagrams of one socket to one VIP go to the same backend while the VIP
//! stays as it is, so that a conversation in several datagrams works.

use mizzen_ebpf_abi::{DatagramKey, DatagramOrigin};

use crate::choose::{Draw, Stop, choose};
use crate::endpoint::Endpoint;
use crate::maps::{DATAGRAMS, count_choice};
use crate::peername;

/// Replaces the VIP by a backend and remembers under which name it may answer.
#[inline(always)]
pub fn translate<E: Endpoint>(end: &E) -> Result<(), Stop> {
    let key = end.vip_key();
    let cookie = end.cookie();
    let slot = choose(&key, E::SENDS_TO, Draw::Sticky(cookie))?;
    let flow =
        DatagramKey { cookie, backend: slot.address, backend_port: slot.port, reserved: [0; 6] };
    let origin = DatagramOrigin { vip: key.address, vip_port: key.port, reserved: 0 };
    // SAFETY: the record is compared at once; a wrong answer costs one more write.
    let known = unsafe { DATAGRAMS.get(flow) }.is_some_and(|known| *known == origin);
    if !known {
        count_choice(slot.row);
        // Without the record the answer arrives under the backend's name.
        let _ = DATAGRAMS.insert(flow, origin, 0);
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
