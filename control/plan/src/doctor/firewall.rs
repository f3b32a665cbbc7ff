//! Packet filters of others that stand in the way.

use super::settings::bridges_call_filters;
use super::{Observed, Verdict, of_look};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// A chain that packets come by of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Family and name of its table, as nft writes them: `ip filter`.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where packets come by.
    pub base: Base,
    /// Whether packets are dropped that no rule has decided about.
    pub drops: bool,
}

/// Where packets come by a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// They are for this machine.
    Input,
    /// They are passed on.
    Forward,
    /// Anything else.
    Other,
}

/// A rule of somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Family and name of its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Ports that it compares the destination's with.
    pub ports: Vec<RangeInclusive<u16>>,
    /// Links that it names.
    pub links: Vec<String>,
    /// What it does.
    pub statement: Statement,
}

impl Rule {
    fn names(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(&port))
    }
}

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// Lets pass.
    Accept,
    /// Drops, or refuses.
    Drop,
    /// Sends elsewhere: `redirect`, `dnat`, `tproxy`.
    Divert,
    /// Anything else.
    Other,
}

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let nothing = BTreeSet::new();
    let legacy = if observed.wanted.overlay { &observed.machine.legacy_tables } else { &nothing };
    let mut verdicts = of_look(&observed.machine.chains, "packet filters", |chains| {
        chains
            .iter()
            .filter(|chain| chain.drops)
            .filter_map(|chain| dropping(observed, chain))
            .collect()
    });
    if let Ok(rules) = &observed.machine.rules {
        verdicts.extend(rules.iter().filter_map(|rule| of_rule(observed, rule)));
    }
    if legacy.contains("filter") {
        verdicts.push(
            Verdict::warning("the old packet filter is in use beside nf_tables (iptables-legacy)")
                .because("its rules are not looked at here, and packets go through both")
                .remedy("iptables-legacy -S FORWARD; move its rules: iptables-legacy-save | iptables-restore"),
        );
    }
    if verdicts.is_empty() {
        verdicts.push(Verdict::ok("no packet filter of others stands in the way"));
    }
    verdicts
}

fn dropping(observed: &Observed, chain: &Chain) -> Option<Verdict> {
    match chain.base {
        Base::Forward if observed.wanted.overlay => forward_drop(observed, chain),
        Base::Input => input_drop(observed, chain),
        _ => None,
    }
}

/// Somebody else's policy is to pass nothing on. Rules that name our bridges show that
/// somebody thought of them.
fn forward_drop(observed: &Observed, chain: &Chain) -> Option<Verdict> {
    let wanted = &observed.wanted;
    let names_us = |rule: &Rule| {
        let ours =
            |link: &String| wanted.bridges.iter().any(|bridge| bridge.starts_with(link.as_str()));
        rule.table == chain.table
            && rule.statement == Statement::Accept
            && rule.links.iter().any(ours)
    };
    if observed.machine.rules.iter().flatten().any(names_us) {
        return None;
    }
    let bridge = wanted.bridges.first().map_or("m-dcos", String::as_str);
    let also =
        if bridges_call_filters(observed) { ", and between those of one node, too" } else { "" };
    let (table, name) = (&chain.table, &chain.name);
    let verdict = Verdict::error(format!("chain {name} of table {table} drops what is passed on"))
        .because(format!("packets of containers to other nodes and to the outside are dropped{also}"))
        .remedy(format!(
            "nft insert rule {table} {name} iifname {bridge} accept; nft insert rule {table} {name} oifname {bridge} accept"
        ));
    Some(verdict)
}

/// Ports that other nodes must reach, while somebody's policy is to drop.
fn input_drop(observed: &Observed, chain: &Chain) -> Option<Verdict> {
    let wanted = &observed.wanted;
    let outside = |listener: &&super::Listener| {
        !listener.address.ip().is_loopback() && !wanted.resolvers.contains(&listener.address.ip())
    };
    let mut ports: BTreeSet<u16> =
        wanted.listeners.iter().filter(outside).map(|listener| listener.address.port()).collect();
    ports.extend(wanted.overlay_ports());
    ports.retain(|port| !is_opened(observed, &chain.table, *port));
    if ports.is_empty() {
        return None;
    }
    let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
    let (table, name, list) = (&chain.table, &chain.name, texts.join(", "));
    let verdict = Verdict::warning(format!(
        "chain {name} of table {table} drops what it does not know, and no rule of it names the ports {list}"
    ))
    .because("other nodes and clients may not reach this one")
    .remedy(format!(
        "nft insert rule {table} {name} meta l4proto '{{ tcp, udp }}' th dport '{{ {list} }}' accept"
    ));
    Some(verdict)
}

