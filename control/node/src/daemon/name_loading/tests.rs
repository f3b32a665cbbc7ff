use super::*;
use crate::daemon::name_memory::Memory;
use crate::daemon::names::Names;
use mizzen_dns_core::{DnsName, Options, PlainAnswer, PlainQuestion, PlainTurn, Seed, Zones};
use mizzen_types::fact::{FrameworkFact, Health, NodeFact, Reach, TaskFact, TaskPhase};
use mizzen_types::time::Mono;
use std::fs;
use std::net::Ipv4Addr;

const SEED: Seed = Seed(3, 4);

fn options() -> Options {
    Options { seed: SEED, ..Options::default() }
}

fn task(number: u8, name: &str, framework: &str, phase: TaskPhase) -> (OwnerKey, Remembered) {
    let fact = TaskFact {
        task_id: format!("t{number}").as_str().into(),
        framework_id: framework.into(),
        framework_name: framework.to_owned(),
        agent_id: "a-S1".into(),
        container_id: format!("c{number}").as_str().into(),
        name: name.to_owned(),
        discovery_name: None,
        phase,
        health: Health::Unchecked,
        host_address: Ipv4Addr::new(10, 0, 0, number).into(),
        container_reach: Reach::Cluster,
        container_addresses: vec![Ipv4Addr::new(9, 0, 1, number).into()],
        host_ports: vec![1000 + u16::from(number)],
        ports: Vec::new(),
        labels: BTreeMap::new(),
        launched: Wall(u64::from(number)),
    };
    let key = Key::Task(fact.framework_id.clone(), fact.task_id.clone());
    (fact_key(number % 3, key), Remembered::Fact(Fact::Task(Box::new(fact))))
}

fn fact_key(node: u8, key: Key) -> OwnerKey {
    OwnerKey::Fact { owner: format!("n{node}").as_str().into(), key }
}

fn node(number: u8) -> (OwnerKey, Remembered) {
    let fact = NodeFact {
        hostname: format!("host{number}.example"),
        address: Ipv4Addr::new(10, 0, 0, number).into(),
        agent_id: Some(format!("a-S{number}").as_str().into()),
        zone: None,
        authority: false,
        overlay: None,
    };
    (fact_key(number, Key::Node), Remembered::Fact(Fact::Node(fact)))
}

fn scheduler(name: &str, hostname: &str) -> (OwnerKey, Remembered) {
    let hostname = Some(hostname.to_owned());
    let fact = FrameworkFact { name: name.to_owned(), hostname, port: Some(8080) };
    (fact_key(0, Key::Framework(name.into())), Remembered::Fact(Fact::Framework(fact)))
}

/// A file with an index of its first changes, and more behind that.
struct Kept {
    directory: tempfile::TempDir,
}

impl Kept {
    fn new() -> Self {
        let kept = Self { directory: tempfile::tempdir().unwrap() };
        let mut memory = kept.memory();
        memory.load(Mono(0));
        // First as they are no more, then as they are: what a start has to tell apart.
        let all = (1..40).map(|n| task(n, &format!("old{}", n % 7), "gone", TaskPhase::Running));
        for (key, held) in all.chain([node(1), scheduler("s", "host2.example")]) {
            memory.push(&key, Some(&held), Mono(0));
        }
        memory.flush(Wall(1));
        memory.indexer().extend().unwrap();
        for number in 1..60 {
            let phase = if number % 5 == 0 { TaskPhase::Killing } else { TaskPhase::Running };
            let (key, held) = task(number, &format!("web{}", number % 20), "gone", phase);
            let gone = number % 6 == 1;
            memory.push(&key, Some(&held).filter(|_| !gone), Mono(0));
        }
        let vip = OwnerKey::Vip("db.m".to_owned());
        memory.push(&vip, Some(&Remembered::Vip(vec![[11, 0, 0, 1].into()])), Mono(0));
        memory.flush(Wall(2));
        memory.indexer().extend().unwrap();
        // A node's address, on which the scheduler's name depends, comes behind it; and these
        // are in no index yet.
        for (key, held) in [node(2), task(70, "late", "other.fw", TaskPhase::Running)] {
            memory.push(&key, Some(&held), Mono(0));
        }
        let (key, _) = task(2, "", "gone", TaskPhase::Running);
        memory.push(&key, None, Mono(0));
        memory.flush(Wall(3));
        kept
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("names.log")
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("names.index")
    }

