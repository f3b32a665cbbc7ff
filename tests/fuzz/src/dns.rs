//! Messages, names and facts.

use crate::cluster::zones;
use hickory_proto::op::{Message, ResponseCode};
use mizzen_dns_core::{
    Age, Asker, DnsName, Mode, Options, OwnerKey, PlainQuestion, RecordType, Relayed, Seed, Sent,
    by_hand, explain, records_of,
};
use mizzen_dns_server::Transport;
use mizzen_dns_server::fuzzing::Resolver;
use mizzen_types::fact::{DnsRecordFact, Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use mizzen_types::time::Wall;
use std::cell::RefCell;
use tokio::runtime::{Builder, Runtime};

/// Header of a message in bytes.
const HEADER: usize = 12;

struct Bench {
    runtime: Runtime,
    strict: Resolver,
    legacy: Resolver,
}

thread_local! {
    static BENCH: Bench = bench();
    static ZONES: RefCell<mizzen_dns_core::Zones> = RefCell::new(zones(Mode::Strict));
}

#[expect(clippy::expect_used, reason = "without them there is nothing to do")]
fn bench() -> Bench {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let guard = runtime.enter();
    let resolver = |mode| Resolver::new(zones(mode)).expect("a resolver");
    let (strict, legacy) = (resolver(Mode::Strict), resolver(Mode::Legacy));
    drop(guard);
    Bench { runtime, strict, legacy }
}

/// A question by both roads, by UDP and by TCP, in both modes. The first byte chooses.
///
/// # Panics
///
/// If an answer cannot be read or does not belong to the question, or if the roads say
/// different things.
pub fn message(data: &[u8]) {
    let Some((choice, message)) = data.split_first() else { return };
    let transport = if choice & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    BENCH.with(|bench| {
        let resolver = if choice & 2 == 0 { &bench.strict } else { &bench.legacy };
        let short = resolver.short(message, transport);
        let full = bench.runtime.block_on(resolver.full(message, transport));
        let read = |reply: &Vec<u8>| Message::from_vec(reply).unwrap_or_else(|e| wrong(&e, reply));
        let full: Vec<Message> = full.iter().inspect(|r| belongs(message, r)).map(read).collect();
        let Some(short) = short else { return };
        belongs(message, &short);
        let (short, [full]) = (read(&short), &full[..]) else {
            return wrong(&"the full road says nothing", &short);
        };
        assert_eq!(short.metadata.response_code, full.metadata.response_code, "{short}\n{full}");
        assert_eq!(short.metadata.truncation, full.metadata.truncation, "{short}\n{full}");
        assert_eq!(short.answers.len(), full.answers.len(), "{short}\n{full}");
        assert_eq!(short.authorities.len(), full.authorities.len(), "{short}\n{full}");
    });
}

#[expect(clippy::panic, reason = "that is how a fuzz target tells")]
fn wrong<T>(what: &dyn std::fmt::Display, reply: &[u8]) -> T {
    panic!("{what}: {}", reply.escape_ascii())
}

/// A reply has the id of its question and says that it is one.
fn belongs(message: &[u8], reply: &[u8]) {
    assert!(reply.len() >= HEADER, "shorter than a header");
    assert_eq!(message.get(..2), reply.get(..2), "another id");
    assert_ne!(reply[2] & 0x80, 0, "no reply");
}

/// What an upstream sends, and how it is kept and passed on.
///
/// # Panics
///
/// If what was taken for an answer cannot be read when it is passed on.
pub fn relayed(data: &[u8]) {
    let question = b"\x03wWw\x07example\x03com\x00";
    let Some(([kind, room], message)) = data.split_first_chunk::<2>() else { return };
    // As if it had been asked with the answer's id and with one of the usual types.
    let id = message.first_chunk::<2>().map_or(7, |id| u16::from_be_bytes(*id));
    let kind = [1, 28, 33, 6, 16, 65, 255, 12][usize::from(*kind & 7)];
    let sent = Sent { id, name: question, kind, class: 1 };
    let Ok(answer) = Relayed::read(message, &sent) else { return };
    let asker = Asker {
        id: 9,
        name: question,
        kind,
        class: 1,
        recursion_desired: true,
        checking_disabled: false,
        room: 64 + usize::from(*room) * 16,
        opt: None,
    };
    let mut out = vec![0; 8192];
    for age in [Age::Fresh(3), Age::Stale] {
        let Some(length) = answer.write(&asker, age, u32::from(*room), &mut out) else { continue };
        assert!(length <= asker.room, "longer than there is room");
        let reply = &out[..length];
        // Data of records are the upstream's; sections must be in order.
        assert_eq!(&reply[..2], &[0, 9]);
        assert_eq!(&reply[HEADER..HEADER + question.len()], question);
    }
    let _ = (answer.worth(), answer.size(), answer.code(), answer.is_whole());
}

/// A name, a type and data as somebody types them, each in a line.
///
/// # Panics
///
/// If what was taken cannot be answered.
pub fn names(data: &[u8]) {
    let _ = PlainQuestion::parse(data, Seed(1, 2));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (name, kind) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    if let Ok(parsed) = DnsName::parse(name) {
        let again = DnsName::parse(parsed.as_str());
        assert_eq!(again.as_ref(), Ok(&parsed), "a name reads as itself");
        let wire = parsed.to_wire();
        let back = wire.as_ref().map(DnsName::from_wire);
        assert!(back.is_none_or(|back| back == parsed), "{name:?} is another name when it is sent");
    }
    let options = Options::default();
    let fact = DnsRecordFact { values: lines.map(str::to_owned).collect(), ttl: None };
    let parsed = by_hand::parse_key(name, kind, &options);
    let Ok((parsed, record_type)) = parsed else { return };
    let Ok(fact) = by_hand::check(&parsed, record_type, fact, []) else { return };
    let records = by_hand::records(name, kind, &fact, &options);
    assert!(!records.is_empty(), "what was accepted has records");
    ZONES.with_borrow_mut(|zones| {
        let owner = OwnerKey::Static("fuzz".to_owned());
        zones.set(owner.clone(), records);
        assert!(zones.lookup(parsed.as_str(), Some(record_type)).count() > 0, "{name} {kind}");
        zones.remove(&owner);
    });
}

/// A fact as an owner log has it, and the questions about its name.
///
/// # Panics
///
/// If records stay when the fact goes.
pub fn facts(data: &[u8]) {
    let Ok((key, fact)) = serde_json::from_slice::<(Key, Fact)>(data) else { return };
    let owner: OwnerId = "n9".into();
    let options = Options::default();
    let mut places = Places::new(owner.clone());
    if let Fact::Node(node) = &fact {
        places.apply(&owner, Some(node));
    }
    let records = records_of(&owner, &key, &fact, &options, &places);
    let asked: Vec<String> = records.iter().take(4).map(|r| r.name.to_string()).collect();
    ZONES.with_borrow_mut(|zones| {
        let before = (zones.records(), zones.names(), zones.apexes().count());
        let owner = OwnerKey::Fact { owner, key };
        zones.set(owner.clone(), records);
        for name in &asked {
            for kind in [RecordType::A, RecordType::TXT] {
                let _ = explain(zones, name, Some(kind), Wall(1));
            }
        }
        zones.remove(&owner);
        assert_eq!((zones.records(), zones.names(), zones.apexes().count()), before);
    });
    let _ = ResponseCode::NoError;
}
