//! Logs that were forgotten, and come back or do not.

use super::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What `node` knows of what `owner` says.
fn knows(nodes: &mut Nodes, node: &str, owner: &str) -> bool {
    let said = nodes.node(owner).version(&id(owner));
    nodes.node(node).version(&id(owner)) == said
}

/// Both have given each other up, and `b` has forgotten what `a` said.
fn parted() -> Nodes {
    let mut nodes = Nodes::new(&["a", "b"]);
    nodes.say("a", 1, Some(&claim(1)));
    nodes.pass(Duration::from_secs(1));
    assert!(knows(&mut nodes, "b", "a"));
    let now = nodes.now;
    for (node, other) in [("a", "b"), ("b", "a")] {
        nodes.node(node).set_peer(&id(other), Presence::Away, now);
        nodes.node(node).forget(&id(other), now);
    }
    nodes
}

#[test]
fn who_comes_back_after_long_is_known_again_though_it_said_nothing_new() {
    let mut nodes = parted();
    nodes.pass(Duration::from_secs(60));
    assert!(!knows(&mut nodes, "b", "a"));
    let now = nodes.now;
    for (node, other) in [("a", "b"), ("b", "a")] {
        nodes.node(node).set_peer(&id(other), Presence::Here, now);
    }
    nodes.learned.clear();
    nodes.pass(Duration::from_secs(1));
    assert!(knows(&mut nodes, "b", "a"));
    let said: Vec<_> = nodes.learned.iter().map(|(_, learned)| &learned.said[..]).collect();
    assert_eq!(said, [&[(key(1), claim(1))][..]]);
}

#[test]
fn what_was_forgotten_is_not_taken_from_others_for_three_days() {
    for (age, taken) in [(DAY * 2, false), (DAY * 4, true)] {
        let mut nodes = parted();
        nodes.now = nodes.now + age;
        let stand = nodes.node("a").stand(tag_of(&id("a"))).unwrap();
        let now = nodes.now;
        let later = nodes.node("b").is_later(tag_of(&id("a")), stand, now);
        assert_eq!(later, taken, "after {age:?}");
    }
}

#[test]
fn who_has_not_heard_of_an_expulsion_is_not_blamed() {
    let mut nodes = Nodes::new(&["a", "b"]);
    let now = nodes.now;
    nodes.node("a").expel(&id("c"), now);
    // By its keys, too, `c` is nobody now.
    let expelled = part("c", "nobody", 1, items(&[(1, 1)]));
    assert_eq!(nodes.lie_about("b", "a", "c", expelled), []);
    assert_eq!(nodes.node("a").version(&id("c")), Version::default());
}
