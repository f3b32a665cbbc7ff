//! What the store of names costs: `cargo run --release -p mizzen-dns-core --example store
//! [TASKS]`. Every task has an address under two names and a service.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it measures"
)]

use mizzen_dns_core::{
    Data, DnsName, Options, OwnerKey, PlainAnswer, PlainQuestion, PlainTurn, Record, Seed, Zones,
};
use mizzen_types::fact::Key;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

const BATCH: usize = 32;
const QUESTIONS: usize = 1 << 16;
const ROUNDS: usize = 16;

fn owner(task: u32) -> OwnerKey {
    let key = Key::Task(
        "5e4d9b1c-77a2-4a0e-9c1f-0d3a8a1b2c3d-0001".into(),
        format!("app-{task}.7d1c0f2e-93b1-11ee-b9d1-0242ac120002").as_str().into(),
    );
    OwnerKey::Fact { owner: format!("node-{}", task % 100).as_str().into(), key }
}

fn records(task: u32, version: u32) -> Vec<Record> {
    let name = |text: String| DnsName::parse(&text).unwrap();
    let target = name(format!("app-{task}-abcde-s{}.marathon.mesos", task % 100));
    let address = Data::A(Ipv4Addr::from(0x0a00_0000 + task + (version << 17)));
    let port = u16::try_from(1025 + task % 60_000).unwrap();
    let service = Data::Srv { priority: 0, weight: 1, port, target: target.clone() };
    vec![
        Record::new(name(format!("app-{task}.marathon.mesos")), 5, address.clone()),
        Record::new(target, 5, address),
        Record::new(name(format!("_app-{task}._tcp.marathon.mesos")), 5, service),
    ]
}

fn question(task: u32, service: bool) -> Vec<u8> {
    let (name, kind) = match service {
        true => (format!("_app-{task}._tcp.marathon.mesos"), 33),
        false => (format!("app-{task}.marathon.mesos"), 1),
    };
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind, 0, 1]);
    message
}

/// Resident memory in MiB: all of it, and what is ours alone.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }
}

fn main() {
    let tasks: u32 = std::env::args().nth(1).map_or(100_000, |text| text.parse().unwrap());
    let before = resident();
    let mut zones = Zones::new(&Options { seed: Seed(1, 2), ..Options::default() });
    let (mut making, mut worst, start) = (0.0, 0.0_f64, Instant::now());
    for task in 0..tasks {
        let made = Instant::now();
        let (owner, records) = (owner(task), records(task, 0));
        let set = Instant::now();
        making += (set - made).as_secs_f64();
        zones.set(owner, records);
        worst = worst.max(set.elapsed().as_secs_f64());
    }
    let all = start.elapsed().as_secs_f64();
    println!("{tasks} tasks, {} records, {} names", zones.records(), zones.names());
    println!(
        "built in {:.0} ms and {:.0} ms for making the records; slowest set {:.0} us",
        (all - making) * 1e3,
        making * 1e3,
        worst * 1e6
    );
    println!("{:.1} MiB resident, {:.1} MiB before", resident(), before);
    for (what, share) in [("A", 0), ("SRV", 2), ("half of each", 1)] {
        ask(&zones, tasks, what, share);
    }
    change(&mut zones, tasks);
    drop(zones);
    for tasks in [1000, 10_000] {
        share(tasks);
    }
}

/// Tasks that have two names in common.
fn share(tasks: u32) {
    let mut zones = Zones::new(&Options { seed: Seed(1, 2), ..Options::default() });
    let name = |text: &str| DnsName::parse(text).unwrap();
    let (web, service) = (name("web.marathon.mesos"), name("_web._tcp.marathon.mesos"));
    let brings = |task: u32, version: u32| {
        let mut own = records(task, version);
        let shared: Vec<Record> = own
            .iter()
            .skip(1)
            .map(|record| match record.data {
                Data::A(_) => Record { name: web.clone(), ..record.clone() },
                _ => Record { name: service.clone(), ..record.clone() },
            })
            .collect();
        own.extend(shared);
        own
    };
    let start = Instant::now();
    for task in 0..tasks {
        zones.set(owner(task), brings(task, 0));
    }
    let built = start.elapsed().as_secs_f64();
    let start = Instant::now();
    for task in 0..100 {
        zones.set(owner(task * 7 % tasks), brings(task * 7 % tasks, 1));
    }
    println!(
        "{tasks} tasks of one name: built in {:.0} ms, one task's change {:.0} us",
        built * 1e3,
        start.elapsed().as_secs_f64() / 100.0 * 1e6
    );
}

fn ask(zones: &Zones, tasks: u32, what: &str, share: u64) {
    let mut random = Random(7);
    let messages: Vec<Vec<u8>> = (0..QUESTIONS)
        .map(|_| {
            let draw = random.next();
            let task = u32::try_from((draw >> 8) % u64::from(tasks)).unwrap();
            question(task, draw & 1 < share)
        })
        .map(|message| message.to_vec())
        .collect();
    let mut replies = vec![[0_u8; 512]; BATCH];
    let (mut done, mut bytes) = (0_usize, 0_usize);
    let start = Instant::now();
    for round in 0..ROUNDS {
        for batch in messages.chunks(BATCH) {
            let questions: Vec<PlainQuestion<'_>> =
                batch.iter().filter_map(|m| PlainQuestion::parse(m, zones.seed())).collect();
            let mut answers = [PlainAnswer::NotPlain; BATCH];
            let turn = PlainTurn { number: round as u64, recursion_available: true };
            zones.answer_plain(&questions, turn, &mut replies, &mut answers);
            for answer in &answers {
                if let PlainAnswer::Done { length, code: 0, .. } = answer {
                    (done, bytes) = (done + 1, bytes + length);
                }
            }
            black_box(&replies);
        }
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9 / (QUESTIONS * ROUNDS) as f64;
    println!(
        "{what}: {nanos:.0} ns an answer with its parsing, {} bytes on average, all answered: {}",
        bytes / done.max(1),
        done == QUESTIONS * ROUNDS
    );
}

fn change(zones: &mut Zones, tasks: u32) {
    let mut random = Random(9);
    let (mut sum, mut worst, count) = (0.0, 0.0_f64, 20_000);
    for version in 0..count {
        let task = u32::try_from(random.next() % u64::from(tasks)).unwrap();
        let (owner, records) = (owner(task), records(task, 1 + version % 8));
        let start = Instant::now();
        zones.set(owner, records);
        let took = start.elapsed().as_secs_f64();
        (sum, worst) = (sum + took, worst.max(took));
    }
    println!(
        "one task's change: {:.1} us, slowest {:.0} us; {:.1} MiB afterwards",
        sum / f64::from(count) * 1e6,
        worst * 1e6,
        resident()
    );
}
