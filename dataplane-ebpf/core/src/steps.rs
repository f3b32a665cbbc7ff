//! The steps from a VIP to one of its backends: the same for every engine, and for those who foretell what one does.
//!
//! ```text
//! ring rules    the place that the hash hits, if it may be used
//! otherwise     draw two of the near ones by weight, take the cheaper;
//!               of each class that is farther away, one may still be better
//! neither       look at some more, class by class, and take the first that may be used
//! nobody        one that was passed over: looking bad is better than refusing
//! ```
//!
//! Who calls says what the backends are, as a [`Field`]. Everything is inlined, so that the programs in the kernel pay
//! for nothing but the steps.

use crate::account::Reason;
use crate::select::{LOOKS, look, mix, point};

/// Whether a backend may be chosen, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It may.
    Usable = 0,
    /// It is ejected, and this connect has just been appointed to try it.
    Probe = 1,
    /// It joined a moment ago and lets this one pass.
    Warming = 2,
    /// It is ejected, or leaves handshakes unanswered.
    Shut = 3,
    /// This socket cannot reach its address family, or the backend is gone.
    Unreachable = 4,
    /// The VIP was changed after it was looked up.
    Overtaken = 5,
}

/// A part of the open backends, which have positions from zero on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Position of its first backend.
    pub start: u32,
    /// Number of its backends.
    pub length: u32,
}

/// What decides between those that are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Draw {
    /// The first that may be used is taken.
    First,
    /// Another is drawn, and the cheaper one is taken.
    CheaperOfTwo,
}

/// How many backends are how far away, if they are sorted by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// How many are near: those that go first.
    pub near: u32,
    /// How many are near or in the next class; those after them are the farthest.
    pub within: u32,
    /// How many there are.
    pub open: u32,
}

/// On the node, in its zone, elsewhere.
pub const CLASSES: u32 = 3;

/// By what a choice goes.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How many backends are open, at least one, and how far away.
    pub classes: Classes,
    /// What decides between those that are drawn.
    pub draw: Draw,
    /// Where chance comes from.
    pub seed: u64,
}

/// The open backends of a VIP, as one choice sees them.
pub trait Field {
    /// A backend that was looked at, and what is thought of it.
    type Candidate: Copy;
    /// The answer.
    type End;

    /// The one that the ring leads to; none if the rule needs no ring.
    fn on_ring(&mut self) -> Option<Self::Candidate>;
    /// Draws one of `part`, which is not empty, by weight; the next one if that is `taken`.
    fn draw(&mut self, part: Part, bits: u64, taken: Option<Self::Candidate>) -> Self::Candidate;
    /// The one at a position; `chance` decides whether one that warms up takes this connection.
    fn at(&mut self, position: u32, chance: u32) -> Self::Candidate;
    /// What is thought of it.
    fn verdict(&self, candidate: Self::Candidate) -> Verdict;
    /// [`crate::select::second_is_better`], as the rule sees the two.
    fn second_is_better(&self, first: Self::Candidate, second: Self::Candidate) -> bool;
    /// [`crate::select::far_is_better`], likewise.
    fn far_is_better(&self, near: Self::Candidate, far: Self::Candidate) -> bool;
    /// Notes that one was passed over.
    fn pass_over(&mut self);
    /// It is the winner; the loser is the same if there was no other.
    fn settle(
        &mut self,
        winner: Self::Candidate,
        loser: Self::Candidate,
        reason: Reason,
    ) -> Self::End;
    /// Nobody is: [`Verdict::Unreachable`] or [`Verdict::Overtaken`].
    fn give_up(&mut self, why: Verdict) -> Self::End;
}

impl Classes {
    /// Of so many open backends, where distance does not matter.
    #[must_use]
    pub const fn alike(open: u32) -> Self {
        Self { near: open, within: open, open }
    }

    /// Of so many open backends, `on_node` of which are on the node, and `in_zone` there or in its zone. The nearest class that
    /// has any goes first.
    #[must_use]
    pub const fn of(on_node: u32, in_zone: u32, open: u32) -> Self {
        match (on_node, in_zone) {
            (0, 0) => Self::alike(open),
            (0, zone) => Self { near: zone, within: zone, open },
            (node, zone) => Self { near: node, within: zone, open },
        }
    }

    /// The backends of one of the [`CLASSES`]; 0 is the nearest.
    #[inline(always)]
    #[must_use]
    pub const fn part(&self, class: u32) -> Part {
        let (start, end) = match class {
            0 => (0, self.near),
            1 => (self.near, self.within),
            _ => (self.within, self.open),
        };
        Part { start, length: end.wrapping_sub(start) }
    }
}

