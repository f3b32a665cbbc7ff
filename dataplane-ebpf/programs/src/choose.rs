//! From a VIP to one of its backends, by the steps of `mizzen_ebpf_core::steps`.
//!
//! The functions with names of their own are there for the verifier. It checks one that is
//! visible from outside by itself, once; anything else it checks anew on every path that leads to
//! a call, and the paths through two candidates multiply beyond what it is willing to look at.

use core::mem::MaybeUninit;

use mizzen_ebpf_abi::{Decision, Slot, VipKey, VipValue, reason, rule};
use mizzen_ebpf_core::account::Reason;
use mizzen_ebpf_core::select::{point, spread};
use mizzen_ebpf_core::steps::{self, Classes, Draw, Field, Part, Terms, Verdict};

use crate::candidate::{Candidate, Sky, at_place, draw, far_is_better, judge, second_is_better};
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
    /// the slot that it leads to differs, and the VIP is looked up again; or the one has a backend more at its end.
    pub value: VipValue,
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
    /// Where chance comes from: a [`Chance`]. Part of the question like `reach`, but here they fill holes.
    pub chance: u32,
    /// Index in `SLOTS`.
    pub slot: u32,
    /// Why.
    pub decision: Decision,
    /// Families that can be used: a [`Reach`].
    pub reach: u32,
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
            (&raw mut (*request).asked.connection).write(connection);
            (&raw mut (*request).asked.client).write(client);
            (&raw mut (*request).asked.now).write(now);
            blank(&raw mut (*request).answer, chance, reach);
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
pub unsafe fn blank(answer: *mut Answer, chance: Chance, reach: Reach) {
    for word in 0..size_of::<Answer>() / size_of::<u64>() {
        // SAFETY: an answer is as many words, and all its fields are numbers.
        unsafe { answer.cast::<u64>().add(word).write_volatile(0) };
    }
    // SAFETY: fields of the answer.
    unsafe {
        (&raw mut (*answer).chance).write_volatile(chance as u32);
        (&raw mut (*answer).reach).write_volatile(reach as u32);
    }
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
///
/// For size, because then the compiler leaves its loop laid out so that Linux 6.1 takes it (`xtask/src/loops.rs`).
#[unsafe(no_mangle)]
#[inline(never)]
#[optimize(size)]
pub extern "C" fn mizzen_choose(request: *mut Request) -> u32 {
    // SAFETY: null, or a structure on the caller's stack or in a map.
    let Some(Request { asked, answer }) = (unsafe { request.as_mut() }) else { return NO_BACKEND };
    if asked.value.open == 0 {
        return NO_BACKEND;
    }
    let sky = Sky::of(&asked.value, asked.now);
    let is_sticky = answer.chance == Chance::Sticky as u32;
    let VipValue { near, within, open, .. } = asked.value;
    let terms = Terms {
        classes: Classes { near, within, open },
        draw: match is_sticky || asked.value.rule == rule::RANDOM {
            true => Draw::First,
            false => Draw::CheaperOfTwo,
        },
        seed: match is_sticky {
            true => asked.connection,
            // No two sockets have a number in common, and hardly two of them the same nanosecond.
            false => asked.connection << 32 ^ asked.now,
        },
    };
    steps::choose(&mut Backends { asked, answer, sky }, &terms)
}

/// The backends of the VIP that is asked for.
struct Backends<'a> {
    asked: &'a Question,
    answer: &'a mut Answer,
    sky: Sky,
}

impl Field for Backends<'_> {
    type Candidate = Candidate;
    type End = u32;

    #[inline(always)]
    fn on_ring(&mut self) -> Option<Candidate> {
        let vip = &self.asked.value;
        if vip.ring_length == 0 {
            return None;
        }
        let is_source = vip.rule == rule::SOURCE;
        let number = if is_source { self.asked.client } else { self.asked.connection };
        let place = vip.ring_base.wrapping_add(point(spread(number), vip.ring_length));
        let place = RINGS.get(place)?;
        if place.generation != vip.generation {
            return Some(Candidate::OVERTAKEN);
        }
        Some(self.at(place.index, 0))
    }

    #[inline(always)]
    fn draw(&mut self, part: Part, bits: u64, taken: Option<Candidate>) -> Candidate {
        let taken = taken.map_or(u32::MAX, |taken| taken.slot);
        let found = draw(&self.asked.value, part, bits, taken, self.answer.reach);
        judge(found, self.sky, (bits >> 16) as u32)
    }

    #[inline(always)]
    fn at(&mut self, position: u32, chance: u32) -> Candidate {
        judge(at_place(&self.asked.value, position, self.answer.reach), self.sky, chance)
    }

    #[inline(always)]
    fn verdict(&self, candidate: Candidate) -> Verdict {
        candidate.verdict()
    }

    #[inline(always)]
    fn second_is_better(&self, first: Candidate, second: Candidate) -> bool {
        let vip = &self.asked.value;
        second_is_better(weighed(vip, first), weighed(vip, second))
    }

    #[inline(always)]
    fn far_is_better(&self, near: Candidate, far: Candidate) -> bool {
        let vip = &self.asked.value;
        far_is_better(weighed(vip, near), weighed(vip, far))
    }

    #[inline(always)]
    fn pass_over(&mut self) {
        self.answer.decision.passed_over = 1;
    }

    #[inline(always)]
    fn settle(&mut self, winner: Candidate, loser: Candidate, reason: Reason) -> u32 {
        let Answer { slot, decision, .. } = &mut *self.answer;
        *slot = winner.slot;
        decision.reason = reason as u8;
        decision.other_row = SLOTS.get(loser.slot).map_or(0, |slot| slot.row);
        decision.micros = winner.micros();
        decision.other_micros = loser.micros();
        decision.in_flight = cut(winner.in_flight());
        decision.other_in_flight = cut(loser.in_flight());
        CHOSEN
    }

    #[inline(always)]
    fn give_up(&mut self, why: Verdict) -> u32 {
        if why == Verdict::Overtaken { OVERTAKEN } else { NO_BACKEND }
    }
}

/// Reasons are written as the numbers that they have in maps.
const _: () = assert!(
    Reason::Only as u8 == reason::ONLY
        && Reason::Cheaper as u8 == reason::CHEAPER
        && Reason::Tie as u8 == reason::TIE
        && Reason::Drawn as u8 == reason::DRAWN
        && Reason::Ring as u8 == reason::RING
        && Reason::Spilled as u8 == reason::SPILLED
        && Reason::Probe as u8 == reason::PROBE
        && Reason::LastResort as u8 == reason::LAST_RESORT
);

/// The candidate as the rule sees it.
#[inline(always)]
fn weighed(vip: &VipValue, candidate: Candidate) -> Candidate {
    match vip.rule {
        rule::LEAST_CONNECTIONS => candidate.without_latency(),
        _ => candidate,
    }
}

#[inline(always)]
fn cut(number: u32) -> u16 {
    if number > 0xffff { 0xffff } else { number as u16 }
}
