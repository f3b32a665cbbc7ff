//! Packet → verdict.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use mizzen_ebpf_abi::policy::{Local, Switch, place};
use mizzen_ebpf_core::policy::{Class, Judgement, Verdict, judge, number};

use super::facts::{Facts, kind};
use super::flows::{self, Known};
use super::report::report;
use super::{maps, overlays};
use crate::headers::Buffer;

/// It passes, and nobody knows more.
pub const UNJUDGED: u32 = 0;
/// It passes because that is allowed.
pub const JUDGED: u32 = 1;
/// It does not pass.
pub const REFUSED: u32 = 2;

/// Looks at a packet in one of the places of [`place`].
///
/// Visible from outside, so the verifier checks it once and by itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn mizzen_look(buffer: *mut __sk_buff, place: u32) -> u32 {
    let Some(switch) = maps::switch() else { return UNJUDGED };
    let Some(facts) = Facts::read(buffer) else { return UNJUDGED };
    let look = Look { buffer, place: place as u8, switch, now: now() };
    match facts.kind {
        kind::ASIDE => UNJUDGED,
        kind::ERROR => JUDGED,
        kind::BROKEN => REFUSED,
        kind::CONTINUES => look.of_connection(&facts),
        kind::BEGINS => look.judge(&facts),
        _ => look.of_flow(&facts),
    }
}

/// What a look goes by.
struct Look {
    buffer: Buffer,
    place: u8,
    switch: &'static Switch,
    now: u64,
}

impl Look {
    /// A later packet of a connection.
    #[inline(always)]
    fn of_connection(&self, facts: &Facts) -> u32 {
        if self.switch.flags & Switch::WAYS == 0 || self.place == place::RECEIVER {
            return UNJUDGED;
        }
        let is_known = |facts: &Facts| flows::find(facts, 0, self.now) == Known::Allowed;
        match is_known(facts) || is_known(&facts.reversed()) {
            true => JUDGED,
            false => UNJUDGED,
        }
    }

    /// A datagram.
    #[inline(always)]
    fn of_flow(&self, facts: &Facts) -> u32 {
        let generation = self.switch.generation;
        if flows::find(facts, generation, self.now) == Known::Allowed {
            return JUDGED;
        }
        let mut begins = *facts;
        if facts.kind != kind::ASKS {
            let question = facts.reversed();
            match flows::find(&question, generation, self.now) {
                Known::Allowed => return JUDGED,
                // Whether the question would be allowed now is what counts.
                Known::Before => begins = question,
                Known::No => {}
            }
        }
        let verdict = self.judge(&begins);
        if verdict == REFUSED {
            flows::forget(&begins);
        }
        verdict
    }

    /// The beginning of a connection or a flow.
    #[inline(always)]
    fn judge(&self, facts: &Facts) -> u32 {
        let (from, to) = (self.sender(facts), maps::class(facts.to));
        let is_apart = from.is_apart_from(&to);
        if self.place == place::SENDER && self.is_foreign(facts, &from) {
            let judgement = Judgement { verdict: Verdict::Refuse, rule: number::FOREIGN_ADDRESS };
            report(facts, &from, &to, judgement, self.place);
            return REFUSED;
        }
        if self.place == place::TUNNEL && !is_apart {
            // The receiver's link is the place for it.
            return UNJUDGED;
        }
        let ruling = maps::ruling(&from, &to, facts.protocol, facts.port());
        let judgement = judge(&from, &to, overlays(self.switch), ruling);
        // What reaches the receiver in spite of it was sent to a port that the host publishes.
        let is_published = judgement.rule == number::ISOLATION && self.place == place::RECEIVER;
        if is_published {
            return UNJUDGED;
        }
        if judgement.verdict == Verdict::Refuse {
            report(facts, &from, &to, judgement, self.place);
            return REFUSED;
        }
        if self.place == place::RECEIVER || !maps::concerns(facts.to) {
            report(facts, &from, &to, judgement, self.place);
        }
        if is_apart || (facts.kind != kind::BEGINS && (from.flags | to.flags) != 0) {
            flows::remember(facts, self.switch.generation, self.now);
        }
        JUDGED
    }

    /// Whose packet it is. This node's own is what came by no link: an address is easily written.
    #[inline(always)]
    fn sender(&self, facts: &Facts) -> Class {
        // SAFETY: the context is valid for the whole run of the program.
        let came = unsafe { (*self.buffer).ingress_ifindex };
        if self.place == place::RECEIVER && came == 0 {
            return Class { class: Class::HOST, overlay: 0, flags: 0 };
        }
        let class = maps::class(facts.from);
        if class.class == Class::HOST && self.place != place::SENDER {
            return Class::default();
        }
        class
    }

    /// Whether a container uses an address that is another one's.
    #[inline(always)]
    fn is_foreign(&self, facts: &Facts, from: &Class) -> bool {
        // SAFETY: as in `sender`.
        let link = unsafe { (*self.buffer).ifindex };
        match maps::local(facts.from) {
            Some(Local { link: own, .. }) => *own != link,
            None => from.overlay != 0 || from.class == Class::HOST,
        }
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC` as of the last tick.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_coarse_ns() }
}
