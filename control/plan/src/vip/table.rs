//! The services and who stands behind each of them.

use super::claims::twin;
use super::policy::Voices;
use super::source::{ServiceKey, Share, Source, Standing, Target};
use mizzen_types::place::Places;
use mizzen_types::vip::{BackendSpec, Distance, PolicyWish, Protocol, Withheld};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Every service that somebody wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    services: BTreeMap<Arc<ServiceKey>, Service>,
}

/// One service: those who want it, and their backends in the order of addresses.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    pub sources: BTreeSet<Arc<Source>>,
    /// What those say of its policy who say anything.
    opinions: BTreeMap<Arc<Source>, PolicyWish>,
    backends: BTreeMap<(SocketAddr, Arc<Source>), Share>,
}

/// The families of addresses that a name has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Those of either.
    pub fn or(self, other: Self) -> Self {
        Self { v4: self.v4 || other.v4, v6: self.v6 || other.v6 }
    }

    /// Whether the family of this address is one of them.
    pub fn has(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// The addresses of a name that holds this one.
    pub fn addresses(self, held: Ipv4Addr) -> Vec<IpAddr> {
        let v4 = self.v4.then_some(IpAddr::V4(held));
        let v6 = self.v6.then(|| IpAddr::V6(twin(held)));
        v4.into_iter().chain(v6).collect()
    }
}

impl Service {
    /// Who names which address, in their order.
    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.backends.iter().map(|((address, source), share)| (address, source, share))
    }

    /// Whether anybody says anything about its policy.
    pub fn is_opinionated(&self) -> bool {
        !self.opinions.is_empty()
    }

    /// IPv4 addresses come first.
    fn families(&self) -> Families {
        let is_v4 = |entry: Option<(&(SocketAddr, Arc<Source>), &Share)>| {
            entry.is_some_and(|((address, _), _)| address.is_ipv4())
        };
        let v4 = is_v4(self.backends.first_key_value());
        let v6 = !self.backends.is_empty() && !is_v4(self.backends.last_key_value());
        Families { v4, v6 }
    }
}

impl Table {
    /// Adds what a source stands behind.
    pub fn insert(&mut self, source: &Arc<Source>, standings: &[Standing]) {
        for standing in standings {
            let service = self.services.entry(standing.service.clone()).or_default();
            service.sources.insert(source.clone());
            if standing.policy != PolicyWish::default() {
                service.opinions.insert(source.clone(), standing.policy);
            }
            let shares = standing.shares.iter();
            let shares = shares.map(|(address, share)| ((*address, source.clone()), *share));
            service.backends.extend(shares);
        }
    }

    /// Takes it away again.
    pub fn remove(&mut self, source: &Arc<Source>, standings: &[Standing]) {
        for standing in standings {
            let Some(service) = self.services.get_mut(&standing.service) else { continue };
            service.sources.remove(source);
            service.opinions.remove(source);
            for (address, _) in &standing.shares {
                service.backends.remove(&(*address, source.clone()));
            }
            if service.sources.is_empty() {
                self.services.remove(&standing.service);
            }
        }
    }

    /// One service.
    pub fn get(&self, target: Target, port: u16, protocol: Protocol) -> Option<&Service> {
        self.services.get(&ServiceKey { target, port, protocol })
    }

    /// Whether anybody wants this service.
    pub fn contains(&self, key: &ServiceKey) -> bool {
        self.services.contains_key(key)
    }

    /// Every service.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<ServiceKey>, &Service)> {
        self.services.iter()
    }

    /// What every service is called.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ServiceKey>> {
        self.services.keys()
    }

    /// The services of a name, on whichever port.
    pub fn of_name(&self, name: &str) -> impl Iterator<Item = &Arc<ServiceKey>> {
        self.of_target(Target::Name(name.to_owned())).map(|(key, _)| key)
    }

    /// Whether there is a service at this address, on whichever port.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.of_target(Target::Address(address)).next().is_some()
    }

    /// The families that the backends of a name have. A name without any backend has the
    /// first one, so that its clients are refused and do not wait.
    pub fn families(&self, name: &str) -> Families {
        let mut all = self.of_target(Target::Name(name.to_owned())).map(|(_, s)| s.families());
        let Some(first) = all.next() else { return Families::default() };
        match all.fold(first, Families::or) {
            Families { v4: false, v6: false } => Families { v4: true, v6: false },
            some => some,
        }
    }

    fn of_target(&self, target: Target) -> impl Iterator<Item = (&Arc<ServiceKey>, &Service)> {
        let first = ServiceKey { target: target.clone(), port: 0, protocol: Protocol::Tcp };
        let from = self.services.range::<ServiceKey, _>(first..);
        from.take_while(move |(key, _)| key.target == target)
    }
}

