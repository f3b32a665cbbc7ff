//! Changing a block and writing it anew end at the same bytes.

use super::super::names::Names;
use super::*;
use mizzen_types::vip::Distance;
use proptest::prelude::*;
use std::collections::BTreeMap;

const NAME: &[u8] = b"\x03web\x05mesos\0";

/// What an owner says: type, data, claim.
type Said = Vec<(u16, Vec<u8>, Claim)>;

fn names(splice_from: usize) -> Names {
    Names::new(Rules { seed: Seed(1, 2), draining_ttl: 3, splice_from })
}

fn replace(names: &mut Names, owner: u32, said: &Said) -> super::super::names::Effect {
    let sayings = said.iter().map(|(kind, data, claim)| Saying {
        kind: *kind,
        data,
        claim: Claim { owner, ..*claim },
    });
    names.replace(NAME, owner, Former::Something, sayings, &|_| 7)
}

fn block(names: &Names) -> Vec<u8> {
    names.find(NAME).map(|node| node.bytes().to_vec()).unwrap_or_default()
}

/// Records of few owners; enough of them that large sets come and go.
fn any_said(most: usize) -> impl Strategy<Value = Said> {
    let data = prop_oneof![
        4 => (0..3_u8, any::<u8>()).prop_map(|(a, b)| (node::A, vec![10, 0, a, b])),
        4 => (0..200_u8, 0..9_usize).prop_map(|(port, length)| {
            (SRV, [&[0, 0, 0, 1, 0, port, 8][..], &b"abcdefgh"[..length.min(8)], &[0]].concat())
        }),
        1 => (0..4_u8).prop_map(|last| (node::AAAA, [[0xfd; 15].as_slice(), &[last]].concat())),
        1 => (0..4_u8).prop_map(|last| (12, vec![1, last, 0])),
    ];
    let withheld = prop_oneof![
        6 => Just(None),
        1 => prop::sample::select(&Withheld::ALL[..]).prop_map(Some),
    ];
    let ttl = prop_oneof![4 => Just(5_u32), 1 => 1..8_u32, 1 => Just(u32::MAX)];
    let distance = prop::sample::select(vec![Distance::Node, Distance::Zone, Distance::Far]);
    let one =
        (data, withheld, ttl, distance).prop_map(|((kind, data), withheld, ttl, distance)| {
            (kind, data, Claim { owner: 0, distance, withheld, ttl })
        });
    prop::collection::vec(one, 0..most).prop_map(|all| {
        let unique: BTreeMap<(u16, Vec<u8>), Claim> =
            all.into_iter().map(|(kind, data, claim)| ((kind, data), claim)).collect();
        unique.into_iter().map(|((kind, data), claim)| (kind, data, claim)).collect()
    })
}

proptest! {
    #[test]
    fn both_ways_end_at_the_same_block(
        many in prop::collection::vec((0..20_u32, any_said(24)), 0..16),
        few in prop::collection::vec((0..40_u32, any_said(4)), 1..24),
    ) {
        let (mut here, mut there) = (names(0), names(usize::MAX));
        for (owner, said) in many.iter().chain(&few) {
            let effects = (replace(&mut here, *owner, said), replace(&mut there, *owner, said));
            prop_assert_eq!(block(&here), block(&there));
            prop_assert_eq!(effects.0, effects.1);
        }
    }
}

/// Large blocks have chunks of their own, and small ones have not.
#[test]
fn a_name_grows_beyond_a_shared_chunk_and_shrinks_again() {
    let (mut here, mut there) = (names(0), names(usize::MAX));
    let claim = Claim { owner: 0, distance: Distance::Far, withheld: None, ttl: 5 };
    let said = |owner: u32| {
        let [.., a, b] = (owner.wrapping_mul(40_503) % 4096).to_be_bytes();
        let target = format!("task-with-a-long-name-{owner}");
        let length = u8::try_from(target.len()).expect("a label");
        let data = [&[0, 0, 0, 1, a, b, length][..], target.as_bytes(), &[0]].concat();
        vec![(node::A, vec![10, 0, a, b], claim), (SRV, data, claim)]
    };
    let owners = (0..1000).map(|owner| (owner, said(owner)));
    let gone = (0..990).map(|owner| (owner * 7 % 1000, Vec::new()));
    for (step, (owner, said)) in owners.chain(gone).enumerate() {
        replace(&mut here, owner, &said);
        replace(&mut there, owner, &said);
        assert!(block(&here) == block(&there), "step {step}");
    }
    let left = here.find(NAME).expect("some").sets().map(|set| set.len()).sum::<usize>();
    assert_eq!(left, 20);
}
