//! Two or three nodes that talk directly, one of which may lie.

use super::message::{Message, Part};
use super::ranges::Ranges;
use super::set::{Head, Item, Items, root};
use super::*;
use crate::wire;
use mizzen_types::fact::FrameworkFact;
use mizzen_types::random::Dice;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

mod forgotten;

/// Hashes as signatures: whoever signs as another one is found out.
struct Hashes(OwnerId);

fn hash(node: &OwnerId, message: &[u8]) -> Vec<u8> {
    let mut hasher = SipHasher13::new();
    hasher.write(node.as_str().as_bytes());
    hasher.write(message);
    hasher.finish().to_le_bytes().to_vec()
}

impl Keys for Hashes {
    fn credential(&self) -> Vec<u8> {
        self.0.as_str().into()
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        hash(&self.0, message)
    }

    fn verify(&self, node: &OwnerId, credential: &[u8], message: &[u8], signature: &[u8]) -> bool {
        credential == node.as_str().as_bytes() && hash(node, message) == signature
    }
}

fn id(name: &str) -> OwnerId {
    name.into()
}

fn key(number: usize) -> Key {
    Key::VipClaim(format!("name-{number}"))
}

fn claim(number: usize) -> Fact {
    Fact::VipClaim([11, (number >> 16) as u8, (number >> 8) as u8, number as u8].into())
}

/// A few nodes, and what each learned.
struct Nodes {
    nodes: BTreeMap<OwnerId, Exchange>,
    learned: Vec<(OwnerId, Learned)>,
    faults: Vec<(OwnerId, OwnerId, Fault)>,
    messages: usize,
    longest: usize,
    now: Mono,
}

impl Nodes {
    fn new(names: &[&str]) -> Self {
        let mut nodes = BTreeMap::new();
        for (seed, name) in (0..).zip(names) {
            let keys = Box::new(Hashes(id(name)));
            let mut node = Exchange::new(id(name), keys, seed, Mono(0));
            node.open(&id(name), 1);
            for other in names {
                node.set_peer(&id(other), Presence::Here, Mono(0));
            }
            nodes.insert(id(name), node);
        }
        let (learned, faults) = (Vec::new(), Vec::new());
        let mut all = Self { nodes, learned, faults, messages: 0, longest: 0, now: Mono(0) };
        all.pass(Duration::from_secs(1));
        all
    }

    fn node(&mut self, name: &str) -> &mut Exchange {
        self.nodes.get_mut(&id(name)).unwrap()
    }

    fn say(&mut self, name: &str, number: usize, fact: Option<&Fact>) {
        let now = self.now;
        let node = self.node(name);
        node.say(&id(name), key(number), fact, now).unwrap();
        node.publish(now);
    }

    /// Lets time pass in steps of 10 ms; messages take none.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self.now + Duration::from_millis(10);
            let names: Vec<OwnerId> = self.nodes.keys().cloned().collect();
            for name in &names {
                let now = self.now;
                let node = self.nodes.get_mut(name).unwrap();
                if node.poll_deadline().is_some_and(|at| at <= now) {
                    node.handle_timeout(now);
                }
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            let mut sent = Vec::new();
            for (name, node) in &mut self.nodes {
                while let Some(effect) = node.poll_effect() {
                    match effect {
                        Effect::Send { to, bytes } => sent.push((name.clone(), to, bytes)),
                        Effect::Learned(learned) => self.learned.push((name.clone(), learned)),
                        Effect::Report { peer, fault } => {
                            self.faults.push((name.clone(), peer, fault));
                        }
                        Effect::Asked { by } => node.tell_members(&by, Vec::new()),
                        Effect::Outlived { .. } | Effect::Members(_) => {}
                    }
                }
            }
            if sent.is_empty() {
                return;
            }
            for (from, to, bytes) in sent {
                self.messages += 1;
                self.longest = self.longest.max(bytes.len());
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.handle_message(&from, &bytes, self.now);
                }
            }
        }
    }

    /// `liar` sends `message` to `to`.
    fn lie(&mut self, liar: &str, to: &str, message: &Message) {
        let now = self.now;
        self.node(to).handle_message(&id(liar), &message.write(), now);
        while let Some(effect) = self.node(to).poll_effect() {
            if let Effect::Report { peer, fault } = effect {
                self.faults.push((id(to), peer, fault));
            }
        }
    }

    /// `liar` says that it has something later of `owner`, and gives that when asked.
    fn lie_about(&mut self, liar: &str, to: &str, owner: &str, part: Part) -> Vec<Fault> {
        let stand = part.head.stand();
        self.lie(liar, to, &Message::Recent(vec![(tag_of(&id(owner)), stand)]));
        self.lie(liar, to, &Message::Give(vec![part]));
        self.faults.iter().map(|(.., fault)| *fault).collect()
    }
}

