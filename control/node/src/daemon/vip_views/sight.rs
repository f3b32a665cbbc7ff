//! VIPs as they are planned and as they fare: what all views are drawn from.

use mizzen_ebpf_core::eject::{too_few, warmth};
use mizzen_kernel::vips::{Counts, Standing, Tuning};
use mizzen_types::vip::{BackendSpec, VipKey, VipSpec, Withheld};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Suffix of the names of VIPs.
const L4LB: &str = "l4lb.thisdcos.directory";

/// All VIPs at one moment.
#[derive(Debug)]
pub(crate) struct Sight {
    /// In the order of their addresses.
    pub vips: Vec<Seen>,
    /// By what backends are judged.
    pub tuning: Tuning,
}

/// One VIP.
#[derive(Debug)]
pub(crate) struct Seen {
    /// As it is planned.
    pub spec: VipSpec,
    /// What became of its connections, backend by backend as in `spec`; none where nothing counts them.
    pub counts: Vec<Option<Counts>>,
    /// Connects that found no admitted backend, if they are counted.
    pub refused: Option<u64>,
    /// Whether so many are ejected that all are admitted.
    pub all_admitted: bool,
}

/// Whether a backend takes new connections, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does.
    In,
    /// It is not admitted, for this reason.
    Out(Withheld),
    /// Likewise, and it still has connections.
    Draining(Withheld),
    /// Its last handshakes failed.
    Ejected {
        /// Until it is tried again.
        left: Duration,
        /// Whether so many are ejected that it takes connections all the same.
        admitted: bool,
    },
    /// It was ejected, and the next connection tries it.
    HalfOpen,
    /// It has left handshakes unanswered for longer than is allowed.
    Waiting,
    /// It joined others a moment ago.
    Warming {
        /// Share of its draws that it takes, of 256.
        share: u32,
    },
}

impl Sight {
    /// Puts together what was planned and what was counted; `read` reads one VIP.
    pub fn new(
        specs: BTreeMap<VipKey, VipSpec>,
        mut read: impl FnMut(&VipKey) -> Option<Standing>,
        tuning: Tuning,
    ) -> Self {
        let seen = |(key, spec): (VipKey, VipSpec)| {
            let standing = read(&key);
            let known = standing.as_ref().map_or(&[][..], |standing| &standing.backends);
            let counts = |backend: &BackendSpec| {
                let found = known.binary_search_by_key(&backend.address, |(address, _)| *address);
                Some(known.get(found.ok()?)?.1)
            };
            let counts = spec.backends.iter().map(counts).collect();
            Seen::new(spec, counts, standing.map(|standing| standing.refused), &tuning)
        };
        Self { vips: specs.into_iter().map(seen).collect(), tuning }
    }
}

impl Seen {
    /// Judges a VIP.
    pub fn new(
        spec: VipSpec,
        counts: Vec<Option<Counts>>,
        refused: Option<u64>,
        tuning: &Tuning,
    ) -> Self {
        let open = spec.backends.iter().filter(|backend| backend.is_admitted()).count();
        let ejected = counts.iter().flatten().filter(|counts| counts.ejected_for.is_some()).count();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let all_admitted = too_few(number(open), number(ejected), tuning.least_left);
        Self { spec, counts, refused, all_admitted }
    }

    /// Its address and port.
    pub fn socket(&self) -> SocketAddr {
        socket(&self.spec.key)
    }

    /// Its name in DNS.
    pub fn name(&self) -> Option<String> {
        self.spec.name.as_deref().map(full_name)
    }

    /// Its backends with what was counted.
    pub fn backends(&self) -> impl Iterator<Item = (&BackendSpec, Option<&Counts>)> {
        self.spec.backends.iter().zip(self.counts.iter().map(Option::as_ref))
    }

    /// Handshakes that completed, of all backends together.
    pub fn established(&self) -> u64 {
        self.counts.iter().flatten().map(|counts| counts.established).sum()
    }

    /// How a backend stands.
    pub fn state(&self, backend: &BackendSpec, counts: Option<&Counts>, tuning: &Tuning) -> State {
        match backend.withheld {
            Some(why) if counts.is_some_and(|counts| counts.in_flight > 0) => {
                return State::Draining(why);
            }
            Some(why) => return State::Out(why),
            None => {}
        }
        let Some(counts) = counts else { return State::In };
        match counts.ejected_for {
            Some(0) => return State::HalfOpen,
            Some(left) => {
                let (left, admitted) = (Duration::from_millis(left), self.all_admitted);
                return State::Ejected { left, admitted };
            }
            None => {}
        }
        if counts.waiting_for.is_some_and(|waits| Duration::from_millis(waits) > tuning.handshake) {
            return State::Waiting;
        }
        let slow_start = u64::from(self.spec.policy.slow_start.0);
        match counts.joined_for.map(|age| warmth(age, slow_start)) {
            Some(share) if share < 256 && slow_start != 0 => State::Warming { share },
            _ => State::In,
        }
    }
}

