//! What a node kept of names: `names.log`, and the index beside it.

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::Name;
use mizzen::fuzzing::{ByIndex, ForgedRun, KeptNames, Line};
use mizzen_dns_core::{PlainAnswer, PlainQuestion, PlainTurn, RecordType, Seed, explain};
use mizzen_dns_server::SharedZones;
use mizzen_types::time::Wall;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use tempfile::TempDir;

const SEED: Seed = Seed(3, 4);
/// Between the parts of what a fuzzer gives.
const PARTS: &[u8] = b"\n--\n";
/// So many names are asked for.
const ASKED: usize = 12;
/// Of a message in bytes.
const HEADER: usize = 12;
/// Room for an answer by TCP.
const ROOM: usize = 9_000;

/// A log as a disk gives it back.
///
/// # Panics
///
/// If a second start knows something else than the first one, or if what is learned then is
/// not kept beside it.
pub fn log(data: &[u8]) {
    let (_directory, kept) = kept();
    write(&kept, data);
    let known = kept.load();
    assert_eq!(kept.load(), known, "a start changes nothing");
    kept.shrink().unwrap_or_else(|e| broken(&e));
    assert_eq!(kept.load(), known, "written anew, without what is void");
    kept.learn_vip("fuzz.marathon", Wall(1));
    let more = kept.load();
    kept.shrink().unwrap_or_else(|e| broken(&e));
    assert_eq!(kept.load(), more);
    let zones = kept.by_log();
    let name = "fuzz.marathon.l4lb.thisdcos.directory";
    assert_eq!(zones.read(|zones| zones.lookup(name, Some(RecordType::A)).count()), 1, "{name}");
}

/// An index, a log, and what is said after the start, in this order. The index is the one that
/// is made of the log, in stretches; the same with damages; one with right sums that lies; or
/// any bytes.
///
/// # Panics
///
/// If an index that was made of the log, whatever happened to it since, gives an answer that
/// the log does not give; if one that lies gives a name of which the log has no line; if
/// after all was read an answer is not that of the log; each with what was said meanwhile.
pub fn index(data: &[u8]) {
    let (choices, rest) = part(data);
    let (log, said) = part(rest);
    let mut choices = Choices(choices);
    let (_directory, kept) = kept();
    let lines: Vec<Line> = log.split(|byte| *byte == b'\n').filter_map(Line::read).collect();
    let honest = match choices.number() % 4 {
        0 => make(&kept, log, &mut choices),
        1 => {
            make(&kept, log, &mut choices);
            damage(&kept, &mut choices);
            true
        }
        2 => {
            write(&kept, log);
            forge(&kept, log, &lines, &mut choices);
            false
        }
        _ => {
            write(&kept, log);
            let head = kept.forge_index(&[]).unwrap_or_default();
            let head = if choices.number() & 1 == 0 { &head[..] } else { &[] };
            fs::write(kept.index(), [head, choices.0].concat()).unwrap_or_else(|e| broken(&e));
            false
        }
    };
    let Some(by_index) = kept.by_index() else { return };
    let by_log = kept.by_log();
    let said = said.split(|byte| *byte == b'\n').filter_map(Line::read);
    let said: Vec<Line> = said.filter(|line| !line.places_a_node()).take(4).collect();
    let spoken = lines.iter().chain(&said).flat_map(|line| kept.records(line));
    let mut names: Vec<String> = spoken.map(|record| record.name.to_string()).collect();
    names.sort();
    names.dedup();
    let mut both = Both { by_index: &by_index, by_log: &by_log, honest };
    both.ask(&names, &mut choices);
    for line in &said {
        by_index.say(line);
        kept.say(line, &by_index.zones);
        kept.say(line, &by_log);
        both.ask(&names, &mut choices);
    }
    let known: BTreeSet<String> =
        both.all_names(&by_log).into_iter().chain(names.clone()).collect();
    for name in both.all_names(&by_index.zones) {
        assert!(known.contains(&name), "the log has no {name}");
    }
    by_index.read_all();
    assert_eq!(both.all_names(&by_index.zones), both.all_names(&by_log), "when all is read");
    both.honest = true;
    both.ask(&names, &mut choices);
}

/// Two ways to the same answers.
struct Both<'a> {
    by_index: &'a ByIndex,
    by_log: &'a SharedZones,
    /// Whether the answers have to be the same.
    honest: bool,
}

impl Both<'_> {
    /// Asks both for some of these names, and for those above them.
    fn ask(&self, names: &[String], choices: &mut Choices<'_>) {
        if names.is_empty() {
            return;
        }
        for _ in 0..ASKED {
            let name = &names[usize::from(choices.number()) % names.len()];
            let kind = [RecordType::A, RecordType::SRV, RecordType::PTR, RecordType::TXT];
            let kind = kind[usize::from(choices.number()) % kind.len()];
            let above = name.split_once('.').map_or("mesos", |(_, above)| above);
            for name in [name, above] {
                let found = answer(&self.by_index.zones, name, kind);
                if self.honest {
                    assert_eq!(found, answer(self.by_log, name, kind), "{name} {kind}");
                }
            }
        }
    }

    fn all_names(&self, zones: &SharedZones) -> BTreeSet<String> {
        zones.update(|zones| {
            let (mut cursor, mut names) = (zones.cursor(), BTreeSet::new());
            while !cursor.is_done() {
                let page = zones.page(&mut cursor, 64);
                names.extend(page.into_iter().map(|record| record.name.to_string()));
            }
            names
        })
    }
}

