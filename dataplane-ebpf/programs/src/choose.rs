//! From a VIP to one of its backends.
//!
//! ```text
//! ring rules    the place that the hash hits, if it may be used
//! otherwise     draw two of the near ones by weight, take the cheaper; if others are farther
//!               away, one of them may still be better
//! neither       look at some more, and take the first that may be used
//! nobody        one that was passed over: looking bad is better than refusing
//! ```
//!
//! The functions with names of their own are there for the verifier. It checks one that is
//! visible from outside by itself, once; anything else it checks anew on every path that leads to
//! a call, and the paths through two candidates multiply beyond what it is willing to look at.

use core::mem::MaybeUninit;

use mizzen_ebpf_abi::{Decision, Slot, VipKey, VipValue, reason, rule};
use mizzen_ebpf_core::select::{self, LOOKS, mix, point, spread};

use crate::candidate::{Candidate, Part, Sky, Verdict, draw, far_is_better, judge};
use crate::candidate::{at_place, second_is_better};
use crate::counts::refused;
use crate::endpoint::Reach;
use crate::maps::{RINGS, SLOTS, VIPS};

/// Why a call is not translated.
#[derive(Clone, Copy)]
pub enum Stop {
    /// The call does not concern us.
    NotAVip,
    /// It does, and there is nobody to send it to.
    NoBackend,
}

/// What is asked, and the answer.
#[repr(C)]
pub struct Request {
    /// What is asked.
    pub asked: Question,
    /// The answer.
    pub answer: Answer,
}

/// What is asked.
#[repr(C)]
pub struct Question {
    /// The VIP.
    pub vip: VipKey,
    /// What it is. If user space replaces that while it is copied, the copy may mix two versions; then the generation of
    /// the slot that it leads to differs, and the VIP is looked up again.
    pub value: VipValue,
    /// Families that can be used: a [`Reach`].
    pub reach: u32,
    /// Number of the connection, for rings and for [`Chance::Sticky`].
    pub connection: u64,
    /// Number of the client, for affinity.
    pub client: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
}

/// Who it shall be.
///
/// Aligned for [`blank`].
#[repr(C, align(8))]
pub struct Answer {
    /// Where chance comes from: a [`Chance`]. Part of the question, but here it fills a hole.
    pub chance: u32,
    /// Index in `SLOTS`.
    pub slot: u32,
    /// Why.
    pub decision: Decision,
    /// Zero; keeps the structure a multiple of eight.
    pub reserved: u32,
}

/// Where the bits of a draw come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Chance {
    /// Another backend each time.
    Random = 0,
    /// The same backend for the same connection, as long as the VIP stays as it is.
    Sticky = 1,
}

impl Request {
    /// Asks for a backend of the VIP that [`Question::vip`] already holds and whose value was looked up.
    ///
    /// Written where it lies: a question that is put together elsewhere is copied twice, in words of another size than
    /// it was written in, and for each of them the CPU waits.
    #[inline(always)]
    pub fn fill<'a>(
        place: &'a mut MaybeUninit<Self>,
        value: &VipValue,
        reach: Reach,
        (connection, client, now): (u64, u64, u64),
        chance: Chance,
    ) -> &'a mut Self {
        let request = place.as_mut_ptr();
        // SAFETY: within the place; with the key, which the caller has written, these are all fields.
        unsafe {
            copy(value, &raw mut (*request).asked.value);
            (&raw mut (*request).asked.reach).write(reach as u32);
            (&raw mut (*request).asked.connection).write(connection);
            (&raw mut (*request).asked.client).write(client);
            (&raw mut (*request).asked.now).write(now);
            blank(&raw mut (*request).answer, chance);
            &mut *request
        }
    }

    /// The key in a place that has nothing else yet.
    #[inline(always)]
    pub fn key(place: &mut MaybeUninit<Self>, vip: VipKey) -> &VipKey {
        let key = place.as_mut_ptr();
        // SAFETY: within the place, and written before it is read.
        unsafe {
            let key = &raw mut (*key).asked.vip;
            key.write(vip);
            &*key
        }
    }
}

/// Copies a value word by word; the compiler would call a function that copies its bytes one by one.
///
/// # Safety
///
/// `to` is a place for a value.
#[inline(always)]
pub unsafe fn copy(value: &VipValue, to: *mut VipValue) {
    let (from, to) = ((&raw const *value).cast::<u32>(), to.cast::<u32>());
    for word in 0..size_of::<VipValue>() / size_of::<u32>() {
        // SAFETY: both are values, which are as many words.
        unsafe { to.add(word).write_volatile(from.add(word).read_volatile()) };
    }
}

