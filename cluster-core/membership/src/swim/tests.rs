//! One node, to which datagrams are made up. Whole clusters are in `tests/gossip-sim`.

use super::*;
use foca::Member;

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 62501))
}

fn identity(last: u8) -> Identity {
    Identity::new(format!("n{last}").into(), address(last), 5)
}

fn node(last: u8, others: &[u8]) -> Swim {
    let mut swim = Swim::new(identity(last), Timings::default(), u64::from(last), Mono(0));
    let others: Vec<Identity> = others.iter().map(|other| identity(*other)).collect();
    swim.adopt(&list(others.iter()), Mono(0)).unwrap();
    while swim.poll_effect().is_some() {}
    swim
}

fn packet(
    src: &Identity,
    dst: &Identity,
    message: Message<Identity>,
    updates: Vec<Member<Identity>>,
) -> Vec<u8> {
    let header = foca::Header { src: src.clone(), src_incarnation: 0, dst: dst.clone(), message };
    Packet { header, updates }.write()
}

fn effects(swim: &mut Swim) -> Vec<Effect> {
    std::iter::from_fn(|| swim.poll_effect()).collect()
}

fn changes(effects: &[Effect]) -> Vec<(u8, State)> {
    let change = |effect: &Effect| match effect {
        Effect::Changed(id, state) => Some((id.address.to_string().as_bytes()[7] - b'0', *state)),
        _ => None,
    };
    effects.iter().filter_map(change).collect()
}

/// Lets time pass; datagrams are dropped.
fn pass(swim: &mut Swim, from: Mono, millis: u64) -> (Mono, Vec<Effect>) {
    let (end, mut all) = (from + Duration::from_millis(millis), Vec::new());
    while let Some(at) = swim.poll_deadline().filter(|at| *at <= end) {
        swim.handle_timeout(at);
        all.extend(effects(swim));
    }
    (end, all)
}

#[test]
fn a_suspect_is_known_by_hearsay_and_objects() {
    let mut swim = node(1, &[2, 3]);
    let suspicion = vec![Member::new(identity(3), 0, foca::State::Suspect)];
    let said = packet(&identity(2), &identity(1), Message::Gossip, suspicion);
    swim.handle_datagram(address(2), &said, Mono(1));
    assert_eq!(changes(&effects(&mut swim)), [(3, State::Suspect)]);
    let objection = vec![Member::new(identity(3), 1, foca::State::Alive)];
    let said = packet(&identity(2), &identity(1), Message::Gossip, objection);
    swim.handle_datagram(address(2), &said, Mono(2));
    assert_eq!(changes(&effects(&mut swim)), [(3, State::Alive)]);
}

#[test]
fn a_suspect_is_asked_again_and_told_why() {
    let mut swim = node(1, &[2]);
    let (_, all) = pass(&mut swim, Mono(0), 1500);
    assert_eq!(changes(&all), [(2, State::Suspect)]);
    let told = |effect: &&Effect| match effect {
        Effect::Send { to, bytes } if *to == address(2) => {
            let packet = Packet::read(&bytes[1..]).unwrap();
            packet.updates.iter().any(|update| *update.id() == identity(2))
        }
        _ => false,
    };
    assert!(all.iter().filter(told).count() >= 3);
}

#[test]
fn time_that_the_process_did_not_have_is_not_held_against_others() {
    let mut swim = node(1, &[2]);
    let (now, all) = pass(&mut swim, Mono(0), 1500);
    assert_eq!(changes(&all), [(2, State::Suspect)]);
    let later = now + Duration::from_secs(3600);
    swim.handle_timeout(later);
    assert!(!changes(&effects(&mut swim)).contains(&(2, State::Dead)));
    let (_, all) = pass(&mut swim, later, 3000);
    assert!(changes(&all).contains(&(2, State::Dead)), "but time that it had is");
}

#[test]
fn an_older_life_is_told_of_the_later_one() {
    let mut swim = node(1, &[2]);
    let later = Identity { generation: 9, ..identity(3) };
    swim.adopt(&list([later.clone()].iter()), Mono(0)).unwrap();
    effects(&mut swim);
    let ping = packet(&identity(3), &identity(1), Message::Ping(1), Vec::new());
    swim.handle_datagram(address(3), &ping, Mono(1));
    let all = effects(&mut swim);
    let [Effect::Send { bytes, .. }] = &all[..] else { panic!("{all:?}") };
    let answer = Packet::read(&bytes[1..]).unwrap();
    assert_eq!(answer.header.message, Message::Gossip);
    assert_eq!(*answer.updates[0].id(), later);
}