/// Chooses one of at least one open backend.
#[inline(always)]
pub fn choose<F: Field>(field: &mut F, terms: &Terms) -> F::End {
    if let Some(found) = field.on_ring() {
        match field.verdict(found) {
            Verdict::Usable | Verdict::Warming => return field.settle(found, found, Reason::Ring),
            Verdict::Probe => return field.settle(found, found, Reason::Probe),
            Verdict::Overtaken => return field.give_up(Verdict::Overtaken),
            Verdict::Shut | Verdict::Unreachable => {}
        }
    }
    by_draw(field, terms)
}

#[inline(always)]
fn by_draw<F: Field>(field: &mut F, terms: &Terms) -> F::End {
    let near = terms.classes.part(0);
    let first = field.draw(near, mix(terms.seed), None);
    match field.verdict(first) {
        Verdict::Overtaken => return field.give_up(Verdict::Overtaken),
        Verdict::Probe => return field.settle(first, first, Reason::Probe),
        Verdict::Usable if terms.classes.near == 1 => {
            return spill_over(field, terms, first, first, Reason::Only);
        }
        Verdict::Usable if terms.draw == Draw::First => {
            return spill_over(field, terms, first, first, Reason::Drawn);
        }
        _ => {}
    }
    let second = field.draw(near, mix(terms.seed ^ SECOND), Some(first));
    match (field.verdict(first), field.verdict(second)) {
        (_, Verdict::Overtaken) => field.give_up(Verdict::Overtaken),
        (_, Verdict::Probe) => field.settle(second, second, Reason::Probe),
        (Verdict::Usable, Verdict::Usable) => {
            if field.second_is_better(first, second) {
                return spill_over(field, terms, second, first, Reason::Cheaper);
            }
            spill_over(field, terms, first, second, Reason::Tie)
        }
        (Verdict::Usable, _) => {
            field.pass_over();
            spill_over(field, terms, first, second, Reason::Only)
        }
        (_, Verdict::Usable) => {
            field.pass_over();
            spill_over(field, terms, second, first, Reason::Only)
        }
        _ => {
            let resort = better_resort(field, first, second);
            others(field, terms, resort)
        }
    }
}

/// Neither of the first two may be used: takes the first other that may, of the nearest class that has one.
#[inline(always)]
fn others<F: Field>(field: &mut F, terms: &Terms, passed_over: F::Candidate) -> F::End {
    field.pass_over();
    let mut resort = passed_over;
    for number in 0..CLASSES * LOOKS {
        let (class, number) = (number / LOOKS, number % LOOKS);
        let part = terms.classes.part(class);
        if part.length == 0 {
            continue;
        }
        let bits = mix(terms.seed ^ OTHERS.wrapping_add(u64::from(class) << SALT));
        let position = part.start.wrapping_add(point(look(bits as u32, number), part.length));
        let found = field.at(position, (bits >> 32 >> number) as u32);
        match field.verdict(found) {
            Verdict::Overtaken => return field.give_up(Verdict::Overtaken),
            Verdict::Usable => return field.settle(found, passed_over, Reason::Only),
            Verdict::Probe => return field.settle(found, found, Reason::Probe),
            Verdict::Warming | Verdict::Shut | Verdict::Unreachable => {
                resort = better_resort(field, resort, found);
            }
        }
    }
    match field.verdict(resort) {
        Verdict::Unreachable => field.give_up(Verdict::Unreachable),
        _ => field.settle(resort, resort, Reason::LastResort),
    }
}

/// Of those that are passed over, one that only warms up is the best.
#[inline(always)]
fn better_resort<F: Field>(field: &F, first: F::Candidate, second: F::Candidate) -> F::Candidate {
    if field.verdict(second) < field.verdict(first) { second } else { first }
}

/// Near backends go first, until one that is farther away costs much less than what is nearer.
#[inline(always)]
fn spill_over<F: Field>(
    field: &mut F,
    terms: &Terms,
    near: F::Candidate,
    loser: F::Candidate,
    reason: Reason,
) -> F::End {
    let (mut winner, mut loser, mut reason) = (near, loser, reason);
    let mut nearer = near;
    for class in 1..CLASSES {
        let part = terms.classes.part(class);
        if part.length == 0 {
            continue;
        }
        let bits = mix(terms.seed ^ FARTHER.wrapping_add(u64::from(class) << SALT));
        let found = field.draw(part, bits, None);
        if field.verdict(found) != Verdict::Usable {
            continue;
        }
        if field.far_is_better(winner, found) && field.far_is_better(nearer, found) {
            (winner, loser, reason) = (found, winner, Reason::Spilled);
        }
        nearer = found;
    }
    field.settle(winner, loser, reason)
}

/// From this bit on the seed differs from one draw to the next.
const SALT: u32 = 40;
const SECOND: u64 = 1 << SALT;
const OTHERS: u64 = 2 << SALT;
const FARTHER: u64 = 62 << SALT;

#[cfg(test)]
mod tests;
