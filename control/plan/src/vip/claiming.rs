//! Addresses of named services: claimed, and heard from other nodes.

use super::claims::Relocated;
use super::effects::keys_in;
use super::source::{ServiceKey, Target};
use super::{Claim, Effects, Planner, twin};
use mizzen_types::fact::Fact;
use mizzen_types::ids::OwnerId;
use std::net::{IpAddr, Ipv4Addr};

/// How often a node follows others to a lower address of a name. Nodes that follow each other
/// by what was so a moment ago could go on for ever; upwards there is an end. Where the name is
/// follows from all that is said, and does not need everybody to say the same.
pub(super) const FOLLOWED_DOWN: u8 = 4;

impl Planner {
    /// The address of a name that this node claims: it claimed one before, or something of
    /// it stands behind the name. Others need not repeat that.
    #[must_use]
    pub fn own_claim(&self, name: &str) -> Option<IpAddr> {
        let said = self.claims.said_by(self.places.here(), name).is_some();
        (said || self.is_behind(name)).then(|| self.wish(name)).flatten().map(IpAddr::V4)
    }

    /// What this node has to say of a name: where it is, unless it followed often enough.
    fn wish(&self, name: &str) -> Option<Ipv4Addr> {
        let held = self.claims.address_of(name)?;
        let said = self.claims.said_by(self.places.here(), name);
        let insists = |said: &Ipv4Addr| held < *said && self.has_followed(name);
        Some(said.filter(insists).unwrap_or(held))
    }

    /// Whether this node does not follow to lower addresses of a name any more.
    pub(super) fn has_followed(&self, name: &str) -> bool {
        self.followed_down.get(name).is_some_and(|times| *times >= FOLLOWED_DOWN)
    }

    /// Whether something of this node stands behind a name.
    fn is_behind(&self, name: &str) -> bool {
        let services = self.table.of_name(name);
        let services =
            services.filter_map(|key| self.table.get(key.target.clone(), key.port, key.protocol));
        let mut sources = services.flat_map(|service| &service.sources);
        sources.any(|source| self.places.is_here(source.owner()))
    }

    /// Makes sure that a named service has an address.
    pub(super) fn claim(&mut self, service: &ServiceKey) -> Option<Claim> {
        let Target::Name(name) = &service.target else { return None };
        if self.claims.address_of(name).is_some() {
            return None;
        }
        let table = &self.table;
        let spelled_out = |address: Ipv4Addr| {
            table.has_address(address.into()) || table.has_address(twin(address).into())
        };
        let address = self.claims.claim(name, spelled_out)?;
        Some(Claim { name: name.clone(), address: address.into() })
    }

    /// Takes in what a log says about the address of a name: that of a former process of
    /// this node, or of another node. Whoever loses an address by that gets another one.
    pub(super) fn hear_claim(
        &mut self,
        owner: &OwnerId,
        name: &str,
        after: Option<&Fact>,
    ) -> Effects {
        let said = match after {
            Some(Fact::VipClaim(IpAddr::V4(address))) => Some(*address),
            _ => None,
        };
        let is_own = owner == self.places.here();
        let former = self.claims.said_by(owner, name).filter(|_| is_own);
        if former.zip(said).is_some_and(|(former, said)| said < former) {
            let times = self.followed_down.entry(name.to_owned()).or_default();
            *times = times.saturating_add(1);
        }
        let relocated = self.claims.hear(owner, name, said);
        let mut effects = Effects::default();
        for Relocated { name, before } in &relocated {
            self.relocate(name, *before, &mut effects);
        }
        let touched = relocated.iter().map(|relocated| relocated.name.as_str());
        for name in touched.chain([name]) {
            self.say_anew(name, &mut effects);
        }
        effects
    }

    /// Notes the services of a name that has left its address.
    fn relocate(&mut self, name: &str, before: Option<Ipv4Addr>, effects: &mut Effects) {
        let services: Vec<_> = self.table.of_name(name).cloned().collect();
        let families = self.table.families(name);
        for service in &services {
            effects.claims.extend(self.claim(service));
            let former = before.into_iter().flat_map(|held| keys_in(service, held, families));
            effects.changed.extend(former.chain(self.keys_of(service)));
        }
    }

    /// Notes the claim of this node that its log should say and does not.
    fn say_anew(&self, name: &str, effects: &mut Effects) {
        let Some(address) = self.wish(name) else { return };
        let is_known = effects.claims.iter().any(|claim| claim.name == name);
        let differs = |said: Ipv4Addr| said != address;
        let said = self.claims.said_by(self.places.here(), name);
        if !is_known && said.is_some_and(differs) {
            effects.claims.push(Claim { name: name.to_owned(), address: address.into() });
        }
    }
}
