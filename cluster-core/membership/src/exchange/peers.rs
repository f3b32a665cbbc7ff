//! With whom a node talks: everybody who is alive, a few of them often.

use super::{Exchange, Message, jittered};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A node chooses so many neighbours; about as many choose it.
const CHOSEN: usize = 3;
/// At most so many of those that chose it are served.
const MAX_GUESTS: usize = 12;
/// Neighbours are chosen so long after one is missing: a node that joins hears of many
/// others at once, and the first of them are the same for all who join.
const CHOOSE: Duration = Duration::from_millis(100);
/// Greetings, comparisons of everything.
const MINUTE: Duration = Duration::from_secs(60);
/// A node that joined compares so often after so long.
const HURRIES: u8 = 4;
const HURRY: Duration = Duration::from_secs(2);
/// Who was asked for the members answers within this.
const ANSWER: Duration = Duration::from_secs(20);
/// Comparisons of what is new.
const RECENT: Duration = Duration::from_secs(5);
/// Who did not greet for so long has chosen others.
const GUEST: Duration = Duration::from_secs(200);
/// One neighbour is exchanged each so many minutes, so that no bad luck lasts.
const ROTATE: u64 = 10;
/// After so many faults a peer is not listened to.
const STRIKES: u32 = 3;
/// For so long; its faults are forgotten then.
const IGNORED: Duration = Duration::from_secs(60);

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    here: BTreeSet<OwnerId>,
    chosen: BTreeSet<OwnerId>,
    guests: BTreeMap<OwnerId, Mono>,
    strikes: BTreeMap<OwnerId, (u32, Mono)>,
    /// Those whose last stream ended.
    closed: BTreeSet<OwnerId>,
    minute_at: Mono,
    recent_at: Mono,
    choose_at: Option<Mono>,
    minutes: u64,
    /// So many comparisons are not a minute but seconds away.
    hurries: u8,
    /// Who was asked for the members, and when.
    asked: BTreeMap<OwnerId, Mono>,
}

impl Peers {
    pub(super) fn new(dice: &mut Dice, now: Mono) -> Self {
        Self {
            here: BTreeSet::new(),
            chosen: BTreeSet::new(),
            guests: BTreeMap::new(),
            strikes: BTreeMap::new(),
            closed: BTreeSet::new(),
            minute_at: now + jittered(dice, MINUTE),
            recent_at: now + jittered(dice, RECENT),
            choose_at: None,
            minutes: 0,
            hurries: 0,
            asked: BTreeMap::new(),
        }
    }

    /// While many join, each misses some of the others: a joiner compares soon, and again.
    pub(super) fn hurry(&mut self, now: Mono) {
        self.hurries = HURRIES;
        self.minute_at = self.minute_at.min(now + HURRY);
    }

    pub(super) fn ask_members(&mut self, peer: &OwnerId, now: Mono) {
        self.asked.retain(|_, at| now.since(*at) < ANSWER);
        self.asked.insert(peer.clone(), now);
    }

    /// Whether the peer was asked for members lately; it may answer once.
    pub(super) fn was_asked_members(&mut self, peer: &OwnerId, now: Mono) -> bool {
        self.asked.remove(peer).is_some_and(|at| now.since(at) < ANSWER)
    }

    pub(super) fn come(&mut self, node: &OwnerId, now: Mono) {
        self.here.insert(node.clone());
        self.look(now);
    }

    pub(super) fn go(&mut self, node: &OwnerId, now: Mono) {
        self.here.remove(node);
        self.closed.remove(node);
        self.lose(node, now);
    }

    pub(super) fn note_closed(&mut self, node: &OwnerId) {
        if self.here.contains(node) {
            self.closed.insert(node.clone());
        }
    }

    /// Whether the peer's last stream ended, which is told once.
    pub(super) fn take_closed(&mut self, node: &OwnerId) -> bool {
        self.closed.remove(node)
    }

    pub(super) fn lose(&mut self, node: &OwnerId, now: Mono) {
        self.chosen.remove(node);
        self.guests.remove(node);
        self.look(now);
    }

    /// Sees to it that there are enough neighbours, soon.
    fn look(&mut self, now: Mono) {
        if self.chosen.len() < CHOSEN.min(self.here.len()) {
            self.choose_at.get_or_insert(now + CHOOSE);
        }
    }

