//! One question, asked until somebody answers.
//!
//! Two upstreams are asked at once. When both have failed, or after a while, the next two
//! are asked too; the first good answer wins. Those who lose the race are heard to the
//! end all the same, so that their latency is known.

use super::cache::Failure;
use crate::upstream::{Pool, Question, UpstreamError};
use mizzen_dns_core::{Choice, Notice, Relayed};
use mizzen_types::error::chain;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

/// How often upstreams are chosen for one question.
const ROUNDS: u32 = 3;
const SERVFAIL: u16 = 2;
/// Extended errors (RFC 8914, 4.1 and 4.23).
const OTHER: u16 = 0;
const NO_REACHABLE_AUTHORITY: u16 = 22;

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// An upstream's answer; if none was good, one that is cut or an excuse.
    Answer(Relayed),
    /// Nobody answered.
    NoAnswer,
    /// Those who could answer have too much to do for us.
    Busy,
}

type Heard = Result<Relayed, UpstreamError>;

/// Asks `upstreams`, which are numbers of `pool`, for at most `deadline`.
pub(super) async fn ask(
    pool: &Arc<Pool>,
    question: Arc<Question>,
    upstreams: &[usize],
    deadline: Duration,
) -> Ended {
    let end = Instant::now() + deadline;
    let (said, mut heard) = mpsc::channel(2 * ROUNDS as usize);
    let (mut tried, mut excuse, mut running, mut busy) = (Vec::new(), None, 0_usize, false);
    for round in 1..=ROUNDS {
        match pool.choose(upstreams, &tried) {
            Choice::Ask(chosen) => {
                for number in chosen {
                    running += 1;
                    let again = tried.contains(&number);
                    tried.push(number);
                    let (pool, question) = (Arc::clone(pool), Arc::clone(&question));
                    let said = said.clone();
                    tokio::spawn(async move {
                        let answer = pool.ask(number, &question, end, again).await;
                        if let Err(error) = &answer {
                            let upstream = pool.address(number).map(tracing::field::display);
                            debug!(upstream, error = chain(error), "upstream gave no answer");
                        }
                        // Whoever asked may have his answer from another one.
                        let _ = said.send(answer).await;
                    });
                }
            }
            Choice::AllBusy => busy = true,
            Choice::AllDown => {}
        }
        // The first rounds are short: a lost packet shall not cost the whole time.
        let until = if round == ROUNDS { end } else { Instant::now() + deadline / 4 };
        match listen(&mut heard, &mut running, until.min(end)).await {
            Some(answer) if answer.is_whole() => return Ended::Answer(answer),
            Some(answer) => excuse = excuse.or(Some(answer)),
            None => {}
        }
        if Instant::now() >= end {
            break;
        }
    }
    match excuse {
        Some(excuse) => Ended::Answer(excuse),
        None if busy => Ended::Busy,
        None => Ended::NoAnswer,
    }
}

/// Waits until a good answer comes that is not cut, all who were asked have ended, or the time is over.
async fn listen(
    heard: &mut mpsc::Receiver<Heard>,
    running: &mut usize,
    until: Instant,
) -> Option<Relayed> {
    let mut excuse = None;
    while *running > 0 {
        let Ok(Some(answer)) = timeout_at(until, heard.recv()).await else { break };
        *running -= 1;
        match answer {
            Ok(answer) if answer.is_whole() => return Some(answer),
            Ok(answer) => excuse = excuse.or(Some(answer)),
            Err(_) => {}
        }
    }
    excuse
}

impl Ended {
    pub(super) fn is_good(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.is_good())
    }

    /// What clients are told.
    pub(super) fn into_answer(self) -> Relayed {
        self.into_parts().0
    }

    /// What clients are told, and whether it is an upstream's word.
    pub(super) fn into_parts(self) -> (Relayed, Failure) {
        let ours = |code, text| Relayed::bare(SERVFAIL, Some(Notice { code, text }));
        match self {
            Self::Answer(answer) => (answer, Failure::None),
            Self::NoAnswer => {
                (ours(NO_REACHABLE_AUTHORITY, "no upstream answers"), Failure::NoAnswer)
            }
            Self::Busy => (ours(OTHER, "too many questions wait for this upstream"), Failure::Busy),
        }
    }
}
