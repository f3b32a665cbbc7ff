//! Everything bad that an upstream can do, done by one on 127.0.0.x.

use crate::common::{PATIENCE, Resolver};
use crate::fake::{
    Datagram, Fake, address, answer, ask, empty, failure, framed, outcome, truncated,
};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mizzen_dns_core::Upstream;
use mizzen_dns_server::{ForwardSettings, Settings};
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Udp = fn(&Datagram<'_>);
type Tcp = fn(&Message, &mut TcpStream);

/// What a client of a resolver sees.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// 192.0.2.1.
    Truth,
    /// SERVFAIL.
    Failure,
    /// An empty answer with the TC bit.
    Cut,
}

fn forwarding(upstreams: &[SocketAddr], deadline: Duration) -> Resolver {
    let upstreams = upstreams.iter().copied().map(Upstream::plain).collect();
    let forward = ForwardSettings { upstreams, deadline, ..ForwardSettings::default() };
    Resolver::start(Settings { forward, ..Settings::default() })
}

fn seen(reply: &Message) -> Seen {
    match (outcome(reply), reply.metadata.truncation) {
        ((ResponseCode::NoError, answers), false) if answers == ["192.0.2.1"] => Seen::Truth,
        ((ResponseCode::NoError, answers), true) if answers.is_empty() => Seen::Cut,
        ((ResponseCode::ServFail, answers), false) if answers.is_empty() => Seen::Failure,
        other => panic!("{other:?}"),
    }
}

fn lie(name: &str) -> Record {
    let name = Name::from_ascii(name).expect("a name");
    Record::from_rdata(name, 60, RData::A(A([203, 0, 113, 66].into())))
}

fn silent(_: &Message, _: &mut TcpStream) {}

fn truth(asked: &Message, stream: &mut TcpStream) {
    framed(stream, &answer(asked, 60));
}

fn cut(datagram: &Datagram<'_>) {
    datagram.reply(&truncated(&datagram.asked));
}

fn wrong_id(datagram: &Datagram<'_>) {
    for change in [1, 0x100, 0xffff] {
        let mut reply = answer(&datagram.asked, 60);
        reply.metadata.id ^= change;
        datagram.reply(&reply);
    }
}

fn other_name(datagram: &Datagram<'_>) {
    let mut reply = empty(&datagram.asked);
    reply.queries[0].set_name(Name::from_ascii("evil.example.").expect("a name"));
    reply.add_answer(lie("evil.example."));
    datagram.reply(&reply);
}

fn other_type(datagram: &Datagram<'_>) {
    let mut reply = answer(&datagram.asked, 60);
    reply.queries[0].set_query_type(RecordType::AAAA);
    datagram.reply(&reply);
}

fn foreign_records(datagram: &Datagram<'_>) {
    let mut reply = answer(&datagram.asked, 60);
    reply.add_answer(lie("bank.example."));
    datagram.reply(&reply);
}

fn garbage(datagram: &Datagram<'_>) {
    for bytes in [&[][..], &[0; 11], &[255; 4000], &datagram.bytes[..5], datagram.bytes] {
        datagram.say(bytes);
    }
}

/// The right question, and then nonsense.
fn broken_records(datagram: &Datagram<'_>) {
    let bytes = answer(&datagram.asked, 60).to_vec().expect("it is encoded");
    datagram.say(&bytes[..bytes.len() - 13]);
}

/// More than anybody asked for, in one datagram.
fn huge(datagram: &Datagram<'_>) {
    let mut reply = empty(&datagram.asked);
    reply.add_answers(
        (0..600).map(|n| address(&datagram.asked, 60, u8::try_from(n % 250).unwrap_or(0))),
    );
    datagram.reply(&reply);
}

fn from_another_port(datagram: &Datagram<'_>) {
    for ip in ["127.0.0.1:0", "127.0.0.9:0"] {
        let other = UdpSocket::bind(ip).expect("a port");
        let reply = answer(&datagram.asked, 60).to_vec().expect("it is encoded");
        other.send_to(&reply, datagram.client).expect("it is sent");
    }
}