    /// Those who hear all news from this node.
    pub(super) fn neighbours(&self) -> Vec<OwnerId> {
        let guests = self.guests.keys().filter(|node| !self.chosen.contains(*node));
        self.chosen.iter().chain(guests).cloned().collect()
    }

    pub(super) fn has_anybody(&self) -> bool {
        !self.here.is_empty()
    }

    pub(super) fn anybody(&self, dice: &mut Dice) -> Option<OwnerId> {
        self.here.iter().nth(dice.below(self.here.len())).cloned()
    }

    pub(super) fn deadline(&self) -> Mono {
        let regular = self.minute_at.min(self.recent_at);
        self.choose_at.map_or(regular, |at| at.min(regular))
    }

    /// A peer did what it should not. Whether that is worth a word.
    pub(super) fn blame(&mut self, peer: &OwnerId, now: Mono) -> bool {
        let (strikes, since) = self.strikes.entry(peer.clone()).or_insert((0, now));
        if now.since(*since) >= IGNORED {
            *strikes = 0;
        }
        *strikes += 1;
        *since = now;
        *strikes <= STRIKES
    }

    pub(super) fn is_ignored(&self, peer: &OwnerId, now: Mono) -> bool {
        self.strikes
            .get(peer)
            .is_some_and(|(strikes, since)| *strikes >= STRIKES && now.since(*since) < IGNORED)
    }
}

impl Exchange {
    /// A peer chose this node as a neighbour, or still does.
    pub(super) fn greeted(&mut self, from: &OwnerId, now: Mono) {
        let guests = &mut self.peers.guests;
        if guests.contains_key(from) || guests.len() < MAX_GUESTS {
            guests.insert(from.clone(), now);
        } else if !self.peers.chosen.contains(from) {
            self.send(from, &Message::Full);
        }
    }

    /// A chosen neighbour has neighbours enough.
    pub(super) fn refused(&mut self, from: &OwnerId, now: Mono) {
        self.peers.chosen.remove(from);
        self.peers.look(now);
    }

    fn find_neighbours(&mut self, now: Mono) {
        while self.peers.chosen.len() < CHOSEN.min(self.peers.here.len()) {
            let Some(node) = self.peers.anybody(&mut self.dice) else { return };
            if self.peers.chosen.insert(node.clone()) {
                // From now on they tell each other what is new; this is about what was.
                self.send(&node, &Message::Greet);
                self.ask_compare(&node, now);
            }
        }
    }

    /// What is done every few seconds and every minute.
    pub(super) fn attend_peers(&mut self, now: Mono) {
        if self.peers.choose_at.is_some_and(|at| at <= now) {
            self.peers.choose_at = None;
            self.find_neighbours(now);
        }
        if self.peers.recent_at <= now {
            self.peers.recent_at = now + jittered(&mut self.dice, RECENT);
            self.tell_recent(now);
        }
        if self.peers.minute_at <= now {
            let next = if self.peers.hurries > 0 { HURRY } else { MINUTE };
            self.peers.hurries = self.peers.hurries.saturating_sub(1);
            self.peers.minute_at = now + jittered(&mut self.dice, next);
            self.peers.minutes += 1;
            self.peers.guests.retain(|_, heard| now.since(*heard) < GUEST);
            self.peers.strikes.retain(|_, (_, since)| now.since(*since) < IGNORED);
            self.greet_neighbours(now);
            if let Some(peer) = self.peers.anybody(&mut self.dice) {
                self.ask_compare(&peer, now);
            }
        }
    }

    fn greet_neighbours(&mut self, now: Mono) {
        if self.peers.minutes.is_multiple_of(ROTATE) {
            let leaver = self.dice.below(self.peers.chosen.len());
            if let Some(leaver) = self.peers.chosen.iter().nth(leaver).cloned() {
                self.peers.chosen.remove(&leaver);
            }
            self.find_neighbours(now);
        }
        for node in self.peers.chosen.clone() {
            self.send(&node, &Message::Greet);
        }
    }

    /// Tells somebody of what was new lately, in case it was lost.
    fn tell_recent(&mut self, now: Mono) {
        let tags = self.news.recent(now);
        let stand = |tag: u64| Some((tag, self.stand(tag)?));
        let stands: Vec<_> = tags.into_iter().filter_map(stand).collect();
        if stands.is_empty() {
            return;
        }
        if let Some(peer) = self.peers.anybody(&mut self.dice) {
            self.send(&peer, &Message::Recent(stands));
        }
    }
}
