//! Label selectors: `env==prod, tier in (web, api), !old`.

use std::collections::BTreeMap;

/// What labels must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Selector(Vec<Term>);

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Has(String),
    Among(String, Vec<String>),
    NotAmong(String, Vec<String>),
}

impl Selector {
    /// Reads terms that are separated by commas; `None` if one makes no sense.
    pub fn read(text: &str) -> Option<Self> {
        split(text).into_iter().map(|term| Term::read(term.trim())).collect::<Option<_>>().map(Self)
    }

    /// Whether every term holds.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| match term {
            Term::Has(name) => labels.contains_key(name),
            Term::Among(name, values) => labels.get(name).is_some_and(|v| values.contains(v)),
            Term::NotAmong(name, values) => labels.get(name).is_some_and(|v| !values.contains(v)),
        })
    }
}

impl Term {
    fn read(text: &str) -> Option<Self> {
        let name = |text: &str| {
            let text = text.trim();
            (!text.is_empty() && !text.contains(char::is_whitespace)).then(|| text.to_owned())
        };
        if let Some((key, value)) = text.split_once("!=") {
            return Some(Self::NotAmong(name(key)?, vec![value.trim().to_owned()]));
        }
        if let Some((key, value)) = text.split_once("==") {
            return Some(Self::Among(name(key)?, vec![value.trim().to_owned()]));
        }
        let Some((head, list)) = text.split_once('(') else { return Some(Self::Has(name(text)?)) };
        let list = list.strip_suffix(')')?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().rsplit_once(char::is_whitespace)?;
        match operator {
            "in" => Some(Self::Among(name(key)?, values)),
            "notin" => Some(Self::NotAmong(name(key)?, values)),
            _ => None,
        }
    }
}

/// Splits at commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let outside = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(outside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let labels = [("env", "prod"), ("tier", "web")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
        #[rustfmt::skip]
        let table: &[(&str, Option<bool>)] = &[
            ("env",                             Some(true)),
            ("gone",                            Some(false)),
            ("env==prod",                       Some(true)),
            ("env == test",                     Some(false)),
            ("env!=test",                       Some(true)),
            ("env!=prod",                       Some(false)),
            ("tier in (web, api)",              Some(true)),
            ("tier notin (web,api)",            Some(false)),
            ("env==prod, tier in (a,web)",      Some(true)),
            ("env==prod,tier==x",               Some(false)),
            ("",                                None),
            ("a b",                             None),
            ("tier in (a",                      None),
            ("tier near (a)",                   None),
        ];
        for (text, want) in table {
            assert_eq!(Selector::read(text).map(|s| s.selects(&labels)), *want, "{text}");
        }
    }
}
