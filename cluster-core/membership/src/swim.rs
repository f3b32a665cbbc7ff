//! Who is alive: SWIM as foca implements it, with our timings.
//!
//! [`Swim`] is a value that decides. Datagrams and the time go in, datagrams and changes
//! of members' states come out; what carries the datagrams sees bytes, at most
//! [`MAX_DATAGRAM`] of them.
//!
//! What is ours beside foca:
//!
//! * a suspect is known as soon as anybody suspects it ([`State::Suspect`]), and is told
//!   directly by whoever suspects it, so that one lost datagram more or less kills nobody;
//! * time in which the process did not run does not count against others: timers that are
//!   late move all others by as much;
//! * two processes under one node's name end in one of them being refused, not in each
//!   declaring the other dead for ever (`clash.rs`);
//! * the dead are called now and then, also by a node that knows nobody alive, so that a
//!   partition heals by itself.

mod calls;
mod changes;
mod clash;
mod lists;
mod outbox;
mod packet;
#[cfg(test)]
mod tests;
mod timings;

use crate::coding::Garbage;
use crate::identity::Identity;
use clash::Refused;
use foca::{Foca, Message, NoCustomBroadcast, ProbeNumber, Timer};
use mizzen_types::ids::OwnerId;
use mizzen_types::random::Dice;
use mizzen_types::time::Mono;
use outbox::{Chance, Outbox};
use packet::{Packet, Wire};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

pub use lists::list;
pub use packet::MAX_DATAGRAM;
pub use timings::Timings;

/// A timer that is late by more than this was late because the process did not run.
const LATE: Duration = Duration::from_millis(200);
/// A suspect is told so often, as long as it is one.
const TELLINGS: u8 = 4;
/// With so much time between.
const TELL_AGAIN: Duration = Duration::from_millis(250);
/// A node that heard nobody for so long may itself be the one that is cut off.
const DEAF: Duration = Duration::from_secs(1);
/// It calls nobody dead for so long, by when the others have made up their minds about it.
const DOUBT: Duration = Duration::from_secs(6);

/// What is known of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It answers.
    Alive,
    /// Somebody got no answer from it, neither directly nor by way of others: it gets no
    /// new connections, and has a second to object.
    Suspect,
    /// It did not object.
    Dead,
    /// It said goodbye.
    Left,
}

/// The next thing to do, or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a datagram.
    Send {
        /// Where to.
        to: SocketAddr,
        /// At most [`MAX_DATAGRAM`].
        bytes: Vec<u8>,
    },
    /// A member came, went, or is in another life or at another address.
    Changed(Identity, State),
    /// The node itself goes on in another life.
    Renewed(Identity),
    /// Something that should not be.
    Report(Report),
}

/// What should not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A datagram that is none.
    Garbage {
        /// Who sent it.
        from: SocketAddr,
        /// What is wrong with it.
        reason: Garbage,
    },
    /// Another node is believed to listen at this node's address.
    SharedAddress {
        /// That node.
        node: OwnerId,
    },
    /// A process with an older generation uses this node's name.
    Double {
        /// That process.
        other: Identity,
    },
    /// A process with a later generation uses this node's name elsewhere, so this one
    /// stays out until that one is gone.
    Refused {
        /// That process.
        by: Identity,
    },
}

/// The membership protocol of one node.
pub struct Swim {
    foca: Foca<Identity, Wire, Chance, NoCustomBroadcast>,
    timings: Timings,
    dice: Dice,
    alarms: BTreeMap<(Mono, u64), Alarm>,
    serial: u64,
    effects: VecDeque<Effect>,
    suspects: BTreeMap<u64, Identity>,
    seeds: Vec<SocketAddr>,
    incarnation: u16,
    heard: Option<u64>,
    heard_at: Mono,
    /// Who was asked last, by which number and when.
    asked: Option<(u64, ProbeNumber, Mono)>,
    /// Who answered, and after how long.
    round_trip: Option<(u64, Duration)>,
    class: u32,
    refused: Option<Refused>,
    left: bool,
}

#[derive(Debug)]
enum Alarm {
    Foca(Timer<Identity>),
    Tell { suspect: Identity, probe: u8, left: u8 },
    Knock,
    Retry,
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = self.foca.num_members();
        f.debug_struct("Swim").field("me", self.me()).field("alive", &members).finish()
    }
}