fn items(numbers: &[(u64, usize)]) -> Items {
    let entry = |number| wire::write_entry(&key(number), &claim(number)).unwrap();
    numbers
        .iter()
        .map(|(sequence, number)| (*sequence, Item::new(*sequence, &entry(*number))))
        .collect()
}

/// What `owner` would say, signed by `signer`.
fn part(owner: &str, signer: &str, sequence: u64, items: Items) -> Part {
    let version = Version { generation: 9, sequence };
    let root = root(items.values());
    let signature = hash(&id(signer), &Head::message(&id(owner), version, &root));
    let head = Head { owner: id(owner), version, root, signature };
    let sequences = Ranges::from_sorted(items.keys().copied());
    Part { head, credential: owner.as_bytes().into(), sequences, items }
}

#[test]
fn what_one_says_the_others_learn() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    nodes.say("a", 1, Some(&claim(1)));
    nodes.say("a", 2, Some(&claim(2)));
    nodes.pass(Duration::from_secs(1));
    nodes.learned.clear();
    nodes.say("a", 1, None);
    nodes.say("a", 2, Some(&claim(9)));
    nodes.say("a", 3, Some(&claim(3)));
    nodes.pass(Duration::from_secs(1));

    assert_eq!(nodes.learned.len(), 2, "once at each of the others");
    for (_, learned) in &nodes.learned {
        assert_eq!(learned.said, [(key(2), claim(9)), (key(3), claim(3))]);
        assert_eq!(learned.gone, [key(1)]);
    }
    assert_eq!(nodes.faults, []);
}

/// The stream between two breaks, with all that is on its way, and another one opens.
fn reconnect(nodes: &mut Nodes, [one, other]: [&str; 2]) {
    let now = nodes.now;
    for (node, peer) in [(one, other), (other, one)] {
        nodes.node(node).handle_closed(&id(peer), now);
    }
    for (node, peer) in [(one, other), (other, one)] {
        nodes.node(node).handle_opened(&id(peer), now);
    }
}

#[test]
fn news_that_a_stream_took_along_is_found_when_there_is_another_one() {
    let mut nodes = Nodes::new(&["a", "b"]);
    nodes.say("a", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(1));
    nodes.learned.clear();
    nodes.say("a", 2, Some(&claim(2)));
    let now = nodes.now;
    nodes.node("a").handle_timeout(now);
    while nodes.node("a").poll_effect().is_some() {}
    nodes.pass(Duration::from_millis(200));
    assert_eq!(nodes.learned, [], "it was told, and swallowed");

    reconnect(&mut nodes, ["a", "b"]);
    nodes.pass(Duration::from_millis(200));
    let said: Vec<_> = nodes.learned.iter().map(|(_, learned)| &learned.said[..]).collect();
    assert_eq!(said, [&[(key(2), claim(2))][..]]);
}

#[test]
fn what_was_asked_by_a_stream_that_broke_is_asked_again_at_once() {
    let mut nodes = Nodes::new(&["a", "b"]);
    nodes.say("a", 1, Some(&claim(1)));
    let now = nodes.now;
    nodes.node("a").handle_timeout(now);
    while nodes.node("a").poll_effect().is_some() {}
    // It is heard that there is something, and the question for it is lost.
    let stand = nodes.node("a").stand(tag_of(&id("a"))).unwrap();
    nodes.lie("a", "b", &Message::Recent(vec![(tag_of(&id("a")), stand)]));
    nodes.learned.clear();
    reconnect(&mut nodes, ["a", "b"]);
    nodes.pass(Duration::from_millis(200));
    assert_eq!(nodes.learned.len(), 1, "it is not waited for");
}