/// Makes an answer one that is none yet, likewise.
///
/// # Safety
///
/// `answer` is a place for an answer.
#[inline(always)]
pub unsafe fn blank(answer: *mut Answer, chance: Chance) {
    for word in 0..size_of::<Answer>() / size_of::<u64>() {
        // SAFETY: an answer is as many words, and all its fields are numbers.
        unsafe { answer.cast::<u64>().add(word).write_volatile(0) };
    }
    // SAFETY: a field of the answer.
    unsafe { (&raw mut (*answer).chance).write_volatile(chance as u32) };
}

/// The VIP with this key, if there is one. Of all destinations this is the first question, and of most the only one.
#[inline(always)]
pub fn look_up(vip: &VipKey) -> Option<&'static VipValue> {
    // SAFETY: an element of a map, which the kernel keeps for as long as the program runs.
    unsafe { VIPS.get(vip) }
}

/// Chooses a backend, and counts the refusal if there is none.
#[inline(always)]
pub fn choose(request: &mut Request) -> Result<&'static Slot, Stop> {
    for _ in 0..ATTEMPTS {
        if let Some(slot) = attempt(request)? {
            return Ok(slot);
        }
    }
    // Changes that follow each other faster than a few dozen instructions.
    Err(Stop::NoBackend)
}

/// The same; none if the VIP was changed meanwhile, and another attempt may go better.
#[inline(always)]
pub fn attempt(request: &mut Request) -> Result<Option<&'static Slot>, Stop> {
    match mizzen_choose(request) {
        CHOSEN => SLOTS.get(request.answer.slot).map(Some).ok_or(Stop::NoBackend),
        OVERTAKEN => {
            let value = look_up(&request.asked.vip).ok_or(Stop::NotAVip)?;
            // SAFETY: a whole value.
            unsafe { copy(value, &mut request.asked.value) };
            Ok(None)
        }
        _ => {
            refused(request.asked.value.row);
            Err(Stop::NoBackend)
        }
    }
}

const CHOSEN: u32 = 0;
const NO_BACKEND: u32 = 1;
/// The VIP was changed after it was looked up.
const OVERTAKEN: u32 = 2;

/// Times that a change may overtake a connect.
pub const ATTEMPTS: u32 = 3;

/// [`attempt`], as the verifier wants it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_choose(request: *mut Request) -> u32 {
    // SAFETY: null, or a structure on the caller's stack or in a map.
    let Some(Request { asked, answer }) = (unsafe { request.as_mut() }) else { return NO_BACKEND };
    if asked.value.open == 0 {
        return NO_BACKEND;
    }
    let sky = Sky::of(&asked.value, asked.now);
    match by_ring(asked, answer, sky) {
        NO_BACKEND => by_draw(asked, answer, sky),
        found => found,
    }
}

#[inline(always)]
fn by_ring(asked: &Question, answer: &mut Answer, sky: Sky) -> u32 {
    let vip = &asked.value;
    if vip.ring_length == 0 {
        return NO_BACKEND;
    }
    let number = if vip.rule == rule::SOURCE { asked.client } else { asked.connection };
    let place = vip.ring_base.wrapping_add(point(spread(number), vip.ring_length));
    let Some(place) = RINGS.get(place) else { return NO_BACKEND };
    if place.generation != vip.generation {
        return OVERTAKEN;
    }
    let found = judge(at_place(vip, place.index, asked.reach), sky, 0);
    match found.verdict() {
        Verdict::Usable | Verdict::Warming => settle(answer, found, found, reason::RING),
        Verdict::Probe => settle(answer, found, found, reason::PROBE),
        Verdict::Overtaken => OVERTAKEN,
        Verdict::Shut | Verdict::Unreachable => NO_BACKEND,
    }
}

