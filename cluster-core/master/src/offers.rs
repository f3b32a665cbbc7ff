//! Offers: made, taken back, declined, no longer wanted, wanted again.

use crate::Master;
use crate::framework::Framework;
use crate::subscription::is_multi_role;
use mizzen_api::resources::to_v1_as;
use mizzen_api::v1;
use mizzen_api::v1::scheduler::{Event, call, event};
use mizzen_types::ids::{AgentId, FrameworkId, OfferId};
use mizzen_types::resources::{Resources, check_role};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long a refusal lasts if nobody says.
const DEFAULT_REFUSAL: Duration = Duration::from_secs(5);
/// A year is long enough for any refusal.
const LONGEST_REFUSAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// An outstanding offer.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) framework: FrameworkId,
    pub(crate) role: Arc<str>,
    pub(crate) agent: AgentId,
    /// Without the allocation.
    pub(crate) resources: Resources,
}

/// Whether a framework is told that an offer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Rescind,
    Silent,
}

impl Master {
    /// Runs the allocator and makes an offer of each piece, one event a framework.
    pub(crate) fn make_offers(&mut self) {
        let seed = self.dice.draw();
        for (framework, by_role) in self.allocator.allocate(seed) {
            let mut offers = Vec::new();
            for (role, by_agent) in by_role {
                for (agent, resources) in by_agent {
                    let offer = Offer {
                        framework: framework.clone(),
                        role: Arc::clone(&role),
                        agent,
                        resources,
                    };
                    offers.extend(self.add_offer(offer));
                }
            }
            if offers.is_empty() {
                continue;
            }
            let event = Event {
                r#type: Some(event::Type::Offers.into()),
                offers: Some(event::Offers { offers }),
                ..Event::default()
            };
            self.send(&framework, event);
        }
        self.make_inverse_offers();
    }

    /// Takes an offer out of all lists; its resources are still allocated.
    pub(crate) fn take_offer(&mut self, id: &OfferId) -> Option<Offer> {
        let offer = self.offers.remove(id)?;
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.remove(id);
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.remove(id);
        }
        Some(offer)
    }

    /// Takes an offer back, without a filter.
    pub(crate) fn withdraw(&mut self, id: &OfferId, notice: Notice) {
        let Some(offer) = self.take_offer(id) else { return };
        self.give_back(&offer, None);
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.counters.offer("rescinded");
        }
        if notice == Notice::Rescind {
            let event = Event {
                r#type: Some(event::Type::Rescind.into()),
                rescind: Some(event::Rescind { offer_id: id.into() }),
                ..Event::default()
            };
            self.send(&offer.framework, event);
        }
    }

    /// Takes all offers of a framework back.
    pub(crate) fn discard_offers(&mut self, framework: &FrameworkId, notice: Notice) {
        let offers = self.frameworks.get(framework).map(|framework| framework.offers.clone());
        for offer in offers.unwrap_or_default() {
            self.withdraw(&offer, notice);
        }
        self.discard_inverse_of(framework);
    }

    pub(crate) fn decline(&mut self, framework: &FrameworkId, decline: &call::Decline) {
        self.counters.count("messages_decline_offers");
        let refusal = refusal(decline.filters.as_ref());
        for id in decline.offer_ids.iter().map(OfferId::from) {
            if self.offers.get(&id).is_none_or(|offer| offer.framework != *framework) {
                continue;
            }
            let Some(offer) = self.take_offer(&id) else { continue };
            self.give_back(&offer, refusal);
            if let Some(framework) = self.frameworks.get_mut(framework) {
                framework.counters.offer("declined");
            }
        }
    }

    pub(crate) fn revive(&mut self, id: &FrameworkId, roles: &[String]) {
        self.counters.count("messages_revive_offers");
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let Some(roles) = own_roles(framework, roles) else { return };
        framework.suppressed.retain(|role| !roles.contains(role));
        self.allocator.revive(id, &roles);
    }

    pub(crate) fn suppress(&mut self, id: &FrameworkId, roles: &[String]) {
        self.counters.count("messages_suppress_offers");
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let Some(roles) = own_roles(framework, roles) else { return };
        framework.suppressed.extend(roles.iter().cloned());
        self.allocator.suppress(id, &roles);
    }

    /// Returns an offer's resources to the allocator.
    pub(crate) fn give_back(&mut self, offer: &Offer, refusal: Option<Duration>) {
        let Offer { framework, role, agent, resources } = offer;
        self.allocator.recover(framework, role, agent, resources, refusal, self.now.mono);
    }

    fn add_offer(&mut self, offer: Offer) -> Option<v1::Offer> {
        let message = self.offer_message(&offer);
        let Some(mut message) = message else {
            // Nobody to offer it to, or nothing behind it any more.
            self.give_back(&offer, None);
            return None;
        };
        let id = self.next_offer_id();
        message.id = (&id).into();
        if let Some(framework) = self.frameworks.get_mut(&offer.framework) {
            framework.offers.insert(id.clone());
            framework.counters.offer("sent");
        }
        if let Some(agent) = self.agents.get_mut(&offer.agent) {
            agent.offers.insert(id.clone());
        }
        self.offers.insert(id, offer);
        Some(message)
    }

    pub(crate) fn next_offer_id(&mut self) -> OfferId {
        let number = self.numbers.offer;
        self.numbers.offer += 1;
        OfferId::new(format!("{}-O{number}", self.settings.master_id))
    }

    fn offer_message(&self, offer: &Offer) -> Option<v1::Offer> {
        let framework = self.frameworks.get(&offer.framework).filter(|f| f.is_connected())?;
        let agent = self.agents.get(&offer.agent).filter(|agent| agent.link.is_some())?;
        let visible = offer.resources.filter(|resource| *resource.name != *"ephemeral_ports");
        let (allocation_info, resources) = if is_multi_role(&framework.info) {
            let role = Some(offer.role.to_string());
            let info = v1::resource::AllocationInfo { role };
            (Some(info), visible.allocated_to(&offer.role))
        } else {
            (None, visible)
        };
        let address = v1::Address {
            hostname: Some(agent.info.hostname.clone()),
            ip: Some(agent.peer.to_string()),
            port: agent.info.port(),
        };
        Some(v1::Offer {
            framework_id: (&offer.framework).into(),
            agent_id: (&offer.agent).into(),
            hostname: agent.info.hostname.clone(),
            url: Some(v1::Url {
                scheme: "http".to_owned(),
                address,
                path: Some("/slave(1)".to_owned()),
                ..v1::Url::default()
            }),
            domain: agent.info.domain.clone(),
            resources: to_v1_as(&resources, framework.spelling()),
            attributes: agent.info.attributes.clone(),
            unavailability: agent.unavailability,
            allocation_info,
            ..v1::Offer::default()
        })
    }
}

