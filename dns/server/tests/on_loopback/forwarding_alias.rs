//! Names of ours that stand for somebody else's.

use crate::common::{Resolver, question};
use crate::fake::{Fake, address, ask, empty, failure, nothing, notices, outcome};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use mizzen_dns_core::{self as core, Options, OwnerKey, by_hand};
use mizzen_dns_server::{Access, ExtendedError, ForwardSettings, Settings};
use mizzen_types::fact::DnsRecordFact;
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A resolver on which `db.example` and names before it stand for `www.example.net`.
fn resolver(forward: ForwardSettings, access: Access) -> Resolver {
    let resolver = Resolver::start(Settings { forward, access, ..Settings::default() });
    set(&resolver, "db.example", "www.example.net");
    set(&resolver, "far.example", "db.example");
    resolver
}

fn set(resolver: &Resolver, name: &str, target: &str) {
    let fact = DnsRecordFact { values: vec![target.to_owned()], ttl: Some(30) };
    let records = by_hand::records(name, "CNAME", &fact, &Options::default());
    resolver.zones.update(|zones| zones.set(OwnerKey::Static(name.into()), records));
}

fn to(upstream: SocketAddr) -> ForwardSettings {
    let upstreams = vec![core::Upstream::plain(upstream)];
    ForwardSettings { upstreams, ..ForwardSettings::default() }
}

/// Answers three addresses for a minute.
fn three(asked: &Message) -> Message {
    let mut reply = empty(asked);
    reply.add_answers((1..4).map(|last| address(asked, 60, last)));
    reply
}

#[test]
fn the_end_of_a_chain_is_asked_of_upstreams_and_kept() {
    let upstream = Fake::udp(|datagram| datagram.reply(&three(&datagram.asked)));
    let resolver = resolver(to(upstream.address), Access::default());
    let mut firsts = BTreeSet::new();
    for round in 0..3 {
        for by_tcp in [false, true] {
            let asked = question("Far.Example.", RecordType::A);
            let reply = if by_tcp { resolver.tcp(&asked) } else { resolver.udp(&asked) };
            let (code, data) = outcome(&reply);
            assert_eq!(code, ResponseCode::NoError, "{round}");
            assert_eq!(data[..2], ["db.example.", "www.example.net."]);
            let names: Vec<String> = reply.answers.iter().map(|r| r.name.to_ascii()).collect();
            assert_eq!(names[..2], ["Far.Example.", "db.example."]);
            assert!(names[2..].iter().all(|name| name == "www.example.net.") && names.len() == 5);
            let ttls: Vec<u32> = reply.answers.iter().map(|record| record.ttl).collect();
            assert!(ttls[..2] == [30, 30] && ttls[2..].iter().all(|ttl| *ttl <= 60), "{ttls:?}");
            assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
            firsts.insert(data[2].clone());
        }
    }
    assert_eq!((upstream.asked(), firsts.len()), (1, 3), "from the cache, in turns");
    let direct = resolver.udp(&question("www.example.net.", RecordType::A));
    assert_eq!((outcome(&direct).1.len(), upstream.asked()), (3, 1), "the same answer is kept");
    let alias = resolver.udp(&question("db.example.", RecordType::CNAME));
    assert_eq!(outcome(&alias).1, ["www.example.net."]);
}

#[test]
fn the_code_is_that_of_the_chains_end() {
    type Script = fn(&Message) -> Message;
    #[rustfmt::skip]
    let table: &[(&str, Script, ResponseCode, usize)] = &[
        ("no such name",  |asked| nothing(asked, 60),                    ResponseCode::NXDomain, 1),
        ("nothing of it", |asked| { let mut no = nothing(asked, 60); no.metadata.response_code = ResponseCode::NoError; no }, ResponseCode::NoError, 1),
        ("no answer",     |asked| failure(asked, ResponseCode::ServFail), ResponseCode::ServFail, 0),
        ("refused",       |asked| failure(asked, ResponseCode::Refused),  ResponseCode::Refused,  0),
    ];
    for (what, script, code, authorities) in table {
        let script = *script;
        let upstream = Fake::udp(move |datagram| datagram.reply(&script(&datagram.asked)));
        let resolver = resolver(to(upstream.address), Access::default());
        let reply = resolver.udp(&ask("db.example."));
        assert_eq!(outcome(&reply), (*code, vec!["www.example.net.".to_owned()]), "{what}");
        assert_eq!(reply.authorities.len(), *authorities, "{what}");
        let direct = resolver.udp(&ask("www.example.net."));
        assert_eq!(direct.metadata.response_code, *code, "{what}");
        assert_eq!(resolver.server.metrics().refused.values().sum::<u64>(), 0, "{what}: not by us");
    }
}

#[test]
fn upstreams_are_asked_for_those_only_who_may_and_want_it() {
    let upstream = Fake::udp(|datagram| datagram.reply(&three(&datagram.asked)));
    let alone = (ResponseCode::NoError, vec!["www.example.net.".to_owned()]);
    let nobody = Access { clients: Vec::new(), ..Access::default() };
    let stranger = resolver(to(upstream.address), nobody);
    assert_eq!(outcome(&stranger.udp(&ask("db.example."))), alone);
    let one = resolver(to(upstream.address), Access::default());
    let mut asked = ask("db.example.");
    asked.metadata.recursion_desired = false;
    assert_eq!(outcome(&one.udp(&asked)), alone);
    assert_eq!(upstream.asked(), 0);
    let without = resolver(ForwardSettings::default(), Access::default());
    let reply = without.udp(&ask("db.example."));
    assert_eq!(outcome(&reply), alone);
    assert!(!reply.metadata.recursion_available);
    // Somebody could be asked, but not for this name.
    let zones = [("example.net".to_owned(), Vec::new())].into();
    let closed = resolver(ForwardSettings { zones, ..to(upstream.address) }, Access::default());
    let reply = closed.udp(&ask("db.example."));
    assert_eq!((reply.metadata.response_code, notices(&reply)), (ResponseCode::Refused, vec![20]));
    let direct = closed.udp(&ask("www.example.net."));
    assert_eq!(notices(&direct), [20]);
    assert_eq!(closed.server.metrics().refused[&ExtendedError::NotAuthoritative], 2);
}

/// Each stands for a name of the other's: the question comes back, finds that it is under
/// way, and ends with it.
#[test]
fn two_resolvers_that_lead_to_each_other_end() {
    let other = Resolver::start(Settings::default());
    let one = resolver(to(other.address), Access::default());
    set(&one, "a.example", "b.example.net");
    set(&other, "b.example.net", "a.example");
    let settings = Settings { forward: to(one.address), ..Settings::default() };
    other.server.reconfigure(&settings).expect("it is taken over");
    let reply = one.udp(&ask("a.example."));
    let (code, data) = outcome(&reply);
    assert_eq!((code, data[0].as_str()), (ResponseCode::ServFail, "b.example.net."));
    // Whoever gives up first, each alias is followed once at each of the two.
    assert!(data.len() <= 4, "{data:?}");
    let sent: u64 = one.server.forwarding().upstreams.iter().map(|u| u.queries).sum();
    assert!(sent <= 3, "{sent} questions");
}