/// The backends of services that meet at one VIP, of the family of its address.
pub(super) fn backends(services: &[&Service], vip: IpAddr, places: &Places) -> Vec<BackendSpec> {
    let of_family = |entry: &Entry<'_>| entry.0.is_ipv4() == vip.is_ipv4();
    // One service mostly is all there is, and has them in order.
    if let [service] = services {
        let mut backends = Vec::with_capacity(service.backends.len());
        merge(service.entries().filter(of_family), places, &mut backends);
        return backends;
    }
    let all = services.iter().flat_map(|service| service.entries());
    let mut all: Vec<Entry<'_>> = all.filter(of_family).collect();
    all.sort_by_key(|(address, source, _)| (*address, *source));
    let mut backends = Vec::with_capacity(all.len());
    merge(all.into_iter(), places, &mut backends);
    backends
}

/// The backend that services which meet at one VIP have at an address.
pub(super) fn backend_at(
    services: &[&Service],
    at: SocketAddr,
    places: &Places,
) -> Option<BackendSpec> {
    let first = (at, Source::first());
    let mut meeting: Vec<Entry<'_>> = Vec::new();
    for service in services {
        let from =
            service.backends.range(first.clone()..).take_while(|((address, _), _)| *address == at);
        meeting.extend(from.map(|((address, source), share)| (address, source, share)));
    }
    meeting.sort_by_key(|(_, source, _)| *source);
    (!meeting.is_empty()).then(|| backend(&meeting, places))
}

/// Makes a backend of all who name the same address, which follow each other.
fn merge<'a>(
    mut all: impl Iterator<Item = Entry<'a>>,
    places: &Places,
    backends: &mut Vec<BackendSpec>,
) {
    let mut meeting: Vec<Entry<'_>> = all.next().into_iter().collect();
    for entry in all {
        if meeting.first().is_some_and(|first| first.0 != entry.0) {
            backends.push(backend(&meeting, places));
            meeting.clear();
        }
        meeting.push(entry);
    }
    if !meeting.is_empty() {
        backends.push(backend(&meeting, places));
    }
}

/// Who says what about the policy of services that meet at one VIP.
pub(super) fn voices<'a>(services: &[&'a Service]) -> Voices<'a> {
    let all = services.iter().flat_map(|service| &service.opinions);
    let mut voices: Voices<'a> = all.map(|(source, wish)| (source, *wish)).collect();
    voices.sort_by_key(|(source, _)| *source);
    voices
}

type Entry<'a> = (&'a SocketAddr, &'a Arc<Source>, &'a Share);

/// One backend of all who name its address. The first one says its weight; it is
/// admitted if one of its tasks is and nobody registered it with a weight of 0.
fn backend(meeting: &[Entry<'_>], places: &Places) -> BackendSpec {
    let (address, source, first) = meeting[0];
    let of_task = |(_, source, share): &Entry<'_>| match places.is_doubted(source.owner()) {
        true => Some(Withheld::NoAnswer),
        false => share.withheld,
    };
    let distance = |(address, source, _): &Entry<'_>| match source.task() {
        Some(_) => places.distance(source.owner()),
        None => places.distance_of(address.ip()),
    };
    let (withheld, distance, task) = match (meeting, source.task()) {
        ([alone], Some(task)) => (of_task(alone), distance(alone), Some(task)),
        _ => {
            let tasks = || meeting.iter().filter(|(_, source, _)| source.task().is_some());
            let by_hand = || meeting.iter().filter(|(_, source, _)| source.task().is_none());
            // One that takes clients is heard, or else the first.
            let of_tasks = || tasks().map(of_task).min_by_key(Option::is_some).flatten();
            let withheld = by_hand().find_map(|(_, _, share)| share.withheld).or_else(of_tasks);
            let nearest = meeting.iter().map(distance).min().unwrap_or(Distance::Far);
            (withheld, nearest, tasks().find_map(|(_, source, _)| source.task()))
        }
    };
    BackendSpec {
        address: *address,
        weight: if withheld.is_none() { first.weight.max(1) } else { first.weight },
        withheld,
        distance,
        task: task.cloned(),
    }
}
