//! What rules allow of a pair of classes: protocols and ranges of ports, each with its rule.

use mizzen_ebpf_core::policy::{Traffic, port_prefixes};
use mizzen_ebpf_core::words::{TCP, UDP};
use mizzen_types::policy::{PolicyProtocol, Ports};

/// ICMP's number, which programs use for both families.
const ICMP: u8 = 1;

/// A part of all traffic, and the rule that allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// IP protocol number; `None` is all of them.
    protocol: Option<u8>,
    first: u16,
    last: u16,
    /// Number of the rule; `None` if nothing had to allow it.
    pub(super) rule: Option<u32>,
}

impl Span {
    /// All traffic, allowed by a rule or by nobody.
    pub(super) fn all(rule: Option<u32>) -> Self {
        Self { protocol: None, first: 0, last: u16::MAX, rule }
    }

    /// Some ports, allowed by a rule.
    pub(super) fn of(ports: &Ports, rule: u32) -> Self {
        let Ports { protocol, first, last } = *ports;
        Self { protocol: Some(number_of(protocol)), first, last, rule: Some(rule) }
    }

    /// What both allow; the rule of the first is named.
    fn and(&self, other: &Self) -> Option<Self> {
        let protocol = match (self.protocol, other.protocol) {
            (Some(own), Some(other)) if own != other => return None,
            (own, other) => own.or(other),
        };
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        let rule = self.rule.or(other.rule);
        (first <= last).then_some(Self { protocol, first, last, rule })
    }

    /// The same in the words of programs.
    pub(super) fn traffic(&self) -> Vec<Traffic> {
        match self.protocol {
            None => vec![Traffic::All],
            Some(protocol) if (self.first, self.last) == (0, u16::MAX) => {
                vec![Traffic::Protocol(protocol)]
            }
            Some(protocol) => port_prefixes(self.first..=self.last)
                .into_iter()
                .map(|(port, bits)| Traffic::Ports { protocol, port, bits })
                .collect(),
        }
    }
}

/// What is allowed twice: let in by one end and let out by the other.
pub(super) fn both(one: &[Span], other: &[Span]) -> Vec<Span> {
    let pairs = one.iter().flat_map(|a| other.iter().filter_map(move |b| a.and(b)));
    pairs.collect()
}

/// The IP protocol number of a word.
pub(super) fn number_of(protocol: PolicyProtocol) -> u8 {
    match protocol {
        PolicyProtocol::Tcp => TCP,
        PolicyProtocol::Udp => UDP,
        PolicyProtocol::Icmp => ICMP,
    }
}

/// The word of an IP protocol number, if rules know it.
#[must_use]
pub fn protocol_word(number: u8) -> Option<PolicyProtocol> {
    PolicyProtocol::ALL.into_iter().find(|protocol| number_of(*protocol) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(ports: &str, rule: u32) -> Span {
        Span::of(&ports.parse().unwrap(), rule)
    }

    #[test]
    fn what_both_ends_allow() {
        let table = [
            ("80/tcp", "tcp", Some("80/tcp")),
            ("80-90/tcp", "85-99/tcp", Some("85-90/tcp")),
            ("80/tcp", "81/tcp", None),
            ("80/tcp", "80/udp", None),
            ("icmp", "icmp", Some("icmp")),
        ];
        for (one, other, want) in table {
            let found = both(&[span(one, 8)], &[span(other, 9)]);
            assert_eq!(found, want.map(|ports| span(ports, 8)).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(both(&[Span::all(None)], &[span("80/tcp", 9)]), [span("80/tcp", 9)]);
        assert_eq!(both(&[Span::all(None)], &[Span::all(None)]), [Span::all(None)]);
    }

    #[test]
    fn spans_in_the_words_of_programs() {
        let ports = |protocol, port, bits| Traffic::Ports { protocol, port, bits };
        assert_eq!(span("80/tcp", 8).traffic(), [ports(6, 80, 16)]);
        assert_eq!(span("8-11/udp", 8).traffic(), [ports(17, 8, 14)]);
        assert_eq!(span("icmp", 8).traffic(), [Traffic::Protocol(1)]);
        assert_eq!(Span::all(Some(8)).traffic(), [Traffic::All]);
    }
}
