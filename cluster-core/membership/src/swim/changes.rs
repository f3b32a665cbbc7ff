//! From what foca noticed to what is known of members.

use super::outbox::Note;
use super::{Effect, State, Swim, TELLINGS};
use crate::identity::Identity;
use foca::Member;
use mizzen_types::time::Mono;

impl Swim {
    /// Members of which suspicion is said, or is known here: worth a look afterwards.
    pub(super) fn known_among(&self, updates: &[Member<Identity>]) -> Vec<u64> {
        let concerns = |member: &&Member<Identity>| {
            member.state() == foca::State::Suspect || self.suspects.contains_key(&member.id().tag())
        };
        updates.iter().filter(concerns).map(|member| member.id().tag()).collect()
    }

    /// Compares what foca knows of these members with what was said of them.
    pub(super) fn look_again(&mut self, tags: &[u64], now: Mono) {
        if tags.is_empty() {
            return;
        }
        let mut suspects = Vec::new();
        let members = self.foca.iter_membership_state();
        for member in members.filter(|member| tags.contains(&member.id().tag())) {
            let id = member.id();
            let suspected = self.suspects.get(&id.tag()) == Some(id);
            match member.state() {
                foca::State::Suspect if !suspected => {
                    self.suspects.insert(id.tag(), id.clone());
                    suspects.push(id.clone());
                    self.effects.push_back(Effect::Changed(id.clone(), State::Suspect));
                }
                foca::State::Alive if suspected => {
                    self.suspects.remove(&id.tag());
                    self.effects.push_back(Effect::Changed(id.clone(), State::Alive));
                }
                foca::State::Suspect | foca::State::Alive | foca::State::Down => {}
            }
        }
        // By then whoever began with it has called it dead, if all goes well.
        let late = now + self.timings.suspect * 2;
        for suspect in suspects {
            self.tell_at(late, suspect, 0, 0);
        }
    }

    pub(super) fn take_note(&mut self, note: Note, now: Mono) {
        match note {
            Note::Up(id) => self.changed(id, State::Alive),
            Note::Down(id) => self.changed_down(id),
            Note::Renamed(id) => match self.state_of(&id) {
                Some(foca::State::Down) => self.changed_down(id),
                Some(_) => self.changed(id, State::Alive),
                None => {}
            },
            Note::Silent(id, probe) => {
                self.look_again(&[id.tag()], now);
                self.tell(id, probe, TELLINGS, now);
                self.spread(now);
            }
            Note::Renewed(id) => {
                self.effects.push_back(Effect::Renewed(id));
                self.begin_life(now);
            }
            Note::Ghost(id) => self.answer_ghost(&id),
        }
    }

    fn changed_down(&mut self, id: Identity) {
        let state = if id.leaving { State::Left } else { State::Dead };
        self.changed(id, state);
    }

    pub(super) fn changed(&mut self, id: Identity, state: State) {
        self.suspects.remove(&id.tag());
        self.effects.push_back(Effect::Changed(id, state));
    }

    fn state_of(&self, id: &Identity) -> Option<foca::State> {
        self.foca.iter_membership_state().find(|member| member.id() == id).map(Member::state)
    }
}
