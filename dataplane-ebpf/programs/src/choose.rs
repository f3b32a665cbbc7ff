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
    /// The VIP.
    pub vip: VipKey,
    /// Families that can be used: a [`Reach`].
    pub reach: u32,
    /// Number of the connection, for rings and for [`Chance::Sticky`].
    pub connection: u64,
    /// Number of the client, for affinity.
    pub client: u64,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
    /// Where chance comes from: a [`Chance`].
    pub chance: u32,
    /// Answer: index in `SLOTS`.
    pub slot: u32,
    /// Answer: why.
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
    /// Asks for a backend of `vip`.
    #[inline(always)]
    pub fn new(vip: VipKey, reach: Reach, connection: u64, client: u64, now: u64) -> Self {
        let (chance, reach) = (Chance::Random as u32, reach as u32);
        let (slot, decision, reserved) = (0, Decision::default(), 0);
        Self { vip, reach, connection, client, now, chance, slot, decision, reserved }
    }
}

/// Chooses a backend, and counts the refusal if there is none.
#[inline(always)]
pub fn choose(request: &mut Request) -> Result<&'static Slot, Stop> {
    match mizzen_choose(request) {
        CHOSEN => SLOTS.get(request.slot).ok_or(Stop::NoBackend),
        NOT_A_VIP => Err(Stop::NotAVip),
        _ => Err(Stop::NoBackend),
    }
}

const CHOSEN: u32 = 0;
const NOT_A_VIP: u32 = 1;
const NO_BACKEND: u32 = 2;
/// The VIP was changed after it was looked up.
const OVERTAKEN: u32 = 3;

/// Times that a change may overtake a connect.
const ATTEMPTS: u32 = 3;

/// [`choose`], as the verifier wants it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_choose(request: *mut Request) -> u32 {
    // SAFETY: null, or a structure on the caller's stack.
    let Some(request) = (unsafe { request.as_mut() }) else { return NOT_A_VIP };
    for _ in 0..ATTEMPTS {
        // SAFETY: the value is copied at once. If user space replaces it meanwhile, the copy may mix
        // two versions; then the generation of the slot it leads to differs and the draw is repeated.
        let Some(vip) = unsafe { VIPS.get(&request.vip) }.copied() else { return NOT_A_VIP };
        if vip.open == 0 {
            refused(vip.row);
            return NO_BACKEND;
        }
        let sky = Sky::of(&vip, request.now);
        let ring = by_ring(&vip, request, sky);
        let answer = if ring == NO_BACKEND { by_draw(&vip, request, sky) } else { ring };
        if answer == NO_BACKEND {
            refused(vip.row);
        }
        if answer != OVERTAKEN {
            return answer;
        }
    }
    // Changes that follow each other faster than a few dozen instructions.
    NO_BACKEND
}

#[inline(always)]
fn by_ring(vip: &VipValue, request: &mut Request, sky: Sky) -> u32 {
    if vip.ring_length == 0 {
        return NO_BACKEND;
    }
    let number = if vip.rule == rule::SOURCE { request.client } else { request.connection };
    let place = vip.ring_base.wrapping_add(point(spread(number), vip.ring_length));
    let Some(place) = RINGS.get(place) else { return NO_BACKEND };
    if place.generation != vip.generation {
        return OVERTAKEN;
    }
    let found = judge(at_place(vip, place.index, request.reach), sky, 0);
    match found.verdict() {
        Verdict::Usable | Verdict::Warming => settle(request, found, found, reason::RING),
        Verdict::Probe => settle(request, found, found, reason::PROBE),
        Verdict::Overtaken => OVERTAKEN,
        Verdict::Shut | Verdict::Unreachable => NO_BACKEND,
    }
}

