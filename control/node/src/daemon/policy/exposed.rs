//! Series of policies.

use crate::daemon::core::Core;
use crate::daemon::vip_views::exposition::{Family, Gone, Labels, Writer, counter, gauge};
use mizzen_kernel::policy::PolicyCounts;
use mizzen_plan::policy::explain::{Decider, decider};

/// All that is exposed of policies, gathered at one moment.
pub(crate) struct PolicyExposed {
    counts: Vec<(Decider, PolicyCounts)>,
    states: [(Family, u64); 5],
    refusals: [(Family, u64); 2],
}

/// One number of several.
type Count = fn(&PolicyCounts) -> u64;

const ALLOWED: Family =
    counter("mizzen_policy_allowed_total", "Connections and flows that passed, by what decided.");
const REFUSED: Family = counter(
    "mizzen_policy_refused_total",
    "Connections and flows that were refused, by what decided; each attempt counts.",
);
const WOULD_REFUSE: Family = counter(
    "mizzen_policy_would_refuse_total",
    "Connections and flows that a policy with `audit` would have refused.",
);

impl Core {
    /// The numbers of policies; nothing where nobody judges.
    pub(crate) fn look_at_policy(&self) -> Option<PolicyExposed> {
        self.policy.driver.as_ref()?;
        let planner = &self.policy.planner;
        let wanted = planner.wanted();
        let is_enforced = self.policy.unenforced.is_none();
        let states = [
            ("mizzen_policy_policies", "Policies that are known.", planner.policies().len()),
            (
                "mizzen_policy_enforced",
                "1 if policies are in force on this node.",
                is_enforced.into(),
            ),
            (
                "mizzen_policy_networks",
                "Addresses and networks with a class.",
                wanted.classes.len(),
            ),
            ("mizzen_policy_classes", "Classes of addresses.", planner.class_count()),
            ("mizzen_policy_rulings", "Rulings about pairs of classes.", wanted.rulings.len()),
        ];
        Some(PolicyExposed {
            counts: self.policy_counts(),
            states: states.map(|(name, help, value)| (gauge(name, help), value as u64)),
            refusals: [
                (
                    counter(
                        "mizzen_policy_refusals_told_total",
                        "Refusals that were told one by one.",
                    ),
                    self.policy.drops.count(),
                ),
                (
                    counter(
                        "mizzen_policy_refusals_untold_total",
                        "Refusals that were counted only, for their rate.",
                    ),
                    self.untold_refusals(),
                ),
            ],
        })
    }

    /// Refusals that were not told one by one.
    pub(super) fn untold_refusals(&self) -> u64 {
        let meter = self.policy.driver.as_ref().map(|driver| &driver.meter);
        meter.and_then(|meter| meter.untold().ok()).unwrap_or_default()
    }

    /// What was counted of each rule and default.
    pub(super) fn policy_counts(&self) -> Vec<(Decider, PolicyCounts)> {
        let meter = self.policy.driver.as_ref().map(|driver| &driver.meter);
        let rules = self.policy.planner.numbers().iter().map(|(_, number)| number);
        let counts = meter.and_then(|meter| meter.counts(rules).ok()).unwrap_or_default();
        let named = counts
            .into_iter()
            .filter_map(|(number, count)| Some((decider(&self.policy.planner, number)?, count)));
        named.collect()
    }
}

impl PolicyExposed {
    /// Writes all of it.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        let of: [(Family, Count); 3] = [
            (ALLOWED, |count| count.allowed),
            (REFUSED, |count| count.refused),
            (WOULD_REFUSE, |count| count.would_refuse),
        ];
        for (family, of) in of {
            writer.family(family, |series| {
                self.counts.iter().try_for_each(|(by, count)| {
                    labelled(by, |labels| series.number(labels, of(count) as f64))
                })
            })?;
        }
        for (family, value) in self.states.iter().chain(&self.refusals) {
            writer.family(*family, |series| series.number(&[], *value as f64))?;
        }
        Ok(())
    }
}

fn labelled(by: &Decider, add: impl FnOnce(Labels<'_>) -> Result<(), Gone>) -> Result<(), Gone> {
    match by {
        Decider::Rule(rule) => add(&[
            ("policy", rule.policy.as_str()),
            ("direction", rule.direction.word()),
            ("rule", &rule.rule),
        ]),
        Decider::Default { default } => {
            add(&[("policy", ""), ("direction", ""), ("rule", default)])
        }
    }
}