#[test]
fn an_answer_that_comes_too_late_is_no_fault() {
    let mut nodes = Nodes::new(&["a", "b"]);
    let asked = |nodes: &mut Nodes, owner: &str| {
        let part = part(owner, owner, 1, items(&[(1, 1)]));
        let stand = (tag_of(&id(owner)), part.head.stand());
        nodes.lie("a", "b", &Message::Recent(vec![stand]));
        Message::Give(vec![part])
    };
    // Not in time, and over the former one of two streams that both opened at once.
    let slow = asked(&mut nodes, "c");
    let later = nodes.now + Duration::from_secs(6);
    nodes.node("b").handle_timeout(later);
    nodes.lie("a", "b", &slow);
    let former = asked(&mut nodes, "d");
    nodes.node("b").handle_closed(&id("a"), later);
    let awaited = asked(&mut nodes, "e");
    nodes.lie("a", "b", &former);
    assert_eq!(nodes.faults, []);
    nodes.lie("a", "b", &awaited);
    assert_eq!(nodes.node("b").version(&id("e")).generation, 9, "it was waited for all the same");
    assert_eq!(nodes.faults, []);

    nodes.lie("a", "b", &slow);
    assert_eq!(nodes.faults, [(id("b"), id("a"), Fault::Unasked)], "it answers once");
}

#[test]
fn a_fact_that_no_entry_can_hold_is_refused_and_what_it_replaces_is_taken_back() {
    let mut nodes = Nodes::new(&["a", "b"]);
    nodes.say("a", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(1));
    nodes.learned.clear();
    let now = nodes.now;
    let name = "x".repeat(MAX_FACT);
    let long = Fact::Framework(FrameworkFact { name, hostname: None, port: None });
    let error = nodes.node("a").say(&id("a"), key(1), Some(&long), now).unwrap_err();
    assert!(matches!(error, Unsaid::TooLong { length, .. } if length > MAX_FACT), "{error}");
    nodes.pass(Duration::from_secs(1));
    assert_eq!(nodes.learned[0].1.gone, [key(1)]);
}

#[test]
fn news_in_quick_succession_is_told_together_and_each_key_once() {
    let mut nodes = Nodes::new(&["a", "b"]);
    nodes.say("a", 0, Some(&claim(0)));
    nodes.pass(Duration::from_secs(1));
    (nodes.messages, nodes.longest) = (0, 0);
    for number in 0..500 {
        nodes.say("a", number % 5, Some(&claim(number)));
        if number % 50 == 0 {
            nodes.pass(Duration::from_millis(10));
        }
    }
    nodes.pass(Duration::from_millis(300));
    assert!(nodes.messages <= 4, "{} messages", nodes.messages);
    assert!(nodes.longest < 1000, "{} bytes", nodes.longest);
    let version = nodes.node("a").version(&id("a"));
    assert_eq!(nodes.node("b").version(&id("a")), version);
}

#[test]
fn a_long_log_comes_in_pieces_and_goes_on_with_another_peer() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    let now = nodes.now;
    for number in 0..20_000 {
        nodes.node("a").say(&id("a"), key(number), Some(&claim(number)), now).unwrap();
    }
    nodes.node("a").publish(now);
    nodes.pass(Duration::from_secs(1));
    assert!(nodes.longest < MAX_MESSAGE, "{} bytes", nodes.longest);
    assert_eq!(nodes.node("c").version(&id("a")).sequence, 20_000);

    // A fourth node gets two pieces from `b`, which goes away then.
    let keys = Box::new(Hashes(id("d")));
    let mut joiner = Exchange::new(id("d"), keys, 9, now);
    joiner.set_peer(&id("b"), Presence::Here, now);
    joiner.set_peer(&id("c"), Presence::Here, now);
    joiner.join(&id("b"), now);
    let (mut pieces, mut last) = (0, 0);
    let mut from_c = 0;
    for _ in 0..200 {
        while let Some(effect) = joiner.poll_effect() {
            let Effect::Send { to, bytes } = effect else { continue };
            let Some(peer) = nodes.nodes.get_mut(&to) else { continue };
            peer.handle_message(&id("d"), &bytes, now);
            while let Some(effect) = peer.poll_effect() {
                let Effect::Send { to: back, bytes } = effect else { continue };
                if back != id("d") || (to == id("b") && pieces > 2) {
                    continue;
                }
                let is_give = matches!(Message::read(&bytes), Ok(Message::Give(_)));
                pieces += usize::from(is_give);
                from_c += if to == id("c") && is_give { bytes.len() } else { 0 };
                last = bytes.len().max(last);
                joiner.handle_message(&to, &bytes, now);
            }
        }
        if pieces == 3 {
            joiner.set_peer(&id("b"), Presence::Away, now);
            pieces += 1;
        }
    }
    assert_eq!(joiner.version(&id("a")).sequence, 20_000);
    let whole: usize = (0..20_000)
        .map(|number| wire::write_entry(&key(number), &claim(number)).unwrap().len())
        .sum();
    assert!(
        from_c < whole * 2 / 3,
        "what came from b was not asked for again: {from_c} of {whole}"
    );
}

