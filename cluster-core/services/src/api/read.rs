//! Reading paths, queries and bodies.

use crate::app_id::AppId;
use crate::problem::Refusal;
use crate::scheduler::Locks;
use serde_json::Value;

/// The segments of a path, doubled slashes count once.
pub fn path(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect()
}

/// An app id from the segments of a path.
///
/// # Errors
///
/// 404, because an id that cannot be has no app either.
pub fn app_id(segments: &[&str]) -> Result<AppId, Refusal> {
    let text = segments.join("/");
    AppId::parse(&text).map_err(|_| Refusal::no_app(&format!("/{text}")))
}

/// A body.
///
/// # Errors
///
/// 400 with line and column of what is no JSON.
pub fn json(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::NotJson(error.to_string()))
}

/// What follows the question mark.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn read(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether `name` is true; clients write `True`, too.
    pub fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)?.to_ascii_lowercase().as_str() {
            "true" | "" => Some(true),
            _ => Some(false),
        }
    }

    /// `force`, false unless given.
    pub fn locks(&self) -> Locks {
        if self.flag("force").unwrap_or(false) { Locks::Break } else { Locks::Respect }
    }

    /// Whether something is to be embedded: `apps.tasks` and `app.tasks` both name `tasks`.
    pub fn embeds(&self, what: &str) -> bool {
        self.all("embed").any(|value| {
            let name = value.strip_prefix("group.").unwrap_or(value);
            let name = name.strip_prefix("apps.").or_else(|| name.strip_prefix("app."));
            name == Some(what)
        })
    }
}

/// Undoes the encoding of forms; what is none stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        // `from_str_radix` would take a sign.
        let hex = hex.filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        match (byte, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(value)) => {
                decoded.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (other, _) => decoded.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_and_queries_decoded() {
        assert_eq!(path("/v2//apps/shop/a+b/"), ["v2", "apps", "shop", "a+b"]);
        let query = Query::read("force=True&embed=apps.tasks&embed=app.counts&id=a%20b+c&x=%+1&y");
        assert_eq!(query.locks(), Locks::Break);
        assert!(query.embeds("tasks") && query.embeds("counts") && !query.embeds("failures"));
        assert_eq!((query.get("id"), query.get("x")), (Some("a b c"), Some("% 1")));
        assert_eq!((query.flag("y"), query.flag("z")), (Some(true), None));
    }

    #[test]
    fn broken_json_is_located() {
        let refusal = json(b"{\n  \"id\": }").unwrap_err();
        assert_eq!(refusal.status(), 400);
        assert!(refusal.body().to_string().contains("line 2 column 9"), "{refusal:?}");
        assert!(json(b"").is_err() && json(b"{\"cpus\": NaN}").is_err());
    }
}