    fn memory(&self) -> Memory {
        let mut memory = Memory::new(self.log());
        memory.make_names_by(&options(), &"n0".into());
        memory
    }

    /// Zones that are filled by the index and by nothing else.
    fn by_index(&self) -> Option<(Arc<SharedZones>, Arc<Lines>)> {
        let options = options();
        let index = self.memory().open(&options, &"n0".into())?;
        let zones = Arc::new(SharedZones::new(Zones::new(&options)));
        let naming = Naming { options, places: Places::new("n0".into()) };
        let lines = Arc::new(Lines::open(index, naming, &zones).ok()?);
        zones.begin_filling(Arc::clone(&lines) as Arc<dyn Source>);
        Some((zones, lines))
    }

    /// Zones in which all is from the start.
    fn whole(&self) -> Arc<SharedZones> {
        let zones = Arc::new(SharedZones::new(Zones::new(&options())));
        fs::rename(self.index(), self.directory.path().join("away")).unwrap();
        let mut names =
            Names::new(Arc::clone(&zones), options(), "n0".into(), Memory::new(self.log()));
        assert!(names.remember(Mono(0), || ()) && !names.is_loading());
        fs::rename(self.directory.path().join("away"), self.index()).unwrap();
        zones
    }
}

/// Names that are there, that were, that only have others below them, and that never were.
fn asked() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for number in 0..25 {
        for (task, framework) in [("old", "gone"), ("web", "gone"), ("no", "gone"), ("web", "x")] {
            names.push(format!("{task}{number}.{framework}.mesos"));
            names.push(format!("_{task}{number}._tcp.{framework}.mesos"));
            names.push(format!("{task}{number}.{framework}.slave.mesos"));
            names.push(format!("{task}{number}.{framework}.autoip.dcos.thisdcos.directory"));
        }
        names.push(format!("{number}.1.0.9.in-addr.arpa"));
    }
    let fixed = "gone.mesos _tcp.gone.mesos _udp.gone.slave.mesos gone.slave.mesos fw.mesos other.fw.mesos \
        late.other.fw.mesos _late._tcp.other.fw.mesos slave.mesos _slave._tcp.mesos s.mesos \
        _framework._tcp.s.mesos db.m.l4lb.thisdcos.directory m.l4lb.thisdcos.directory \
        host2.example.node.thisdcos.directory example.node.thisdcos.directory mesos x.mesos \
        2.0.0.10.in-addr.arpa 0.0.10.in-addr.arpa web3.gone.mesos.thisdcos.directory www.example";
    names.extend(fixed.split_whitespace().map(str::to_owned));
    names
}

/// A question for a name.
fn message(name: &str, kind: u16) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// What both roads say of a name: the reply of the short one, and the explanation of the full
/// one's records.
fn answer(zones: &SharedZones, name: &str, kind: u16) -> (PlainAnswer, Vec<u8>, String) {
    let message = message(name, kind);
    let question = [PlainQuestion::parse(&message, SEED).unwrap().by_tcp()];
    let turn = PlainTurn { number: 1, recursion_available: true };
    zones.read(|zones| {
        let (mut reply, mut answers) = ([vec![0; 9000]], [PlainAnswer::default()]);
        zones.answer_plain(&question, turn, &mut reply, &mut answers);
        let [reply] = reply;
        let told = mizzen_dns_core::explain(zones, name, None, Wall(9)).unwrap();
        (answers[0], reply, format!("{told:?}"))
    })
}

#[test]
fn names_are_answered_by_the_index_as_when_all_is_read() {
    let kept = Kept::new();
    let whole = kept.whole();
    let kinds = [1, 33, 12, 6, 28];
    for (name, kind) in asked().iter().zip(kinds.into_iter().cycle()) {
        // Each from nothing, so that no question finds what another one brought.
        let (fresh, _) = kept.by_index().expect("an index");
        assert_eq!(answer(&fresh, name, kind), answer(&whole, name, kind), "{name} {kind}");
        let [some, all] = [&fresh, &whole].map(|zones| zones.read(Zones::owners));
        assert!(some < all, "what is not asked for waits");
    }
    let (one, _) = kept.by_index().expect("an index");
    for (name, kind) in asked().iter().flat_map(|name| kinds.map(|kind| (name, kind))) {
        assert_eq!(answer(&one, name, kind), answer(&whole, name, kind), "{name} {kind}, of one");
    }
    let served = whole.read(|zones| zones.lookup("web3.gone.mesos", None).count());
    assert!(served > 0, "the names that are asked for are there");
}