impl State {
    /// One word, the same in every answer.
    pub fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out(_) => "out",
            Self::Draining(_) => "draining",
            Self::Ejected { .. } => "ejected",
            Self::HalfOpen => "half-open",
            Self::Waiting => "waiting",
            Self::Warming { .. } => "warming",
        }
    }
}

/// The name of a VIP as DNS has it.
pub(crate) fn full_name(name: &str) -> String {
    format!("{name}.{L4LB}")
}

/// Address and port of a VIP.
pub(crate) fn socket(vip: &VipKey) -> SocketAddr {
    SocketAddr::new(vip.address, vip.port)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use mizzen_types::vip::{Distance, Millis, Protocol, VipPolicy};

    /// A VIP with backends 9.0.0.1, 9.0.0.2 … of weight 1.
    pub(crate) fn vip(counts: Vec<Counts>) -> Seen {
        let backend = |number: usize| BackendSpec {
            address: format!("9.0.0.{}:80", number + 1).parse().unwrap(),
            weight: 1,
            withheld: None,
            distance: Distance::Far,
            task: None,
        };
        let spec = VipSpec {
            key: VipKey { address: "11.0.0.1".parse().unwrap(), port: 80, protocol: Protocol::Tcp },
            name: Some("web.marathon".to_owned()),
            backends: (0..counts.len()).map(backend).collect(),
            policy: VipPolicy::default(),
        };
        let counts = counts.into_iter().map(Some).collect();
        Seen::new(spec, counts, Some(0), &Tuning::default())
    }

    #[test]
    fn how_backends_stand() {
        let plain = Counts::default();
        let ejected = |left| Counts { ejected_for: Some(left), ..plain };
        let warms = State::Warming { share: 128 };
        let shut = |admitted| State::Ejected { left: Duration::from_secs(4), admitted };
        let table = [
            ("as it should be", plain, true, State::In),
            ("withheld", plain, false, State::Out(Withheld::Unhealthy)),
            (
                "withheld and busy",
                Counts { in_flight: 1, ..plain },
                false,
                State::Draining(Withheld::Unhealthy),
            ),
            ("the only one, ejected", ejected(4_000), true, shut(true)),
            ("pause over", ejected(0), true, State::HalfOpen),
            ("ejected and withheld", ejected(9), false, State::Out(Withheld::Unhealthy)),
            ("a slow answer", Counts { waiting_for: Some(401), ..plain }, true, State::Waiting),
            ("an answer soon", Counts { waiting_for: Some(400), ..plain }, true, State::In),
            ("joined", Counts { joined_for: Some(5_000), ..plain }, true, warms),
            ("warm", Counts { joined_for: Some(10_000), ..plain }, true, State::In),
        ];
        for (name, counts, admitted, want) in table {
            let seen = vip(vec![counts]);
            let withheld = (!admitted).then_some(Withheld::Unhealthy);
            let backend = BackendSpec { withheld, ..seen.spec.backends[0].clone() };
            assert_eq!(seen.state(&backend, Some(&counts), &Tuning::default()), want, "{name}");
        }
        let two = vip(vec![ejected(4_000), plain]);
        let (one, counts) = (&two.spec.backends[0], two.counts[0].as_ref());
        assert_eq!(two.state(one, counts, &Tuning::default()), shut(false), "one is left");
        let mut seen = vip(vec![Counts { joined_for: Some(1), ..plain }]);
        seen.spec.policy.slow_start = Millis(0);
        let backend = &seen.spec.backends[0];
        let state = seen.state(backend, seen.counts[0].as_ref(), &Tuning::default());
        assert_eq!(state, State::In, "without slow start");
        assert_eq!(seen.state(backend, None, &Tuning::default()), State::In, "nobody counts");
    }

    #[test]
    fn all_are_admitted_when_too_few_are_left() {
        let ejected = Counts { ejected_for: Some(1), ..Counts::default() };
        assert!(vip(vec![ejected; 2]).all_admitted);
        assert!(!vip(vec![ejected, Counts::default()]).all_admitted);
    }
}
