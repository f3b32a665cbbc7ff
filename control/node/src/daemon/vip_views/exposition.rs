//! Series as Prometheus reads them, written piece by piece.
//!
//! Nothing is held but the piece at hand, so a node with very many backends needs no more memory
//! to be scraped than any other. Protobuf gives each family its length first, so there one family is
//! held at a time.

use super::messages::{Bucket, BucketSpan, Histogram, LabelPair, Metric, MetricFamily, Number};
use super::spread;
use mizzen_http::core::MetricsEncoding;
use mizzen_kernel::vips::Latencies;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use std::fmt::Write;

/// Size of a piece, about.
const PIECE: usize = 64 << 10;

/// Longest value of a label in characters.
const LABEL: usize = 255;

/// Native histograms of this schema have the bounds of the kernel's buckets.
const SCHEMA: i32 = 1;

/// What nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// What kind of series a family has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only ever grows.
    Counter,
    /// A state.
    Gauge,
    /// Latencies.
    Histogram,
}

/// A family's name, its help and its kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family {
    /// `mizzen_<part>_<noun>_<unit>`.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
    /// What its series are.
    pub kind: Kind,
}

/// A family of counters.
pub(crate) const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Counter }
}

/// A family of gauges.
pub(crate) const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Gauge }
}

/// A family of histograms.
pub(crate) const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Histogram }
}

/// Names and values of labels.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

/// Writes families, one after the other.
pub(crate) struct Writer<'a> {
    encoding: MetricsEncoding,
    /// Takes a piece; says if nobody reads any more.
    put: &'a mut dyn FnMut(Vec<u8>) -> Result<(), Gone>,
    text: String,
    bytes: Vec<u8>,
}

impl<'a> Writer<'a> {
    /// Writes to `put`.
    pub fn new(
        encoding: MetricsEncoding,
        put: &'a mut dyn FnMut(Vec<u8>) -> Result<(), Gone>,
    ) -> Self {
        Self { encoding, put, text: String::new(), bytes: Vec::new() }
    }

    /// Writes a family; `series` adds what it has.
    pub fn family(
        &mut self,
        family: Family,
        series: impl FnOnce(&mut Series<'_, 'a>) -> Result<(), Gone>,
    ) -> Result<(), Gone> {
        if self.encoding == MetricsEncoding::Text {
            let Family { name, help, kind } = family;
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        }
        series(&mut Series { writer: self, family })?;
        match self.encoding {
            MetricsEncoding::Text => self.flush(0),
            MetricsEncoding::Protobuf => self.end_family(family),
        }
    }

    fn flush(&mut self, limit: usize) -> Result<(), Gone> {
        if self.text.len() <= limit {
            return Ok(());
        }
        (self.put)(std::mem::take(&mut self.text).into_bytes())
    }

    /// The series come last, so that their bytes can be made before their number is known.
    fn end_family(&mut self, family: Family) -> Result<(), Gone> {
        let series = std::mem::take(&mut self.bytes);
        let head = MetricFamily {
            name: Some(family.name.to_owned()),
            help: Some(family.help.to_owned()),
            r#type: Some(match family.kind {
                Kind::Counter => 0,
                Kind::Gauge => 1,
                Kind::Histogram => 4,
            }),
            metric: Vec::new(),
        }
        .encode_to_vec();
        // A family without a series is no family.
        if series.is_empty() {
            return Ok(());
        }
        let mut start = Vec::with_capacity(head.len() + 10);
        encode_varint((head.len() + series.len()) as u64, &mut start);
        start.extend(head);
        (self.put)(start)?;
        (self.put)(series)
    }
}

/// Adds series to a family.
pub(crate) struct Series<'w, 'a> {
    writer: &'w mut Writer<'a>,
    family: Family,
}

impl Series<'_, '_> {
    /// A counter or a gauge.
    pub fn number(&mut self, labels: Labels<'_>, value: f64) -> Result<(), Gone> {
        match self.writer.encoding {
            MetricsEncoding::Text => self.line("", labels, None, value),
            MetricsEncoding::Protobuf => {
                let number = Some(Number { value: Some(value) });
                let metric = match self.family.kind {
                    Kind::Counter => Metric { counter: number, ..Metric::default() },
                    _ => Metric { gauge: number, ..Metric::default() },
                };
                self.message(labels, metric);
                Ok(())
            }
        }
    }