#[inline(always)]
fn by_draw(asked: &Question, answer: &mut Answer, sky: Sky) -> u32 {
    let vip = &asked.value;
    let is_sticky = answer.chance == Chance::Sticky as u32;
    let seed = match is_sticky {
        true => asked.connection,
        // No two sockets have a number in common, and hardly two of them the same nanosecond.
        false => asked.connection << 32 ^ asked.now,
    };
    let near = Part { start: 0, length: vip.near };
    let first = look(vip, near, mix(seed), u32::MAX, asked.reach, sky);
    match first.verdict() {
        Verdict::Overtaken => return OVERTAKEN,
        Verdict::Probe => return settle(answer, first, first, reason::PROBE),
        Verdict::Usable if vip.near == 1 => {
            return spill_over(asked, answer, sky, seed, first, first, reason::ONLY);
        }
        Verdict::Usable if is_sticky || vip.rule == rule::RANDOM => {
            return spill_over(asked, answer, sky, seed, first, first, reason::DRAWN);
        }
        _ => {}
    }
    let second = look(vip, near, mix(seed ^ 1 << 40), first.slot, asked.reach, sky);
    match (first.verdict(), second.verdict()) {
        (_, Verdict::Overtaken) => OVERTAKEN,
        (_, Verdict::Probe) => settle(answer, second, second, reason::PROBE),
        (Verdict::Usable, Verdict::Usable) => {
            let (a, b) = (weighed(vip, first), weighed(vip, second));
            if second_is_better(a, b) {
                return spill_over(asked, answer, sky, seed, second, first, reason::CHEAPER);
            }
            spill_over(asked, answer, sky, seed, first, second, reason::TIE)
        }
        (Verdict::Usable, _) => {
            answer.decision.passed_over = 1;
            spill_over(asked, answer, sky, seed, first, second, reason::ONLY)
        }
        (_, Verdict::Usable) => {
            answer.decision.passed_over = 1;
            spill_over(asked, answer, sky, seed, second, first, reason::ONLY)
        }
        _ => others(asked, answer, sky, seed, first),
    }
}

/// Neither of the first two may be used: takes the first other that may.
#[inline(always)]
fn others(asked: &Question, answer: &mut Answer, sky: Sky, seed: u64, first: Candidate) -> u32 {
    let vip = &asked.value;
    answer.decision.passed_over = 1;
    let mut resort = first;
    let start = mix(seed ^ 2 << 40);
    for number in 0..LOOKS {
        let position = point(select::look(start as u32, number), vip.open);
        let found = at_place(vip, position, asked.reach);
        let found = judge(found, sky, (start >> 32 >> number) as u32);
        match found.verdict() {
            Verdict::Overtaken => return OVERTAKEN,
            Verdict::Usable => return settle(answer, found, first, reason::ONLY),
            Verdict::Probe => return settle(answer, found, found, reason::PROBE),
            // Of those that are passed over, one that only warms up is the best.
            Verdict::Warming => resort = found,
            Verdict::Shut if resort.verdict() == Verdict::Unreachable => resort = found,
            Verdict::Shut | Verdict::Unreachable => {}
        }
    }
    match resort.verdict() {
        Verdict::Unreachable => NO_BACKEND,
        _ => settle(answer, resort, resort, reason::LAST_RESORT),
    }
}

/// Near backends go first, until one that is farther away costs much less.
#[inline(always)]
fn spill_over(
    asked: &Question,
    answer: &mut Answer,
    sky: Sky,
    seed: u64,
    winner: Candidate,
    loser: Candidate,
    reason: u8,
) -> u32 {
    let vip = &asked.value;
    let far = Part { start: vip.near, length: vip.open.wrapping_sub(vip.near) };
    if far.length == 0 {
        return settle(answer, winner, loser, reason);
    }
    let found = look(vip, far, mix(seed ^ 63 << 40), u32::MAX, asked.reach, sky);
    if found.verdict() == Verdict::Usable
        && far_is_better(weighed(vip, winner), weighed(vip, found))
    {
        return settle(answer, found, winner, reason::SPILLED);
    }
    settle(answer, winner, loser, reason)
}

/// Draws a candidate and judges it.
#[inline(always)]
fn look(vip: &VipValue, part: Part, bits: u64, taken: u32, reach: u32, sky: Sky) -> Candidate {
    judge(draw(vip, part, bits, taken, reach), sky, (bits >> 16) as u32)
}

/// The candidate as the rule sees it.
#[inline(always)]
fn weighed(vip: &VipValue, candidate: Candidate) -> Candidate {
    match vip.rule {
        rule::LEAST_CONNECTIONS => candidate.without_latency(),
        _ => candidate,
    }
}

/// Writes the answer.
#[inline(always)]
fn settle(answer: &mut Answer, winner: Candidate, loser: Candidate, reason: u8) -> u32 {
    answer.slot = winner.slot;
    answer.decision.reason = reason;
    answer.decision.other_row = SLOTS.get(loser.slot).map_or(0, |slot| slot.row);
    answer.decision.micros = winner.micros();
    answer.decision.other_micros = loser.micros();
    answer.decision.in_flight = cut(winner.in_flight());
    answer.decision.other_in_flight = cut(loser.in_flight());
    CHOSEN
}

#[inline(always)]
fn cut(number: u32) -> u16 {
    if number > 0xffff { 0xffff } else { number as u16 }
}
