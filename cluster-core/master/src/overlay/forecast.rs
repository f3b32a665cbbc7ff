//! How much of the overlays is used, and when it will be used up.

use super::Overlays;
use mizzen_types::time::Wall;
use std::time::Duration;

/// Blocks given within this time say how fast they are given.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);
/// Growth of a younger cluster is taken for that of a day.
const SHORTEST: Duration = Duration::from_secs(86_400);
/// Said when this part is used …
const NEARLY_USED: f64 = 0.9;
/// … or when this is all the time that is left.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// How much of a network, or of the numbers of agents, is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// The overlay; `None` for the addresses of the tunnels' ends.
    pub overlay: Option<String>,
    /// Which network.
    pub network: String,
    /// Blocks that somebody has.
    pub used: u128,
    /// All blocks.
    pub total: u128,
    /// When nothing is left, if it goes on as in the last week; `None` if it does not grow.
    pub exhausted_in: Option<Duration>,
    /// Agents for which nothing is left.
    pub waiting: usize,
}

impl Overlays {
    /// All networks, that of the tunnels' ends first.
    #[must_use]
    pub fn usage(&self, now: Wall) -> Vec<Usage> {
        let network = self.settings.vtep_network.to_string();
        let agents = self.agents.values();
        let first_seen =
            agents.filter_map(|agent| agent.blocks.values().flatten().map(|b| b.since).min());
        let mut found =
            vec![usage(None, network, self.numbers().into(), &first_seen.collect::<Vec<_>>(), now)];
        for overlay in &self.settings.overlays {
            for pool in &overlay.pools {
                let blocks =
                    self.agents.values().filter_map(|agent| agent.blocks.get(&overlay.name));
                let given = blocks.flatten().filter(|block| pool.network.contains(&block.net));
                let given: Vec<Wall> = given.map(|block| block.since).collect();
                let name = Some(overlay.name.clone());
                let mut usage = usage(name, pool.network.to_string(), pool.blocks(), &given, now);
                let ours = self.agents.values().filter(|agent| !agent.foreign);
                let waits = ours.filter(|agent| !agent.has(&overlay.name, pool));
                usage.waiting = waits.count();
                found.push(usage);
            }
        }
        found
    }

    /// What an operator should do something about, as sentences.
    #[must_use]
    pub fn problems(&self, now: Wall) -> Vec<String> {
        self.usage(now).iter().filter_map(Usage::problem).collect()
    }
}

impl Usage {
    /// What is wrong, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let what = match &self.overlay {
            Some(name) => format!("overlay `{name}`: of {}", self.network),
            None => format!("tunnels' ends: of {}", self.network),
        };
        let (used, total) = (self.used, self.total);
        if self.waiting > 0 {
            let waiting = self.waiting;
            return Some(format!(
                "{what} nothing is left for {waiting} agents: {used} of {total} blocks are given; remove agents that are gone (/overlay-master/agents/delete) or add an overlay"
            ));
        }
        let left = total.saturating_sub(used);
        match self.exhausted_in.filter(|left| *left <= SOON) {
            _ if used as f64 >= NEARLY_USED * total as f64 && used > 1 => {
                Some(format!("{what} {left} of {total} blocks are left"))
            }
            Some(time) => {
                let days = time.as_secs() / 86_400;
                Some(format!(
                    "{what} {left} of {total} blocks are left, for {days} days if it goes on as in the last week"
                ))
            }
            None => None,
        }
    }
}

fn usage(
    overlay: Option<String>,
    network: String,
    total: u128,
    given: &[Wall],
    now: Wall,
) -> Usage {
    let used = given.len() as u128;
    let exhausted_in = exhausted_in(given, total.saturating_sub(used), now);
    Usage { overlay, network, used, total, exhausted_in, waiting: 0 }
}

/// Time until `left` blocks are given, at the speed of the last week. The first block of all
/// is no growth.
fn exhausted_in(given: &[Wall], left: u128, now: Wall) -> Option<Duration> {
    let age = |since: &Wall| Duration::from_nanos(now.0.saturating_sub(since.0));
    let lifetime = given.iter().map(age).max()?;
    let recent = given.iter().filter(|since| age(since) < WINDOW.min(lifetime)).count();
    if recent == 0 {
        return None;
    }
    let seconds = lifetime.clamp(SHORTEST, WINDOW).as_secs_f64();
    let left = left as f64 * seconds / recent as f64;
    // Ten thousand years are no forecast.
    (left < 3.2e11).then(|| Duration::from_secs_f64(left))
}
