//! What foca wants done while it handles one thing.

use crate::identity::Identity;
use foca::{Header, Message, Notification, ProbeNumber, Runtime, Timer};
use mizzen_types::random::Dice;
use rand::TryRng;
use std::convert::Infallible;
use std::time::Duration;

/// Everything that came out of one call.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) sends: Vec<(Identity, Vec<u8>)>,
    pub(super) timers: Vec<(Duration, Timer<Identity>)>,
    pub(super) notes: Vec<Note>,
    /// Whom it asked whether it is there, if it did.
    pub(super) ping: Option<(u64, ProbeNumber)>,
    /// The node's own incarnation, as its last message said it.
    pub(super) incarnation: Option<u16>,
}

/// What foca noticed.
#[derive(Debug)]
pub(super) enum Note {
    Up(Identity),
    Down(Identity),
    Renamed(Identity),
    Silent(Identity, ProbeNumber),
    /// The node was called dead and took its next life.
    Renewed(Identity),
    /// Somebody who counts as dead, or is a former self of a member, said something.
    Ghost(Identity),
}

impl Runtime<Identity> for &mut Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        let note = match notification {
            Notification::MemberUp(id) => Note::Up(id.clone()),
            Notification::MemberDown(id) => Note::Down(id.clone()),
            Notification::Rename(_, id) => Note::Renamed(id.clone()),
            Notification::Rejoin(id) => Note::Renewed(id.clone()),
            Notification::ProbeFailed(number, id) => Note::Silent(id.clone(), number),
            Notification::DataSent(header) => return self.sent(header),
            Notification::DataReceived(_)
            | Notification::Active
            | Notification::Idle
            | Notification::Defunct => return,
        };
        self.notes.push(note);
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        let mut bytes = Vec::with_capacity(data.len() + 1);
        bytes.push(super::packet::FORMAT);
        bytes.extend_from_slice(data);
        self.sends.push((to, bytes));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((after, event));
    }
}

impl Outbox {
    fn sent(&mut self, header: &Header<Identity>) {
        self.incarnation = Some(header.src_incarnation);
        if let Message::Ping(number) = header.message {
            self.ping = Some((header.dst.tag(), number));
        }
        if header.message == Message::TurnUndead {
            // What such a one is told depends on why it is taken for dead.
            self.sends.pop();
            self.notes.push(Note::Ghost(header.dst.clone()));
        }
    }
}

/// foca's chance, from a seed.
#[derive(Debug)]
pub(super) struct Chance(pub(super) Dice);

impl TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.draw() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.draw())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