#[test]
fn a_node_outlives_what_it_was_and_gives_way_to_what_it_is_elsewhere() {
    let told = |of: Identity, state| {
        let mut swim = node(1, &[2]);
        let update = vec![Member::new(of, 0, state)];
        let said = packet(&identity(2), &identity(1), Message::Gossip, update);
        swim.handle_datagram(address(2), &said, Mono(1));
        swim
    };
    let here = Identity { generation: 9, ..identity(1) };
    let swim = told(here, foca::State::Alive);
    assert_eq!((swim.me().generation, swim.me().rejoins), (9, 1), "a clock or a disk went back");

    let elsewhere = Identity { address: address(7), ..Identity { generation: 9, ..identity(1) } };
    let swim = told(elsewhere.clone(), foca::State::Down);
    assert_eq!((swim.me().generation, swim.me().address), (9, address(1)), "it had moved");
    let mut swim = told(elsewhere.clone(), foca::State::Alive);
    assert!(swim.is_refused());
    assert!(effects(&mut swim).contains(&Effect::Report(Report::Refused { by: elsewhere })));
}

#[test]
fn what_is_meant_for_the_life_before_is_answered_by_this_one() {
    let mut swim = node(1, &[2]);
    let dead = packet(&identity(2), &identity(1), Message::TurnUndead, Vec::new());
    swim.handle_datagram(address(2), &dead, Mono(1));
    swim.handle_datagram(address(2), &dead, Mono(1));
    assert_eq!(swim.me().rejoins, 1, "once for each time it was called dead");
    effects(&mut swim);
    let ping = packet(&identity(2), &identity(1), Message::Ping(1), Vec::new());
    swim.handle_datagram(address(2), &ping, Mono(2));
    let answers = effects(&mut swim).into_iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(Packet::read(&bytes[1..]).unwrap().header),
        _ => None,
    });
    let acks: Vec<_> = answers.filter(|header| header.message == Message::Ack(1)).collect();
    assert!(acks.len() == 1 && acks[0].src == *swim.me(), "{acks:?}");
}

#[test]
fn the_next_life_asks_of_its_own_accord() {
    let mut swim = node(1, &[2]);
    let (now, all) = pass(&mut swim, Mono(0), 1500);
    assert_eq!(changes(&all), [(2, State::Suspect)]);
    let dead = packet(&identity(2), &identity(1), Message::TurnUndead, Vec::new());
    swim.handle_datagram(address(2), &dead, now);
    effects(&mut swim);
    // Nothing of what it says at once arrives, and nobody speaks to it.
    let (_, all) = pass(&mut swim, now, 10_000);
    let asks = |effect: &&Effect| match effect {
        Effect::Send { to, bytes } if *to == address(2) => {
            let packet = Packet::read(&bytes[1..]).unwrap();
            packet.header.src == *swim.me() && matches!(packet.header.message, Message::Ping(_))
        }
        _ => false,
    };
    assert!(all.iter().filter(asks).count() >= 3);
    assert!(changes(&all).contains(&(2, State::Dead)), "and comes to a verdict");
}

#[test]
fn datagrams_are_short_whatever_there_is_to_say() {
    let mut swim = node(1, &[2]);
    let many: Vec<Identity> = (0..5000_u32)
        .map(|number| {
            let address = SocketAddr::from(((number + (11 << 24)).to_be_bytes(), 62501));
            Identity::new(OwnerId::new(format!("node-with-a-long-name-{number}")), address, 1)
        })
        .collect();
    swim.adopt(&list(many.iter()), Mono(0)).unwrap();
    let (_, mut all) = pass(&mut swim, Mono(0), 2000);
    let announce = packet(&identity(2), &identity(1), Message::Announce, Vec::new());
    swim.handle_datagram(address(2), &announce, Mono(1));
    all.extend(effects(&mut swim));
    let lengths = all.iter().filter_map(|effect| match effect {
        Effect::Send { bytes, .. } => Some(bytes.len()),
        _ => None,
    });
    let longest = lengths.max().unwrap();
    assert!(longest > 1000 && longest <= MAX_DATAGRAM, "{longest} bytes");
}

#[test]
fn random_datagrams_are_survived() {
    let mut swim = node(1, &[2, 3]);
    let mut dice = Dice::new(3);
    let valid = vec![Member::new(identity(3), 7, foca::State::Suspect)];
    let valid = packet(&identity(2), &identity(1), Message::Ping(1), valid);
    for time in 0..50_000 {
        let mut bytes = valid.clone();
        for _ in 0..=dice.below(3) {
            let at = 1 + dice.below(bytes.len() - 1);
            bytes[at] = dice.draw() as u8;
        }
        bytes.truncate(1 + dice.below(valid.len() * 2));
        swim.handle_datagram(address(9), &bytes, Mono(time * 1_000_000));
        if swim.poll_deadline().is_some_and(|at| at <= Mono(time * 1_000_000)) {
            swim.handle_timeout(Mono(time * 1_000_000));
        }
        effects(&mut swim);
    }
    assert!(swim.me().node().as_str() == "n1");
}
