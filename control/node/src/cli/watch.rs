//! `mizzen vips --watch`: what VIPs do, look after look.
//!
//! The node only counts; what happened between two looks is worked out here.

use super::error::CliError;
use super::screen::{Form, Screen};
use super::session::Session;
use super::table::{Field, Paint, Tone, plain, render as table, toned};
use super::vips::{Backend, Vip, average, count, failures, millis, path, state};
use crate::args::VipsArgs;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, MissedTickBehavior};

/// Seconds that a sparkline covers.
const SPAN: f64 = 60.0;
/// Letters of a sparkline.
const CELLS: usize = 30;
/// Heights of a letter.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Looks until it is told to stop, or often enough.
pub(super) async fn run(session: &Session, args: &VipsArgs) -> Result<(), CliError> {
    let form = Form::of(args.output);
    form.watch(look(session, args, Screen::new(form, "`mizzen vips WHICH` shows some"))).await
}

async fn look(session: &Session, args: &VipsArgs, mut screen: Screen) -> Result<(), CliError> {
    let path = path(args.which.as_deref());
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut history = History::new(args.interval);
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) {
        ticks.tick().await;
        let vips: Result<Vec<Value>, CliError> = session.read(&path).await;
        let at = Instant::now();
        let Some(vips) = screen.outlive(vips)? else { continue };
        let is_first = history.at.is_none();
        let vips = history.take(vips, at)?;
        // Nothing happened before the first look, which only a person wants to see.
        if is_first && screen.form() != Form::Screen {
            continue;
        }
        shown += u32::from(!is_first);
        screen.show(&match screen.form() {
            Form::Lines => format!("{}\n", line(&vips)),
            Form::Screen | Form::Blocks => render(&vips, session.paint),
        })?;
    }
    Ok(())
}

/// A VIP, and what its backends did since the last look.
#[derive(Debug)]
struct Watched {
    vip: Vip,
    rates: Vec<Rates>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Rates {
    /// Connections a second; none before the second look.
    connects: Option<f64>,
    failures: Option<f64>,
    spark: String,
}

/// What was counted at the last look, and the rates of the last minute.
#[derive(Debug)]
struct History {
    /// Looks that a sparkline covers.
    looks: usize,
    at: Option<Instant>,
    backends: BTreeMap<Key, Seen>,
}

/// A VIP, its transport and a backend.
type Key = (String, String, String);

#[derive(Debug, Default)]
struct Seen {
    chosen: u64,
    failures: u64,
    /// Connections a second, the latest last.
    rates: VecDeque<f64>,
}

impl History {
    fn new(interval: Duration) -> Self {
        let looks = ((SPAN / interval.as_secs_f64()) as usize).max(2);
        Self { looks, at: None, backends: BTreeMap::new() }
    }

    /// Takes in a look.
    fn take(&mut self, vips: Vec<Value>, at: Instant) -> Result<Vec<Watched>, CliError> {
        let elapsed = self.at.map(|before| at.duration_since(before).as_secs_f64());
        let mut former = std::mem::take(&mut self.backends);
        self.at = Some(at);
        let vips: Vec<Vip> = super::session::understand("/v1/vip-table", Value::Array(vips))?;
        let mut watched = |vip: Vip| {
            let rates = |backend: &Backend| {
                let key = (vip.vip.clone(), vip.protocol.clone(), backend.address.clone());
                let known = former.remove(&key);
                self.rates(key, backend, known, elapsed)
            };
            let rates = vip.backends.iter().map(rates).collect();
            Watched { rates, vip }
        };
        Ok(vips.into_iter().map(&mut watched).collect())
    }

