//! The layers under a configuration, taken apart but not yet understood: file,
//! environment and flags become texts with an origin.

use super::error::{ConfigError, Origin, Problem};
use super::host::HostFacts;
use super::keys::{self, KEYS, Key, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// What a configuration is made of. Nothing here is read behind the caller's
/// back, so that a test is a few maps of strings.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The configuration file.
    pub file: Option<ConfigFile>,
    /// The process environment; only `MIZZEN_*` matters.
    pub environment: BTreeMap<String, String>,
    /// Flags that were given, by the path of their key.
    pub flags: BTreeMap<String, String>,
    /// What the machine says about itself.
    pub host: HostFacts,
}

/// A configuration file that was read.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it is; for messages.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// A string, number or truth value.
    One(String),
    /// A list.
    Many(Vec<String>),
}

/// A value of one layer.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Where it stands.
    pub origin: Origin,
    /// What is there.
    pub text: Text,
}

/// The layers of every key, lowest first.
pub(super) type Layers = BTreeMap<&'static str, Vec<Layer>>;

/// Variables that are ours and no configuration keys.
const RESERVED: &[&str] = &["MIZZEN_CONFIG", "MIZZEN_JOIN_TOKEN", "MIZZEN_SOCKET"];

/// Takes the sources apart. Mistakes are collected in `errors`, what could be
/// understood is returned.
pub(super) fn layers(sources: &Sources, errors: &mut Vec<ConfigError>) -> Layers {
    let mut layers = Layers::new();
    if let Some(file) = &sources.file {
        read_file(file, &mut layers, errors);
    }
    read_environment(&sources.environment, &mut layers, errors);
    for (path, text) in &sources.flags {
        match keys::find(path) {
            Some(key) => push(&mut layers, key, Origin::Flag { flag: key.flag() }, text),
            None => errors.push(ConfigError {
                origin: Origin::Flag { flag: path.clone() },
                key: None,
                problem: Problem::Unknown { suggestion: keys::closest_key(path) },
            }),
        }
    }
    layers
}

/// Adds a value that is text, as in the environment and in flags.
fn push(layers: &mut Layers, key: &'static Key, origin: Origin, text: &str) {
    let text = match key.kind {
        Kind::List | Kind::Table => Text::Many(
            text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect(),
        ),
        Kind::Text | Kind::Integer | Kind::Boolean => Text::One(text.to_owned()),
    };
    layers.entry(key.path).or_default().push(Layer { origin, text });
}

fn read_environment(
    environment: &BTreeMap<String, String>,
    layers: &mut Layers,
    errors: &mut Vec<ConfigError>,
) {
    for (variable, text) in environment {
        if !variable.starts_with("MIZZEN_") || RESERVED.contains(&variable.as_str()) {
            continue;
        }
        let origin = Origin::Environment { variable: variable.clone() };
        if let Some(key) = KEYS.iter().find(|key| key.variable() == *variable) {
            push(layers, key, origin, text);
            continue;
        }
        // The prefix is not ours alone (`MIZZEN_LAB`, a test's own variables), so
        // only what looks like a slip of the pen is one.
        let suggestion = keys::closest(variable, KEYS.iter().map(Key::variable));
        if suggestion.is_some() {
            let problem = Problem::Unknown { suggestion };
            errors.push(ConfigError { origin, key: None, problem });
        }
    }
}

fn read_file(file: &ConfigFile, layers: &mut Layers, errors: &mut Vec<ConfigError>) {
    let (table, syntax) = DeTable::parse_recoverable(&file.text);
    let mut reader = FileReader { file, layers, errors: Vec::new() };
    reader.table("", table.get_ref());
    let values = reader.errors;

    let mut broken = BTreeSet::new();
    for error in syntax {
        let line = line_of(&file.text, error.span().map_or(0, |span| span.start));
        let problem = Problem::Syntax(error.message().to_owned());
        // The parser goes on after a mistake, and may stumble over it again.
        if broken.insert(line) {
            let origin = Origin::File { path: file.path.clone(), line };
            errors.push(ConfigError { origin, key: None, problem });
        }
    }
    errors.extend(values.into_iter().filter(|error| match &error.origin {
        Origin::File { line, .. } => !broken.contains(line),
        _ => true,
    }));
}

