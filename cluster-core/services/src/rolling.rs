//! How many copies of an app to start and which ones to end, right now.
//!
//! [`plan`] looks at what there is and nothing else, so an upgrade goes on after a
//! restart of the scheduler where it stood, and a copy that turns sick half-way is
//! counted again: the healthy ones never fall below the app's minimum.

use crate::app::{App, UpgradeStrategy};
use crate::instance::{Goal, Instance, sort_victims};
use mizzen_types::time::Mono;

/// What the arithmetic of an upgrade looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Copies that are wanted.
    pub instances: u32,
    /// How many may be missing or too many.
    pub strategy: UpgradeStrategy,
    /// Healthy copies, old and new, that nobody told to end.
    pub healthy: u32,
    /// Copies of older configurations that have not ended.
    pub old: u32,
    /// Copies of the new configuration.
    pub new: u32,
}

/// The result of the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Healthy copies that there must be.
    pub min_healthy: u32,
    /// Copies that there may be.
    pub max_capacity: u32,
    /// Old copies that may be ended now.
    pub kill: u32,
    /// New copies that may be started now.
    pub start: u32,
}

/// The arithmetic of a rolling upgrade.
///
/// `old` counts those that are ending too, because they still hold resources;
/// copies beyond the wanted number need no successor.
#[must_use]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares of a u32 between 0 and 2, saturating"
)]
pub fn steps(counts: Counts, surplus: u32) -> Steps {
    let Counts { instances, strategy, healthy, old, new } = counts;
    let wanted = f64::from(instances);
    let min_healthy = (wanted * strategy.minimum_health_capacity).ceil() as u32;
    let mut max_capacity = (wanted * (1.0 + strategy.maximum_over_capacity)).floor() as u32;
    let mut kill = healthy.saturating_sub(min_healthy);
    // Nothing could move, so one copy more is allowed for the time of the upgrade.
    if min_healthy == max_capacity && max_capacity <= healthy {
        max_capacity += 1;
    }
    kill = kill.max(surplus);
    let room = max_capacity.saturating_sub(old).saturating_sub(new);
    Steps { min_healthy, max_capacity, kill, start: room.min(instances.saturating_sub(new)) }
}

/// What to do about an app's copies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// How many copies to start.
    pub start: u32,
    /// Ids of copies to end.
    pub kill: Vec<String>,
    /// What is not as wanted, in words; `None` once everything is.
    pub waits_for: Option<String>,
}

/// Plans for `app`, or for the copies that an app left behind when it was removed.
#[must_use]
pub fn plan<'a>(app: Option<&App>, copies: impl Iterator<Item = &'a Instance>, now: Mono) -> Plan {
    let copies: Vec<&Instance> = copies.collect();
    let Some(app) = app else { return stop_all(&copies) };
    let (new, old): (Vec<&Instance>, Vec<&Instance>) =
        copies.iter().partition(|copy| copy.config == app.config());
    let active = |copies: &[&'a Instance]| -> Vec<&'a Instance> {
        copies.iter().copied().filter(|copy| copy.is_active(app, now)).collect()
    };
    let (new_active, old_active) = (active(&new), active(&old));
    let leaving = leaving(app, &new, now);
    let mut plan = if old.is_empty() {
        scale(app, app.instances, &new_active, leaving)
    } else {
        // Those that leave with their agent have successors and hold resources, as old ones.
        upgrade(app, &new_active, &old_active, count(old.len()) + leaving)
    };
    plan.waits_for = waits_for(app, &copies, &new_active);
    plan
}

/// Plans for an app whose deployment was stopped half-way: it keeps `most` copies, of whatever
/// configuration, and none is told to end.
#[must_use]
pub fn plan_halted<'a>(
    app: &App,
    most: u32,
    copies: impl Iterator<Item = &'a Instance>,
    now: Mono,
) -> Plan {
    let copies: Vec<&Instance> = copies.collect();
    let active: Vec<&Instance> =
        copies.iter().copied().filter(|copy| copy.is_active(app, now)).collect();
    let Plan { start, .. } = scale(app, most, &active, leaving(app, &copies, now));
    let new: Vec<&Instance> =
        active.into_iter().filter(|copy| copy.config == app.config()).collect();
    let left = waits_for(app, &copies, &new).unwrap_or_default();
    let waits_for = Some(format!("stopped half-way until it is deployed again: {left}"));
    Plan { start, kill: Vec::new(), waits_for }
}

