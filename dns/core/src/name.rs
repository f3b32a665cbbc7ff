//! A domain name as text: lower case, no dot at its end.
//!
//! Zones are keyed by it. A byte that a host name cannot have is written as a
//! backslash and three digits, a dot inside a label too, so that a dot always
//! separates labels and no odd name can pose as another one.

use hickory_proto::rr::Name;
use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Longest label in bytes (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;
/// Longest name in bytes as it is sent (RFC 1035, 2.3.4).
const MAX_WIRE: usize = 255;

/// A lower-case domain name; the root is empty. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

/// Why a text is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or one at the start.
    #[error("name {0:?} has an empty label")]
    EmptyLabel(String),
    /// A label beyond 63 bytes.
    #[error("name {name:?} has a label of {bytes} bytes, at most 63 are allowed")]
    LongLabel {
        /// The name.
        name: String,
        /// The label's length.
        bytes: usize,
    },
    /// A name beyond 255 bytes.
    #[error("name {0:?} is longer than 255 bytes")]
    LongName(String),
    /// White space, a backslash, or what is not ASCII.
    #[error("name {name:?} contains the character {character:?}")]
    Character {
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
}

impl DnsName {
    /// Reads a name as people write it, in any case, with or without the last dot.
    ///
    /// # Errors
    ///
    /// [`NameError`] names the first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.is_empty() {
            return Ok(Self::root());
        }
        for label in bare.split('.') {
            check_label(text, label)?;
        }
        if bare.len() + 2 > MAX_WIRE {
            return Err(NameError::LongName(text.to_owned()));
        }
        Ok(Self(Arc::from(bare.to_ascii_lowercase())))
    }

    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// A name that is written in this crate, in lower case.
    pub(crate) fn fixed(text: &'static str) -> Self {
        debug_assert!(Self::parse(text).is_ok_and(|name| name.as_str() == text));
        Self(Arc::from(text))
    }

    /// The same name as text, whatever bytes it has.
    #[must_use]
    pub fn from_wire(name: &Name) -> Self {
        let mut text = String::with_capacity(name.len());
        for label in name.iter() {
            if !text.is_empty() {
                text.push('.');
            }
            for &byte in label {
                push_byte(&mut text, byte);
            }
        }
        Self(Arc::from(text))
    }

    /// The name for a message; `None` for none that this module made.
    #[must_use]
    pub fn to_wire(&self) -> Option<Name> {
        let labels: Option<Vec<Vec<u8>>> = self.labels().map(unescape).collect();
        let labels = labels?;
        Name::from_labels(labels.iter().map(Vec::as_slice)).ok()
    }

    /// The name as it is sent, without compression.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() + 2);
        self.push_wire(&mut bytes);
        bytes
    }

    /// Reads a name that is all of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if Self::length_of(bytes)? != bytes.len() {
            return None;
        }
        let mut text = String::with_capacity(bytes.len());
        let mut rest = bytes;
        while let Some((length, after)) = rest.split_first().filter(|(length, _)| **length > 0) {
            if !text.is_empty() {
                text.push('.');
            }
            let (label, after) = after.split_at(usize::from(*length));
            label.iter().for_each(|byte| push_byte(&mut text, *byte));
            rest = after;
        }
        Some(Self(Arc::from(text)))
    }

    /// Bytes of the name at the start of `bytes`; `None` if there is no whole one.
    pub(crate) fn length_of(bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            match *bytes.get(at)? {
                0 => return (at < MAX_WIRE).then_some(at + 1),
                length if usize::from(length) <= MAX_LABEL => at += 1 + usize::from(length),
                _ => return None,
            }
        }
    }

    /// Appends the name as it is sent, without compression.
    pub(crate) fn push_wire(&self, bytes: &mut Vec<u8>) {
        for label in self.labels() {
            let at = bytes.len();
            bytes.push(0);
            if label.contains('\\') {
                bytes.extend(unescape(label).unwrap_or_default());
            } else {
                bytes.extend_from_slice(label.as_bytes());
            }
            let length = bytes.len() - at - 1;
            // No label that this module made is longer than 63 bytes.
            bytes[at] = u8::try_from(length).unwrap_or(0);
        }
        bytes.push(0);
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its labels, the most specific first.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }

    /// The name itself, its parent and so on, the root last.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        let mut rest = Some(self.as_str());
        std::iter::from_fn(move || {
            let here = rest?;
            rest = parent(here);
            Some(here)
        })
    }

    /// What stands before `suffix`, without the dot; `None` if it does not end so.
    #[must_use]
    pub fn before<'a>(&'a self, suffix: &Self) -> Option<&'a str> {
        if suffix.0.is_empty() {
            return Some(self.as_str());
        }
        let head = self.0.strip_suffix(suffix.as_str())?;
        if head.is_empty() { Some("") } else { head.strip_suffix('.') }
    }

    /// `head` put before this name; `head` comes from [`Self::before`].
    #[must_use]
    pub fn under(&self, head: &str) -> Self {
        match (head.is_empty(), self.0.is_empty()) {
            (true, _) => self.clone(),
            (_, true) => Self(Arc::from(head)),
            _ => Self(Arc::from(format!("{head}.{}", self.0))),
        }
    }
}