/// Whether a rule of the table lets packets to the port pass.
fn is_opened(observed: &Observed, table: &str, port: u16) -> bool {
    observed
        .machine
        .rules
        .iter()
        .flatten()
        .any(|rule| rule.table == table && rule.statement == Statement::Accept && rule.names(port))
}

/// A rule that takes away what is meant for one of our ports.
fn of_rule(observed: &Observed, rule: &Rule) -> Option<Verdict> {
    let wanted = &observed.wanted;
    let mut ours =
        wanted.listeners.iter().map(|listener| listener.address.port()).collect::<BTreeSet<u16>>();
    ours.extend(wanted.overlay_ports());
    // What closes a range has exceptions before it.
    let excepted =
        |port: u16| rule.statement == Statement::Drop && is_opened(observed, &rule.table, port);
    let port = ours.into_iter().find(|port| rule.names(*port) && !excepted(*port))?;
    let does = match rule.statement {
        Statement::Drop => "drops",
        Statement::Divert => "sends elsewhere",
        Statement::Accept | Statement::Other => return None,
    };
    let (table, chain) = (&rule.table, &rule.chain);
    let verdict = Verdict::warning(format!(
        "a rule of chain {chain} in table {table} {does} what is meant for port {port}"
    ))
    .because("the node listens there, and does not get it")
    .remedy(format!("nft -a list chain {table} {chain}, and take the rule out: nft delete rule {table} {chain} handle N"));
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    fn chain(base: Base) -> Chain {
        Chain { table: "ip filter".into(), name: "FORWARD".into(), base, drops: true }
    }

    fn rule(ports: &[u16], links: &[&str], statement: Statement) -> Rule {
        let links = links.iter().map(|link| (*link).to_owned()).collect();
        Rule {
            table: "ip filter".into(),
            chain: "FORWARD".into(),
            ports: ports.iter().map(|port| *port..=*port).collect(),
            links,
            statement,
        }
    }

    #[test]
    fn chains_and_rules() {
        type Row = (&'static str, Option<Base>, Vec<Rule>, Grade);
        let many = |statement| Rule { ports: vec![1024..=65_535], ..rule(&[], &[], statement) };
        let table: [Row; 11] = [
            ("passes nothing on", Some(Base::Forward), vec![], Grade::Error),
            (
                "but for our bridge",
                Some(Base::Forward),
                vec![rule(&[], &["m-dcos"], Statement::Accept)],
                Grade::Ok,
            ),
            (
                "but for all bridges",
                Some(Base::Forward),
                vec![rule(&[], &["m-"], Statement::Accept)],
                Grade::Ok,
            ),
            (
                "but for others",
                Some(Base::Forward),
                vec![rule(&[], &["docker0"], Statement::Accept)],
                Grade::Error,
            ),
            ("lets nothing in", Some(Base::Input), vec![], Grade::Warning),
            (
                "but for us",
                Some(Base::Input),
                vec![rule(&[5050, 62_501, 64_000], &[], Statement::Accept)],
                Grade::Ok,
            ),
            (
                "names are sent elsewhere",
                None,
                vec![rule(&[53], &[], Statement::Divert)],
                Grade::Warning,
            ),
            ("but for many", Some(Base::Input), vec![many(Statement::Accept)], Grade::Ok),
            ("many are closed", None, vec![many(Statement::Drop)], Grade::Warning),
            (
                "but ours",
                None,
                vec![rule(&[5050, 62_501, 64_000], &[], Statement::Accept), many(Statement::Drop)],
                Grade::Ok,
            ),
            ("somebody else's port", None, vec![rule(&[22], &[], Statement::Drop)], Grade::Ok),
        ];
        for (name, base, rules, want) in table {
            let mut observed = well();
            observed.machine.chains = Ok(base.into_iter().map(chain).collect());
            observed.machine.rules = Ok(rules);
            let worst = judge(&observed).iter().map(|verdict| verdict.grade).max();
            assert_eq!(worst, Some(want), "{name}");
        }
    }

    #[test]
    fn a_node_without_containers_passes_nothing_on() {
        let mut observed = well();
        observed.wanted.overlay = false;
        observed.machine.chains = Ok(vec![chain(Base::Forward)]);
        assert_eq!(judge(&observed)[0].grade, Grade::Ok);
    }
}