struct FileReader<'a> {
    file: &'a ConfigFile,
    layers: &'a mut Layers,
    errors: Vec<ConfigError>,
}

impl FileReader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let separator = if prefix.is_empty() { "" } else { "." };
            let path = format!("{prefix}{separator}{}", name.get_ref());
            let origin = self.origin(name.span().start);
            let section = KEYS.iter().any(|key| key.section() == path);
            match (keys::find(&path), value.get_ref()) {
                (Some(key), value) => self.value(key, origin, value),
                (None, DeValue::Table(inner)) if section => self.table(&path, inner),
                (None, value) if section => {
                    let problem = Problem::Form { expected: "a table", found: form(value) };
                    self.error(origin, path, problem);
                }
                (None, _) => {
                    let suggestion = keys::closest_key(&path).or_else(|| closest_section(&path));
                    self.error(origin, path, Problem::Unknown { suggestion });
                }
            }
        }
    }

    fn value(&mut self, key: &'static Key, origin: Origin, value: &DeValue<'_>) {
        match text(key.kind, value) {
            Ok(text) => self.layers.entry(key.path).or_default().push(Layer { origin, text }),
            Err(problem) => self.error(origin, key.path.to_owned(), problem),
        }
    }

    fn origin(&self, offset: usize) -> Origin {
        Origin::File { path: self.file.path.clone(), line: line_of(&self.file.text, offset) }
    }

    fn error(&mut self, origin: Origin, key: String, problem: Problem) {
        self.errors.push(ConfigError { origin, key: Some(key), problem });
    }
}

fn closest_section(path: &str) -> Option<String> {
    keys::closest(path, KEYS.iter().map(|key| key.section().to_owned()).filter(|s| !s.is_empty()))
}

fn text(kind: Kind, value: &DeValue<'_>) -> Result<Text, Problem> {
    match (kind, value) {
        (Kind::Text, DeValue::String(text)) => Ok(Text::One(text.to_string())),
        (Kind::Integer, DeValue::Integer(number)) => Ok(Text::One(number.to_string())),
        (Kind::Boolean, DeValue::Boolean(truth)) => Ok(Text::One(truth.to_string())),
        (Kind::List, DeValue::Array(parts)) => {
            let part = |part: &DeValue<'_>| match part {
                DeValue::String(text) => Ok(text.to_string()),
                other => Err(Problem::Form {
                    expected: "an array of strings",
                    found: form_inside(other),
                }),
            };
            parts.iter().map(|p| part(p.get_ref())).collect::<Result<_, _>>().map(Text::Many)
        }
        (Kind::Table, DeValue::Table(table)) => pairs(table).map(Text::Many),
        (kind, value) => Err(Problem::Form { expected: expected(kind), found: form(value) }),
    }
}

/// Each string of a table of strings or of arrays as `name=value`; `name=` for an array
/// without any.
fn pairs(table: &DeTable<'_>) -> Result<Vec<String>, Problem> {
    let mut pairs = Vec::new();
    for (name, value) in table {
        let name = name.get_ref();
        let kind = match value.get_ref() {
            DeValue::String(_) => Kind::Text,
            _ => Kind::List,
        };
        match text(kind, value.get_ref())? {
            Text::Many(values) if values.is_empty() => pairs.push(format!("{name}=")),
            Text::Many(values) => pairs.extend(values.iter().map(|v| format!("{name}={v}"))),
            Text::One(value) => pairs.push(format!("{name}={value}")),
        }
    }
    Ok(pairs)
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Integer => "an integer",
        Kind::Boolean => "true or false",
        Kind::List => "an array of strings",
        Kind::Table => "a table",
    }
}

fn form(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

fn form_inside(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Integer(_) => "an integer in it",
        DeValue::Float(_) => "a float in it",
        DeValue::Boolean(_) => "a boolean in it",
        _ => "something else in it",
    }
}

/// Line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Reads the file at `path`.
///
/// # Errors
///
/// One [`ConfigError`] with [`Problem::Unreadable`].
pub fn read(path: &Path) -> Result<ConfigFile, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(ConfigFile { path: path.to_owned(), text }),
        Err(error) => Err(ConfigError {
            origin: Origin::WholeFile { path: path.to_owned() },
            key: None,
            problem: Problem::Unreadable(error.to_string()),
        }),
    }
}