fn stop_all(copies: &[&Instance]) -> Plan {
    let wanted = copies.iter().filter(|copy| copy.goal == Goal::Run);
    let waits_for = match copies.len() {
        0 => None,
        n => Some(format!("{n} still ending")),
    };
    Plan { start: 0, kill: wanted.map(|copy| copy.task_id.clone()).collect(), waits_for }
}

/// Copies that hold resources though they do not count any more: those that leave with their
/// agent and, where there may be no copy too many, those that were told to end.
fn leaving(app: &App, copies: &[&Instance], now: Mono) -> u32 {
    let strict = most_copies(app, app.instances) <= app.instances;
    let leaves = |copy: &&&Instance| match copy.goal {
        Goal::Run => copy.drained,
        Goal::Stop => strict && !copy.is_given_up(app, now),
    };
    count(copies.iter().filter(leaves).count())
}

fn scale(app: &App, wanted: u32, active: &[&Instance], leaving: u32) -> Plan {
    let have = count(active.len());
    let surplus = have.saturating_sub(wanted);
    let kill = victims(app, active, surplus);
    let missing = wanted.saturating_sub(have);
    // Successors of those that leave may be too many for a while, as in an upgrade.
    let room = most_copies(app, wanted).saturating_sub(have + leaving);
    let start = if leaving > 0 { missing.min(room) } else { missing };
    Plan { start, kill, waits_for: None }
}

/// How many copies there may be while some are replaced.
fn most_copies(app: &App, instances: u32) -> u32 {
    let strategy = app.effective_strategy();
    let counts = Counts { instances, strategy, healthy: 0, old: 0, new: 0 };
    steps(counts, 0).max_capacity
}

fn upgrade(app: &App, new: &[&Instance], old: &[&Instance], old_unended: u32) -> Plan {
    let healthy = |copies: &[&Instance]| count(copies.iter().filter(|c| c.is_healthy()).count());
    let counts = Counts {
        instances: app.instances,
        strategy: app.effective_strategy(),
        healthy: healthy(old) + healthy(new),
        old: old_unended,
        new: count(new.len()),
    };
    let surplus = count(old.len()).saturating_sub(app.instances);
    let steps = steps(counts, surplus);
    // Sick copies go first, and cost no health.
    let sick = count(old.len()) - healthy(old);
    let mut kill = steps.kill;
    let moving = steps.start > 0
        || kill > 0
        || count(old.len()) < old_unended
        || new.iter().any(|copy| !copy.is_healthy());
    if healthy(new) >= app.instances {
        // The new ones can do without all of the old ones, sick or not.
        kill = count(old.len());
    } else if !moving && sick > 0 {
        // All room is taken by copies that are not well: without this, nobody would ever move.
        kill = 1;
    }
    let mut plan = Plan { start: steps.start, kill: victims(app, old, kill), waits_for: None };
    let surplus = count(new.len()).saturating_sub(app.instances);
    plan.kill.extend(victims(app, new, surplus));
    plan
}

fn victims(app: &App, copies: &[&Instance], n: u32) -> Vec<String> {
    let mut copies = copies.to_vec();
    sort_victims(&mut copies, app.kill_selection);
    copies.iter().take(n as usize).map(|copy| copy.task_id.clone()).collect()
}