    fn rates(
        &mut self,
        key: Key,
        backend: &Backend,
        known: Option<Seen>,
        elapsed: Option<f64>,
    ) -> Rates {
        let (Some(chosen), Some(failed)) = (backend.chosen, backend.failures) else {
            return Rates::default();
        };
        let is_new = known.is_none();
        let mut seen = known.unwrap_or_default();
        // One that came since the last look began with nothing; a count that fell is another's.
        let rate = |now: u64, before: u64| {
            let elapsed = elapsed.filter(|elapsed| *elapsed > 0.0)?;
            Some(now.checked_sub(before)? as f64 / elapsed)
        };
        let before = if is_new { (0, 0) } else { (seen.chosen, seen.failures) };
        let (connects, failures) = (rate(chosen, before.0), rate(failed, before.1));
        seen.rates.extend(connects);
        while seen.rates.len() > self.looks {
            seen.rates.pop_front();
        }
        let spark = spark(&seen.rates, self.looks);
        (seen.chosen, seen.failures) = (chosen, failed);
        self.backends.insert(key, seen);
        Rates { connects, failures, spark }
    }
}

/// Rates as a line of letters, the latest at the right end; its height is that of the highest one.
fn spark(rates: &VecDeque<f64>, looks: usize) -> String {
    let cells = CELLS.min(looks);
    let highest = rates.iter().copied().fold(0.0, f64::max);
    let missing = looks.saturating_sub(rates.len());
    let letter = |cell: usize| {
        let range = cell * looks / cells..(cell + 1) * looks / cells;
        let values = range.filter_map(|look| rates.get(look.checked_sub(missing)?));
        match values.copied().reduce(f64::max) {
            None => ' ',
            Some(value) if value <= 0.0 => HEIGHTS[0],
            Some(value) => {
                let height = (value / highest * (HEIGHTS.len() - 1) as f64).ceil() as usize;
                HEIGHTS[height.min(HEIGHTS.len() - 1)]
            }
        }
    };
    (0..cells).map(letter).collect()
}

fn render(vips: &[Watched], paint: Paint) -> String {
    let mut rows: Vec<Vec<Field>> = Vec::new();
    for Watched { vip, rates } in vips {
        let mut head = match &vip.name {
            Some(name) => {
                let label = name.trim_end_matches(".l4lb.thisdcos.directory");
                plain(format!("{}/{} {label}", vip.vip, vip.protocol))
            }
            None => plain(format!("{}/{}", vip.vip, vip.protocol)),
        };
        if vip.backends.is_empty() {
            let rest = (0..8).map(|_| plain(""));
            let refused = vip.refused.filter(|refused| *refused > 0);
            let refused = refused.map(|refused| format!(", {refused} refused")).unwrap_or_default();
            let state = toned(Tone::Bad, format!("no backends{refused}"));
            rows.push(std::iter::once(head.clone()).chain(rest).chain([state]).collect());
        }
        for (backend, rates) in vip.backends.iter().zip(rates) {
            rows.push(std::iter::once(head).chain(row(backend, rates)).collect());
            head = toned(Tone::Faint, "\"");
        }
    }
    let headings = [
        "VIP",
        "BACKEND",
        "CONNECTS/S",
        "LAST MINUTE",
        "OPEN",
        "LATENCY",
        "HANDSHAKE P50",
        "P99",
        "FAILED",
        "STATE",
    ];
    table(&headings, rows, paint)
}

fn row(backend: &Backend, rates: &Rates) -> [Field; 9] {
    let latency = &backend.latency_ms;
    [
        plain(&backend.address),
        plain(rates.connects.map(|rate| format!("{rate:.1}")).unwrap_or_default()),
        // Blanks at the left are minutes that nobody saw; they hold the place.
        plain(format!("{}\u{2502}", rates.spark)),
        plain(count(backend.in_flight)),
        plain(millis(average(latency))),
        plain(millis(latency.p50)),
        plain(millis(latency.p99)),
        failures(backend.failures),
        state(backend),
    ]
}

/// A look as one document: what `mizzen vips --json` has of a backend, in short, with its rates.
fn line(vips: &[Watched]) -> Value {
    let rounded = |number: f64| json!((number * 1e3).round() / 1e3);
    let known = |pairs: &[(&str, Option<Value>)]| -> Value {
        let pairs =
            pairs.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    let backend = |(backend, rates): (&Backend, &Rates)| {
        let latency = &backend.latency_ms;
        let state = match backend.state.as_str() {
            "" => None,
            state => Some(json!(state)),
        };
        known(&[
            ("address", Some(json!(backend.address))),
            ("task", backend.task.as_ref().map(|task| json!(task))),
            ("state", state),
            ("why", backend.why.as_ref().map(|why| json!(why))),
            ("ejected_for_seconds", backend.ejected_for_seconds.map(rounded)),
            ("connects_per_second", rates.connects.map(rounded)),
            ("failures_per_second", rates.failures.map(rounded)),
            ("chosen", backend.chosen.map(|count| json!(count))),
            ("failures", backend.failures.map(|count| json!(count))),
            ("in_flight", backend.in_flight.map(|count| json!(count))),
            ("latency_ms", average(latency).map(rounded)),
            ("p50_ms", latency.p50.map(rounded)),
            ("p99_ms", latency.p99.map(rounded)),
        ])
    };
    let vip = |Watched { vip, rates }: &Watched| {
        json!({
            "vip": vip.vip, "protocol": vip.protocol, "name": vip.name,
            "backends": vip.backends.iter().zip(rates).map(backend).collect::<Value>(),
        })
    };
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "time": time.as_secs_f64(),
        "vips": vips.iter().map(vip).collect::<Value>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(chosen: u64, failures: u64) -> Vec<Value> {
        vec![json!({
            "vip": "11.0.0.1:80", "protocol": "tcp", "name": "web.marathon.l4lb.thisdcos.directory",
            "backends": [
                {"address": "9.0.0.2:80", "task": null, "admitted": true, "state": "in",
                 "chosen": chosen, "failures": failures, "in_flight": 2,
                 "latency_ms": {"handshake": 0.3, "p50": 0.2, "p99": 41.7}},
                {"address": "9.0.0.3:80", "task": null, "admitted": true, "state": "warming",
                 "warmth": 0.34},
            ],
        })]
    }

    #[test]
    fn rates_are_differences() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(1));
        let first = history.take(table_of(100, 7), start).unwrap();
        assert_eq!((first[0].rates[0].connects, first[0].rates[0].failures), (None, None));
        let at = start + Duration::from_secs(2);
        let second = history.take(table_of(150, 8), at).unwrap();
        let rates = &second[0].rates[0];
        assert_eq!((rates.connects, rates.failures), (Some(25.0), Some(0.5)));
        assert_eq!(second[0].rates[1], Rates::default(), "nobody counts");
        let line = line(&second);
        assert_eq!(line["vips"][0]["backends"][0]["connects_per_second"], 25.0);
        assert!(line["vips"][0]["backends"][1].get("connects_per_second").is_none());
        let text = render(&second, Paint::Plain);
        let spark = format!("{}{}│", " ".repeat(29), '█');
        let want = format!(
            "VIP                            BACKEND      CONNECTS/S   LAST MINUTE                       OPEN   LATENCY   HANDSHAKE P50   P99     FAILED   STATE\n\
             11.0.0.1:80/tcp web.marathon   9.0.0.2:80   25.0         {spark}   2      300 µs    200 µs          42 ms   8        in\n\
             \"                              9.0.0.3:80   -            │                                 -      -         -               -       -        warming 34 %\n"
        );
        assert_eq!(text, want);
        let at = at + Duration::from_secs(1);
        let fallen = history.take(table_of(3, 0), at).unwrap();
        assert_eq!(fallen[0].rates[0].connects, None, "another backend at that address");
    }

    #[test]
    fn sparklines() {
        let line = |rates: &[f64], looks| spark(&rates.iter().copied().collect(), looks);
        assert_eq!(line(&[], 4), "    ");
        assert_eq!(line(&[0.0, 1.0, 4.0, 8.0], 4), "▁▂▅█");
        assert_eq!(line(&[8.0, 8.0], 4), "  ██");
        assert_eq!(line(&[0.0; 60], 60), "▁".repeat(30));
        assert_eq!(line(&[5.0], 60).trim_start(), "█");
    }
}
