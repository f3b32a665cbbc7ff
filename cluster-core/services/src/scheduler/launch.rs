//! Offers: which copies they start.
//!
//! Offers are answered at once. Every round gives each offer at most one copy of
//! each service, so copies spread over agents that are offered together.

use super::Services;
use crate::app::App;
use crate::app_id::AppId;
use crate::instance::{Condition, Goal, Instance, ProbeResult};
use crate::offer::{Pool, Taken, constraint};
use crate::service::Service;
use crate::store::Key;
use crate::task;
use crate::version::Version;
use crate::why::{Reason, Rejection};
use mizzen_api::v1;
use mizzen_api::v1::scheduler::{Call, call};
use mizzen_types::time::Now;
use std::collections::BTreeSet;

/// Most copies that one answer to an offer starts.
const MAX_LAUNCHES: usize = 100;

/// An offer and what it starts.
struct Answer {
    pool: Pool,
    tasks: Vec<v1::TaskInfo>,
    /// Services that it has too little for.
    refused: BTreeSet<AppId>,
}

impl Services {
    pub(super) fn offers(&mut self, offers: Vec<v1::Offer>, now: Now) {
        let mut answers: Vec<Answer> = offers
            .into_iter()
            .map(|offer| Answer {
                pool: Pool::new(offer),
                tasks: Vec::new(),
                refused: BTreeSet::new(),
            })
            .collect();
        let mut waiting = self.waiting(now);
        while self.round(&mut waiting, &mut answers, now) {}
        // What is left of the offers is wanted back soon only if somebody still waits.
        let unserved = waiting.iter().any(|(_, left)| *left > 0);
        let refuse_seconds =
            if unserved { self.settings.refuse_waiting } else { self.settings.refuse_idle };
        let filters = Some(v1::Filters { refuse_seconds: Some(refuse_seconds) });
        self.answer(answers, filters);
    }

    /// Services that could start copies at once, the longest waiting first.
    fn waiting(&self, now: Now) -> Vec<(AppId, u32)> {
        let since = |service: &Service| service.queue.as_ref().map(|queue| queue.since);
        let mut waiting: Vec<_> = self
            .services
            .iter()
            .map(|(id, service)| (since(service), id.clone(), service.launchable(now.mono)))
            .filter(|(_, _, count)| *count > 0)
            .collect();
        waiting.sort();
        waiting.into_iter().map(|(_, id, count)| (id, count)).collect()
    }

    /// One copy per service and offer at most; returns whether any was started.
    fn round(&mut self, waiting: &mut [(AppId, u32)], answers: &mut [Answer], now: Now) -> bool {
        let mut any = false;
        for answer in answers {
            for (id, left) in waiting.iter_mut().filter(|(_, left)| *left > 0) {
                if answer.tasks.len() < MAX_LAUNCHES && self.try_launch(id, answer, now) {
                    *left -= 1;
                    any = true;
                }
            }
        }
        any
    }

    fn try_launch(&mut self, id: &AppId, answer: &mut Answer, now: Now) -> bool {
        if answer.refused.contains(id) {
            return false;
        }
        let Some(service) = self.services.get_mut(id) else { return false };
        let (Some(app), Some(queue)) = (&service.app, &mut service.queue) else { return false };
        let agent = answer.pool.offer.agent_id.value.clone();
        let at = Version::at(now.wall);
        if answer.pool.is_in_maintenance(now.wall) {
            let words = "its machine is in maintenance";
            let rejection = Rejection::words(Reason::AgentMaintenance, words);
            queue.record(&agent, Some(rejection), at);
            answer.refused.insert(id.clone());
            return false;
        }
        match answer.pool.take(app, service.instances.values(), &mut self.dice) {
            Err(rejection) => {
                queue.record(&agent, Some(rejection), at);
                answer.refused.insert(id.clone());
                false
            }
            Ok(taken) => {
                queue.record(&agent, None, at);
                let task_id = task::new_id(app, &mut self.dice);
                let copy =
                    Instance { since: now.mono, ..copy(app, &answer.pool, &taken, task_id, at) };
                let info = task::info(app, &copy, taken.resources, &taken.ports, &self.settings);
                answer.tasks.push(info);
                self.add_copy(id, copy);
                true
            }
        }
    }

    /// The copy is written down before the call that starts it: after a crash
    /// between the two, the master does not know it, and says so.
    fn add_copy(&mut self, id: &AppId, copy: Instance) {
        self.save(&Key::Instance(&copy.task_id), &copy);
        self.tasks.insert(copy.task_id.clone(), id.clone());
        self.service(id).instances.insert(copy.task_id.clone(), copy);
        self.dirty.insert(id.clone());
    }

    fn answer(&mut self, answers: Vec<Answer>, filters: Option<v1::Filters>) {
        let (used, unused): (Vec<Answer>, Vec<Answer>) =
            answers.into_iter().partition(|answer| !answer.tasks.is_empty());
        for answer in used {
            let launch = v1::offer::operation::Launch { task_infos: answer.tasks };
            let operation = v1::offer::Operation {
                r#type: Some(v1::offer::operation::Type::Launch.into()),
                launch: Some(launch),
                ..v1::offer::Operation::default()
            };
            let accept = call::Accept {
                offer_ids: vec![answer.pool.offer.id],
                operations: vec![operation],
                filters,
            };
            self.call(call::Type::Accept, Call { accept: Some(accept), ..Call::default() });
        }
        let offer_ids: Vec<_> = unused.into_iter().map(|answer| answer.pool.offer.id).collect();
        if !offer_ids.is_empty() {
            let decline = Some(call::Decline { offer_ids, filters });
            self.call(call::Type::Decline, Call { decline, ..Call::default() });
        }
    }
}

fn copy(app: &App, pool: &Pool, taken: &Taken, task_id: String, at: Version) -> Instance {
    let (region, zone) = constraint::domain(&pool.offer);
    Instance {
        task_id,
        app: app.id.clone(),
        version: app.version,
        config: app.config(),
        probed: !app.health_checks.is_empty(),
        agent: pool.offer.agent_id.value.clone(),
        host: pool.offer.hostname.clone(),
        region,
        zone,
        attributes: constraint::remembered(app, &pool.offer),
        host_ports: taken.ports.iter().filter_map(|port| port.host).collect(),
        staged: at,
        started: None,
        condition: Condition::Staging,
        goal: Goal::Run,
        healthy: None,
        addresses: Vec::new(),
        drained: false,
        probe: ProbeResult::default(),
        since: mizzen_types::time::Mono(0),
        killed: None,
    }
}