/// How long a framework does not want to see the same again; `None` for no filter.
pub(crate) fn refusal(filters: Option<&v1::Filters>) -> Option<Duration> {
    let seconds = filters.map_or(DEFAULT_REFUSAL.as_secs_f64(), v1::Filters::refuse_seconds);
    let refusal = if seconds > LONGEST_REFUSAL.as_secs_f64() {
        LONGEST_REFUSAL
    } else {
        Duration::try_from_secs_f64(seconds).unwrap_or(DEFAULT_REFUSAL)
    };
    (!refusal.is_zero()).then_some(refusal)
}

/// The roles named, all if none is; `None` if one of them is not the framework's,
/// which makes the whole call void.
fn own_roles(framework: &Framework, named: &[String]) -> Option<BTreeSet<Arc<str>>> {
    let own = framework.roles();
    if named.is_empty() {
        return Some(own);
    }
    let named: BTreeSet<Arc<str>> = named.iter().map(|role| Arc::from(role.as_str())).collect();
    let valid = |role: &Arc<str>| check_role(role).is_ok() && own.contains(role);
    named.iter().all(valid).then_some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_kept_within_reason() {
        let year = LONGEST_REFUSAL;
        #[rustfmt::skip]
        let table = [
            (None,                Some(DEFAULT_REFUSAL)),
            (Some(0.0),           None),
            (Some(2.5),           Some(Duration::from_millis(2500))),
            (Some(-1.0),          Some(DEFAULT_REFUSAL)),
            (Some(f64::NAN),      Some(DEFAULT_REFUSAL)),
            (Some(1e12),          Some(year)),
            (Some(f64::INFINITY), Some(year)),
        ];
        for (seconds, want) in table {
            let filters = v1::Filters { refuse_seconds: seconds };
            assert_eq!(refusal(Some(&filters)), want, "{seconds:?}");
        }
        assert_eq!(refusal(None), Some(DEFAULT_REFUSAL));
    }
}