    /// Latencies.
    pub fn latencies(&mut self, labels: Labels<'_>, latencies: &Latencies) -> Result<(), Gone> {
        match self.writer.encoding {
            MetricsEncoding::Text => {
                for (bound, below) in classic(latencies) {
                    self.line("_bucket", labels, Some(bound), below as f64)?;
                }
                let samples = spread::samples(latencies) as f64;
                self.line("_bucket", labels, Some(f64::INFINITY), samples)?;
                self.line("_sum", labels, None, latencies.sum as f64 / 1e6)?;
                self.line("_count", labels, None, samples)
            }
            MetricsEncoding::Protobuf => {
                let histogram = Some(histogram_message(latencies));
                self.message(labels, Metric { histogram, ..Metric::default() });
                Ok(())
            }
        }
    }

    /// A histogram.
    ///
    /// * `buckets` — upper bounds and how many samples do not exceed them.
    pub fn histogram(
        &mut self,
        labels: Labels<'_>,
        buckets: &[(f64, u64)],
        samples: u64,
        sum: f64,
    ) -> Result<(), Gone> {
        match self.writer.encoding {
            MetricsEncoding::Text => {
                for (bound, below) in buckets {
                    self.line("_bucket", labels, Some(*bound), *below as f64)?;
                }
                self.line("_bucket", labels, Some(f64::INFINITY), samples as f64)?;
                self.line("_sum", labels, None, sum)?;
                self.line("_count", labels, None, samples as f64)
            }
            MetricsEncoding::Protobuf => {
                let bucket = |(bound, below): &(f64, u64)| Bucket {
                    cumulative_count: Some(*below),
                    upper_bound: Some(*bound),
                };
                let histogram = Histogram {
                    sample_count: Some(samples),
                    sample_sum: Some(sum),
                    bucket: buckets.iter().map(bucket).collect(),
                    ..Histogram::default()
                };
                self.message(labels, Metric { histogram: Some(histogram), ..Metric::default() });
                Ok(())
            }
        }
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<f64>,
        value: f64,
    ) -> Result<(), Gone> {
        let text = &mut self.writer.text;
        text.push_str(self.family.name);
        text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in labels {
            let _ = write!(text, "{separator}{name}=\"");
            escape(value, text);
            text.push('"');
            separator = ',';
        }
        if let Some(bound) = bound {
            let _ = match bound {
                bound if bound.is_infinite() => write!(text, "{separator}le=\"+Inf\""),
                bound if bound < 1e-3 => write!(text, "{separator}le=\"{bound:e}\""),
                bound => write!(text, "{separator}le=\"{bound}\""),
            };
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
        self.writer.flush(PIECE)
    }

    fn message(&mut self, labels: Labels<'_>, metric: Metric) {
        let pair = |(name, value): &(&str, &str)| LabelPair {
            name: Some((*name).to_owned()),
            value: Some(value.chars().take(LABEL).collect()),
        };
        let metric = Metric { label: labels.iter().map(pair).collect(), ..metric };
        let bytes = &mut self.writer.bytes;
        encode_key(4, WireType::LengthDelimited, bytes);
        encode_varint(metric.encoded_len() as u64, bytes);
        bytes.extend(metric.encode_to_vec());
    }
}

/// Every other bound of the kernel, a power of two, and how many samples do not exceed it.
fn classic(latencies: &Latencies) -> impl Iterator<Item = (f64, u64)> {
    let mut below = 0;
    let last = latencies.buckets.len().saturating_sub(1);
    let buckets = latencies.buckets.iter().take(last).zip(0_u32..);
    buckets.filter_map(move |(count, bucket)| {
        below += count;
        bucket.is_multiple_of(2).then(|| (spread::upper(bucket), below))
    })
}

fn histogram_message(latencies: &Latencies) -> Histogram {
    let bucket =
        |(bound, below)| Bucket { cumulative_count: Some(below), upper_bound: Some(bound) };
    let mut spans: Vec<BucketSpan> = Vec::new();
    let (mut deltas, mut former) = (Vec::new(), 0_i64);
    let mut next = 0;
    for (bucket, count) in spread::filled(latencies) {
        let index = i32::try_from(bucket).unwrap_or(0) + mizzen_ebpf_core::bucket::FIRST_INDEX;
        match spans.last_mut() {
            Some(span) if index == next => span.length = span.length.map(|length| length + 1),
            _ => spans.push(BucketSpan { offset: Some(index - next), length: Some(1) }),
        }
        next = index + 1;
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        deltas.push(count - former);
        former = count;
    }
    Histogram {
        sample_count: Some(spread::samples(latencies)),
        sample_sum: Some(latencies.sum as f64 / 1e6),
        bucket: classic(latencies).map(bucket).collect(),
        schema: Some(SCHEMA),
        zero_threshold: Some(2.0_f64.powi(-128)),
        zero_count: Some(0),
        positive_span: spans,
        positive_delta: deltas,
    }
}

/// A value as it stands between quotes, not longer than [`LABEL`].
fn escape(value: &str, text: &mut String) {
    for letter in value.chars().take(LABEL) {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::spread::tests::of;

    const COUNTER: Family =
        Family { name: "mizzen_vip_x_total", help: "Some x.", kind: Kind::Counter };
    const LATENCY: Family =
        Family { name: "mizzen_vip_y_seconds", help: "Times of y.", kind: Kind::Histogram };

    fn written(encoding: MetricsEncoding, latencies: &Latencies) -> Vec<u8> {
        let mut all = Vec::new();
        let mut put = |piece: Vec<u8>| {
            all.extend(piece);
            Ok(())
        };
        let mut writer = Writer::new(encoding, &mut put);
        let number = |series: &mut Series<'_, '_>| {
            series.number(&[("vip", "a\"b\\c\nd"), ("x", &"ü".repeat(300))], 7.0)
        };
        writer.family(COUNTER, number).unwrap();
        writer.family(LATENCY, |series| series.latencies(&[("vip", "v")], latencies)).unwrap();
        all
    }

    #[test]
    fn text() {
        let text = written(MetricsEncoding::Text, &of([1_000, 1_000, 100_000, 60_000_000]));
        let text = String::from_utf8(text).unwrap();
        let long = "ü".repeat(255);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "# HELP mizzen_vip_x_total Some x.");
        assert_eq!(lines[1], "# TYPE mizzen_vip_x_total counter");
        assert_eq!(
            lines[2],
            format!("mizzen_vip_x_total{{vip=\"a\\\"b\\\\c\\nd\",x=\"{long}\"}} 7")
        );
        assert_eq!(lines[4], "# TYPE mizzen_vip_y_seconds histogram");
        assert_eq!(lines[5], "mizzen_vip_y_seconds_bucket{vip=\"v\",le=\"9.5367431640625e-7\"} 0");
        for (bound, below) in
            [("0.0009765625", 0), ("0.001953125", 2), ("0.125", 3), ("8", 3), ("+Inf", 4)]
        {
            let line = format!("mizzen_vip_y_seconds_bucket{{vip=\"v\",le=\"{bound}\"}} {below}");
            let line = line.replace("0.0009765625", "9.765625e-4");
            assert!(lines.contains(&line.as_str()), "{line} in {text}");
        }
        assert_eq!(lines[lines.len() - 2], "mizzen_vip_y_seconds_sum{vip=\"v\"} 60.102");
        assert_eq!(lines[lines.len() - 1], "mizzen_vip_y_seconds_count{vip=\"v\"} 4");
        assert_eq!(lines.len(), 3 + 2 + 24 + 1 + 2);
    }

    #[test]
    fn protobuf() {
        let latencies = of([1_000, 1_000, 100_000, 1_000_000, 60_000_000]);
        let bytes = written(MetricsEncoding::Protobuf, &latencies);
        let mut rest = bytes.as_slice();
        let counter = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert_eq!(
            (counter.name.as_deref(), counter.r#type),
            (Some("mizzen_vip_x_total"), Some(0))
        );
        assert_eq!(counter.metric[0].counter, Some(Number { value: Some(7.0) }));
        assert_eq!(counter.metric[0].label[0].value.as_deref(), Some("a\"b\\c\nd"));
        let family = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert!(rest.is_empty());
        let histogram = family.metric[0].histogram.clone().unwrap();
        assert_eq!((histogram.sample_count, histogram.schema), (Some(5), Some(1)));
        // 1 ms ends at 2^-9.5 s, 100 ms at 2^-3 s, 1 s at 2^0 s, and the last has no end.
        let spans = histogram.positive_span.iter().map(|s| (s.offset.unwrap(), s.length.unwrap()));
        assert_eq!(spans.collect::<Vec<_>>(), [(-19, 1), (12, 1), (5, 1), (7, 1)]);
        assert_eq!(histogram.positive_delta, [2, -1, 0, 0]);
        assert_eq!(histogram.bucket.len(), 24);
        assert_eq!(histogram.bucket[23].cumulative_count, Some(4));
    }

    #[test]
    fn it_ends_when_nobody_reads() {
        let mut put = |_: Vec<u8>| Err(Gone);
        let mut writer = Writer::new(MetricsEncoding::Text, &mut put);
        let endless = |series: &mut Series<'_, '_>| {
            loop {
                series.number(&[], 1.0)?;
            }
        };
        assert_eq!(writer.family(COUNTER, endless), Err(Gone));
    }
}
