//! What a node says of its own accord, beside what foca says: to suspects, to the dead,
//! and to those it was told of.

use super::packet::Packet;
use super::{Alarm, Effect, Swim, TELL_AGAIN, TELLINGS};
use crate::identity::Identity;
use foca::{Header, Member, Message};
use mizzen_types::time::Mono;

impl Swim {
    /// Tells a few members at once what this node is the first to know; the others hear of
    /// it a tenth of a second sooner than they would.
    pub(super) fn spread(&mut self, now: Mono) {
        if self.foca.updates_backlog() > 0 {
            self.run(now, |foca, out| foca.gossip(out));
        }
    }

    /// Asks a suspect once more and says why: its answer comes with the objection. After some
    /// times at once this goes on slowly: whoever was to call it dead may be gone, or be in
    /// another life, and what it hears here may be all that it hears of the suspicion.
    pub(super) fn tell(&mut self, suspect: Identity, probe: u8, left: u8, now: Mono) {
        let known = self.foca.iter_members().find(|member| member.id() == &suspect);
        let Some(member) = known.filter(|member| member.state() == foca::State::Suspect) else {
            return;
        };
        let message = Message::Ping(probe);
        let updates = vec![member.clone()];
        self.send(&suspect, message, updates);
        let after = if left > 1 { TELL_AGAIN } else { self.timings.suspect };
        self.tell_at(now + after, suspect, probe, left.saturating_sub(1));
    }

    /// Has a suspect told later, if it is still one then.
    pub(super) fn tell_at(&mut self, at: Mono, suspect: Identity, probe: u8, left: u8) {
        let of_it = |alarm: &Alarm| matches!(alarm, Alarm::Tell { suspect: other, .. } if *other == suspect);
        self.alarms.retain(|_, alarm| !of_it(alarm));
        self.alarm(at, Alarm::Tell { suspect, probe, left });
    }

    /// Goes on in another life: what was begun in the one before counts for nothing, and
    /// neither probes nor verdicts go on by themselves before somebody speaks.
    pub(super) fn begin_life(&mut self, now: Mono) {
        self.run(now, |foca, out| foca.apply_many(std::iter::empty(), false, out));
        for suspect in self.suspects.values().cloned().collect::<Vec<_>>() {
            self.tell(suspect, 0, TELLINGS, now);
        }
    }

    /// Writes a message of our own.
    pub(super) fn send(
        &mut self,
        to: &Identity,
        message: Message<Identity>,
        updates: Vec<Member<Identity>>,
    ) {
        let header = Header {
            src: self.me().clone(),
            src_incarnation: self.incarnation,
            dst: to.clone(),
            message,
        };
        let bytes = Packet { header, updates }.write();
        self.effects.push_back(Effect::Send { to: to.address, bytes });
    }

    /// Calls a dead member, or all that this node was told of if nobody lives.
    pub(super) fn knock(&mut self, now: Mono) {
        let dead: Vec<Identity> = self
            .foca
            .iter_membership_state()
            .filter(|member| member.state() == foca::State::Down && !member.id().leaving)
            .map(|member| member.id().clone())
            .collect();
        if let Some(one) = dead.get(self.dice.below(dead.len())) {
            self.send(one, Message::Announce, Vec::new());
        }
        let mut next = self.timings.knock;
        if self.alive() == 0 && !self.seeds.is_empty() {
            self.call_seeds();
            next = self.timings.alone;
        }
        self.next_knock(now + next);
    }

    pub(super) fn next_knock(&mut self, at: Mono) {
        self.alarms.retain(|_, alarm| !matches!(alarm, Alarm::Knock));
        self.alarm(at, Alarm::Knock);
    }

    pub(super) fn call_seeds(&mut self) {
        let own = self.me().address;
        for address in self.seeds.clone().into_iter().filter(|address| *address != own) {
            self.send(&Identity::anyone(address), Message::Announce, Vec::new());
        }
    }
}
