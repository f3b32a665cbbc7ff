//! The id of an app: a path such as `/shop/cart`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest path in bytes: a task id is made of it and becomes a directory name.
pub const MAX_BYTES: usize = 180;

/// Last segments that the HTTP interface gives a meaning of its own.
const RESERVED: [&str; 3] = ["restart", "tasks", "versions"];

/// A checked, absolute path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppId(String);

/// Why a text is no app id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppIdError {
    /// Nothing between the slashes.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`MAX_BYTES`].
    #[error("must not be longer than {MAX_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A segment with other characters than DNS labels have.
    #[error(
        "segment '{0}' must consist of lower-case letters, digits, hyphens and inner dots, \
         and must not begin or end with a hyphen"
    )]
    Segment(String),
    /// A segment that is too long for a DNS label.
    #[error("a segment must not be longer than 63 bytes, '{0}' is")]
    LongSegment(String),
    /// `..` above the root.
    #[error("'..' leads out of the root")]
    OutOfRoot,
    /// A last segment that means something else in a URL.
    #[error("must not end with '{0}', which the HTTP interface uses itself")]
    Reserved(String),
}

impl AppId {
    /// Reads an id; one without a leading slash is relative to the root.
    ///
    /// # Errors
    ///
    /// [`AppIdError`] names the first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, AppIdError> {
        if text.len() > MAX_BYTES {
            return Err(AppIdError::TooLong(text.len()));
        }
        let mut segments: Vec<&str> = Vec::new();
        for segment in text.split('/').filter(|segment| !segment.is_empty() && *segment != ".") {
            if segment == ".." {
                segments.pop().ok_or(AppIdError::OutOfRoot)?;
                continue;
            }
            check_segment(segment)?;
            segments.push(segment);
        }
        match segments.last() {
            None => Err(AppIdError::Empty),
            Some(last) if RESERVED.contains(last) => Err(AppIdError::Reserved((*last).to_owned())),
            Some(_) => Ok(Self(format!("/{}", segments.join("/")))),
        }
    }

    /// The path, with its leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names between the slashes.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.trim_start_matches('/').split('/')
    }

    /// `shop_cart`, with which ids of its tasks begin.
    #[must_use]
    pub fn task_prefix(&self) -> String {
        self.segments().collect::<Vec<_>>().join("_")
    }

    /// `cart.shop`, the name of its tasks.
    #[must_use]
    pub fn discovery_name(&self) -> String {
        self.segments().rev().collect::<Vec<_>>().join(".")
    }

    /// Whether it lies in the group `path` or is `path` itself.
    #[must_use]
    pub fn is_within(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        match self.0.strip_prefix(path) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for AppId {
    type Error = AppIdError;

    fn try_from(text: String) -> Result<Self, AppIdError> {
        Self::parse(&text)
    }
}

impl From<AppId> for String {
    fn from(id: AppId) -> Self {
        id.0
    }
}

fn check_segment(segment: &str) -> Result<(), AppIdError> {
    if segment.len() > 63 {
        return Err(AppIdError::LongSegment(segment.to_owned()));
    }
    let good = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if segment.split('.').all(good) {
        return Ok(());
    }
    Err(AppIdError::Segment(segment.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_resolved_and_checked() {
        let long = "x".repeat(10_000);
        #[rustfmt::skip]
        let table: &[(&str, Result<&str, AppIdError>)] = &[
            ("/web",          Ok("/web")),
            ("web",           Ok("/web")),
            ("/shop//cart/",  Ok("/shop/cart")),
            ("/shop/../web",  Ok("/web")),
            ("/a/./b.c-1",    Ok("/a/b.c-1")),
            ("",              Err(AppIdError::Empty)),
            ("/",             Err(AppIdError::Empty)),
            ("/..",           Err(AppIdError::OutOfRoot)),
            ("/Web",          Err(AppIdError::Segment("Web".into()))),
            ("/-web",         Err(AppIdError::Segment("-web".into()))),
            ("/we b",         Err(AppIdError::Segment("we b".into()))),
            ("/a..b",         Err(AppIdError::Segment("a..b".into()))),
            ("/web/tasks",    Err(AppIdError::Reserved("tasks".into()))),
            (&long,           Err(AppIdError::TooLong(10_000))),
        ];
        for (text, want) in table {
            let got = AppId::parse(text);
            assert_eq!(got.as_ref().map(AppId::as_str), want.as_ref().copied(), "{text:.40}");
        }
        assert!(matches!(AppId::parse(&"x".repeat(64)), Err(AppIdError::LongSegment(_))));
    }

    #[test]
    fn names_are_made_of_the_path() {
        let id = AppId::parse("/shop/eu/cart").unwrap();
        assert_eq!(id.task_prefix(), "shop_eu_cart");
        assert_eq!(id.discovery_name(), "cart.eu.shop");
        assert!(id.is_within("/shop") && id.is_within("/") && id.is_within("/shop/eu/cart"));
        assert!(!id.is_within("/sho") && !id.is_within("/shop/eu/cart/x"));
    }
}
