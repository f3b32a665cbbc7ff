//! Two nodes whose messages pass, while their datagrams do not.

use super::*;
use mizzen_types::fact::NodeFact;
use mizzen_types::time::Wall;

/// Believes everybody.
struct Trusting;

impl Keys for Trusting {
    fn credential(&self) -> Vec<u8> {
        vec![1]
    }

    fn sign(&self, _message: &[u8]) -> Vec<u8> {
        vec![1]
    }

    fn verify(&self, _: &OwnerId, _: &[u8], _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn at(millis: u64) -> Now {
    Now { mono: Mono(millis * 1_000_000), wall: Wall(millis * 1_000_000) }
}

fn node(name: &str, port: u16) -> Membership {
    let me = Identity::new(name.into(), SocketAddr::from(([10, 0, 0, 1], port)), 1);
    let mut node = Membership::new(Settings::new(me, u64::from(port)), Box::new(Trusting), at(0));
    node.open(&name.into(), 1);
    node
}

fn fact() -> NodeFact {
    NodeFact {
        hostname: "b.example".to_owned(),
        address: [10, 0, 0, 2].into(),
        agent_id: None,
        zone: Some("rack-1".to_owned()),
        authority: false,
        overlay: None,
    }
}

/// Two nodes, the first of which has the other one's log and never heard of it as a node.
fn strangers() -> (Membership, Membership) {
    let (mut first, mut second) = (node("a", 1), node("b", 2));
    let fact = fact();
    second.say(&"b".into(), Key::Node, Some(&Fact::Node(fact.clone())), at(0)).unwrap();
    second.publish(at(0));
    second.adopt(&first.members(), at(0)).unwrap();
    for millis in (0..3_000).step_by(10) {
        for node in [&mut first, &mut second] {
            if node.poll_deadline().is_some_and(|deadline| deadline <= at(millis).mono) {
                node.handle_timeout(at(millis));
            }
        }
        exchange_messages(&mut first, &mut second, at(millis));
    }
    assert!(first.exchange().version(&"b".into()).sequence > 0, "its log is here");
    assert!(first.nodes().get(&"b".into()).is_none(), "and it is not known yet");
    (first, second)
}

#[test]
fn what_a_node_says_of_itself_is_known_though_it_was_heard_before_the_node_was() {
    let (mut first, second) = strangers();
    first.adopt(&second.members(), at(3_000)).unwrap();
    let known = first.nodes().get(&"b".into()).unwrap();
    assert_eq!(known.fact.as_deref(), Some(&fact()));
}

#[test]
fn what_is_known_of_a_node_that_is_never_heard_of_is_forgotten_in_time() {
    let (mut first, _) = strangers();
    let keep = u64::try_from(first.keep.as_millis()).unwrap();
    let is_forgotten = |node: &mut Membership, millis| {
        node.handle_timeout(at(millis));
        let effects: Vec<_> = std::iter::from_fn(|| node.poll_effect()).collect();
        effects.contains(&Effect::Forgotten("b".into()))
    };
    let sweep = u64::try_from(SWEEP.as_millis()).unwrap();
    assert!(!is_forgotten(&mut first, 3_000 + sweep), "noticed");
    assert!(!is_forgotten(&mut first, keep), "not yet");
    assert!(first.exchange().version(&"b".into()).sequence > 0);
    assert!(is_forgotten(&mut first, 3_000 + keep + 2 * sweep));
    assert_eq!(first.exchange().version(&"b".into()).sequence, 0);
}

fn exchange_messages(first: &mut Membership, second: &mut Membership, now: Now) {
    loop {
        let sent = |node: &mut Membership| {
            std::iter::from_fn(|| node.poll_effect())
                .filter_map(|effect| match effect {
                    Effect::Message { bytes, .. } => Some(bytes),
                    _ => None,
                })
                .collect::<Vec<_>>()
        };
        let (ours, theirs) = (sent(first), sent(second));
        if ours.is_empty() && theirs.is_empty() {
            return;
        }
        ours.iter().for_each(|bytes| second.handle_message(&"a".into(), bytes, now));
        theirs.iter().for_each(|bytes| first.handle_message(&"b".into(), bytes, now));
    }
}
