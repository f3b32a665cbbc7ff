//! Machines are maintained: planned, gone down for it, and back.
//!
//! ```text
//! UP ──in a schedule──▶ DRAINING ──/machine/down──▶ DOWN ──/machine/up──▶ UP
//!  ▲                        │
//!  └── in no schedule any more
//! ```
//!
//! A plan changes nothing by itself: offers say when the machine will not be there, and
//! frameworks are asked to leave it. While the time of the plan runs, its tasks take no new
//! clients. Once it is down, its agents are not let in.

use crate::Master;
use crate::agent::Agent;
use crate::machine::Machine;
use crate::operator::Refusal;
use crate::registry::{Maintenance, Presence};
use crate::removal::Removal;
use crate::timers::Alarm;
use mizzen_api::v1;
use mizzen_api::v1::allocator::InverseOfferStatus;
use mizzen_api::v1::maintenance::{ClusterStatus, Schedule, Window, cluster_status};
use mizzen_types::ids::AgentId;
use std::collections::BTreeSet;
use std::time::Duration;

impl Master {
    /// UPDATE_MAINTENANCE_SCHEDULE: this is the whole plan from now on.
    pub(crate) fn update_schedule(&mut self, schedule: &Schedule) -> Result<(), Refusal> {
        let schedule = checked(schedule, &self.registry.maintenance().down)?;
        let mut maintenance = self.registry.maintenance().clone();
        maintenance.schedule = schedule;
        self.replace_maintenance(maintenance);
        Ok(())
    }

    /// START_MAINTENANCE: these machines go down. Their agents are removed.
    pub(crate) fn start_maintenance(&mut self, ids: &[v1::MachineId]) -> Result<(), Refusal> {
        let machines = self.scheduled(ids)?;
        let mut maintenance = self.registry.maintenance().clone();
        for machine in &machines {
            let id = machine.to_v1();
            if maintenance.down.contains(&id) {
                let text = "is not in DRAINING mode and cannot be brought down";
                return Err(bad(format!("Machine {machine} {text}")));
            }
            maintenance.down.push(id);
        }
        let means = |agent: &Agent| {
            let own = agent.machine();
            machines.iter().find(|machine| machine.means(&own)).cloned()
        };
        let removal = |agent: &Agent| Some(Removal::down(&means(agent)?, &agent.info.hostname));
        let agents: Vec<(AgentId, Removal)> = self
            .agents
            .iter()
            .filter_map(|(id, agent)| Some((id.clone(), removal(agent)?)))
            .collect();
        self.set_maintenance(maintenance);
        for (id, removal) in agents {
            // What operators want of it and its blocks of the overlays are kept for a while.
            if let Some(agent) = self.agents.get(&id) {
                let since = self.now.wall;
                self.registry.set_agent(&id, agent.info.clone(), Presence::Down { since });
            }
            self.save_agent(&id);
            self.remove_agent(&id, &removal);
        }
        Ok(())
    }

    /// STOP_MAINTENANCE: these machines are back, and in no plan any more.
    pub(crate) fn stop_maintenance(&mut self, ids: &[v1::MachineId]) -> Result<(), Refusal> {
        let machines = self.scheduled(ids)?;
        let mut maintenance = self.registry.maintenance().clone();
        for machine in &machines {
            let id = machine.to_v1();
            if !maintenance.down.contains(&id) {
                let text = "is not in DOWN mode and cannot be brought up";
                return Err(bad(format!("Machine {machine} {text}")));
            }
            maintenance.down.retain(|down| *down != id);
            for window in &mut maintenance.schedule.windows {
                window.machine_ids.retain(|scheduled| *scheduled != id);
            }
        }
        maintenance.schedule.windows.retain(|window| !window.machine_ids.is_empty());
        self.replace_maintenance(maintenance);
        self.let_in();
        Ok(())
    }

    /// GET_MAINTENANCE_STATUS.
    pub(crate) fn maintenance_status(&self) -> ClusterStatus {
        let maintenance = self.registry.maintenance();
        let ids = maintenance.schedule.windows.iter().flat_map(|window| &window.machine_ids);
        let draining = ids.filter(|id| !maintenance.down.contains(id));
        let draining = draining.map(|id| cluster_status::DrainingMachine {
            id: id.clone(),
            statuses: self.answers_about(id),
        });
        ClusterStatus {
            draining_machines: draining.collect(),
            down_machines: maintenance.down.clone(),
        }
    }

    /// When the agent will not be there, if that is planned.
    pub(crate) fn unavailability(&self, machine: &Machine) -> Option<v1::Unavailability> {
        let windows = &self.registry.maintenance().schedule.windows;
        let window = windows.iter().find(|window| window.machine_ids.iter().any(is(machine)))?;
        Some(window.unavailability)
    }

    /// Whether the time of the plan runs for the agent's machine.
    pub(crate) fn is_in_maintenance(&self, id: &AgentId) -> bool {
        let planned = self.agents.get(id).and_then(|agent| self.unavailability(&agent.machine()));
        planned.is_some_and(|planned| {
            let (start, end) = span(&planned);
            let now = i128::from(self.now.wall.0);
            start <= now && end.is_none_or(|end| now < end)
        })
    }

    /// Whether the machine of an agent is down for its maintenance.
    pub(crate) fn is_down(&self, machine: &Machine) -> bool {
        self.registry.maintenance().down.iter().any(is(machine))
    }

