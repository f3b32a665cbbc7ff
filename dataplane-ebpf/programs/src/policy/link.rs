//! Packets at links of containers and tunnels.

use mizzen_ebpf_abi::policy::{JUDGED_MARK, place};

use crate::headers::Buffer;
use crate::judging::{JUDGED, REFUSED, mizzen_look};

/// What goes on to bridges and routes: the rule that keeps overlays apart lets pass what was judged.
#[inline(always)]
pub fn pass_on(buffer: Buffer, place: u8) -> i32 {
    match mizzen_look(buffer, u32::from(place)) {
        REFUSED => DROP,
        JUDGED => {
            // SAFETY: the context is valid for the whole run of the program, which may write this field.
            unsafe {
                let mark = &raw mut (*buffer).mark;
                mark.write_volatile(mark.read_volatile() | JUDGED_MARK);
            }
            NEXT
        }
        _ => NEXT,
    }
}

/// What goes into a container.
#[inline(always)]
pub fn deliver(buffer: Buffer) -> i32 {
    match mizzen_look(buffer, u32::from(place::RECEIVER)) {
        REFUSED => DROP,
        _ => NEXT,
    }
}

/// The packet goes on as if there were no program.
const NEXT: i32 = -1;
/// The packet is dropped.
const DROP: i32 = 2;
