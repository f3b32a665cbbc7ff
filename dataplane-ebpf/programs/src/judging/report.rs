//! Counts and events.

use core::mem::{MaybeUninit, offset_of};

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use mizzen_ebpf_abi::Ip16;
use mizzen_ebpf_abi::policy::{Event, Pace};
use mizzen_ebpf_core::policy::{Class, Judgement, Verdict};

use super::facts::Facts;
use super::maps::{POLICY_COUNTS, POLICY_EVENTS, POLICY_PACES};

/// Counts a judgement, and tells of it if anything was or would have been refused.
#[inline(always)]
pub fn report(facts: &Facts, from: &Class, to: &Class, judgement: Judgement, place: u8) {
    if let Some(count) = POLICY_COUNTS.get_ptr_mut(judgement.rule) {
        // SAFETY: an element of this CPU's own array. A call of a process may be interrupted between reading and
        // writing by a packet, which costs one count.
        unsafe {
            match judgement.verdict {
                Verdict::Pass => (*count).allowed += 1,
                Verdict::WouldRefuse => (*count).would_refuse += 1,
                Verdict::Refuse => (*count).refused += 1,
            }
        }
    }
    let verdict = match judgement.verdict {
        Verdict::Pass => return,
        Verdict::WouldRefuse => Event::WOULD_REFUSE,
        Verdict::Refuse => Event::REFUSED,
    };
    let mut told = MaybeUninit::<Told>::uninit();
    let told = told.write(Told {
        facts: *facts,
        from: from.class,
        to: to.class,
        rule: judgement.rule,
        verdict,
        place,
        reserved: [0; 2],
    });
    mizzen_tell(told);
}

/// What an event says.
#[repr(C)]
pub struct Told {
    facts: Facts,
    from: u32,
    to: u32,
    rule: u32,
    verdict: u8,
    place: u8,
    reserved: [u8; 2],
}

/// Writes an event, unless there were too many lately.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_tell(told: *const Told) -> u32 {
    // SAFETY: null, or a structure on the caller's stack.
    let Some(told) = (unsafe { told.as_ref() }) else { return 0 };
    // SAFETY: the helper has no precondition.
    let at = unsafe { bpf_ktime_get_ns() };
    let Some(pace) = POLICY_PACES.get_ptr_mut(0) else { return 0 };
    if !may_write(pace, at / SECOND) {
        return 0;
    }
    let Some(mut place) = POLICY_EVENTS.reserve(0) else {
        // SAFETY: an element of this CPU's own array.
        unsafe { (*pace).lost += 1 };
        return 0;
    };
    // Field by field, as there is no room on the stack to put it together first; and in words, as arrays would be
    // copied by a function. Linux 6.1 counts the frame of each function in steps of 32 bytes, and allows 512 for all that
    // call each other: 224 of `mizzen_leave`, 256 of `mizzen_look` and 32 of this one.
    let event = place.as_mut_ptr();
    let end = [told.facts.protocol, told.verdict, told.place, 0, 0, 0, 0, 0];
    // SAFETY: the ring's own memory, as long as said; every field is written before it is submitted.
    unsafe {
        (&raw mut (*event).at).write(at);
        write_words(&raw mut (*event).from, &told.facts.from);
        write_words(&raw mut (*event).to, &told.facts.to);
        (&raw mut (*event).from_class).write(told.from);
        (&raw mut (*event).to_class).write(told.to);
        (&raw mut (*event).rule).write(told.rule);
        (&raw mut (*event).from_port).write(told.facts.from_port);
        (&raw mut (*event).to_port).write(told.facts.port());
        (&raw mut (*event).protocol).cast::<u64>().write(u64::from_ne_bytes(end));
    }
    place.submit(0);
    1
}

/// Copies an address word by word.
///
/// # Safety
///
/// `to` is memory that may be written.
#[inline(always)]
unsafe fn write_words(to: *mut Ip16, address: &Ip16) {
    let [first, second, third, fourth] = address.words();
    let to = to.cast::<u32>();
    // SAFETY: an address is these words and nothing else.
    unsafe {
        to.write(first);
        to.add(1).write(second);
        to.add(2).write(third);
        to.add(3).write(fourth);
    }
}

/// The last fields of an event are written as one number.
const _: () = assert!(
    offset_of!(Event, protocol) + 8 == size_of::<Event>()
        && offset_of!(Event, verdict) == offset_of!(Event, protocol) + 1
        && offset_of!(Event, place) == offset_of!(Event, protocol) + 2
);

#[inline(always)]
fn may_write(pace: *mut Pace, second: u64) -> bool {
    // SAFETY: an element of this CPU's own array.
    unsafe {
        if (*pace).second != second {
            (*pace).second = second;
            (*pace).written = 0;
        }
        if (*pace).written >= Pace::LIMIT {
            (*pace).lost += 1;
            return false;
        }
        (*pace).written += 1;
    }
    true
}

const SECOND: u64 = 1_000_000_000;