#[inline(always)]
fn by_draw(vip: &VipValue, request: &mut Request, sky: Sky) -> u32 {
    let is_sticky = request.chance == Chance::Sticky as u32;
    let seed = match is_sticky {
        true => request.connection,
        // No two sockets have a number in common, and hardly two of them the same nanosecond.
        false => request.connection << 32 ^ request.now,
    };
    let near = Part { start: 0, length: vip.near };
    let first = look(vip, near, mix(seed), u32::MAX, request.reach, sky);
    match first.verdict() {
        Verdict::Overtaken => return OVERTAKEN,
        Verdict::Probe => return settle(request, first, first, reason::PROBE),
        Verdict::Usable if vip.near == 1 => {
            return spill_over(vip, request, sky, seed, first, first, reason::ONLY);
        }
        Verdict::Usable if is_sticky || vip.rule == rule::RANDOM => {
            return spill_over(vip, request, sky, seed, first, first, reason::DRAWN);
        }
        _ => {}
    }
    let second = look(vip, near, mix(seed ^ 1 << 40), first.slot, request.reach, sky);
    match (first.verdict(), second.verdict()) {
        (_, Verdict::Overtaken) => OVERTAKEN,
        (_, Verdict::Probe) => settle(request, second, second, reason::PROBE),
        (Verdict::Usable, Verdict::Usable) => {
            let (a, b) = (weighed(vip, first), weighed(vip, second));
            if second_is_better(a, b) {
                return spill_over(vip, request, sky, seed, second, first, reason::CHEAPER);
            }
            spill_over(vip, request, sky, seed, first, second, reason::TIE)
        }
        (Verdict::Usable, _) => {
            request.decision.passed_over = 1;
            spill_over(vip, request, sky, seed, first, second, reason::ONLY)
        }
        (_, Verdict::Usable) => {
            request.decision.passed_over = 1;
            spill_over(vip, request, sky, seed, second, first, reason::ONLY)
        }
        _ => others(vip, request, sky, seed, first),
    }
}

/// Neither of the first two may be used: takes the first other that may.
#[inline(always)]
fn others(vip: &VipValue, request: &mut Request, sky: Sky, seed: u64, first: Candidate) -> u32 {
    request.decision.passed_over = 1;
    let mut resort = first;
    let start = mix(seed ^ 2 << 40);
    for number in 0..LOOKS {
        let position = point(select::look(start as u32, number), vip.open);
        let found = at_place(vip, position, request.reach);
        let found = judge(found, sky, (start >> 32 >> number) as u32);
        match found.verdict() {
            Verdict::Overtaken => return OVERTAKEN,
            Verdict::Usable => return settle(request, found, first, reason::ONLY),
            Verdict::Probe => return settle(request, found, found, reason::PROBE),
            // Of those that are passed over, one that only warms up is the best.
            Verdict::Warming => resort = found,
            Verdict::Shut if resort.verdict() == Verdict::Unreachable => resort = found,
            Verdict::Shut | Verdict::Unreachable => {}
        }
    }
    match resort.verdict() {
        Verdict::Unreachable => NO_BACKEND,
        _ => settle(request, resort, resort, reason::LAST_RESORT),
    }
}

/// Near backends go first, until one that is farther away costs much less.
#[inline(always)]
fn spill_over(
    vip: &VipValue,
    request: &mut Request,
    sky: Sky,
    seed: u64,
    winner: Candidate,
    loser: Candidate,
    reason: u8,
) -> u32 {
    let far = Part { start: vip.near, length: vip.open.wrapping_sub(vip.near) };
    if far.length == 0 {
        return settle(request, winner, loser, reason);
    }
    let found = look(vip, far, mix(seed ^ 63 << 40), u32::MAX, request.reach, sky);
    if found.verdict() == Verdict::Usable
        && far_is_better(weighed(vip, winner), weighed(vip, found))
    {
        return settle(request, found, winner, reason::SPILLED);
    }
    settle(request, winner, loser, reason)
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
fn settle(request: &mut Request, winner: Candidate, loser: Candidate, reason: u8) -> u32 {
    request.slot = winner.slot;
    request.decision.reason = reason;
    request.decision.other_row = SLOTS.get(loser.slot).map_or(0, |slot| slot.row);
    request.decision.micros = winner.micros();
    request.decision.other_micros = loser.micros();
    request.decision.in_flight = cut(winner.in_flight());
    request.decision.other_in_flight = cut(loser.in_flight());
    CHOSEN
}

#[inline(always)]
fn cut(number: u32) -> u16 {
    if number > 0xffff { 0xffff } else { number as u16 }
}
