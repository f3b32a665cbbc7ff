//! A generator of questions: a process on a core of its own that never sleeps, so that
//! what it measures is the server.
//!
//! ```text
//! section ── "127.0.0.1:5301 64 0 1000" ──▶ generator     address, open at once, a second, ms
//!         ◀── "338364 1000231987 0 0 190 215" ──          answers, ns, lost, bad, µs p50 and p99
//! ```

use super::datagrams::{BATCH, Batch, socket};
use super::question::{Kind, Reply, question};
use crate::sandbox;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A question that has no answer after this is lost.
const LOST: Duration = Duration::from_millis(800);
/// An id is a place and how often it was taken before.
const PLACE_BITS: u32 = 10;
const PLACES: usize = 1 << PLACE_BITS;

/// How much is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// The next question goes when an answer has come: so many are open at once.
    Open(usize),
    /// So many a second, whatever comes.
    Paced(u32),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    pub answers: u64,
    pub time: Duration,
    pub lost: u64,
    /// Answers that are errors or empty.
    pub bad: u64,
    pub p50: Duration,
    pub p99: Duration,
}

impl Outcome {
    /// Answers a second.
    pub(super) fn rate(self) -> f64 {
        self.answers as f64 / self.time.as_secs_f64()
    }
}

/// A generator, from the section's side; it ends when dropped.
pub(super) struct Generator {
    child: Child,
    orders: ChildStdin,
    results: BufReader<ChildStdout>,
}

impl Generator {
    /// Starts one that asks what is in `questions` over and over again.
    pub(super) fn start(questions: &Path) -> Result<Self> {
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("dns-generate").arg(questions).arg(sandbox::core().to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a generator")?;
        let (Some(orders), Some(results)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a generator without pipes");
        };
        Ok(Self { child, orders, results: BufReader::new(results) })
    }

    /// Has it ask `server` for `time`.
    pub(super) fn ask(
        &mut self,
        server: SocketAddr,
        load: Load,
        time: Duration,
    ) -> Result<Outcome> {
        let (open, paced) = match load {
            Load::Open(open) => (open, 0),
            Load::Paced(paced) => (PLACES, paced),
        };
        writeln!(self.orders, "{server} {open} {paced} {}", time.as_millis())?;
        let mut line = String::new();
        self.results.read_line(&mut line)?;
        line.parse().with_context(|| format!("the generator said `{}`", line.trim()))
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Questions as a file that dnsperf reads as well.
pub(super) fn write_questions(path: &Path, questions: &[(String, Kind)]) -> Result<()> {
    let lines: Vec<String> =
        questions.iter().map(|(name, kind)| format!("{name} {}\n", kind.word())).collect();
    std::fs::write(path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))
}

/// Is the generator: does what stdin orders, until it ends.
pub(crate) fn run(questions: &Path, core: usize) -> Result<()> {
    let questions = read_questions(questions)?;
    sandbox::hold_on(core)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [server, open, paced, time] = words[..] else { bail!("`{line}` is no order") };
        let mut asker = Asker::new(server.parse()?, open.parse()?)?;
        let limit = Duration::from_millis(time.parse()?);
        println!("{}", asker.run(&questions, paced.parse()?, limit)?);
    }
    Ok(())
}

fn read_questions(path: &Path) -> Result<Vec<Vec<u8>>> {
    let text = std::fs::read_to_string(path)?;
    let one = |line: &str| {
        let (name, kind) = line.split_once(' ').context("no type")?;
        question(name, if kind == "SRV" { Kind::Srv } else { Kind::A })
    };
    let questions: Vec<Vec<u8>> = text.lines().map(one).collect::<Result<_>>()?;
    ensure!(!questions.is_empty(), "no questions in {}", path.display());
    Ok(questions)
}

/// One order while it is carried out.
struct Asker {
    socket: UdpSocket,
    out: Batch,
    back: Batch,
    /// When the question of each place went.
    sent: Vec<Option<Instant>>,
    /// How often each place was taken; late answers belong to an earlier time.
    taken: Vec<u16>,
    free: Vec<usize>,
    latencies: Vec<u32>,
    lost: u64,
    bad: u64,
}

impl Asker {
    fn new(server: SocketAddr, open: usize) -> Result<Self> {
        let socket = socket("127.0.0.1:0")?;
        socket.connect(server).context("cannot connect a socket")?;
        let places = open.clamp(1, PLACES);
        Ok(Self {
            socket,
            out: Batch::new(),
            back: Batch::new(),
            sent: vec![None; places],
            taken: vec![0; places],
            free: (0..places).rev().collect(),
            latencies: Vec::new(),
            lost: 0,
            bad: 0,
        })
    }

