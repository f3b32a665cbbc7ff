use super::*;

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

fn backend() -> (Arc<VipRow>, Backend) {
    let row = Arc::new(VipRow::default());
    let backend = Backend::new("10.0.0.1:80".parse().expect("an address"), &row);
    backend.open(0);
    (row, backend)
}

fn weather(row: &VipRow, now: u64) -> Weather {
    Weather::of(row, 4, 0, Limits::default(), now)
}

#[test]
fn failures_eject_and_one_success_brings_back() {
    let (row, backend) = backend();
    let tuning = Limits::default();
    for n in 1..=u64::from(tuning.failures) {
        assert_eq!(backend.judge(weather(&row, SECOND), 0), Verdict::Usable, "before {n}");
        backend.started(1, SECOND);
        backend.failed(1, Reason::Only, SECOND, &tuning);
    }
    assert_eq!(backend.judge(weather(&row, 2 * SECOND), 0), Verdict::Shut);
    let later = 7 * SECOND;
    assert_eq!(backend.judge(weather(&row, later), 0), Verdict::Probe);
    assert_eq!(backend.judge(weather(&row, later), 0), Verdict::Shut, "one probe only");
    backend.started(1, later);
    backend.failed(1, Reason::Probe, later, &tuning);
    assert_eq!(backend.judge(weather(&row, later + 9 * SECOND), 0), Verdict::Shut);
    assert_eq!(backend.judge(weather(&row, later + 11 * SECOND), 0), Verdict::Probe);
    backend.started(1, later);
    backend.succeeded(1, MILLI, later);
    assert_eq!(backend.judge(weather(&row, later), 0), Verdict::Usable);
    assert_eq!((row.ejected.load(Relaxed), backend.counts(later).ejections), (0, 2));
    assert_eq!(backend.load(1, later).in_flight, 1);
}

#[test]
fn one_that_leaves_handshakes_unanswered_is_avoided_before_they_time_out() {
    let (row, backend) = backend();
    backend.started(1, SECOND);
    assert_eq!(backend.judge(weather(&row, SECOND + 100 * MILLI), 0), Verdict::Usable);
    assert_eq!(backend.judge(weather(&row, SECOND + 500 * MILLI), 0), Verdict::Shut);
    backend.succeeded(1, 300 * MILLI, SECOND + 300 * MILLI);
    assert_eq!(backend.judge(weather(&row, 5 * SECOND), 0), Verdict::Usable);
}

#[test]
fn both_latencies_count() {
    let (_, backend) = backend();
    backend.started(1, SECOND);
    backend.succeeded(1, MILLI / 2, SECOND);
    backend.closed(1, Some(MILLI), SECOND, &Limits::default());
    assert_eq!(backend.load(1, SECOND), Load { micros: 1_500, in_flight: 0, weight: 1 });
    backend.started(1, SECOND);
    backend.closed(1, Some(60 * SECOND), SECOND, &Limits::default());
    assert_eq!(backend.load(1, SECOND).micros, 1_500, "a long life is no slowness");
    let (handshakes, lives) = backend.latencies();
    let count = |latencies: &Latencies| latencies.buckets.iter().sum::<u64>();
    assert_eq!((handshakes.sum, count(&handshakes)), (500, 1));
    assert_eq!((lives.sum, count(&lives)), (60_001_000, 2));
}

#[test]
fn who_leaves_is_not_counted_among_the_ejected() {
    let (row, backend) = backend();
    let tuning = Limits { failures: 1, ..Limits::default() };
    backend.started(1, SECOND);
    backend.failed(1, Reason::Only, SECOND, &tuning);
    assert_eq!(row.ejected.load(Relaxed), 1);
    backend.retire();
    assert_eq!(row.ejected.load(Relaxed), 0);
    backend.started(1, SECOND);
    backend.failed(1, Reason::Only, SECOND, &tuning);
    assert_eq!(row.ejected.load(Relaxed), 0, "what is heard of it later neither");
}
