use super::*;
use crate::backend::VipRow;
use crate::words::{Counts, TCP};
use std::net::{IpAddr, Ipv4Addr};

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;
const VIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(11, 0, 0, 1)), 80);

struct Bench {
    flows: Flows,
    backend: Arc<Backend>,
    key: Key,
}

impl Bench {
    fn new(protocol: u8) -> Self {
        let at = |text: &str| text.parse().expect("an address");
        let key = Key { protocol, client: at("10.0.0.9:4000"), backend: at("10.0.0.1:80") };
        let backend = Arc::new(Backend::new(key.backend, &Arc::new(VipRow::default())));
        Self { flows: Flows::new(Limits::default()), backend, key }
    }

    fn begin(&mut self, now: u64) {
        let (key, backend) = (self.key, Arc::clone(&self.backend));
        self.flows.begin(Beginning { key, vip: VIP, backend, decision: None, share: 1 }, now);
    }

    fn back(&mut self, flags: u8, now: u64) {
        let Key { protocol, client, backend } = self.key;
        let flow = Flow { protocol, source: backend, destination: client };
        self.flows.seen(&Packet { flow, flags }, now);
    }

    fn there(&mut self, flags: u8, now: u64) {
        let Key { protocol, client, .. } = self.key;
        let flow = Flow { protocol, source: client, destination: VIP };
        self.flows.seen(&Packet { flow, flags }, now);
    }

    fn found(&self) -> (Counts, u32) {
        (self.backend.counts(SECOND), self.backend.load(1, SECOND).in_flight)
    }
}

#[test]
fn whole_lives() {
    type Step = fn(&mut Bench);
    let begin: Step = |b| b.begin(SECOND);
    let begin_late: Step = |b| b.begin(2 * SECOND);
    let answer: Step = |b| b.back(SYN | ACK, SECOND + MILLI);
    let fin: Step = |b| b.back(FIN | ACK, SECOND + 5 * MILLI);
    let reset: Step = |b| b.back(RST | ACK, SECOND + 5 * MILLI);
    let abort: Step = |b| b.there(RST, SECOND + 5 * MILLI);
    let late: Step = |b| b.flows.expire(3 * SECOND);
    let forget: Step = |b| b.flows.retain(|_| false, SECOND);
    #[rustfmt::skip]
    let table: &[(&str, &[Step], [u64; 4], u32)] = &[
        //                                      started, established, failed, closed; in flight
        ("asked",           &[begin],                       [1, 0, 0, 0], 1),
        ("open",            &[begin, answer],               [1, 1, 0, 0], 1),
        ("answered twice",  &[begin, answer, answer],       [1, 1, 0, 0], 1),
        ("closed",          &[begin, answer, fin],          [1, 1, 0, 1], 0),
        ("closed twice",    &[begin, answer, fin, fin],     [1, 1, 0, 1], 0),
        ("aborted",         &[begin, answer, abort],        [1, 1, 0, 1], 0),
        ("refused",         &[begin, reset],                [1, 0, 1, 0], 0),
        ("client confused", &[begin, abort],                [1, 1, 0, 1], 0),
        ("never answered",  &[begin, late],                 [1, 0, 1, 0], 0),
        ("open for long",   &[begin, answer, late],         [1, 1, 0, 0], 1),
        ("again",           &[begin, answer, begin],        [2, 1, 0, 1], 1),
        ("overtaken",       &[begin, begin],                [2, 1, 0, 1], 1),
        ("asked again",     &[begin, begin_late],           [2, 0, 1, 0], 1),
        ("not ours",        &[answer, fin],                 [0, 0, 0, 0], 0),
        ("forgotten",       &[begin, forget],               [1, 1, 0, 1], 0),
        ("forgotten open",  &[begin, answer, forget],       [1, 1, 0, 1], 0),
    ];
    for (name, steps, counts, in_flight) in table {
        let mut bench = Bench::new(TCP);
        steps.iter().for_each(|step| step(&mut bench));
        let (found, busy) = bench.found();
        let found = [found.started, found.established, found.failed, found.closed];
        assert_eq!((found, busy), (*counts, *in_flight), "{name}");
    }
}