    fn run(&mut self, questions: &[Vec<u8>], paced: u32, limit: Duration) -> Result<Outcome> {
        let begun = Instant::now();
        let (mut asked, mut swept, mut last) = (0_u64, begun, begun);
        // Runs differ in where they begin.
        let mut at = usize::try_from(std::process::id())? * 7919 % questions.len();
        loop {
            let now = Instant::now();
            let asking = now - begun < limit;
            if !asking && (self.free.len() == self.sent.len() || now - begun > limit + LOST) {
                break;
            }
            if asking {
                let due = (now - begun).as_secs_f64() * f64::from(paced);
                let room =
                    if paced == 0 { BATCH as u64 } else { (due as u64).saturating_sub(asked) };
                asked += self.send(questions, &mut at, room, now);
            }
            self.back.receive::<false>(&self.socket)?;
            if self.back.len() > 0 {
                last = Instant::now();
                self.take(last);
            }
            if now - swept > LOST / 4 {
                swept = now;
                self.sweep(now);
            }
        }
        Ok(self.outcome(last - begun))
    }

    /// Asks as many as there are places and `room`.
    fn send(&mut self, questions: &[Vec<u8>], at: &mut usize, room: u64, now: Instant) -> u64 {
        self.out.clear();
        let room = usize::try_from(room).unwrap_or(BATCH).min(BATCH);
        while self.out.len() < room {
            let Some(place) = self.free.pop() else { break };
            let id = self.id(place);
            let mut message = [0; 300];
            let question = &questions[*at];
            *at = (*at + 1) % questions.len();
            message[..question.len()].copy_from_slice(question);
            message[..2].copy_from_slice(&id.to_be_bytes());
            self.out.push(&message[..question.len()]);
            self.sent[place] = Some(now);
        }
        self.out.send(&self.socket);
        self.out.len() as u64
    }

    fn id(&self, place: usize) -> u16 {
        u16::try_from(place).unwrap_or_default() | (self.taken[place] << PLACE_BITS)
    }

    fn take(&mut self, now: Instant) {
        for datagram in self.back.iter() {
            let Some(reply) = Reply::of(datagram) else { continue };
            let place = usize::from(reply.id) % PLACES;
            let Some(Some(sent)) = self.sent.get(place) else { continue };
            if reply.id >> PLACE_BITS != self.taken[place] & 63 {
                continue;
            }
            self.latencies.push(u32::try_from((now - *sent).as_nanos()).unwrap_or(u32::MAX));
            self.bad += u64::from(!reply.good);
            release(&mut self.sent, &mut self.taken, &mut self.free, place);
        }
    }

    fn sweep(&mut self, now: Instant) {
        for place in 0..self.sent.len() {
            if self.sent[place].is_some_and(|sent| now - sent > LOST) {
                self.lost += 1;
                release(&mut self.sent, &mut self.taken, &mut self.free, place);
            }
        }
    }

    fn outcome(&mut self, time: Duration) -> Outcome {
        self.latencies.sort_unstable();
        let at = |share: usize| {
            let index = self.latencies.len() * share / 100;
            Duration::from_nanos(self.latencies.get(index).copied().unwrap_or_default().into())
        };
        Outcome {
            answers: self.latencies.len() as u64,
            time,
            lost: self.lost + (self.sent.len() - self.free.len()) as u64,
            bad: self.bad,
            p50: at(50),
            p99: at(99),
        }
    }
}

fn release(sent: &mut [Option<Instant>], taken: &mut [u16], free: &mut Vec<usize>, place: usize) {
    sent[place] = None;
    taken[place] = (taken[place] + 1) & 63;
    free.push(place);
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.p50.as_nanos(), self.p99.as_nanos());
        let Self { answers, time, lost, bad, .. } = self;
        write!(f, "{answers} {} {lost} {bad} {p50} {p99}", time.as_nanos())
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let numbers: Vec<u64> = line
            .trim()
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .context("no numbers")?;
        let [answers, time, lost, bad, p50, p99] = numbers[..] else { bail!("not six numbers") };
        let [time, p50, p99] = [time, p50, p99].map(Duration::from_nanos);
        Ok(Self { answers, time, lost, bad, p50, p99 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::question::fixed_reply;

    #[test]
    fn outcomes() {
        let [time, p50, p99] = [7, 8, 9].map(Duration::from_nanos);
        let outcome = Outcome { answers: 1, time, lost: 2, bad: 3, p50, p99 };
        assert_eq!(outcome.to_string().parse::<Outcome>().unwrap(), outcome);
        assert!("1 2 3".parse::<Outcome>().is_err());
    }

    #[test]
    fn all_questions_of_a_null_responder_are_answered() {
        let server = socket("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut batch = Batch::new();
            while batch.receive::<true>(&server).is_ok() {
                batch.answer(fixed_reply);
                batch.send(&server);
            }
        });
        let questions = [question("a.mesos", Kind::A).unwrap()];
        for (open, paced) in [(4, 0), (PLACES, 2_000)] {
            let mut asker = Asker::new(address, open).unwrap();
            let outcome = asker.run(&questions, paced, Duration::from_secs(2)).unwrap();
            assert!(outcome.answers > 20 && outcome.lost == 0 && outcome.bad == 0, "{outcome:?}");
        }
    }
}