/// What both roads say of a name: the header of the one's reply, which counts the records, and all of
/// what the other one knows.
fn answer(zones: &SharedZones, name: &str, kind: RecordType) -> Option<(Vec<u8>, String)> {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).ok()?, kind));
    message.metadata.id = 7;
    let message = message.to_vec().ok()?;
    let question = PlainQuestion::parse(&message, SEED);
    let turn = PlainTurn { number: 1, recursion_available: true };
    zones.read(|zones| {
        let (mut reply, mut answers) = ([vec![0; ROOM]], [PlainAnswer::default()]);
        if let Some(question) = &question {
            let question = [question.by_tcp()];
            zones.answer_plain(&question, turn, &mut reply, &mut answers);
        }
        let [mut reply] = reply;
        // Zones have numbers, and what several bring has an order, by who came first.
        match answers[0] {
            PlainAnswer::Done { .. } => reply.truncate(HEADER),
            _ => reply.clear(),
        }
        let told = explain(zones, name, Some(kind), Wall(9)).map(|mut told| {
            for record in &mut told.records {
                record.sources.sort();
            }
            told.records.sort_by_cached_key(|record| format!("{record:?}"));
            told
        });
        Some((reply, format!("{told:?}")))
    })
}

/// The log in some pieces, and the index after each but the last.
fn make(kept: &KeptNames, log: &[u8], choices: &mut Choices<'_>) -> bool {
    let mut cuts: Vec<usize> =
        (0..choices.number() % 4).map(|_| choices.place(log.len())).collect();
    cuts.sort_unstable();
    write(kept, &[]);
    let mut file = OpenOptions::new().append(true).open(kept.log()).unwrap_or_else(|e| broken(&e));
    let mut written = 0;
    for cut in cuts.into_iter().chain([log.len()]) {
        file.write_all(&log[written..cut]).unwrap_or_else(|e| broken(&e));
        if cut < log.len() {
            kept.extend_index().unwrap_or_else(|e| broken(&e));
        }
        written = cut;
    }
    true
}

/// Bytes of the index that are others, and some more or fewer behind.
fn damage(kept: &KeptNames, choices: &mut Choices<'_>) {
    let Ok(mut index) = fs::read(kept.index()) else { return };
    for _ in 0..choices.number() % 4 {
        let at = choices.place(index.len());
        if let Some(byte) = index.get_mut(at) {
            *byte ^= choices.number();
        }
    }
    match choices.number() % 3 {
        0 => index.truncate(choices.place(index.len() + 1)),
        1 => index.extend(choices.0),
        _ => {}
    }
    fs::write(kept.index(), index).unwrap_or_else(|e| broken(&e));
}

/// An index with right sums, whose entries lead from names of the log to any place.
fn forge(kept: &KeptNames, log: &[u8], lines: &[Line], choices: &mut Choices<'_>) {
    let traces: Vec<u32> = lines.iter().take(64).flat_map(|line| kept.traces(line)).collect();
    let starts: Vec<usize> = std::iter::once(0)
        .chain(log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    let place = |choices: &mut Choices<'_>| match choices.number() {
        number @ 0..192 => starts[usize::from(number) % starts.len()] as u32,
        _ => choices.place(log.len() + 2) as u32,
    };
    let mut runs = Vec::new();
    for _ in 0..choices.number() % 4 {
        let mut run = ForgedRun { to: choices.place(log.len() + 1) as u64, ..ForgedRun::default() };
        run.lines = u32::from(choices.number());
        run.early = (0..choices.number() % 8).map(|_| place(choices)).collect();
        for _ in 0..choices.number() {
            let chosen = usize::from(choices.number());
            let hash = traces.get(chosen % traces.len().max(1)).copied().unwrap_or(chosen as u32);
            run.entries.push((hash, place(choices)));
        }
        if choices.number() & 1 == 0 {
            run.entries.sort_unstable();
        }
        runs.push(run);
    }
    if let Ok(index) = kept.forge_index(&runs) {
        fs::write(kept.index(), index).unwrap_or_else(|e| broken(&e));
    }
}

/// Bytes by which a fuzzer chooses; zeros behind the end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn number(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, or 0.
    fn place(&mut self, end: usize) -> usize {
        let part = usize::from(u16::from_be_bytes([self.number(), self.number()]));
        part * end / 65_536
    }
}

/// What stands in front of the mark, and what behind.
fn part(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(PARTS.len()).position(|window| window == PARTS) {
        Some(at) => (&data[..at], &data[at + PARTS.len()..]),
        None => (data, &[]),
    }
}

#[expect(clippy::expect_used, reason = "a machine without a disk runs no fuzzer")]
fn kept() -> (TempDir, KeptNames) {
    let directory = tempfile::tempdir().expect("a directory");
    let kept = KeptNames::new(directory.path(), SEED);
    (directory, kept)
}

fn write(kept: &KeptNames, log: &[u8]) {
    fs::write(kept.log(), log).unwrap_or_else(|e| broken(&e));
}

#[expect(clippy::panic, reason = "a machine without a disk runs no fuzzer")]
fn broken<T>(error: &std::io::Error) -> T {
    panic!("the disk: {error}")
}
