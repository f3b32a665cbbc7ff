//! Two processes under one node's name.
//!
//! Most often the other one is a former self, or this node itself as it was before its
//! clock or its state directory went back. Sometimes a machine was copied, and both
//! copies run. The rules:
//!
//! * an earlier life is ignored, and reported if it still speaks;
//! * a later life at this node's own address, or one that is dead, was this node: it
//!   takes a life after that;
//! * a later life that is alive elsewhere is the one that counts: this process stays out
//!   and looks again every [`RETRY`].

use super::{Alarm, Effect, Report, State, Swim, new_foca};
use crate::identity::{Identity, MAX_GENERATION};
use foca::{Member, Message};
use mizzen_types::time::Mono;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a refused process waits.
const RETRY: Duration = Duration::from_secs(30);
/// It asks so many of those that it knew.
const ASKED: usize = 8;

/// This process stays out.
#[derive(Debug)]
pub(super) struct Refused {
    peers: Vec<SocketAddr>,
}

impl Swim {
    /// Whether this process stays out, because a later one uses its node's name.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Takes out what is said of other lives of this node, and draws the conclusion.
    /// Whether something was taken out.
    pub(super) fn settle_clashes(
        &mut self,
        updates: &mut Vec<Member<Identity>>,
        now: Mono,
    ) -> bool {
        let tag = self.me().tag();
        if !updates.iter().any(|update| update.id().tag() == tag && update.id() != self.me()) {
            return false;
        }
        let (own, rest): (Vec<_>, Vec<_>) =
            std::mem::take(updates).into_iter().partition(|update| update.id().tag() == tag);
        *updates = rest;
        for update in own {
            if update.id() != self.me() {
                self.clash(update.id(), update.state(), now);
            } else {
                updates.push(update);
            }
        }
        true
    }

    /// Another life of this node was heard of.
    pub(super) fn clash(&mut self, other: &Identity, state: foca::State, now: Mono) {
        if self.refused.is_some() {
            return;
        }
        if !other.is_later_than(self.me()) {
            if state != foca::State::Down && other.address != self.me().address {
                let other = other.clone();
                self.effects.push_back(Effect::Report(Report::Double { other }));
            }
            return;
        }
        if state == foca::State::Down || other.address == self.me().address {
            self.outlive(other, now);
        } else {
            self.stay_out(other.clone(), now);
        }
    }

    /// Takes a life after `other`.
    fn outlive(&mut self, other: &Identity, now: Mono) {
        let mut next = Identity { leaving: false, address: self.me().address, ..other.clone() };
        match other.rejoins.checked_add(1) {
            Some(rejoins) => next.rejoins = rejoins,
            None if other.generation + 1 < MAX_GENERATION => {
                (next.generation, next.rejoins) = (other.generation + 1, 0);
            }
            None => return,
        }
        let life = next.clone();
        self.run(now, |foca, out| foca.change_identity(life, out));
        self.effects.push_back(Effect::Renewed(next));
        self.begin_life(now);
    }

    fn stay_out(&mut self, by: Identity, now: Mono) {
        let known = self.foca.iter_members().map(|member| member.id().address);
        let mut peers: Vec<SocketAddr> = known.take(ASKED).collect();
        peers.push(by.address);
        let members =
            self.foca.iter_members().map(|member| member.id().clone()).collect::<Vec<_>>();
        for member in members {
            self.changed(member, State::Dead);
        }
        self.foca = new_foca(self.me().clone(), &self.timings, &mut self.dice);
        self.class = 0;
        self.alarms.clear();
        self.alarm(now + RETRY, Alarm::Retry);
        self.refused = Some(Refused { peers });
        self.effects.push_back(Effect::Report(Report::Refused { by }));
    }

    /// Asks those that this node knew, or was told of, whether the other is still there.
    pub(super) fn try_again(&mut self, now: Mono) {
        let Some(refused) = self.refused.take() else { return };
        for address in refused.peers {
            if !self.seeds.contains(&address) {
                self.seeds.push(address);
            }
        }
        self.call_seeds();
        self.next_knock(now + self.timings.alone);
    }

    /// Somebody spoke who is taken for dead. If it is, it is told so and takes its next
    /// life; if a later life of its node is known, it is told of that.
    pub(super) fn answer_ghost(&mut self, ghost: &Identity) {
        let same = |member: &&Member<Identity>| member.id().tag() == ghost.tag();
        let known = self.foca.iter_membership_state().find(same).cloned();
        match known {
            Some(member) if member.id() != ghost => self.send(ghost, Message::Gossip, vec![member]),
            _ => self.send(ghost, Message::TurnUndead, Vec::new()),
        }
    }
}
