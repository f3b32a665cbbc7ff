//! Why something passes or does not: the judge of the programs, in words.

use super::classes::Member;
use super::compiled::{Force, RuleRef};
use super::planner::PolicyPlanner;
use super::spans::protocol_word;
use super::subject::Kind;
use mizzen_ebpf_core::policy::{
    Class, Judgement, Match, Overlays, Traffic, Verdict, judge, number,
};
use mizzen_types::policy::{Direction, PolicyId, PolicyProtocol, Ports};
use serde::Serialize;
use std::net::IpAddr;

/// What is asked about: a sender, a receiver, and what is sent, or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Who begins.
    pub from: IpAddr,
    /// With whom.
    pub to: IpAddr,
    /// The receiver's port, 0 for ICMP; `None` asks for all that passes.
    pub ports: Option<(PolicyProtocol, u16)>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Decider {
    /// A rule.
    Rule(RuleRef),
    /// What holds where no rule does.
    Default {
        /// `isolation`, `guard-ingress`, …
        default: &'static str,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    from: End,
    to: End,
    /// What is asked about; the first one where everything is.
    answers: Vec<Answered>,
    /// The same for people.
    words: Vec<String>,
}

/// One end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct End {
    address: IpAddr,
    /// `container`, `host`, `node`, `world` or `unknown`.
    kind: &'static str,
    task: Option<String>,
    overlay: Option<String>,
    /// Number of its class on this node.
    class: u32,
    /// Policies that guard the direction that is asked about.
    guarded_by: Vec<PolicyId>,
    /// The same of policies that are tried out.
    tried_by: Vec<PolicyId>,
}

/// What becomes of something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// `5432/tcp`; `None` is everything else.
    ports: Option<String>,
    /// `pass`, `refuse` or `would-refuse`.
    verdict: &'static str,
    by: Decider,
}

/// What a number of the programs stands for, if it stands for anything now.
#[must_use]
pub fn decider(planner: &PolicyPlanner, rule: u32) -> Option<Decider> {
    match DEFAULTS.iter().find(|(number, ..)| *number == rule) {
        Some((_, default, _)) => Some(Decider::Default { default }),
        None => planner.numbers.rule(rule).cloned().map(Decider::Rule),
    }
}

/// Answers a question.
#[must_use]
pub fn explain(planner: &PolicyPlanner, question: &Question) -> Explanation {
    let Question { from, to, ports } = *question;
    let wanted = planner.wanted();
    let (sender, receiver) = (wanted.class_of(from), wanted.class_of(to));
    let is_shut = planner.is_shut(from, to);
    let judged = |ruling| match is_shut {
        true => Judgement { verdict: Verdict::Refuse, rule: number::ISOLATION },
        false => judge(&as_judged(planner, sender, to), &receiver, wanted.overlays, ruling),
    };
    let answers: Vec<(Option<String>, Judgement)> = match ports {
        Some((protocol, port)) => {
            let number = super::spans::number_of(protocol);
            let ports = match protocol {
                PolicyProtocol::Icmp => Ports::all(protocol),
                _ => Ports { protocol, first: port, last: port },
            };
            let ruling = wanted.ruling(sender.class, receiver.class, number, port);
            vec![(Some(ports.to_string()), judged(ruling))]
        }
        None => {
            let pair = |traffic| Match { from: sender.class, to: receiver.class, traffic };
            let last = Traffic::Ports { protocol: u8::MAX, port: u16::MAX, bits: u8::MAX };
            let all = wanted.rulings.range(pair(Traffic::All)..=pair(last));
            let has_all = wanted.rulings.contains_key(&pair(Traffic::All));
            let each =
                all.map(|(matched, ruling)| (words_of(&matched.traffic), judged(Some(*ruling))));
            each.chain((!has_all).then(|| (None, judged(None)))).collect()
        }
    };
    let ends = (
        planner.end(from, sender.class, Direction::Egress),
        planner.end(to, receiver.class, Direction::Ingress),
    );
    let mut explanation =
        Explanation { from: ends.0, to: ends.1, answers: Vec::new(), words: Vec::new() };
    for (ports, judgement) in answers {
        explanation.add(planner, ports, judgement);
    }
    explanation
}

/// A sender as whoever judges last sees it. To another node's containers this node is one of the
/// others, and passes for itself only to its own.
fn as_judged(planner: &PolicyPlanner, sender: Class, to: IpAddr) -> Class {
    let is_far = sender.class == Class::HOST && !planner.is_here(to);
    if is_far { Class { class: Class::WORLD, ..sender } } else { sender }
}

impl Explanation {
    fn add(&mut self, planner: &PolicyPlanner, ports: Option<String>, judgement: Judgement) {
        let unknown = || Decider::Default { default: "unknown" };
        let by = decider(planner, judgement.rule).unwrap_or_else(unknown);
        let verdict = word(judgement.verdict);
        let rest = if self.answers.is_empty() { "everything" } else { "everything else" };
        let what = ports.as_deref().unwrap_or(rest);
        let becomes = match judgement.verdict {
            Verdict::Pass => "passes",
            Verdict::WouldRefuse => "passes, and would be refused by what is tried out",
            Verdict::Refuse => "is refused",
        };
        let why = self.why(planner, &by, judgement);
        self.words.push(format!("{what} {becomes}: {why}"));
        self.answers.push(Answered { ports, verdict, by });
    }

