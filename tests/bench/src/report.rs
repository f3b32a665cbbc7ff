//! What a section found: a table for people, a list for machines.

use crate::statistics::{Ratio, Summary};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where the lists for machines go, below the directory of the project.
const DIRECTORY: &str = "target/bench";

/// Figures of one variant of one metric.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    metric: String,
    variant: String,
    unit: &'static str,
    summary: Option<Summary>,
    ratio: Option<(Ratio, &'static str)>,
    goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Goal {
    of: Measure,
    side: Side,
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    /// The median.
    Value,
    /// The largest figure.
    Worst,
    Ratio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

impl Goal {
    fn reached(self, figure: f64) -> bool {
        match self.side {
            Side::AtMost => figure <= self.limit,
            Side::AtLeast => figure >= self.limit,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.side {
            Side::AtMost => '≤',
            Side::AtLeast => '≥',
        };
        let unit = match self.of {
            Measure::Value => "",
            Measure::Worst => " max",
            Measure::Ratio => " ×",
        };
        write!(f, "{sign} {}{unit}", plain(self.limit))
    }
}

impl Row {
    /// What was measured, of what, and in which unit. A list of no figures has
    /// missed every goal.
    pub(crate) fn new(metric: &str, variant: &str, unit: &'static str, figures: &[f64]) -> Self {
        Self {
            metric: metric.to_owned(),
            variant: variant.to_owned(),
            unit,
            summary: Summary::of(figures),
            ratio: None,
            goal: None,
        }
    }

    /// With the ratio to the variant `base`, measured in pairs.
    pub(crate) fn ratio(mut self, ratio: Option<Ratio>, base: &'static str) -> Self {
        self.ratio = ratio.map(|ratio| (ratio, base));
        self
    }

    /// The median is to be at most `limit`.
    pub(crate) fn at_most(self, limit: f64) -> Self {
        self.goal(Measure::Value, Side::AtMost, limit)
    }

    /// Every figure is to be at most `limit`.
    pub(crate) fn worst_at_most(self, limit: f64) -> Self {
        self.goal(Measure::Worst, Side::AtMost, limit)
    }

    /// The median is to be at least `limit`.
    pub(crate) fn at_least(self, limit: f64) -> Self {
        self.goal(Measure::Value, Side::AtLeast, limit)
    }

    /// The median of the ratios is to be at most `limit`.
    pub(crate) fn ratio_at_most(self, limit: f64) -> Self {
        self.goal(Measure::Ratio, Side::AtMost, limit)
    }

    /// The median of the ratios is to be at least `limit`.
    pub(crate) fn ratio_at_least(self, limit: f64) -> Self {
        self.goal(Measure::Ratio, Side::AtLeast, limit)
    }

    fn goal(self, of: Measure, side: Side, limit: f64) -> Self {
        Self { goal: Some(Goal { of, side, limit }), ..self }
    }

    /// Whether the goal was reached, if there is one.
    fn reached(&self) -> Option<bool> {
        let goal = self.goal?;
        let figure = match goal.of {
            Measure::Value | Measure::Worst => self.figure(),
            Measure::Ratio => self.ratio.map(|(ratio, _)| ratio.median),
        };
        Some(figure.is_some_and(|figure| goal.reached(figure)))
    }

    /// The figure that counts.
    fn figure(&self) -> Option<f64> {
        let is_worst = self.goal.is_some_and(|goal| goal.of == Measure::Worst);
        self.summary.map(|summary| if is_worst { summary.max } else { summary.median })
    }

    fn cells(&self) -> [String; 9] {
        let figure = |pick: fn(Summary) -> f64| {
            self.summary.map(|summary| number(pick(summary))).unwrap_or_default()
        };
        let (ratio, interval) = match self.ratio {
            Some((Ratio { median, low, high }, _)) => {
                (format!("{median:.3}"), format!("{low:.3}–{high:.3}"))
            }
            None => Default::default(),
        };
        let goal = self.goal.map(|goal| goal.to_string()).unwrap_or_default();
        let verdict = match self.reached() {
            Some(true) => "ok",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.variant.clone(),
            figure(|summary| summary.median),
            figure(|summary| summary.min),
            figure(|summary| summary.max),
            self.unit.to_owned(),
            ratio,
            interval,
            goal,
            verdict.to_owned(),
        ]
    }

    /// The row, and a second one for its ratio.
    fn entries(&self) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut entry = |metric: &str, value: Option<f64>, unit: &str, goal: Option<f64>| {
            let ok = goal.and_then(|_| self.reached());
            entries.push(json!({
                "metric": metric, "variant": self.variant, "value": value, "unit": unit,
                "goal": goal, "ok": ok,
            }));
        };
        let limit = |ratio| {
            let goal = self.goal.filter(|goal| (goal.of == Measure::Ratio) == ratio);
            goal.map(|goal| goal.limit)
        };
        let (value_goal, ratio_goal) = (limit(false), limit(true));
        entry(&self.metric, self.figure(), self.unit, value_goal);
        if let Some((ratio, base)) = self.ratio {
            entry(&format!("{} / {base}", self.metric), Some(ratio.median), "×", ratio_goal);
        } else if ratio_goal.is_some() {
            entry(&format!("{} / ?", self.metric), None, "×", ratio_goal);
        }
        entries
    }
}

/// Everything that a section found.
#[derive(Debug)]
pub(crate) struct Report {
    name: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Report {
    /// Of the section `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds figures. Rows of one metric follow each other.
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds what one must know to read the figures.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Adds what could not be measured; every goal of it was missed.
    pub(crate) fn failed(&mut self, what: &str, error: &anyhow::Error) {
        self.rows.push(Row::new(what, "did not run", "", &[]).at_most(0.0));
        self.missing(what, error);
    }

    /// Adds what this machine or this build does not have.
    pub(crate) fn missing(&mut self, what: &str, error: &anyhow::Error) {
        self.note(format!("without {what}: {}", first_line(error)));
    }

    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether every goal was reached.
    pub(crate) fn reached(&self) -> bool {
        self.rows.iter().all(|row| row.reached() != Some(false))
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let headings =
            ["metric", "variant", "median", "min", "max", "unit", "×", "95 %", "goal", ""];
        let mut lines = vec![headings.map(str::to_owned).to_vec()];
        let mut last = "";
        for row in &self.rows {
            let metric = if row.metric == last { "" } else { &row.metric };
            last = &row.metric;
            lines.push(std::iter::once(metric.to_owned()).chain(row.cells()).collect());
        }
        let mut text = format!("\nbench-{}\n\n{}", self.name, aligned(&lines));
        for note in &self.notes {
            text.push_str(&format!("\n· {note}"));
        }
        text + "\n"
    }

    /// Writes the list for machines and returns its path.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        let path = PathBuf::from(DIRECTORY).join(format!("{}.json", self.name));
        std::fs::create_dir_all(DIRECTORY).with_context(|| format!("cannot make {DIRECTORY}"))?;
        std::fs::write(&path, format!("{:#}\n", self.json()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn json(&self) -> Value {
        self.rows.iter().flat_map(Row::entries).collect()
    }
}

/// Columns of figures are set to the right, the others to the left.
fn aligned(lines: &[Vec<String>]) -> String {
    const FIGURES: [usize; 4] = [2, 3, 4, 6];
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if FIGURES.contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let cells: Vec<String> = cells.collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// With three digits that count, or more before the point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What an error begins with; some have thousands of lines.
pub(crate) fn first_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// A limit as it was written; what was measured is cut.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(median: f64) -> Option<Ratio> {
        Some(Ratio { median, low: median - 0.01, high: median + 0.01 })
    }

    fn report() -> Report {
        let mut report = Report::new("test");
        report.add(Row::new("memory", "idle", "MiB", &[12.25]).at_most(48.0));
        report.add(Row::new("gap", "restart", "ms", &[40.0, 20.0, 60.0]).worst_at_most(50.0));
        report.add(Row::new("connect", "direct", "µs", &[27.0, 26.0, 28.0]));
        let vip = Row::new("connect", "vip", "µs", &[29.0, 28.5, 130.0]);
        report.add(vip.ratio(ratio(1.05), "direct").ratio_at_most(1.08));
        report.note("on a quiet machine");
        report
    }

    #[test]
    fn a_table_for_people() {
        let want = "
bench-test

metric   variant  median   min   max  unit      ×  95 %         goal
memory   idle       12.2  12.2  12.2  MiB                       ≤ 48      ok
gap      restart    40.0  20.0  60.0  ms                        ≤ 50 max  MISSED
connect  direct     27.0  26.0  28.0  µs
         vip        29.0  28.5   130  µs    1.050  1.040–1.060  ≤ 1.08 ×  ok

· on a quiet machine
";
        assert_eq!(report().table(), want);
        assert!(!report().reached());
    }

    #[test]
    fn a_list_for_machines() {
        let want = json!([
            {"metric": "memory", "variant": "idle", "value": 12.25, "unit": "MiB", "goal": 48.0, "ok": true},
            {"metric": "gap", "variant": "restart", "value": 60.0, "unit": "ms", "goal": 50.0, "ok": false},
            {"metric": "connect", "variant": "direct", "value": 27.0, "unit": "µs", "goal": null, "ok": null},
            {"metric": "connect", "variant": "vip", "value": 29.0, "unit": "µs", "goal": null, "ok": null},
            {"metric": "connect / direct", "variant": "vip", "value": 1.05, "unit": "×", "goal": 1.08, "ok": true},
        ]);
        assert_eq!(report().json(), want);
    }

    #[test]
    fn numbers_have_three_digits() {
        let table = [
            (0.0, "0"),
            (0.031, "0.03"),
            (9.99, "9.99"),
            (9.999, "10.0"),
            (99.97, "100"),
            (1234.5, "1234"),
        ];
        for (value, want) in table {
            assert_eq!(number(value), want, "{value}");
        }
    }

    #[test]
    fn goals_are_missed() {
        let row = |figures: &[f64]| Row::new("m", "v", "s", figures);
        let table = [
            ("above", row(&[2.0]).at_most(1.0), Some(false)),
            ("at the limit", row(&[1.0]).at_most(1.0), Some(true)),
            ("the worst above", row(&[1.0, 1.0, 2.0]).worst_at_most(1.5), Some(false)),
            ("the worst below", row(&[1.0, 1.0, 2.0]).worst_at_most(2.0), Some(true)),
            ("nothing was measured", row(&[]).at_most(1.0), Some(false)),
            ("ratio above", row(&[1.0]).ratio(ratio(1.1), "d").ratio_at_most(1.08), Some(false)),
            ("no ratio", row(&[1.0]).ratio_at_most(1.08), Some(false)),
            ("no goal", row(&[1.0]), None),
        ];
        for (name, row, want) in table {
            assert_eq!(row.reached(), want, "{name}");
            let mut report = Report::new("test");
            report.add(row);
            assert_eq!(report.reached(), want != Some(false), "{name}");
        }
    }
}