fn waits_for(app: &App, copies: &[&Instance], new: &[&Instance]) -> Option<String> {
    let healthy = new.iter().filter(|copy| copy.is_healthy()).count();
    let running = new.iter().filter(|copy| copy.started.is_some()).count();
    let ending = copies.iter().filter(|copy| copy.goal == Goal::Stop).count();
    let old = copies.iter().filter(|copy| copy.config != app.config()).count();
    let wanted = app.instances as usize;
    let mut parts = Vec::new();
    if new.len() < wanted {
        parts.push(format!("{} of {wanted} still to be started", wanted - new.len()));
    } else if running < wanted {
        parts.push(format!("{} of {wanted} being started", wanted - running));
    } else if healthy < wanted {
        parts.push(format!("{} of {wanted} running but not healthy", wanted - healthy));
    }
    if new.len() > wanted {
        parts.push(format!("{} too many", new.len() - wanted));
    }
    if old > ending {
        parts.push(format!("{} of the old configuration left", old - ending));
    }
    if ending > 0 {
        parts.push(format!("{ending} still ending"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::Condition;
    use crate::testing::{app, instance};
    use crate::version::Version;
    use serde_json::{Value, json};

    /// instances, minimum, over, healthy, current → minHealthy, maxCapacity, kill, start.
    #[test]
    fn the_arithmetic_of_an_upgrade() {
        type Row = ((u32, f64, f64, u32, u32), (u32, u32, u32, u32));
        #[rustfmt::skip]
        let table: &[Row] = &[
            ((4,  1.0, 1.0, 4,  4),  (4,  8,  0, 4)),
            ((4,  1.0, 0.0, 4,  4),  (4,  5,  0, 1)),
            ((4,  0.5, 0.0, 4,  4),  (2,  4,  2, 0)),
            ((4,  0.5, 0.5, 4,  4),  (2,  6,  2, 2)),
            ((10, 0.5, 0.2, 10, 10), (5,  12, 5, 2)),
            ((10, 1.0, 0.2, 10, 10), (10, 12, 0, 2)),
            ((10, 0.9, 0.0, 10, 10), (9,  10, 1, 0)),
            ((10, 0.5, 0.2, 4,  10), (5,  12, 0, 2)),
            ((5,  1.0, 1.0, 5,  8),  (5,  10, 3, 2)),
            ((1,  0.0, 0.0, 1,  1),  (0,  1,  1, 0)),
            ((4,  0.0, 0.0, 4,  4),  (0,  4,  4, 0)),
        ];
        for (input, want) in table {
            let (instances, minimum, over, healthy, current) = *input;
            let strategy =
                UpgradeStrategy { minimum_health_capacity: minimum, maximum_over_capacity: over };
            let counts = Counts { instances, strategy, healthy, old: current, new: 0 };
            let got = steps(counts, current.saturating_sub(instances));
            let got = (got.min_healthy, got.max_capacity, got.kill, got.start);
            assert_eq!(got, *want, "{input:?}");
        }
    }

    /// Copies as words: `o`ld or `n`ew; healthy, `s`ick, or `k` told to end.
    fn copies(words: &str) -> Vec<Instance> {
        let copy = |(index, word): (usize, &str)| Instance {
            config: if word.starts_with('n') { NEW.parse().unwrap() } else { Version::default() },
            condition: Condition::Running,
            probed: true,
            healthy: Some(!word.ends_with('s')),
            goal: if word.ends_with('k') { Goal::Stop } else { Goal::Run },
            started: Some(Version::default()),
            ..instance(&format!("{word}{index}"))
        };
        words.split_whitespace().enumerate().map(copy).collect()
    }

    const NEW: &str = "2024-01-01T00:00:00.000Z";

    fn planned(members: Value, words: &str) -> Plan {
        let mut app = app(members);
        app.version_info.last_config_change_at = NEW.parse().unwrap();
        plan(Some(&app), copies(words).iter(), Mono(0))
    }

    #[test]
    fn what_is_started_and_ended() {
        let half = json!({"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0});
        let none = json!({"minimumHealthCapacity": 1, "maximumOverCapacity": 0});
        let two = json!({"instances": 2});
        let half = json!({"instances": 4, "upgradeStrategy": half});
        let none = json!({"instances": 2, "upgradeStrategy": none});
        let single = json!({"instances": 1, "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}});
        #[rustfmt::skip]
        let table: &[(&str, &Value, &str, u32, &[&str])] = &[
            ("all to be started",             &two,    "",                2, &[]),
            ("all is well",                   &two,    "n n",             0, &[]),
            ("one died",                      &two,    "n",               1, &[]),
            ("an ending one is replaced",     &two,    "n nk",            1, &[]),
            ("no room while it ends",         &half,   "n n n nk",        0, &[]),
            ("single instance: it ends",      &single, "nk",              0, &[]),
            ("too many: the sick one goes",   &two,    "n ns n",          0, &["ns1"]),
            ("upgrade: start all",            &two,    "o o",             2, &[]),
            ("upgrade: new ones not healthy", &two,    "o o ns ns",       0, &[]),
            ("upgrade: one is healthy",       &two,    "o o n ns",        0, &["o0"]),
            ("upgrade: the sick old first",   &two,    "o os n n",        0, &["os1", "o0"]),
            ("upgrade: all are healthy",      &two,    "o o n n",         0, &["o0", "o1"]),
            ("upgrade: last one is ending",   &two,    "ok n n",          0, &[]),
            ("upgrade: half at a time",       &half,   "o o o o",         0, &["o0", "o1"]),
            ("upgrade: room is not free yet", &half,   "ok ok o o",       0, &[]),
            ("upgrade: room is free",         &half,   "o o",             2, &[]),
            ("upgrade: the floor holds",      &half,   "o o ns ns",       0, &[]),
            ("upgrade: the next two",         &half,   "o o n n",         0, &["o0", "o1"]),
            ("upgrade: one extra",            &none,   "o o",             1, &[]),
            ("upgrade: all sick, no room",    &none,   "os os",           0, &["os0"]),
            ("upgrade: sick ones go at last", &two,    "os os n n",       0, &["os0", "os1"]),
            ("upgrade: single instance",      &single, "o",               0, &["o0"]),
            ("upgrade: never two",            &single, "ok",              0, &[]),
            ("upgrade: nor of the new",       &single, "ok nk",           0, &[]),
            ("upgrade: a new one ends",       &half,   "o o n nk",        0, &["o0"]),
            ("upgrade and scale down",        &two,    "o o o o",         0, &["o0", "o1"]),
        ];
        for (name, app, words, start, kill) in table {
            let plan = planned((*app).clone(), words);
            assert_eq!(
                (plan.start, plan.kill.iter().map(String::as_str).collect::<Vec<_>>()),
                (*start, kill.to_vec()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_waited_for_has_words() {
        #[rustfmt::skip]
        let table: &[(&str, Option<&str>)] = &[
            ("n n",    None),
            ("",       Some("2 of 2 still to be started")),
            ("n ns",   Some("1 of 2 running but not healthy")),
            ("o n n",  Some("1 of the old configuration left")),
            ("ok n n", Some("1 still ending")),
        ];
        for (words, want) in table {
            let plan = planned(json!({"instances": 2}), words);
            assert_eq!(plan.waits_for.as_deref(), *want, "{words}");
        }
        let left = plan(None, copies("o ok").iter(), Mono(0));
        assert_eq!((left.kill, left.start), (vec!["o0".to_owned()], 0));
        assert_eq!(plan(None, [].iter(), Mono(0)).waits_for, None);
    }

    /// Plays every upgrade to its end: it ends, and health never falls below the minimum.
    #[test]
    fn every_upgrade_ends_and_keeps_its_promise() {
        let strategies = [(1.0, 1.0), (1.0, 0.0), (0.5, 0.0), (0.5, 0.5), (0.0, 0.0), (0.9, 0.1)];
        for (instances, (minimum, over)) in
            (1..=6_u32).flat_map(|n| strategies.map(|strategy| (n, strategy)))
        {
            let strategy = json!({"minimumHealthCapacity": minimum, "maximumOverCapacity": over});
            let mut app = app(json!({"instances": instances, "upgradeStrategy": strategy}));
            app.version_info.last_config_change_at = NEW.parse().unwrap();
            let mut world = copies(&"o ".repeat(instances as usize));
            let floor = (f64::from(instances) * minimum).ceil() as usize;
            let mut round = 0;
            while plan(Some(&app), world.iter(), Mono(0)).waits_for.is_some() {
                let plan = plan(Some(&app), world.iter(), Mono(0));
                world.retain(|copy| copy.goal == Goal::Run);
                for copy in &mut world {
                    copy.healthy = Some(true);
                    if plan.kill.contains(&copy.task_id) {
                        copy.goal = Goal::Stop;
                    }
                }
                let started = copies(&"ns ".repeat(plan.start as usize)).into_iter();
                let named = |copy: Instance| {
                    let task_id = format!("{}-{round}", copy.task_id);
                    Instance { task_id, ..copy }
                };
                world.extend(started.map(named));
                let well = |copy: &&Instance| copy.goal == Goal::Run && copy.is_healthy();
                let healthy = world.iter().filter(well).count();
                assert!(healthy >= floor, "{healthy} of {instances} at {minimum}/{over}");
                round += 1;
                assert!(round < 100, "{instances} at {minimum}/{over} never ends");
            }
        }
    }
}