    fn apart(&self, planner: &PolicyPlanner) -> Option<String> {
        let (from, to) = (self.from.overlay.as_ref()?, self.to.overlay.as_ref()?);
        let are_apart = from != to && planner.wanted().overlays == Overlays::Apart;
        are_apart.then(|| {
            format!("overlays {from} and {to} are apart: no ingress rule of the receiver names the sender's")
        })
    }

    fn why(&self, planner: &PolicyPlanner, by: &Decider, judgement: Judgement) -> String {
        let list =
            |ids: &[PolicyId]| ids.iter().map(PolicyId::as_str).collect::<Vec<_>>().join(", ");
        match (by, judgement.rule) {
            (Decider::Rule(rule), _) => {
                let (way, name, policy) = (rule.direction.word(), &rule.rule, &rule.policy);
                let only = if judgement.verdict == Verdict::Pass { "" } else { " alone" };
                format!("{way} rule {name} of policy {policy} allows it{only}")
            }
            (_, number::ISOLATION) => self.apart(planner).unwrap_or_default(),
            (_, number::GUARD_INGRESS) if self.to.kind == UNKNOWN => {
                "nobody is known to have the receiver's address, and it may be about to be guarded"
                    .to_owned()
            }
            (_, number::GUARD_EGRESS) if self.from.kind == UNKNOWN => {
                "nobody is known to have the sender's address, and it may be about to be guarded"
                    .to_owned()
            }
            (_, number::GUARD_INGRESS) => {
                format!(
                    "policy {} guards the receiver, and no ingress rule allows it",
                    list(&self.to.guarded_by)
                )
            }
            (_, number::GUARD_EGRESS) => {
                let none = || "no egress rule allows it".to_owned();
                let missing = self.apart(planner).unwrap_or_else(none);
                format!("policy {} guards the sender, and {missing}", list(&self.from.guarded_by))
            }
            (_, number::AUDIT_INGRESS) => {
                format!(
                    "policy {} is tried out, and no ingress rule of it allows it",
                    list(&self.to.tried_by)
                )
            }
            (_, number::AUDIT_EGRESS) => {
                format!(
                    "policy {} is tried out, and no egress rule of it allows it",
                    list(&self.from.tried_by)
                )
            }
            (_, rule) => {
                let known = DEFAULTS.iter().find(|(number, ..)| *number == rule);
                known.map_or_else(
                    || "nobody knows why".to_owned(),
                    |(.., words)| (*words).to_owned(),
                )
            }
        }
    }
}

impl PolicyPlanner {
    /// Who has an address, as people call it.
    #[must_use]
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        self.task_at(address.to_canonical()).map(|task| task.id.as_str())
    }

    fn end(&self, address: IpAddr, class: u32, direction: Direction) -> End {
        let member = self.classes.by_number(class);
        let names = |force| {
            let places = member.map(|member| member.guards(direction, force)).unwrap_or_default();
            let policies = places.iter().filter_map(|place| self.compiled.policies.get(*place));
            policies.map(|policy| policy.id.clone()).collect()
        };
        End {
            address,
            kind: member.map_or("world", kind),
            task: self.name_of(address).map(str::to_owned),
            overlay: match member {
                Some(member) => member.identity.overlay.clone(),
                None => self.overlay_at(address).map(str::to_owned),
            },
            class,
            guarded_by: names(Force::Enforced),
            tried_by: names(Force::Audit),
        }
    }
}

/// An address of this node that nobody is known to have.
const UNKNOWN: &str = "unknown";

fn kind(member: &Member) -> &'static str {
    match member.identity.kind {
        Kind::World => "world",
        Kind::Host => "host",
        Kind::Node => "node",
        Kind::Container => "container",
        Kind::Pending => UNKNOWN,
    }
}

/// A verdict in a word.
#[must_use]
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::WouldRefuse => "would-refuse",
        Verdict::Refuse => "refuse",
    }
}

/// Numbers, what they are called, and why.
const DEFAULTS: [(u32, &str, &str); 8] = [
    (number::HOST, "host", "a node always reaches its own containers"),
    (number::OPEN, "open", "no policy guards either end"),
    (number::ISOLATION, "isolation", "overlays are apart"),
    (number::GUARD_INGRESS, "guard-ingress", "no ingress rule allows it"),
    (number::GUARD_EGRESS, "guard-egress", "no egress rule allows it"),
    (number::AUDIT_INGRESS, "audit-ingress", "no ingress rule allows it"),
    (number::AUDIT_EGRESS, "audit-egress", "no egress rule allows it"),
    (number::FOREIGN_ADDRESS, "foreign-address", "the container used an address of another one"),
];

/// What people write for it; `None` is everything.
fn words_of(traffic: &Traffic) -> Option<String> {
    match *traffic {
        Traffic::All => None,
        Traffic::Protocol(number) => Some(match protocol_word(number) {
            Some(protocol) => Ports::all(protocol).to_string(),
            None => format!("protocol {number}"),
        }),
        Traffic::Ports { protocol, port, bits } => {
            let last = port | u16::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
            let protocol = protocol_word(protocol)?;
            Some(Ports { protocol, first: port, last }.to_string())
        }
    }
}