#[test]
fn what_is_said_meanwhile_counts() {
    let kept = Kept::new();
    let zones = Arc::new(SharedZones::new(Zones::new(&options())));
    let mut names = Names::new(Arc::clone(&zones), options(), "n0".into(), Memory::new(kept.log()));
    let (told, loaded) = std::sync::mpsc::channel();
    assert!(names.remember(Mono(0), move || told.send(()).unwrap_or_default()));
    assert!(names.is_loading());
    let serial = zones.read(Zones::serial);
    names.set_vip("db.m", &[[11, 0, 0, 9].into()], Mono(0));
    assert_eq!(zones.read(Zones::serial), serial + 1, "what is brought in is no change");
    names.confirm_own(&"n0".into());
    loaded.recv().unwrap();
    names.finish_loading(Mono(0));
    assert!(zones.is_whole());
    let addresses =
        zones.read(|zones| zones.lookup("db.m.l4lb.thisdcos.directory", None).collect::<Vec<_>>());
    assert_eq!(addresses, [mizzen_dns_core::Data::A([11, 0, 0, 9].into())]);
    let stale: Vec<&OwnerId> = names.stale_owners().collect();
    assert!(
        !stale.contains(&&OwnerId::from("n0")),
        "{stale:?}: what this node did not say is gone"
    );
    assert!(stale.contains(&&OwnerId::from("n1")), "{stale:?}");
    names.save(Wall(9));
    let known = Memory::new(kept.log()).load(Mono(0));
    let vip = &known.held[&OwnerKey::Vip("db.m".to_owned())];
    assert_eq!(*vip, Remembered::Vip(vec![[11, 0, 0, 9].into()]), "and is remembered");
}

/// An index of which any part is missing or other than it was is found out, or is not needed
/// for what is asked: no answer differs.
#[test]
fn a_damaged_index_answers_nothing_wrong() {
    let kept = Kept::new();
    let whole = kept.whole();
    let names = ["web3.gone.mesos", "gone.mesos", "old3.gone.mesos", "late.other.fw.mesos"];
    let good = fs::read(kept.index()).unwrap();
    let check = |bytes: &[u8], what: &str| {
        fs::write(kept.index(), bytes).unwrap();
        let Some((zones, lines)) = kept.by_index() else { return false };
        let broken = || lines.broken.load(Ordering::Relaxed);
        thread::scope(|scope| {
            let asking = scope.spawn(|| names.map(|name| answer(&zones, name, 1)));
            while !asking.is_finished() && !broken() {
                thread::yield_now();
            }
            if broken() {
                drop(lines.read_all(&kept.log(), &zones));
                zones.end_filling();
            }
            let want = names.map(|name| answer(&whole, name, 1));
            assert_eq!(asking.join().unwrap(), want, "{what}");
        });
        !broken()
    };
    assert!(check(&good, "whole"));
    for length in (0..good.len()).step_by(401) {
        check(&good[..length], &format!("cut to {length}"));
    }
    for at in (0..good.len()).step_by(251) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        check(&bytes, &format!("other at {at}"));
    }
    assert!(!check(b"", "empty"));
    assert!(!check(&[&good[..], &[0; 4096]].concat(), "with zeros behind it"));
    fs::write(kept.index(), &good).unwrap();
    let mut log = fs::read(kept.log()).unwrap();
    log.truncate(log.len() / 3);
    fs::write(kept.log(), &log).unwrap();
    assert!(kept.by_index().is_none(), "of a log that is shorter now");
}

#[test]
fn an_index_is_for_one_file_and_one_way_of_naming() {
    let kept = Kept::new();
    let here = OwnerId::from("n0");
    assert_eq!(kept.memory().seed(&options(), &here), Some(SEED));
    let other = Options { first_serial: 77, seed: Seed(8, 8), ..options() };
    assert_eq!(kept.memory().seed(&other, &here), Some(SEED), "neither is about names");
    let other = Options { domain: DnsName::parse("cluster").unwrap(), ..options() };
    assert_eq!(kept.memory().seed(&other, &here), None);
    assert_eq!(kept.memory().seed(&options(), &"n1".into()), None, "copied from another node");
    let log = fs::read(kept.log()).unwrap();
    fs::write(kept.directory.path().join("copy"), log).unwrap();
    fs::rename(kept.directory.path().join("copy"), kept.log()).unwrap();
    assert_eq!(kept.memory().seed(&options(), &here), None, "of another file");
}