#[test]
fn datagrams_count_until_they_are_idle() {
    let mut bench = Bench::new(UDP);
    bench.begin(SECOND);
    bench.flows.expire(40 * SECOND);
    assert_eq!(bench.found().1, 1);
    bench.begin(40 * SECOND);
    assert_eq!(bench.found().1, 1, "the same flow again");
    bench.flows.expire(80 * SECOND);
    assert_eq!(bench.found().1, 1);
    bench.flows.expire(101 * SECOND);
    let (counts, in_flight) = bench.found();
    assert_eq!((counts.started, counts.established, counts.closed, in_flight), (1, 1, 1, 0));
    assert_eq!(bench.flows.connections(101 * SECOND).len(), 1, "it ended once");
}

#[test]
fn a_flow_whose_every_datagram_is_queued_is_one_flow() {
    let mut bench = Bench::new(UDP);
    (1..=10_000).for_each(|n| bench.begin(n * 5 * SECOND));
    let (counts, in_flight) = bench.found();
    assert_eq!((counts.established, counts.closed, in_flight), (1, 0, 1));
    assert_eq!((bench.flows.flows.len(), bench.flows.ended.len()), (1, 0));
    // The backend left and came back: what is known of it begins anew.
    bench.backend = Arc::new(Backend::new(bench.key.backend, &Arc::new(VipRow::default())));
    bench.begin(50_001 * SECOND);
    assert_eq!(bench.found().1, 1);
    assert_eq!((bench.flows.flows.len(), bench.flows.ended.len()), (1, 1));
}

#[test]
fn what_ended_is_told_of_for_a_while() {
    use ConnectionStage::{Closed, Established, Failed, Started};
    let stages = |bench: &Bench| -> Vec<(ConnectionStage, u64)> {
        let all = bench.flows.connections(10 * SECOND);
        all.iter().map(|connection| (connection.stage, connection.age)).collect()
    };
    let mut bench = Bench::new(TCP);
    bench.begin(SECOND);
    assert_eq!(stages(&bench), [(Started, 9_000)]);
    bench.back(SYN | ACK, 2 * SECOND);
    let key = bench.key;
    bench.flows.touch(&key, 5 * SECOND);
    assert_eq!(stages(&bench), [(Established, 8_000)], "looking after it makes it no younger");
    bench.back(FIN | ACK, 6 * SECOND);
    assert_eq!(stages(&bench), [(Closed, 8_000)]);
    let (_, lives) = bench.backend.latencies();
    assert_eq!(lives.sum, 4_000_000, "four seconds");
    bench.begin(7 * SECOND);
    bench.back(RST | ACK, 7 * SECOND);
    assert_eq!(stages(&bench), [(Closed, 8_000), (Failed, 3_000)]);
    for _ in 0..MOST_ENDED {
        bench.begin(8 * SECOND);
        bench.back(RST | ACK, 8 * SECOND);
    }
    assert_eq!(stages(&bench), vec![(Failed, 2_000); MOST_ENDED], "the oldest make room");
}

#[test]
fn unwatched_handshakes_are_doubted_where_nobody_is_answered() {
    let mut bench = Bench::new(TCP);
    let Key { client: source, backend: destination, .. } = bench.key;
    let flow = Flow { protocol: TCP, source, destination };
    let unwatched = |bench: &mut Bench, since| {
        let backend = Arc::clone(&bench.backend);
        let reason = Reason::Tie;
        bench.flows.begin_unwatched(Unwatched { since, flow, backend, reason });
    };
    unwatched(&mut bench, SECOND);
    bench.begin(SECOND);
    bench.back(SYN | ACK, SECOND + MILLI);
    unwatched(&mut bench, SECOND + 2 * MILLI);
    assert!(bench.flows.doubtful(9, SECOND + 100 * MILLI).is_empty(), "too early");
    let doubtful = bench.flows.doubtful(9, 2 * SECOND);
    let since: Vec<u64> = doubtful.iter().map(|found| found.since).collect();
    assert_eq!(since, [SECOND + 2 * MILLI], "the other began before an answer");
    assert!(bench.flows.doubtful(9, 2 * SECOND).is_empty(), "once");
}

#[test]
fn asking_again_is_a_failure_once() {
    let mut bench = Bench::new(TCP);
    bench.begin(SECOND);
    let key = bench.key;
    bench.flows.asked_again(&key, SECOND + SECOND / 2);
    bench.flows.asked_again(&key, 2 * SECOND);
    assert_eq!(bench.backend.counts(SECOND).failed, 1);
}