/// The text after the first dot; the root's parent is `None`.
pub(crate) fn parent(name: &str) -> Option<&str> {
    if name.is_empty() {
        return None;
    }
    Some(name.split_once('.').map_or("", |(_, rest)| rest))
}

impl Borrow<str> for DnsName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    /// Writes it with the dot at its end, as zone files do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.0)
    }
}

fn check_label(name: &str, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel(name.to_owned()));
    }
    if let Some(character) = label.chars().find(|c| !c.is_ascii_graphic() || *c == '\\') {
        return Err(NameError::Character { name: name.to_owned(), character });
    }
    if label.len() > MAX_LABEL {
        return Err(NameError::LongLabel { name: name.to_owned(), bytes: label.len() });
    }
    Ok(())
}

fn push_byte(text: &mut String, byte: u8) {
    if byte.is_ascii_graphic() && byte != b'.' && byte != b'\\' {
        text.push(char::from(byte.to_ascii_lowercase()));
    } else {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "\\{byte:03}");
    }
}

fn unescape(label: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(3)?;
        bytes.push(std::str::from_utf8(digits).ok()?.parse().ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        let long = "x".repeat(64);
        let longest = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        #[rustfmt::skip]
        let table: &[(&str, Result<&str, NameError>)] = &[
            ("Web.Marathon.MESOS.", Ok("web.marathon.mesos")),
            ("_web._tcp.m.mesos",   Ok("_web._tcp.m.mesos")),
            (".",                   Ok("")),
            ("",                    Ok("")),
            ("a..b",                Err(NameError::EmptyLabel("a..b".into()))),
            (".a",                  Err(NameError::EmptyLabel(".a".into()))),
            ("a b",                 Err(NameError::Character { name: "a b".into(), character: ' ' })),
            ("ä.b",                 Err(NameError::Character { name: "ä.b".into(), character: 'ä' })),
            ("a\\046b",             Err(NameError::Character { name: "a\\046b".into(), character: '\\' })),
            (&long,                 Err(NameError::LongLabel { name: long.clone(), bytes: 64 })),
            (&longest,              Ok(&longest)),
        ];
        for (text, want) in table {
            let got = DnsName::parse(text).map(|name| name.as_str().to_owned());
            assert_eq!(got, want.clone().map(str::to_owned), "{text:?}");
        }
        let longer = format!("{longest}e");
        assert_eq!(DnsName::parse(&longer), Err(NameError::LongName(longer)));
    }

    #[test]
    fn a_dot_inside_a_label_separates_nothing() {
        let odd = Name::from_labels([&b"a.b"[..], b"\0", b"MESOS"]).expect("a name");
        let name = DnsName::from_wire(&odd);
        assert_eq!(name.as_str(), "a\\046b.\\000.mesos");
        assert_eq!(name.to_wire().expect("a name"), odd, "and back");
    }

    #[test]
    fn a_suffix_ends_at_a_dot() {
        let name = |text| DnsName::parse(text).expect("a name");
        #[rustfmt::skip]
        let table = &[
            ("a.b.mesos", "mesos",     Some("a.b")),
            ("mesos",     "mesos",     Some("")),
            ("amesos",    "mesos",     None),
            ("a.b",       "",          Some("a.b")),
            ("a.b",       "c.a.b",     None),
        ];
        for (whole, suffix, want) in table {
            assert_eq!(name(whole).before(&name(suffix)), *want, "{whole} before {suffix}");
        }
        assert_eq!(name("x.y").lineage().collect::<Vec<_>>(), ["x.y", "y", ""]);
        assert_eq!(name("mesos").under("a.b").as_str(), "a.b.mesos");
    }

    proptest! {
        #[test]
        fn every_name_survives_the_way_to_text_and_back(
            labels in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=63), 0..=3)
        ) {
            let wire = Name::from_labels(labels.iter().map(Vec::as_slice)).expect("a name");
            let back = DnsName::from_wire(&wire).to_wire().expect("a name");
            prop_assert_eq!(back, wire.to_lowercase());
        }
    }
}