#[test]
fn facts_of_others_are_refused_and_reported() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    nodes.say("a", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(1));
    let forged = part("a", "c", 7, items(&[(7, 7)]));
    assert_eq!(nodes.lie_about("c", "b", "a", forged), [Fault::Forged]);
    assert_eq!(nodes.node("b").version(&id("a")).generation, 1);
}

#[test]
fn other_entries_than_the_owner_signed_are_refused() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    let mut altered = part("a", "a", 7, items(&[(7, 7)]));
    altered.items = items(&[(7, 8)]);
    assert_eq!(nodes.lie_about("c", "b", "a", altered), [Fault::Altered]);
    assert_eq!(nodes.node("b").version(&id("a")), Version::default());
}

#[test]
fn a_log_without_end_is_not_begun() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    let mut endless = part("c", "c", 7, items(&[(7, 7)]));
    endless.sequences = Ranges::from_sorted([7]);
    let mut writer = crate::coding::Writer::default();
    writer.number(1).number(7).number(1 << 40);
    endless.sequences = Ranges::read(&mut crate::coding::Reader::new(&writer.finish())).unwrap();
    assert_eq!(nodes.lie_about("c", "b", "c", endless), [Fault::TooMuch]);

    // A piece that brings nothing new is the last one.
    nodes.faults.clear();
    let mut empty = part("c", "c", 8, items(&[(8, 8)]));
    empty.items = Items::new();
    assert_eq!(nodes.lie_about("c", "b", "c", empty), [Fault::Altered]);
}

#[test]
fn a_node_has_so_many_logs_and_no_more() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    for number in 0..20 {
        let name = format!("c/{number}");
        let mut part = part(&name, "c", 1, items(&[(1, 1)]));
        part.credential = b"c"[..].into();
        nodes.lie_about("c", "b", &name, part);
    }
    assert!(nodes.faults.iter().all(|(.., fault)| *fault == Fault::TooMuch));
    assert_eq!(nodes.node("b").owners().count(), MAX_LOGS);
}

#[test]
fn versions_without_a_next_one_are_garbage() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    let mut far = part("c", "c", 7, items(&[(7, 7)]));
    far.head.version.generation = u64::MAX;
    nodes.lie("c", "b", &Message::Give(vec![far]));
    let (.., fault) = nodes.faults[0];
    assert_eq!(fault, Fault::Garbage(Garbage::Malformed("version")));
}

#[test]
fn who_goes_on_lying_is_not_listened_to_for_a_while() {
    let mut nodes = Nodes::new(&["a", "b", "c"]);
    for _ in 0..10 {
        nodes.lie("c", "b", &Message::Give(Vec::new()));
    }
    assert_eq!(nodes.faults, vec![(id("b"), id("c"), Fault::Unasked); 3]);
    nodes.say("c", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(5));
    let heard =
        nodes.learned.iter().any(|(who, learned)| *who == id("b") && learned.owner == id("c"));
    assert!(heard, "what it says itself comes by way of others");
}

#[test]
fn a_key_of_a_later_version_of_the_program_is_passed_on() {
    let mut nodes = Nodes::new(&["a", "b"]);
    let mut unknown = items(&[(1, 1)]);
    unknown.insert(2, Item::new(2, &[0x41, b'x', 0]));
    let part = part("c", "c", 2, unknown);
    nodes.lie_about("a", "b", "c", part);
    assert_eq!(nodes.faults, []);
    nodes.pass(Duration::from_secs(200));
    assert_eq!(nodes.node("a").version(&id("c")).sequence, 2);
    let (_, learned) = nodes.learned.iter().find(|(who, _)| *who == id("a")).unwrap();
    assert_eq!((learned.said.len(), learned.unreadable), (1, 1));
}

#[test]
fn random_messages_are_survived() {
    let mut nodes = Nodes::new(&["a", "b"]);
    let mut dice = Dice::new(5);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..dice.below(120)).map(|_| dice.draw() as u8).collect();
        bytes.splice(0..0, [1, dice.below(12) as u8]);
        let _ = Message::read(&bytes);
        let sender = id(&format!("liar-{}", dice.below(100_000)));
        let now = nodes.now;
        nodes.node("a").handle_message(&sender, &bytes, now);
    }
    while nodes.node("a").poll_effect().is_some() {}
    nodes.say("b", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(100));
    assert_eq!(nodes.node("a").version(&id("b")).sequence, 1);
}