impl Swim {
    /// A node that knows nobody yet. `seed` decides all its chance.
    #[must_use]
    pub fn new(me: Identity, timings: Timings, seed: u64, now: Mono) -> Self {
        let mut dice = Dice::new(seed);
        let foca = new_foca(me, &timings, &mut dice);
        let mut swim = Self {
            foca,
            dice,
            alarms: BTreeMap::new(),
            serial: 0,
            effects: VecDeque::new(),
            suspects: BTreeMap::new(),
            seeds: Vec::new(),
            incarnation: 0,
            heard: None,
            heard_at: now,
            asked: None,
            round_trip: None,
            class: 0,
            refused: None,
            left: false,
            timings,
        };
        // Not all nodes of a cluster that started at once call at once.
        let first = swim.timings.knock.as_millis() as usize;
        let first = Duration::from_millis(swim.dice.below(first) as u64);
        swim.alarm(now + first, Alarm::Knock);
        swim
    }

    /// Who this node is.
    #[must_use]
    pub fn me(&self) -> &Identity {
        self.foca.identity()
    }

    /// How many other members are alive or suspect.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.foca.num_members()
    }

    /// Calls whoever listens at `addresses`, and again until somebody is known.
    pub fn join(&mut self, addresses: Vec<SocketAddr>, now: Mono) {
        self.seeds = addresses;
        self.call_seeds();
        self.next_knock(now + self.timings.alone);
    }

    /// Says goodbye. Nothing is done afterwards.
    pub fn leave(&mut self, now: Mono) {
        let goodbye = Identity { leaving: true, ..self.me().clone() };
        self.run(now, |foca, out| {
            foca.change_identity(goodbye, &mut *out)?;
            foca.leave_cluster(out)
        });
        self.left = true;
        self.alarms.clear();
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Mono) {
        self.forgive_pause(now);
        let packet = match bytes.split_first() {
            Some((&packet::FORMAT, rest)) if bytes.len() <= MAX_DATAGRAM => Packet::read(rest),
            Some(_) => Err(Garbage::Unknown("format")),
            None => Err(Garbage::Short),
        };
        let packet = match packet {
            Ok(packet) if !packet.header.src.is_anyone() => packet,
            Ok(_) => return self.report_garbage(from, Garbage::Malformed("node")),
            Err(reason) => return self.report_garbage(from, reason),
        };
        if !self.left {
            self.handle_packet(packet, bytes, now);
        }
    }

    /// The time of [`poll_deadline`](Self::poll_deadline) has come.
    pub fn handle_timeout(&mut self, now: Mono) {
        self.forgive_pause(now);
        while let Some(entry) = self.alarms.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Alarm::Foca(timer @ Timer::ChangeSuspectToDown { .. }) if self.is_in_doubt(now) => {
                    self.alarm(now + self.timings.probe, Alarm::Foca(timer));
                }
                Alarm::Foca(timer @ Timer::ChangeSuspectToDown { .. }) => {
                    self.run(now, |foca, out| foca.handle_timer(timer, out));
                    self.spread(now);
                }
                Alarm::Foca(timer) => self.run(now, |foca, out| foca.handle_timer(timer, out)),
                Alarm::Tell { suspect, probe, left } => self.tell(suspect, probe, left, now),
                Alarm::Knock => self.knock(now),
                Alarm::Retry => self.try_again(now),
            }
        }
    }

    /// Whose datagram was the last that counted, if none was asked for since.
    pub(crate) fn take_heard(&mut self) -> Option<u64> {
        self.heard.take()
    }

    /// Who answered a question of this node itself, and how long that took, if somebody did
    /// since the last time.
    pub(crate) fn take_round_trip(&mut self) -> Option<(u64, Duration)> {
        self.round_trip.take()
    }

    /// The next thing to do or to know.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) should be called.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<Mono> {
        self.alarms.first_key_value().map(|((at, _), _)| *at)
    }

    fn handle_packet(&mut self, mut packet: Packet, bytes: &[u8], now: Mono) {
        let (me, dst) = (self.me(), &packet.header.dst);
        let for_anyone = dst.is_anyone() && packet.header.message == Message::Announce;
        // Nodes that were all called dead at once would not hear each other's next lives if
        // what is meant for the life before went unanswered.
        let for_former = dst.tag() == me.tag()
            && me.is_later_than(dst)
            && packet.header.message != Message::TurnUndead;
        if dst.tag() != me.tag() && !for_anyone {
            if dst.address == me.address && !dst.is_anyone() {
                let node = dst.node().clone();
                self.effects.push_back(Effect::Report(Report::SharedAddress { node }));
            }
            return;
        }
        if packet.header.src.tag() == me.tag() {
            let other = packet.header.src;
            if other != *me {
                self.clash(&other, foca::State::Alive, now);
            }
            return;
        }
        let known = self.known_among(&packet.updates);
        let stripped = self.settle_clashes(&mut packet.updates, now);
        if self.refused.is_some() {
            return;
        }
        let rewritten;
        let mut data = &bytes[1..];
        if for_anyone || for_former || stripped {
            if for_anyone || for_former {
                packet.header.dst = self.me().clone();
            }
            rewritten = packet.write();
            data = &rewritten[1..];
        }
        let life = self.me().rejoins;
        self.run(now, |foca, out| foca.handle_data(data, out));
        if self.me().rejoins != life {
            // Called dead by the sender, who does not know of the next life yet.
            self.send(&packet.header.src, Message::Announce, Vec::new());
        }
        let src = packet.header.src.tag();
        if let (Message::Ack(number), Some((whom, asked, at))) =
            (&packet.header.message, self.asked)
            && (whom, asked) == (src, *number)
        {
            (self.asked, self.round_trip) = (None, Some((src, now.since(at))));
        }
        (self.heard, self.heard_at) = (Some(src), now);
        let suspect = self.suspects.contains_key(&src).then_some(src);
        self.look_again(&known.into_iter().chain(suspect).collect::<Vec<_>>(), now);
    }

    /// Lets foca do something, and takes up what comes of it. Errors are of no use here:
    /// what came from outside was read before, and what foca cannot send is sent again.
    fn run(
        &mut self,
        now: Mono,
        act: impl FnOnce(
            &mut Foca<Identity, Wire, Chance, NoCustomBroadcast>,
            &mut Outbox,
        ) -> Result<(), foca::Error>,
    ) {
        let mut out = Outbox::default();
        let _ = act(&mut self.foca, &mut out);
        if let Some((whom, number)) = out.ping {
            self.asked = Some((whom, number, now));
        }
        if let Some(incarnation) = out.incarnation {
            self.incarnation = incarnation;
        }
        for (to, bytes) in out.sends {
            self.effects.push_back(Effect::Send { to: to.address, bytes });
        }
        for (after, timer) in out.timers {
            self.alarm(now + after, Alarm::Foca(timer));
        }
        for note in out.notes {
            self.take_note(note, now);
        }
        self.adapt();
    }

    /// Fits what depends on the number of members.
    fn adapt(&mut self) {
        let class = usize::BITS - self.alive().leading_zeros();
        if class != self.class {
            self.class = class;
            // Nothing is changed that foca refuses to change.
            let _ = self.foca.set_config(self.timings.config(class));
        }
    }

    /// A timer that is late means that this process stood still: what others did not say
    /// meanwhile is not held against them.
    fn forgive_pause(&mut self, now: Mono) {
        let Some(first) = self.poll_deadline() else { return };
        let late = now.since(first);
        if late > LATE {
            let alarms = std::mem::take(&mut self.alarms);
            self.alarms = alarms
                .into_iter()
                .map(|((at, serial), alarm)| ((at + late, serial), alarm))
                .collect();
        }
    }

    /// Whether it is more likely that this node hears nobody than that all others are dead.
    /// What it would say of them is believed by those who hear it.
    fn is_in_doubt(&self, now: Mono) -> bool {
        let silence = now.since(self.heard_at);
        self.alive() > 1 && silence > DEAF && silence < DOUBT
    }

    fn alarm(&mut self, at: Mono, alarm: Alarm) {
        self.serial += 1;
        self.alarms.insert((at, self.serial), alarm);
    }

    fn report_garbage(&mut self, from: SocketAddr, reason: Garbage) {
        self.effects.push_back(Effect::Report(Report::Garbage { from, reason }));
    }
}

fn new_foca(
    me: Identity,
    timings: &Timings,
    dice: &mut Dice,
) -> Foca<Identity, Wire, Chance, NoCustomBroadcast> {
    Foca::new(me, timings.config(0), Chance(Dice::new(dice.draw())), Wire)
}
