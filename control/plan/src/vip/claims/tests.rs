use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn claims(range: &str) -> Claims {
    Claims::new(range.parse().unwrap())
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(11, 0, 0, last)
}

#[test]
fn a_name_keeps_its_address_and_no_two_share_one() {
    let mut claims = claims("11.0.0.0/29");
    let all: Vec<_> =
        (0..6).map(|n| claims.claim(&format!("web{n}"), |_| false).unwrap()).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 6, "{all:?}");
    assert_eq!(claims.claim("one too many", |_| false), None);
    assert_eq!(claims.address_of("web3"), Some(all[3]));
    assert!(all.iter().all(|a| !["11.0.0.0", "11.0.0.7"].contains(&a.to_string().as_str())));
}

#[test]
fn one_claim_is_for_two_addresses() {
    let mut claims = claims("11.0.0.0/8");
    let address = claims.claim("web.marathon", |_| false).unwrap();
    assert_eq!(twin(address).to_string(), "fd01:c::ba9:2242");
    assert_eq!(claims.name_of(twin(address).into()), Some("web.marathon"));
    for other in ["fd01:c::1:ba9:2242", "fd01:d::ba9:2242", "::ba9:2242", "fd01:c::ba9:2243"] {
        assert_eq!(claims.name_of(other.parse().unwrap()), None, "{other}");
    }
}

#[test]
fn the_hash_is_for_ever() {
    let claim = claims("11.0.0.0/8").claim("web.marathon", |_| false);
    assert_eq!(claim.unwrap().to_string(), "11.169.34.66");
}

#[test]
fn where_two_claims_meet_the_lower_name_stays() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut claims = claims("11.0.0.0/8");
        for name in order {
            claims.hear(&"n1".into(), name, Some(address(3)));
        }
        assert_eq!(claims.name_of(address(3).into()), Some("a"), "{order:?}");
        assert_eq!(claims.address_of("b"), None, "{order:?}");
    }
}

#[test]
fn a_name_is_where_most_nodes_say_it_is() {
    let mut claims = claims("11.0.0.0/8");
    for (node, last) in [("n1", 7), ("n2", 7), ("n3", 9)] {
        claims.hear(&node.into(), "web", Some(address(last)));
    }
    assert_eq!(claims.address_of("web"), Some(address(7)));
    let moved = claims.hear(&"n2".into(), "web", None);
    assert_eq!(moved, [Relocated { name: "web".into(), before: Some(address(7)) }]);
    assert_eq!(claims.address_of("web"), Some(address(9)), "who looked further knew of more");
    for node in ["n1", "n3"] {
        claims.hear(&node.into(), "web", None);
    }
    assert_eq!(claims.address_of("web"), Some(address(9)), "what it had last it keeps");
    claims.hear(&"n4".into(), "zoo", Some(address(9)));
    assert_eq!(claims.name_of(address(9).into()), Some("zoo"), "unless it is said to be another's");
}

proptest! {
    /// Where names are does not depend on the order in which nodes were heard, nor on what
    /// they said before.
    #[test]
    fn what_is_said_alone_decides(
        past in proptest::collection::vec((0..4_u8, 0..5_u8, proptest::option::of(0..4_u8)), 0..40),
        last in proptest::collection::btree_map((0..4_u8, 0..5_u8), 0..4_u8, 0..20),
        rotation in 0..20_usize,
        guessed in proptest::collection::vec(0..5_u8, 0..4),
    ) {
        let (node, name) = (|n: u8| OwnerId::from(format!("n{n}")), |n: u8| format!("name{n}"));
        let mut claims = claims("11.0.0.0/29");
        for name in guessed.into_iter().map(name) {
            if claims.address_of(&name).is_none() {
                claims.claim(&name, |_| false);
            }
        }
        for (n, which, said) in past {
            claims.hear(&node(n), &name(which), said.map(address));
        }
        let mut all: Vec<_> = (0..20).map(|n| (n / 5, n % 5)).collect();
        all.rotate_left(rotation);
        for (n, which) in all {
            claims.hear(&node(n), &name(which), last.get(&(n, which)).copied().map(address));
        }
        let mut taken = BTreeSet::new();
        for which in 0..5 {
            let voices: Vec<u8> = (0..4).filter_map(|n| last.get(&(n, which)).copied()).collect();
            let count = |said: u8| voices.iter().filter(|other| **other == said).count();
            let free = voices.iter().copied().filter(|said| !taken.contains(said));
            let best = free.max_by_key(|said| (count(*said), *said));
            taken.extend(best);
            if !voices.is_empty() && best.is_some() {
                prop_assert_eq!(claims.address_of(&name(which)), best.map(address), "{}", which);
            }
        }
        for (name, held) in &claims.by_name {
            prop_assert_eq!(claims.by_address.get(&held.address), Some(name));
        }
        prop_assert_eq!(claims.by_name.len(), claims.by_address.len());
    }
}
