//! What other nodes say, or who pretends to be one.

use mizzen_gossip::authority::{Authority, Standing};
use mizzen_gossip::identity::{Credentials, NodeKey, Signer};
use mizzen_gossip::seal::{Epoch, Seal};
use mizzen_gossip::token::Token;
use mizzen_membership::identity::Identity;
use mizzen_membership::membership::{Effect, Membership, Settings};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now, Wall};
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

const NOW: Now = Now { mono: Mono(1_000_000_000_000), wall: Wall(1_800_000_000_000_000_000) };

/// A node and what its cluster shares. Its secrets are others in each process, so nothing
/// that is signed or sealed can be found by chance.
struct Fixed {
    credentials: Credentials,
    epoch: Epoch,
}

/// The first byte says what the others are: a datagram that was unsealed, a message of a
/// peer, a list of members, a sealed datagram, a certificate that came with a log, a token.
///
/// # Panics
///
/// If something is believed that nobody signed or sealed, if what is sent is longer than
/// it may be, or if a token is written as something else.
pub fn members(data: &[u8]) {
    let Some((what, bytes)) = data.split_first() else { return };
    let root = &fixed().credentials.root;
    match what % 6 {
        0 => with(|node| node.handle_datagram(at(9), bytes, NOW)),
        1 => with(|node| node.handle_message(&"b".into(), bytes, NOW)),
        // What is no list is refused.
        2 => with(|node| _ = node.adopt(bytes, NOW)),
        3 => assert!(seal().open(&mut bytes.to_vec()).is_err(), "nobody sealed it"),
        4 => {
            let believed = root.check_credential(&"b".into(), bytes, b"text", &[7; 64]);
            assert!(believed.is_err(), "nobody signed it");
        }
        _ => {
            let Ok(text) = std::str::from_utf8(bytes) else { return };
            if let Ok(token) = Token::parse(text) {
                assert_eq!(Token::parse(&token.to_text()), Ok(token), "{text:?} reads as itself");
            }
        }
    }
}

/// Does something with a node that has said something and knows a peer, and lets it answer.
fn with(act: impl FnOnce(&mut Membership)) {
    let me = Identity::new("a".into(), at(1), 3);
    let keys = Box::new(Signer::new(&fixed().credentials));
    let mut node = Membership::new(Settings::new(me.clone(), 7), keys, NOW);
    let owner = OwnerId::from("a");
    node.open(&owner, 3);
    let fact = Fact::VipClaim([11, 0, 0, 1].into());
    let said = node.say(&owner, Key::VipClaim("web".to_owned()), Some(&fact), NOW);
    assert!(said.is_ok(), "{said:?}");
    node.publish(NOW);
    let peer = Identity::new("b".into(), at(2), 1);
    // A list that was just written.
    let _ = node.adopt(&mizzen_membership::swim::list([peer].iter()), NOW);
    act(&mut node);
    let later = Now { mono: NOW.mono + Duration::from_secs(5), ..NOW };
    node.handle_timeout(later);
    while let Some(effect) = node.poll_effect() {
        match effect {
            Effect::Datagram { bytes, .. } => {
                assert!(bytes.len() <= mizzen_membership::swim::MAX_DATAGRAM, "{}", bytes.len());
            }
            Effect::Learned(learned) => assert_eq!(learned.owner, owner, "nobody signed it"),
            _ => {}
        }
    }
}

fn at(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 62501))
}

#[expect(clippy::expect_used, reason = "a machine without randomness runs no fuzzer")]
fn fixed() -> &'static Fixed {
    static FIXED: OnceLock<Fixed> = OnceLock::new();
    FIXED.get_or_init(|| {
        let authority = Authority::generate(NOW.wall).expect("an authority");
        let (node, key) = (OwnerId::from("a"), NodeKey::generate().expect("a key"));
        let life = (NOW.wall, Duration::from_secs(86_400));
        let made = authority.certify(&node, &key.public(), Standing::Member, life);
        let certificate = made.expect("a certificate");
        let root = authority.root().clone();
        let epoch = authority.new_epoch(1, NOW.wall).expect("an epoch");
        Fixed { credentials: Credentials { node, key, certificate, root }, epoch }
    })
}

#[expect(clippy::expect_used, reason = "a machine without randomness runs no fuzzer")]
fn seal() -> Seal {
    let mut seal = Seal::new(fixed().credentials.root.clone()).expect("a seal");
    seal.learn(&fixed().epoch, NOW).expect("the authority made it");
    seal
}
