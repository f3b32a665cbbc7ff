//! Which links of a node VIP traffic may arrive by.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// One word of the configuration key `vip.ingress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IngressRule {
    /// The node's own bridges and tunnels.
    Auto,
    /// No link.
    None,
    /// Links of this name.
    Named(String),
    /// Links whose names begin with this.
    Prefixed(String),
}

/// A link of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressLink {
    /// The kernel's number of it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is a bridge.
    pub is_bridge: bool,
    /// Whether it is the end of tunnels to other nodes.
    pub is_tunnel: bool,
    /// Whether its packets begin with a header of Ethernet; others are left alone.
    pub is_ethernet: bool,
    /// The link that it is a port of, such as a bridge.
    pub master: Option<u32>,
    /// Largest packet that it takes (bytes).
    pub mtu: u32,
}

/// Why a word is no rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("auto, none, the name of a link, or the beginning of names and `*`")]
pub struct RuleError;

impl FromStr for IngressRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let is_part = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%' | '*');
        match text {
            "auto" => return Ok(Self::Auto),
            "none" => return Ok(Self::None),
            _ => {}
        }
        let (part, is_prefix) = match text.strip_suffix('*') {
            Some(part) => (part, true),
            None => (text, false),
        };
        match part.chars().all(is_part) && part.len() <= MAX_LINK_BYTES {
            true if is_prefix => Ok(Self::Prefixed(part.to_owned())),
            true if !part.is_empty() => Ok(Self::Named(part.to_owned())),
            _ => Err(RuleError),
        }
    }
}

impl fmt::Display for IngressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Named(name) => f.write_str(name),
            Self::Prefixed(part) => write!(f, "{part}*"),
        }
    }
}

/// The links that one of the rules means, and the ports of those that are bridges: two containers at
/// one bridge talk to each other without a packet that passes the bridge's own end.
///
/// `own` are the node's own bridges and tunnels.
#[must_use]
pub fn ingress_links(
    rules: &[IngressRule],
    own: &[&str],
    links: &[IngressLink],
) -> Vec<IngressLink> {
    let is_meant = |link: &IngressLink| rules.iter().any(|rule| means(rule, own, &link.name));
    let meant: BTreeSet<u32> = links
        .iter()
        .filter(|link| link.is_ethernet && link.name != LOOPBACK && is_meant(link))
        .map(|link| link.index)
        .collect();
    let bridges: BTreeSet<u32> =
        links.iter().filter(|link| link.is_bridge).map(|link| link.index).collect();
    let is_port = |link: &IngressLink| {
        link.master.is_some_and(|master| bridges.contains(&master) && meant.contains(&master))
    };
    links
        .iter()
        .filter(|link| link.is_ethernet && (meant.contains(&link.index) || is_port(link)))
        // A port of a bond is no place of its own, and only bridges pass packets on unseen.
        .map(|link| {
            let master = link.master.filter(|master| bridges.contains(master));
            IngressLink { master, ..link.clone() }
        })
        .collect()
}

const MAX_LINK_BYTES: usize = 15;
const LOOPBACK: &str = "lo";

fn means(rule: &IngressRule, own: &[&str], name: &str) -> bool {
    match rule {
        IngressRule::Auto => own.contains(&name),
        IngressRule::None => false,
        IngressRule::Named(named) => named == name,
        IngressRule::Prefixed(part) => name.starts_with(part.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, master: Option<u32>) -> IngressLink {
        let is_bridge = name.starts_with("m-") || name.starts_with("br");
        let is_ethernet = !name.starts_with("wg");
        let is_tunnel = name.starts_with("vtep");
        IngressLink {
            index,
            name: name.to_owned(),
            is_bridge,
            is_tunnel,
            is_ethernet,
            master,
            mtu: 1500,
        }
    }

    #[test]
    fn links_follow_from_rules() {
        let links = [
            link(1, "lo", None),
            link(2, "eth0", None),
            link(3, "m-dcos", None),
            link(4, "veth1", Some(3)),
            link(5, "br0", None),
            link(6, "tap0", Some(5)),
            link(7, "wg0", None),
            link(8, "eth1", Some(9)),
            link(9, "bond0", None),
        ];
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            ("auto",          &["m-dcos", "veth1"]),
            ("none",          &[]),
            ("eth0",          &["eth0"]),
            ("auto,eth0",     &["eth0", "m-dcos", "veth1"]),
            ("br0",           &["br0", "tap0"]),
            ("tap0",          &["tap0"]),
            ("eth*",          &["eth0", "eth1"]),
            ("wg0,lo,absent", &[]),
            ("*",             &["eth0", "m-dcos", "veth1", "br0", "tap0", "eth1", "bond0"]),
        ];
        for (rules, want) in table {
            let rules: Vec<IngressRule> =
                rules.split(',').map(|rule| rule.parse().expect("a rule")).collect();
            let found = ingress_links(&rules, &["m-dcos"], &links);
            let names: Vec<&str> = found.iter().map(|link| link.name.as_str()).collect();
            assert_eq!(&names, want, "{rules:?}");
            assert!(found.iter().all(|link| link.master != Some(9)), "no port of a bond");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in ["auto", "none", "eth0", "veth*", "*"] {
            assert_eq!(
                word.parse::<IngressRule>().map(|rule| rule.to_string()).as_deref(),
                Ok(word)
            );
        }
        for word in ["", "a/b", "a*b", "a b", "sixteen-bytes-xx"] {
            assert_eq!(word.parse::<IngressRule>(), Err(RuleError), "{word}");
        }
    }
}
