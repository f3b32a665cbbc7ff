//! Answers of upstreams that are kept, shared, refreshed and given when they are too old.

use crate::common::{PATIENCE, Resolver, loopback, question};
use crate::fake::{
    Fake, address, answer, ask, empty, failure, framed, nothing, notices, outcome, truncated,
};
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{RData, Record, RecordType};
use mizzen_dns_core::DnsName;
use mizzen_dns_server::{ForwardSettings, Settings};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn forwarding(upstream: &Fake, change: impl FnOnce(&mut ForwardSettings)) -> Resolver {
    let upstreams = vec![upstream.address.into()];
    let mut forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
    change(&mut forward);
    Resolver::start(Settings { forward, ..Settings::default() })
}

fn usual(upstream: &Fake) -> Resolver {
    forwarding(upstream, |_| ())
}

/// Asks until `wanted` says so.
fn poll(resolver: &Resolver, name: &str, wanted: impl Fn(&Message) -> bool) -> Message {
    let end = Instant::now() + PATIENCE;
    loop {
        let reply = resolver.udp(&ask(name));
        if wanted(&reply) {
            return reply;
        }
        assert!(Instant::now() < end, "it never comes: {reply:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn codes(resolver: &Resolver, names: &[&str]) -> Vec<ResponseCode> {
    names.iter().map(|name| resolver.udp(&ask(name)).metadata.response_code).collect()
}

#[test]
fn an_answer_is_given_again_with_less_time() {
    let upstream = Fake::good(60);
    let resolver = usual(&upstream);
    for asked in [ask("www.example."), question("WWW.example.", RecordType::A)] {
        for reply in [resolver.udp(&asked), resolver.tcp(&asked)] {
            assert_eq!(outcome(&reply), (ResponseCode::NoError, vec!["192.0.2.1".to_owned()]));
            assert_eq!(reply.queries, asked.queries);
            assert_eq!(reply.answers[0].name.to_ascii(), asked.queries[0].name().to_ascii());
            assert_eq!(reply.edns.is_some(), asked.edns.is_some());
            assert!(reply.metadata.recursion_available && !reply.metadata.authoritative);
        }
    }
    poll(&resolver, "www.example.", |reply| reply.answers[0].ttl < 60);
    assert_eq!(upstream.asked(), 1);
}

#[test]
fn addresses_of_a_kept_answer_begin_with_another_one_each_time() {
    let upstream = Fake::udp(|datagram| {
        let mut reply = empty(&datagram.asked);
        reply.add_answers((1..4).map(|last| address(&datagram.asked, 60, last)));
        datagram.reply(&reply);
    });
    let resolver = usual(&upstream);
    resolver.udp(&ask("www.example."));
    let firsts = (0..3).map(|_| outcome(&resolver.udp(&ask("www.example."))).1[0].clone());
    let firsts: std::collections::BTreeSet<String> = firsts.collect();
    assert_eq!((firsts.len(), upstream.asked()), (3, 1));
}

#[test]
fn answers_outlive_other_settings_but_not_other_upstreams() {
    let upstream = Fake::good(60);
    let resolver = usual(&upstream);
    let forward = |change: &dyn Fn(&mut ForwardSettings)| {
        let upstreams = vec![upstream.address.into()];
        let mut forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
        change(&mut forward);
        Settings { forward, ..Settings::default() }
    };
    let other = Fake::good(60);
    type Change<'a> = &'a dyn Fn(&mut ForwardSettings);
    let one_more = |settings: &mut ForwardSettings| settings.upstreams.push(other.address.into());
    resolver.udp(&ask("www.example."));
    #[rustfmt::skip]
    let table: &[(&str, Change<'_>, u64)] = &[
        ("nothing",            &|_| (),                                  1),
        ("stale answers",      &|f| f.serve_stale = Duration::ZERO,      1),
        ("room in the cache",  &|f| f.cache_entries = 100,               1),
        ("patience",           &|f| f.deadline = Duration::from_secs(1), 1),
        ("upstreams",          &one_more,                                2),
    ];
    for (what, change, misses) in table {
        resolver.server.reconfigure(&forward(change)).expect("it is taken over");
        let (code, answers) = outcome(&resolver.udp(&ask("www.example.")));
        assert_eq!((code, answers.len()), (ResponseCode::NoError, 1), "{what}");
        assert_eq!(resolver.server.forwarding().cache.misses, *misses, "{what}");
    }
    let mut strangers = forward(&|_| ());
    strangers.access.clients.clear();
    resolver.server.reconfigure(&strangers).expect("it is taken over");
    assert_eq!(outcome(&resolver.udp(&ask("www.example."))).0, ResponseCode::Refused);
    let wrong = forward(&|f| f.zones = [("a..b".to_owned(), vec![])].into());
    assert!(resolver.server.reconfigure(&wrong).is_err());
}

#[test]
fn what_may_be_kept_and_what_not() {
    let keep: fn(&Message) -> Message = |asked| nothing(asked, 60);
    type Row = (&'static str, fn(&Message) -> Message, usize);
    #[rustfmt::skip]
    let table: &[Row] = &[
        ("an address",             |asked| answer(asked, 60),                        1),
        ("a name that is not",     keep,                                             1),
        ("TTL 0",                  |asked| answer(asked, 0),                         3),
        ("nothing, minimum 0",     |asked| nothing(asked, 0),                        3),
        ("nothing without a SOA",  |asked| failure(asked, ResponseCode::NXDomain),   3),
    ];
    for (what, script, times) in table {
        let script = *script;
        let upstream = Fake::udp(move |datagram| datagram.reply(&script(&datagram.asked)));
        let resolver = usual(&upstream);
        for _ in 0..3 {
            resolver.udp(&ask("www.example."));
        }
        assert_eq!(upstream.asked(), *times, "{what}");
    }
    let upstream = Fake::start(
        |datagram| datagram.reply(&truncated(&datagram.asked)),
        |asked, stream| framed(stream, &truncated(asked)),
    );
    let resolver = usual(&upstream);
    for _ in 0..3 {
        assert!(resolver.udp(&ask("www.example.")).metadata.truncation);
    }
    assert_eq!(upstream.asked(), 9, "what is cut is not kept, and asked for again at once");
}

#[test]
fn failures_are_kept_for_a_moment() {
    let upstream =
        Fake::udp(|datagram| datagram.reply(&failure(&datagram.asked, ResponseCode::ServFail)));
    let resolver = usual(&upstream);
    assert_eq!(codes(&resolver, &["www.example."; 3]), [ResponseCode::ServFail; 3]);
    let asked = upstream.asked();
    assert_eq!(asked, 3, "three rounds for the first question, none for the others");
    poll(&resolver, "www.example.", |_| upstream.asked() > asked);
}

#[test]
fn questions_with_other_flags_have_other_answers() {
    let upstream = Fake::udp(|datagram| {
        let mut reply = answer(&datagram.asked, 60);
        // The DO and CD bits as they arrived, as a number.
        let dnssec_ok = datagram.asked.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let flags = u8::from(dnssec_ok) + 2 * u8::from(datagram.asked.metadata.checking_disabled);
        reply.answers = vec![address(&datagram.asked, 60, flags)];
        reply.metadata.authentic_data = dnssec_ok;
        let signature = RData::Unknown {
            code: RecordType::Unknown(65400),
            rdata: NULL::with(vec![0, 255, flags]),
        };
        let name = datagram.asked.queries[0].name().clone();
        reply.add_answer(Record::from_rdata(name, 60, signature));
        datagram.reply(&reply);
    });
    let resolver = usual(&upstream);
    for _ in 0..2 {
        for flags in 0..4_u8 {
            let mut asked = question("www.example.", RecordType::A);
            let mut edns = Edns::new();
            edns.set_dnssec_ok(flags & 1 == 1);
            asked.set_edns(edns);
            asked.metadata.checking_disabled = flags & 2 == 2;
            let reply = resolver.udp(&asked);
            let data: Vec<&RData> = reply.answers.iter().map(|record| &record.data).collect();
            assert_eq!(data[0].to_string(), format!("192.0.2.{flags}"));
            let RData::Unknown { rdata, .. } = data[1] else { panic!("{:?}", data[1]) };
            assert_eq!(rdata.anything, [0, 255, flags], "as it came");
            assert_eq!(reply.metadata.authentic_data, flags & 1 == 1);
            assert_eq!(reply.metadata.checking_disabled, flags & 2 == 2);
        }
    }
    assert_eq!(upstream.asked(), 4);
}

#[test]
fn who_asks_the_same_meanwhile_waits_with_the_first() {
    let silent = UdpSocket::bind(loopback(0)).expect("a port");
    let upstreams = vec![silent.local_addr().expect("its address").into()];
    let forward = ForwardSettings { upstreams, deadline: PATIENCE, ..ForwardSettings::default() };
    let resolver = Resolver::start(Settings { forward, ..Settings::default() });
    let clients: Vec<UdpSocket> = (0..50).map(|_| resolver.socket()).collect();
    for client in &clients {
        client.send(&ask("www.example.").to_vec().expect("it is encoded")).expect("it is sent");
    }
    let mut buffer = [0; 512];
    let (length, from) = silent.recv_from(&mut buffer).expect("a question");
    // All have been taken up when another question has come through behind them.
    resolver.udp(&question("ready.spartan.", RecordType::A));
    let end = Instant::now() + PATIENCE;
    while resolver.server.forwarding().waiting < clients.len() {
        assert!(Instant::now() < end, "they do not wait");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(resolver.server.forwarding().flights, 1);
    let asked = Message::from_vec(&buffer[..length]).expect("a question");
    let reply = answer(&asked, 60).to_vec().expect("it is encoded");
    silent.send_to(&reply, from).expect("it is sent");
    for client in &clients {
        let length = client.recv(&mut buffer).expect("a reply");
        let reply = Message::from_vec(&buffer[..length]).expect("a message");
        assert_eq!(outcome(&reply).1, ["192.0.2.1"]);
    }
    let snapshot = resolver.server.forwarding();
    assert_eq!((snapshot.waiting, snapshot.upstreams[0].queries), (0, 1));
}

#[test]
fn a_stale_answer_is_given_only_if_nobody_answers() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let upstream = Fake::udp(move |datagram| {
        if !is_dead.load(Ordering::SeqCst) {
            datagram.reply(&match datagram.asked.queries[0].name().num_labels() {
                3 => nothing(&datagram.asked, 1),
                _ => answer(&datagram.asked, 1),
            });
        }
    });
    let resolver = forwarding(&upstream, |forward| forward.deadline = Duration::from_secs(3));
    let names = ["www.example.", "not.there.example."];
    let kept = [ResponseCode::NoError, ResponseCode::NXDomain];
    assert_eq!(codes(&resolver, &names), kept);
    // While the upstream answers, what is over is asked for anew.
    poll(&resolver, names[0], |reply| {
        assert_eq!((notices(reply), reply.answers[0].ttl), (vec![], 1));
        upstream.asked() > 3
    });
    codes(&resolver, &names);
    dead.store(true, Ordering::SeqCst);
    let stale = poll(&resolver, names[0], |reply| notices(reply) == [3]);
    assert_eq!((outcome(&stale).1, stale.answers[0].ttl), (vec!["192.0.2.1".to_owned()], 30));
    let stale = poll(&resolver, names[1], |reply| notices(reply) == [19]);
    assert_eq!(stale.metadata.response_code, ResponseCode::NXDomain);
    let other = resolver.udp(&ask("other.example."));
    assert_eq!((outcome(&other), notices(&other)), ((ResponseCode::ServFail, vec![]), vec![22]));
    assert!(resolver.server.forwarding().cache.stale >= 2);

    dead.store(false, Ordering::SeqCst);
    let fresh = poll(&resolver, names[0], |reply| notices(reply).is_empty());
    assert_eq!(fresh.answers[0].ttl, 1, "it is back");
}

#[test]
fn without_leave_nothing_stale_is_given() {
    let dead = Arc::new(AtomicBool::new(false));
    let is_dead = Arc::clone(&dead);
    let upstream = Fake::udp(move |datagram| {
        if !is_dead.load(Ordering::SeqCst) {
            datagram.reply(&answer(&datagram.asked, 1));
        }
    });
    let resolver = forwarding(&upstream, |forward| {
        forward.deadline = Duration::from_secs(1);
        forward.serve_stale = Duration::ZERO;
    });
    resolver.udp(&ask("www.example."));
    dead.store(true, Ordering::SeqCst);
    poll(&resolver, "www.example.", |reply| {
        assert_eq!(notices(reply).iter().filter(|code| **code == 3).count(), 0);
        reply.metadata.response_code == ResponseCode::ServFail
    });
}

#[test]
fn what_is_popular_is_asked_for_anew_before_its_end() {
    let upstream = Fake::good(2);
    let resolver = usual(&upstream);
    poll(&resolver, "www.example.", |_| upstream.asked() >= 4);
    let cache = resolver.server.forwarding().cache;
    assert!(cache.prefetches >= 1, "{cache:?}");
    assert!(cache.misses + cache.prefetches == 4 || upstream.asked() > 4, "{cache:?}");
    assert!(cache.hits > cache.misses);
}

#[test]
fn the_cache_is_bounded() {
    let upstream = Fake::good(60);
    let bound = |entries, bytes| {
        let resolver = forwarding(&upstream, |forward| {
            (forward.cache_entries, forward.cache_bytes) = (entries, bytes);
        });
        for number in 0..300 {
            resolver.udp(&ask(&format!("{number}.example.")));
        }
        let cache = resolver.server.forwarding().cache;
        assert!(cache.entries <= entries && cache.bytes <= bytes as u64, "{cache:?}");
        cache.entries
    };
    assert!(bound(100, 1 << 20) > 40);
    assert!(bound(10_000, 32_768) > 20, "by bytes");
    assert_eq!(bound(0, 1 << 20), 0, "off");
}

#[test]
fn a_question_of_ours_that_comes_back_is_refused() {
    let resolver_address = Arc::new(std::sync::OnceLock::new());
    let back = Arc::clone(&resolver_address);
    let loops = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&loops);
    let upstream = Fake::udp(move |datagram| {
        // As another resolver would whose upstream we are.
        let socket = UdpSocket::bind(loopback(0)).expect("a port");
        socket.connect(back.get().expect("it is known")).expect("a peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket.send(datagram.bytes).expect("it is sent");
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).expect("a reply");
        let reply = Message::from_vec(&buffer[..length]).expect("a message");
        assert_eq!((outcome(&reply).0, notices(&reply)), (ResponseCode::ServFail, vec![0]));
        counted.fetch_add(1, Ordering::SeqCst);
        datagram.reply(&reply);
    });
    let resolver = forwarding(&upstream, |forward| forward.deadline = PATIENCE);
    resolver_address.set(resolver.address).expect("once");
    let reply = resolver.udp(&ask("a-name-with-many-letters.example."));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(resolver.server.forwarding().cache.loops, loops.load(Ordering::SeqCst) as u64);
    assert!(loops.load(Ordering::SeqCst) >= 1);
}

#[test]
fn names_that_nobody_knows_are_not_asked_for() {
    let upstream = Fake::good(60);
    let zone = Fake::udp(|datagram| datagram.reply(&empty(&datagram.asked)));
    let resolver = forwarding(&upstream, |forward| {
        forward.search = vec![DnsName::parse("corp.example").expect("a name")];
        forward.zones.insert("168.192.in-addr.arpa".to_owned(), vec![zone.address.into()]);
    });
    #[rustfmt::skip]
    let table = [
        ("web.marathon.mesos.corp.example.", RecordType::A,   ResponseCode::NXDomain, 0, 0),
        ("host.",                            RecordType::A,   ResponseCode::NoError,  0, 0),
        ("5.0.0.10.in-addr.arpa.",           RecordType::PTR, ResponseCode::NXDomain, 0, 0),
        ("5.0.168.192.in-addr.arpa.",        RecordType::PTR, ResponseCode::NoError,  0, 1),
        ("www.corp.example.",                RecordType::A,   ResponseCode::NoError,  1, 1),
        ("8.8.8.8.in-addr.arpa.",            RecordType::PTR, ResponseCode::NoError,  2, 1),
    ];
    for (name, kind, code, by_rest, by_zone) in table {
        let reply = resolver.udp(&question(name, kind));
        assert_eq!(reply.metadata.response_code, code, "{name}");
        assert_eq!((upstream.asked(), zone.asked()), (by_rest, by_zone), "{name}");
    }
}