/// A name in the wrong case, as somebody would send it who did not see the question.
fn lower_case(datagram: &Datagram<'_>) {
    datagram.reply(&in_lower_case(&datagram.asked));
}

fn in_lower_case(asked: &Message) -> Message {
    let mut reply = answer(asked, 60);
    let name = reply.queries[0].name().to_lowercase();
    reply.queries[0].set_name(name);
    reply
}

fn half_a_message(asked: &Message, stream: &mut TcpStream) {
    let bytes = answer(asked, 60).to_vec().expect("it is encoded");
    let length = u16::try_from(bytes.len()).expect("it fits").to_be_bytes();
    stream.write_all(&[&length[..], &bytes[..bytes.len() / 2]].concat()).expect("it is sent");
}

fn cut_again(asked: &Message, stream: &mut TcpStream) {
    framed(stream, &truncated(asked));
}

fn noise(_: &Message, stream: &mut TcpStream) {
    stream
        .write_all(&[0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
        .expect("it is sent");
}

#[test]
fn no_lie_is_believed() {
    #[rustfmt::skip]
    let table: &[(&str, Udp, Tcp, Seen)] = &[
        ("wrong ids",                     wrong_id,          silent,         Seen::Failure),
        ("answers another name",          other_name,        silent,         Seen::Failure),
        ("answers another type",          other_type,        silent,         Seen::Failure),
        ("answers from another port",     from_another_port, silent,         Seen::Failure),
        ("garbage",                       garbage,           silent,         Seen::Failure),
        ("somebody else's records",       foreign_records,   silent,         Seen::Failure),
        ("the same, but not by TCP",      foreign_records,   truth,          Seen::Truth),
        ("broken records, TCP silent",    broken_records,    silent,         Seen::Failure),
        ("broken records",                broken_records,    truth,          Seen::Truth),
        ("huge",                          huge,              truth,          Seen::Truth),
        ("truncates for ever",            cut,               cut_again,      Seen::Cut),
        ("truncates, then closes",        cut,               silent,         Seen::Cut),
        ("truncates, then half a message", cut,              half_a_message, Seen::Cut),
        ("truncates, then noise",         cut,               noise,          Seen::Cut),
        ("truncates, then answers",       cut,               truth,          Seen::Truth),
        ("other capitals, TCP silent",    lower_case,        silent,         Seen::Failure),
        ("other capitals",                lower_case,        truth,          Seen::Truth),
    ];
    std::thread::scope(|scope| {
        for (what, udp, tcp, want) in table {
            scope.spawn(move || {
                let upstream = Fake::start(*udp, *tcp);
                // Only the truth ends the waiting.
                let limit = if *want == Seen::Truth { PATIENCE } else { Duration::from_secs(2) };
                let resolver = forwarding(&[upstream.address], limit);
                assert_eq!(seen(&resolver.udp(&ask("www.example."))), *want, "{what}");
            });
        }
    });
}

#[test]
fn lies_do_not_hide_the_truth_of_another() {
    let liars: &[Udp] = &[
        wrong_id,
        other_name,
        garbage,
        foreign_records,
        |datagram| datagram.reply(&failure(&datagram.asked, ResponseCode::Refused)),
        |datagram| datagram.reply(&failure(&datagram.asked, ResponseCode::ServFail)),
        |datagram| datagram.reply(&failure(&datagram.asked, ResponseCode::FormErr)),
    ];
    for liar in liars {
        let (liar, good) = (Fake::start(*liar, silent), Fake::good(60));
        let resolver = forwarding(&[liar.address, good.address], PATIENCE);
        for number in 0..6 {
            let reply = resolver.udp(&ask(&format!("www{number}.example.")));
            assert_eq!(seen(&reply), Seen::Truth);
        }
    }
}

#[test]
fn excuses_in_turn_are_told_and_end_with_the_truth() {
    let count = AtomicUsize::new(0);
    let upstream = Fake::udp(move |datagram| {
        let reply = match count.fetch_add(1, Ordering::SeqCst) {
            0 => failure(&datagram.asked, ResponseCode::Refused),
            1 => failure(&datagram.asked, ResponseCode::ServFail),
            _ => answer(&datagram.asked, 60),
        };
        datagram.reply(&reply);
    });
    let resolver = forwarding(&[upstream.address], PATIENCE);
    assert_eq!(seen(&resolver.udp(&ask("www.example."))), Seen::Truth);
    assert_eq!(upstream.asked(), 3, "it was asked again at once");
}

#[test]
fn late_answers_are_not_taken_for_others() {
    let first: Arc<Mutex<Option<(Message, SocketAddr)>>> = Arc::default();
    let held = Arc::clone(&first);
    let upstream = Fake::udp(move |datagram| {
        let mut held = held.lock().expect("nobody panicked");
        let is_first =
            datagram.asked.queries[0].name().to_lowercase().to_ascii() == "late.example.";
        if is_first {
            *held = Some((datagram.asked.clone(), datagram.client));
            return;
        }
        // Before the answer, the one to the former question: to both clients.
        if let Some((former, client)) = held.take() {
            let mut late = empty(&former);
            late.add_answer(address(&former, 60, 9));
            datagram.reply(&late);
            let late = late.to_vec().expect("it is encoded");
            datagram.socket.send_to(&late, client).expect("it is sent");
        }
        datagram.reply(&answer(&datagram.asked, 60));
    });
    let resolver = forwarding(&[upstream.address], Duration::from_secs(1));
    assert_eq!(seen(&resolver.udp(&ask("late.example."))), Seen::Failure);
    // Three questions were lost: it is down for a second.
    let end = std::time::Instant::now() + PATIENCE;
    let mut names = (0..).map(|number| format!("next{number}.example."));
    let answered = names.any(|name| {
        assert!(std::time::Instant::now() < end, "it never is back");
        seen(&resolver.udp(&ask(&name))) == Seen::Truth
    });
    assert!(answered);
    assert!(first.lock().expect("nobody panicked").is_none(), "the late answer was given");
}

#[test]
fn an_upstream_that_changes_capitals_is_found_out_once() {
    let upstream = Fake::start(lower_case, |asked, stream| framed(stream, &in_lower_case(asked)));
    let resolver = forwarding(&[upstream.address], PATIENCE);
    for number in 0..5 {
        let reply = resolver.udp(&ask(&format!("LongEnoughToHaveCapitals{number}.example.")));
        assert_eq!(seen(&reply), Seen::Truth);
    }
    assert_eq!(upstream.by_tcp.load(Ordering::SeqCst), 1, "then it is asked in lower case");
}

#[test]
fn ids_ports_and_capitals_cannot_be_foretold() {
    let seen: Arc<Mutex<Vec<(u16, u16, String)>>> = Arc::default();
    let list = Arc::clone(&seen);
    let upstream = Fake::udp(move |datagram| {
        let name = datagram.asked.queries[0].name().to_ascii();
        let spelling = name.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned();
        let line = (datagram.asked.metadata.id, datagram.client.port(), spelling);
        list.lock().expect("nobody panicked").push(line);
        datagram.reply(&answer(&datagram.asked, 60));
    });
    let resolver = forwarding(&[upstream.address], PATIENCE);
    for number in 0..32 {
        resolver.udp(&ask(&format!("{number}abcdefghijklmnopqrstuvwxyz.example.")));
    }
    let seen = seen.lock().expect("nobody panicked");
    let distinct = |values: Vec<String>| {
        let mut values = values;
        values.sort();
        values.dedup();
        values.len()
    };
    assert!(seen.len() >= 32, "{}", seen.len());
    assert!(distinct(seen.iter().map(|(id, ..)| id.to_string()).collect()) >= 30);
    assert!(distinct(seen.iter().map(|(_, port, _)| port.to_string()).collect()) >= 28);
    assert!(distinct(seen.iter().map(|(.., name)| name.clone()).collect()) >= 31);
}
