//! From what users call things to labels that DNS takes.
//!
//! The rules are those of Mesos-DNS and of the DC/OS dispatcher, which agree: names
//! that users wrote into configurations must come out the same here.

use crate::name::MAX_LABEL;
use sha1::{Digest, Sha1};

/// Which host names are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelRules {
    /// Up to 63 characters, any of them may be a digit.
    #[default]
    Rfc1123,
    /// Up to 24 characters, the first one a letter (`enforceRFC952`).
    Rfc952,
}

/// Longest label under [`LabelRules::Rfc952`].
const MAX_RFC952: usize = 24;
/// The digits of z-base-32.
const ZBASE32: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
/// How much of the hash of a task id goes into its canonical name.
const HASH_DIGITS: usize = 5;

/// Makes one label of a text: letters become small, `.` and `_` become `-`, what is
/// neither letter, digit nor `-` goes. Empty if nothing is left.
#[must_use]
pub fn label(text: &str, rules: LabelRules) -> String {
    let kept: String = text.chars().filter_map(label_character).collect();
    match rules {
        LabelRules::Rfc1123 => fit(kept.trim_start_matches('-'), MAX_LABEL),
        LabelRules::Rfc952 => {
            let from_letter = kept.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit());
            fit(from_letter, MAX_RFC952)
        }
    }
}

/// Makes labels of the pieces between the dots of a text and keeps the dots; pieces
/// of which nothing is left go.
#[must_use]
pub fn domain_fragment(text: &str, rules: LabelRules) -> String {
    let pieces: Vec<String> = text
        .split('.')
        .map(|piece| label(piece, rules))
        .filter(|piece| !piece.is_empty())
        .collect();
    pieces.join(".")
}

/// The hash of a task id in canonical names: five digits.
#[must_use]
pub fn task_hash(task_id: &str) -> String {
    let digest = Sha1::digest(task_id.as_bytes());
    let bits = digest.iter().take(4).fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
    (0..HASH_DIGITS)
        .map(|digit| (bits >> (27 - 5 * digit)) & 31)
        .filter_map(|value| ZBASE32.get(usize::try_from(value).ok()?))
        .map(|digit| char::from(*digit))
        .collect()
}

/// The last part of an agent id, which is unique in a cluster: `s12` of `…-S12`.
#[must_use]
pub fn agent_tail(agent_id: &str) -> String {
    agent_id.rsplit('-').next().unwrap_or(agent_id).to_ascii_lowercase()
}

/// `task-hash-agent`, the name of one task alone; the task's part gives way if all
/// three do not fit into a label.
#[must_use]
pub fn canonical_label(task_label: &str, task_id: &str, agent_id: &str) -> String {
    let tail = canonical_tail(task_id, agent_id);
    let room = MAX_LABEL.saturating_sub(tail.len());
    format!("{}{tail}", fit(task_label, room))
}

/// What follows a task's label in the name of that task alone: `-hash-agent`.
#[must_use]
pub fn canonical_tail(task_id: &str, agent_id: &str) -> String {
    format!("-{}-{}", task_hash(task_id), agent_tail(agent_id))
}

/// The name of a VIP without its zone: `label.framework`, both as fragments. `None` if
/// nothing is left of one of them.
#[must_use]
pub fn vip_name(vip_label: &str, framework_name: &str) -> Option<String> {
    let label = domain_fragment(vip_label, LabelRules::Rfc1123);
    let framework = domain_fragment(framework_name, LabelRules::Rfc1123);
    (!label.is_empty() && !framework.is_empty()).then(|| format!("{label}.{framework}"))
}

fn label_character(character: char) -> Option<char> {
    match character.to_ascii_lowercase() {
        kept @ ('a'..='z' | '0'..='9') => Some(kept),
        '-' | '.' | '_' => Some('-'),
        _ => None,
    }
}

/// Cuts to `room`, drops dashes from the cut edge, and fills the room that this made
/// from what was cut.
fn fit(text: &str, room: usize) -> String {
    let mut fitted = String::with_capacity(room);
    let mut rest = text;
    loop {
        let (head, tail) = rest.split_at(rest.len().min(room - fitted.len()));
        fitted.push_str(head);
        fitted.truncate(fitted.trim_end_matches('-').len());
        rest = tail.trim_start_matches('-');
        if rest.is_empty() || fitted.len() == room {
            return fitted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LabelRules::{Rfc952, Rfc1123};

    #[test]
    fn labels_come_out_as_they_always_did() {
        let letters = "a".repeat(70);
        let cut_at_dash = format!("{}--{}", "a".repeat(61), "b".repeat(10));
        let refilled = format!("{}b", "a".repeat(61)) + "b";
        #[rustfmt::skip]
        let table: &[(&str, LabelRules, &str)] = &[
            ("web",               Rfc1123, "web"),
            ("Web.API",           Rfc1123, "web-api"),
            ("my_app",            Rfc1123, "my-app"),
            ("/group/web",        Rfc1123, "groupweb"),
            ("--a-b--",           Rfc1123, "a-b"),
            ("%%",                Rfc1123, ""),
            ("..",                Rfc1123, ""),
            ("a\0b",              Rfc1123, "ab"),
            ("größe",             Rfc1123, "gre"),
            ("4web",              Rfc1123, "4web"),
            ("4-web",             Rfc952,  "web"),
            ("a2345678901234567890123456789", Rfc952, "a23456789012345678901234"),
            (&letters,            Rfc1123, &letters[..63]),
            (&cut_at_dash,        Rfc1123, &refilled),
        ];
        for (text, rules, want) in table {
            assert_eq!(label(text, *rules), *want, "{text:?} by {rules:?}");
        }
    }

    #[test]
    fn fragments_keep_their_dots() {
        let table = [
            ("marathon", "marathon"),
            ("Marathon.User", "marathon.user"),
            ("a..b", "a.b"),
            ("a.%.b.", "a.b"),
            ("/", ""),
        ];
        for (text, want) in table {
            assert_eq!(domain_fragment(text, Rfc1123), want, "{text:?}");
        }
    }

    #[test]
    fn vip_names_follow_the_balancer() {
        let table = [
            ("/mygroup/myapp", "marathon", Some("mygroupmyapp.marathon")),
            ("foo.bar/baz", "marathon", Some("foo.barbaz.marathon")),
            ("/web", "Edge.LB", Some("web.edge.lb")),
            ("/", "marathon", None),
            ("/web", "", None),
        ];
        for (vip, framework, want) in table {
            assert_eq!(vip_name(vip, framework).as_deref(), want, "{vip:?} of {framework:?}");
        }
    }

    #[test]
    fn hashes_are_z_base_32_of_sha_1() {
        // The first 25 bits of sha1("") = da39a3ee… and of sha1("abc") = a9993e36….
        assert_eq!(task_hash(""), "5eh48");
        assert_eq!(task_hash("abc"), "igcuh");
    }

    #[test]
    fn a_canonical_name_is_always_a_label() {
        assert_eq!(agent_tail("5d2b1b1c-0b8e-S12"), "s12");
        let hash = task_hash("web.1");
        assert_eq!(canonical_label("web", "web.1", "x-S3"), format!("web-{hash}-s3"));
        let long = canonical_label(&"w".repeat(63), "web.1", "x-S3");
        assert_eq!(long.len(), 63);
        assert!(long.ends_with(&format!("w-{hash}-s3")));
    }
}
