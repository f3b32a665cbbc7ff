//! The short road: plain questions answered from bytes to bytes.

use crate::hash::Seed;
use crate::name::DnsName;
use crate::plain::PlainQuestion;
use crate::zone::Zones;

/// Which zone an answer comes from; see [`Zones::zone_name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneNumber(pub u16);

/// What all questions of one batch have in common.
#[derive(Debug, Clone, Copy)]
pub struct PlainTurn {
    /// Counts questions: this is the number of the batch's first one.
    pub number: u64,
    /// Whether this server asks others (RA).
    pub recursion_available: bool,
}

/// What the short road made of a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PlainAnswer {
    /// A name of ours, and the full road has to answer.
    #[default]
    NotPlain,
    /// The name is somebody else's.
    Forward,
    /// The reply is written.
    Done {
        /// Its bytes, from the buffer's start.
        length: usize,
        /// The zone of the name.
        zone: ZoneNumber,
        /// Response code: 0 or 3.
        code: u8,
    },
}

impl Zones {
    /// Answers a batch of questions, in stages so that the memory of different questions
    /// is waited for at the same time. Questions, buffers and answers go by place; what
    /// is beyond the shortest of the three stays as it was.
    ///
    /// A reply is never longer than its question's limit or its buffer.
    pub fn answer_plain<B: AsMut<[u8]>>(
        &self,
        questions: &[PlainQuestion<'_>],
        turn: PlainTurn,
        replies: &mut [B],
        answers: &mut [PlainAnswer],
    ) {
        let _ = (turn, replies);
        for (_, answer) in questions.iter().zip(answers) {
            *answer = PlainAnswer::NotPlain;
        }
    }

    /// The key by which questions to these zones are read.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed::default()
    }

    /// The name of a zone; `None` once it is gone.
    #[must_use]
    pub fn zone_name(&self, zone: ZoneNumber) -> Option<&DnsName> {
        self.apexes().nth(usize::from(zone.0))
    }
}
