//! `connect()` to a VIP.

use mizzen_ebpf_abi::Origin;

use crate::choose::{Draw, Stop, choose};
use crate::endpoint::Endpoint;
use crate::maps::{ORIGINS, count_choice};

/// Replaces the VIP by a backend and remembers what was asked for.
#[inline(always)]
pub fn translate<E: Endpoint>(end: &E) -> Result<(), Stop> {
    let key = end.vip_key();
    let slot = choose(&key, E::CONNECTS_TO, Draw::Random)?;
    let origin = Origin {
        vip: key.address,
        backend: slot.address,
        vip_port: key.port,
        backend_port: slot.port,
        row: slot.row,
        epoch: count_choice(slot.row),
    };
    // Without the record the connection works all the same; it shows its backend as its peer
    // and its end is not counted.
    let _ = ORIGINS.insert(end.cookie(), origin, 0);
    end.set(slot.address, slot.port);
    Ok(())
}