    /// A plan begins or ends: its agents hear of it.
    pub(crate) fn follow_maintenance(&mut self) {
        let agents: Vec<AgentId> = self.agents.keys().cloned().collect();
        for id in agents {
            self.apply_duty(&id);
        }
        let windows = &self.registry.maintenance().schedule.windows;
        let times = windows.iter().flat_map(|window| {
            let (start, end) = span(&window.unavailability);
            [Some(start), end]
        });
        let now = i128::from(self.now.wall.0);
        let next = times.flatten().filter(|at| *at > now).min();
        let at = next.map(|next| {
            let wait = u64::try_from(next - now).map_or(LONGEST_WAIT, Duration::from_nanos);
            self.now.mono + wait.min(LONGEST_WAIT)
        });
        self.timers.set_only(at, Alarm::Maintenance);
    }

    /// Makes the allocator ask whoever is to leave the agent.
    pub(crate) fn apply_schedule(&mut self, id: &AgentId) {
        let planned = self.agents.get(id).and_then(|agent| self.unavailability(&agent.machine()));
        if let Some(agent) = self.agents.get_mut(id) {
            agent.unavailability = planned;
        }
        match planned {
            Some(_) => self.allocator.ask_to_leave(id),
            None => self.allocator.stop_asking(id),
        }
    }

    /// The plan is another one: offers of the agents concerned say something that is not so
    /// any more.
    fn replace_maintenance(&mut self, maintenance: Maintenance) {
        self.set_maintenance(maintenance);
        let changed: Vec<AgentId> = self
            .agents
            .iter()
            .filter(|(_, agent)| agent.unavailability != self.unavailability(&agent.machine()))
            .map(|(id, _)| id.clone())
            .collect();
        for id in changed {
            self.rescind_of_agent(&id);
            if let Some(agent) = self.agents.get_mut(&id) {
                agent.answers.clear();
            }
            self.apply_schedule(&id);
        }
        self.follow_maintenance();
    }

    fn set_maintenance(&mut self, maintenance: Maintenance) {
        self.registry.set_maintenance(maintenance);
        self.save(self.registry.maintenance_record());
    }

    /// The machines of a request, all of which have to be in the plan.
    fn scheduled(&self, ids: &[v1::MachineId]) -> Result<Vec<Machine>, Refusal> {
        if ids.is_empty() {
            return Err(bad("List of machines is empty"));
        }
        let windows = &self.registry.maintenance().schedule.windows;
        let known: BTreeSet<Machine> =
            windows.iter().flat_map(|w| &w.machine_ids).flat_map(Machine::named).collect();
        let mut machines = Vec::new();
        for id in ids {
            let machine = Machine::named(id).map_err(bad)?;
            if !known.contains(&machine) {
                let text = "is not part of a maintenance schedule";
                return Err(bad(format!("Machine {machine} {text}")));
            }
            if machines.contains(&machine) {
                return Err(bad(format!("Machine {machine} appears more than once")));
            }
            machines.push(machine);
        }
        Ok(machines)
    }

    fn answers_about(&self, id: &v1::MachineId) -> Vec<InverseOfferStatus> {
        let named = Machine::named(id).ok();
        let means = |agent: &&Agent| named.as_ref().is_some_and(|m| m.means(&agent.machine()));
        let agents = self.agents.values().filter(means);
        agents.flat_map(|agent| agent.answers.values().cloned()).collect()
    }
}

/// A clock that is set is noticed within this time.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Whether an operator's name means this machine.
fn is(machine: &Machine) -> impl Fn(&v1::MachineId) -> bool + '_ {
    move |id| Machine::named(id).is_ok_and(|named| named.means(machine))
}

/// From when until when, in nanoseconds since the epoch.
fn span(planned: &v1::Unavailability) -> (i128, Option<i128>) {
    let start = i128::from(planned.start.nanoseconds);
    (start, planned.duration.map(|duration| start + i128::from(duration.nanoseconds)))
}

/// The plan with all names in one form, if it can be one.
fn checked(schedule: &Schedule, down: &[v1::MachineId]) -> Result<Schedule, Refusal> {
    let mut machines: BTreeSet<Machine> = BTreeSet::new();
    let mut windows = Vec::new();
    for window in &schedule.windows {
        if window.machine_ids.is_empty() {
            return Err(bad("List of machines in the maintenance window is empty"));
        }
        if window.unavailability.duration.is_some_and(|duration| duration.nanoseconds < 0) {
            return Err(bad("Unavailability 'duration' is negative"));
        }
        let mut machine_ids = Vec::new();
        for id in &window.machine_ids {
            let machine = Machine::named(id).map_err(bad)?;
            machine_ids.push(machine.to_v1());
            if let Some(twice) = machines.replace(machine) {
                let text = "appears more than once in the schedule";
                return Err(bad(format!("Machine {twice} {text}")));
            }
        }
        windows.push(Window { machine_ids, unavailability: window.unavailability });
    }
    for machine in down.iter().flat_map(Machine::named) {
        if !machines.contains(&machine) {
            let text = "is deactivated and cannot be removed from the schedule";
            return Err(bad(format!("Machine {machine} {text}")));
        }
    }
    Ok(Schedule { windows })
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(400, text)
}
