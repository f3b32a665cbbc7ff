//! Aligned columns without borders, and colour for terminals.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use std::fmt::Display;
use std::io::IsTerminal;

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// The reader is a person at a terminal.
    Colour,
    /// The reader is a program, or does not want colour.
    Plain,
}

impl Paint {
    /// What stdout wants.
    pub fn of_stdout() -> Self {
        Self::of(std::io::stdout().is_terminal())
    }

    /// What stderr wants.
    pub fn of_stderr() -> Self {
        Self::of(std::io::stderr().is_terminal())
    }

    /// Marks a text.
    pub fn mark(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) | (_, Tone::Normal) => return text.to_owned(),
            (_, Tone::Good) => "32",
            (_, Tone::Busy) => "33",
            (_, Tone::Bad) => "31",
            (_, Tone::Faint) => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    fn of(terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if terminal && !refused { Self::Colour } else { Self::Plain }
    }
}

/// What a value means to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Nothing in particular.
    Normal,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Look here.
    Bad,
    /// Less important.
    Faint,
}

/// A value in a column.
#[derive(Debug, Clone)]
pub(super) struct Field {
    text: String,
    tone: Tone,
}

/// A value that means nothing in particular.
pub(super) fn plain(text: impl Display) -> Field {
    toned(Tone::Normal, text)
}

/// A value with a meaning.
pub(super) fn toned(tone: Tone, text: impl Display) -> Field {
    let text = format!("{text}");
    let text = if text.is_empty() { "-".to_owned() } else { text };
    Field { text: text.replace(['\n', '\r', '\t', '\u{1b}'], " "), tone }
}

/// Rows below their headings, each column as wide as it has to be.
pub(super) fn render(headings: &[&str], rows: Vec<Vec<Field>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    match paint {
        Paint::Colour => table.enforce_styling(),
        Paint::Plain => table.force_no_tty(),
    };
    let heading = |text: &&str| Cell::new(text).add_attribute(Attribute::Bold);
    table.set_header(headings.iter().map(heading).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(cell).collect::<Vec<_>>());
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn cell(field: &Field) -> Cell {
    let cell = Cell::new(&field.text);
    match field.tone {
        Tone::Normal => cell,
        Tone::Good => cell.fg(Color::Green),
        Tone::Busy => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.add_attribute(Attribute::Dim),
    }
}

/// A span of time as people say it: `42s`, `3m12s`, `5h07m`, `2d03h`.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// A number without a needless fraction.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_the_text_does() {
        let rows = vec![
            vec![plain("/web"), toned(Tone::Good, "running")],
            vec![plain("/a-longer-name"), plain("")],
        ];
        let want = "ID               STATE\n/web             running\n/a-longer-name   -\n";
        assert_eq!(render(&["ID", "STATE"], rows, Paint::Plain), want);
    }

    #[test]
    fn colour_only_where_it_is_wanted() {
        let rows = vec![vec![toned(Tone::Bad, "failed")]];
        assert!(render(&["STATE"], rows.clone(), Paint::Colour).contains("\u{1b}["));
        assert!(!render(&["STATE"], rows, Paint::Plain).contains('\u{1b}'));
    }

    #[test]
    fn values_of_others_cannot_steer_the_terminal() {
        let rows = vec![vec![plain("a\u{1b}[2Jb\nc")]];
        assert_eq!(render(&["X"], rows, Paint::Plain), "X\na [2Jb c\n");
    }

    #[test]
    fn ages_and_numbers() {
        let ages = [(5, "5s"), (192, "3m12s"), (18_420, "5h07m"), (183_600, "2d03h")];
        for (seconds, want) in ages {
            assert_eq!(age(seconds), want);
        }
        for (value, want) in [(0.1, "0.1"), (4.0, "4"), (0.0, "0"), (1.2346, "1.235")] {
            assert_eq!(number(value), want);
        }
    }
}
