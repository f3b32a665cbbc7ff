//! Files of questions and the answers that they must get.

use anyhow::{Context, Result, bail};
use mizzen_dns_core::Mode;
use std::collections::BTreeSet;
use std::path::Path;

/// One file.
#[derive(Debug)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Options that differ from those of the facts, a JSON object.
    pub options: serde_json::Value,
    /// Its cases, in order.
    pub cases: Vec<Case>,
}

/// One question.
#[derive(Debug)]
pub struct Case {
    /// Line of the question in its file, from 1.
    pub line: usize,
    /// The name, as it is asked.
    pub name: String,
    /// The type.
    pub kind: String,
    /// The mode in which it is asked; both if none is named.
    pub mode: Option<Mode>,
    /// What must come.
    pub answer: Answer,
}

/// What is compared of a reply. Records are lines, their order does not count.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Response code with the flags `aa` and `tc`, if they are set.
    pub status: String,
    /// Records, each behind `an`, `au` or `ad` for its section.
    pub records: BTreeSet<String>,
}

impl std::fmt::Display for Answer {
    /// Writes it as the files have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.status)?;
        self.records.iter().try_for_each(|record| writeln!(f, "{record}"))
    }
}

/// Reads all `.txt` files of a directory, sorted by name.
///
/// # Errors
///
/// The file and line that cannot be read.
pub fn read_all(directory: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in directory.read_dir().with_context(|| format!("{}", directory.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = std::fs::read_to_string(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(parse(&name, &text)?);
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Reads one file.
///
/// # Errors
///
/// The line that cannot be read.
pub fn parse(name: &str, text: &str) -> Result<File> {
    let mut file =
        File { name: name.to_owned(), options: serde_json::json!({}), cases: Vec::new() };
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = || format!("{name}:{}: {line}", at + 1);
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["options", rest @ ..] => {
                file.options = serde_json::from_str(&rest.join(" ")).with_context(place)?;
            }
            ["?", asked, kind, mode @ ..] => {
                let mode = match mode {
                    [] => None,
                    [mode] => Some(Mode::from_text(mode).with_context(place)?),
                    _ => bail!("{}", place()),
                };
                let (asked, kind) = ((*asked).to_owned(), (*kind).to_owned());
                let (line, answer) = (at + 1, Answer::default());
                file.cases.push(Case { line, name: asked, kind, mode, answer });
            }
            words => {
                let case = file.cases.last_mut().with_context(place)?;
                case.answer.take(words).with_context(place)?;
            }
        }
    }
    Ok(file)
}

impl Answer {
    fn take(&mut self, words: &[&str]) -> Result<()> {
        let line = words.join(" ");
        match words {
            ["an" | "au" | "ad", _, _, _, _, ..] => {
                if !self.records.insert(line) {
                    bail!("this record is there twice");
                }
            }
            [code, ..] if self.status.is_empty() && code.chars().all(char::is_uppercase) => {
                self.status = line;
            }
            _ => bail!("neither a code nor a record"),
        }
        Ok(())
    }
}
