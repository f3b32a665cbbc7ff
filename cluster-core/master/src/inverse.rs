//! Inverse offers: frameworks are asked to leave agents, and answer.

use crate::Master;
use crate::offers::{Notice, refusal};
use mizzen_api::v1;
use mizzen_api::v1::allocator::{InverseOfferStatus, inverse_offer_status::Status};
use mizzen_api::v1::scheduler::{Event, event};
use mizzen_types::ids::{AgentId, FrameworkId, OfferId};

/// An outstanding request to leave an agent.
#[derive(Debug)]
pub(crate) struct InverseOffer {
    framework: FrameworkId,
    agent: AgentId,
}

impl Master {
    /// Asks whoever the allocator found, one event a framework.
    pub(crate) fn make_inverse_offers(&mut self) {
        for (framework, agents) in self.allocator.take_requests() {
            let offers = agents.into_iter();
            let inverse_offers: Vec<v1::InverseOffer> =
                offers.filter_map(|agent| self.add_inverse_offer(&framework, agent)).collect();
            if inverse_offers.is_empty() {
                continue;
            }
            let event = Event {
                r#type: Some(event::Type::InverseOffers.into()),
                inverse_offers: Some(event::InverseOffers { inverse_offers }),
                ..Event::default()
            };
            self.send(&framework, event);
        }
    }

    /// ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS. Neither moves a task; operators
    /// see what was said.
    pub(crate) fn answer_inverse_offers(
        &mut self,
        framework: &FrameworkId,
        offers: &[v1::OfferId],
        filters: Option<&v1::Filters>,
        status: Status,
    ) {
        let refused = refusal(filters);
        for id in offers.iter().map(OfferId::from) {
            let own = self.inverse_offers.get(&id).is_some_and(|o| o.framework == *framework);
            let Some(offer) = self.inverse_offers.remove(&id).filter(|_| own) else { continue };
            self.allocator.request_over(framework, &offer.agent, refused, self.now.mono);
            let nanoseconds = i64::try_from(self.now.wall.0).unwrap_or(i64::MAX);
            let answer = InverseOfferStatus {
                status: status.into(),
                framework_id: framework.into(),
                timestamp: v1::TimeInfo { nanoseconds },
            };
            if let Some(agent) = self.agents.get_mut(&offer.agent) {
                agent.answers.insert(framework.clone(), answer);
            }
        }
    }

    /// Takes back what was asked about an agent.
    pub(crate) fn rescind_inverse_of_agent(&mut self, agent: &AgentId) {
        self.take_back(Notice::Rescind, |offer| offer.agent == *agent);
    }

    /// Forgets what a framework was asked that listens no more.
    pub(crate) fn discard_inverse_of(&mut self, framework: &FrameworkId) {
        self.take_back(Notice::Silent, |offer| offer.framework == *framework);
    }

    fn take_back(&mut self, notice: Notice, is_meant: impl Fn(&InverseOffer) -> bool) {
        let taken = self.inverse_offers.extract_if(.., |_, offer| is_meant(offer));
        let taken: Vec<(OfferId, InverseOffer)> = taken.collect();
        for (id, offer) in taken {
            let InverseOffer { framework, agent } = offer;
            self.allocator.request_over(&framework, &agent, None, self.now.mono);
            if notice == Notice::Rescind {
                let event = Event {
                    r#type: Some(event::Type::RescindInverseOffer.into()),
                    rescind_inverse_offer: Some(event::RescindInverseOffer {
                        inverse_offer_id: (&id).into(),
                    }),
                    ..Event::default()
                };
                self.send(&framework, event);
            }
        }
    }

    fn add_inverse_offer(
        &mut self,
        framework: &FrameworkId,
        agent: AgentId,
    ) -> Option<v1::InverseOffer> {
        let unavailability = self.agents.get(&agent)?.unavailability?;
        let id = self.next_offer_id();
        let message = v1::InverseOffer {
            id: (&id).into(),
            framework_id: framework.into(),
            agent_id: Some((&agent).into()),
            unavailability,
            ..v1::InverseOffer::default()
        };
        let offer = InverseOffer { framework: framework.clone(), agent };
        self.inverse_offers.insert(id, offer);
        Some(message)
    }
}
