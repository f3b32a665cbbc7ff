//! An offer, and taking from it what a copy needs.

pub mod constraint;

use crate::app::App;
use crate::instance::Instance;
use crate::task::ports::{self, AssignedPort, HostPort, WantedPort};
use crate::why::{Reason, Rejection};
use mizzen_api::v1;
use mizzen_types::random::Dice;
use mizzen_types::resources::{Ranges, Scalar};
use mizzen_types::time::Wall;

/// An offer of which parts may already be given away.
#[derive(Debug, Clone)]
pub struct Pool {
    /// The offer as it came.
    pub offer: v1::Offer,
    left: Vec<v1::Resource>,
}

/// What a copy gets of an offer.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The resources, with everything that marks them in the offer.
    pub resources: Vec<v1::Resource>,
    /// The numbers of its ports, in the app's order.
    pub ports: Vec<AssignedPort>,
}

impl Pool {
    /// All of an offer. What cannot be given away in parts, or can be taken back,
    /// is left alone.
    #[must_use]
    pub fn new(offer: v1::Offer) -> Self {
        let plain = |resource: &&v1::Resource| {
            resource.revocable.is_none() && resource.disk.is_none() && resource.shared.is_none()
        };
        let left = offer.resources.iter().filter(plain).cloned().collect();
        Self { offer, left }
    }

    /// Whether the time has come at which its machine is to be left.
    #[must_use]
    pub fn is_in_maintenance(&self, now: Wall) -> bool {
        self.offer.unavailability.is_some_and(|planned| {
            let (now, start) = (i128::from(now.0), i128::from(planned.start.nanoseconds));
            let end = planned.duration.map(|duration| start + i128::from(duration.nanoseconds));
            start <= now && end.is_none_or(|end| now < end)
        })
    }

    /// Takes what one more copy of `app` needs; `copies` are those that it has.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] tells the first thing that the offer lacks; nothing is
    /// taken then.
    pub fn take<'a>(
        &mut self,
        app: &App,
        copies: impl Iterator<Item = &'a Instance> + Clone,
        dice: &mut Dice,
    ) -> Result<Taken, Rejection> {
        if !self.left.iter().any(|resource| is_accepted(app, resource)) {
            let roles = app.accepted_resource_roles.join("' or '");
            let words = format!("accepts resources of role '{roles}' only, no offer has any");
            return Err(Rejection::words(Reason::UnfulfilledRole, words));
        }
        constraint::check(app, &self.offer, copies)?;
        let amounts = [
            ("cpus", app.cpus, Reason::InsufficientCpus),
            ("mem", app.mem, Reason::InsufficientMemory),
            ("disk", app.disk, Reason::InsufficientDisk),
            ("gpus", f64::from(app.gpus), Reason::InsufficientGpus),
        ];
        for (name, amount, reason) in amounts {
            let has = self.scalar(app, name);
            if has < Scalar::from_f64(amount).unwrap_or_default() {
                return Err(Rejection::amount(reason, has));
            }
        }
        let wanted = ports::wanted(app);
        let numbers = self.pick_ports(app, &wanted, dice)?;
        let mut resources = Vec::new();
        for (name, amount, _) in amounts {
            let amount = Scalar::from_f64(amount).unwrap_or_default();
            self.take_scalar(app, name, amount, &mut resources);
        }
        self.take_ports(app, &numbers, &mut resources);
        Ok(Taken { resources, ports: ports::assign(wanted, &numbers, dice) })
    }

    fn scalar(&self, app: &App, name: &str) -> Scalar {
        let usable = self.left.iter().filter(|r| r.name == name && is_accepted(app, r));
        usable.fold(Scalar::ZERO, |sum, resource| sum.plus(scalar_of(resource)))
    }

    /// Reserved ones first, so that others can still have the rest.
    fn take_scalar(
        &mut self,
        app: &App,
        name: &str,
        amount: Scalar,
        taken: &mut Vec<v1::Resource>,
    ) {
        let mut missing = amount;
        let mut order: Vec<usize> = (0..self.left.len()).collect();
        order.sort_by_key(|index| role_of(&self.left[*index]) == "*");
        for index in order {
            let resource = &mut self.left[index];
            let part = scalar_of(resource).min(missing);
            if resource.name != name || !is_accepted(app, resource) || !part.is_positive() {
                continue;
            }
            let with = |scalar: Scalar| Some(v1::value::Scalar { value: scalar.as_f64() });
            taken.push(v1::Resource { scalar: with(part), ..resource.clone() });
            resource.scalar = with(scalar_of(resource).minus(part));
            missing = missing.minus(part);
        }
    }

    /// A host port for each wanted port that has one, in order.
    fn pick_ports(
        &self,
        app: &App,
        wanted: &[WantedPort],
        dice: &mut Dice,
    ) -> Result<Vec<u16>, Rejection> {
        let usable = self.left.iter().filter(|r| r.name == "ports" && is_accepted(app, r));
        let offered = Ranges::new(usable.flat_map(ranges_of));
        let exact = wanted.iter().filter_map(|port| match port.host {
            HostPort::Exact(number) => Some(u64::from(number)),
            HostPort::Any | HostPort::None => None,
        });
        let exact = Ranges::new(exact.map(|number| (number, number)));
        let lacking = exact.difference(&offered);
        if let Some((number, _)) = lacking.iter().next() {
            let words = format!("needs host port {number}, which no offer has");
            return Err(Rejection::words(Reason::InsufficientPorts, words));
        }
        let free = offered.difference(&exact);
        let any = wanted.iter().filter(|port| port.host == HostPort::Any).count();
        if free.count() < any as u64 {
            let has = offered.count();
            let words = format!("needs {any} host ports, the offer of an agent has {has}");
            return Err(Rejection::words(Reason::InsufficientPorts, words));
        }
        let mut picked = pick(&free, any, dice).into_iter();
        let number = |port: &WantedPort| match port.host {
            HostPort::Exact(number) => Some(number),
            HostPort::Any => picked.next(),
            HostPort::None => None,
        };
        Ok(wanted.iter().filter_map(number).collect())
    }

    fn take_ports(&mut self, app: &App, numbers: &[u16], taken: &mut Vec<v1::Resource>) {
        let mut missing = Ranges::new(numbers.iter().map(|n| (u64::from(*n), u64::from(*n))));
        for resource in self.left.iter_mut().filter(|r| r.name == "ports" && is_accepted(app, r)) {
            let offered = Ranges::new(ranges_of(resource));
            let rest = offered.difference(&missing);
            let part = offered.difference(&rest);
            if part.is_empty() {
                continue;
            }
            taken.push(v1::Resource { ranges: Some(to_v1(&part)), ..resource.clone() });
            resource.ranges = Some(to_v1(&rest));
            missing = missing.difference(&part);
        }
    }
}

/// `n` numbers of `free`, in a row from a random place, so that a number that was
/// given back is not at once given to somebody else.
fn pick(free: &Ranges, n: usize, dice: &mut Dice) -> Vec<u16> {
    let total = usize::try_from(free.count()).unwrap_or(usize::MAX);
    let start = dice.below(total) as u64;
    let number = |index: u64| {
        let mut index = index % free.count().max(1);
        for (begin, end) in free.iter() {
            let length = end - begin + 1;
            if index < length {
                return u16::try_from(begin + index).ok();
            }
            index -= length;
        }
        None
    };
    (start..).take(n).filter_map(number).collect()
}

fn is_accepted(app: &App, resource: &v1::Resource) -> bool {
    let role = role_of(resource);
    app.accepted_resource_roles.iter().any(|accepted| accepted == role)
}

/// The role that a resource is reserved for, `*` if none.
fn role_of(resource: &v1::Resource) -> &str {
    let last = resource.reservations.last().and_then(|reservation| reservation.role.as_deref());
    last.or(resource.role.as_deref()).unwrap_or("*")
}

fn scalar_of(resource: &v1::Resource) -> Scalar {
    let value = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
    Scalar::from_f64(value).unwrap_or_default()
}

fn ranges_of(resource: &v1::Resource) -> impl Iterator<Item = (u64, u64)> + '_ {
    let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
    // Numbers beyond what a port can be would be of no use.
    ranges.map(|range| (range.begin.max(1), range.end.min(u64::from(u16::MAX))))
}

fn to_v1(ranges: &Ranges) -> v1::value::Ranges {
    let range = |(begin, end)| v1::value::Range { begin, end };
    v1::value::Ranges { range: ranges.iter().map(range).collect() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::app;
    use serde_json::{Value, json};

    pub fn scalar(name: &str, value: f64, role: &str) -> v1::Resource {
        v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            role: Some(role.to_owned()),
            ..v1::Resource::default()
        }
    }

    pub fn port_range(begin: u64, end: u64) -> v1::Resource {
        v1::Resource {
            name: "ports".to_owned(),
            r#type: v1::value::Type::Ranges.into(),
            ranges: Some(v1::value::Ranges { range: vec![v1::value::Range { begin, end }] }),
            ..v1::Resource::default()
        }
    }

    /// An offer of 2 cpus, 512 MB and 10 ports on agent `S<n>`.
    pub fn offer(n: usize) -> v1::Offer {
        v1::Offer {
            id: v1::OfferId { value: format!("O{n}") },
            agent_id: v1::AgentId { value: format!("S{n}") },
            hostname: format!("node{n}"),
            resources: vec![
                scalar("cpus", 2.0, "*"),
                scalar("mem", 512.0, "*"),
                port_range(31_000, 31_009),
            ],
            ..v1::Offer::default()
        }
    }

    fn take(pool: &mut Pool, members: Value) -> Result<Taken, Rejection> {
        pool.take(&app(members), [].iter(), &mut Dice::new(3))
    }

    #[test]
    fn copies_take_their_part_until_something_is_lacking() {
        let mut pool = Pool::new(offer(0));
        let members = json!({"cpus": 0.7, "mem": 100, "ports": [0, 0]});
        let first = take(&mut pool, members.clone()).unwrap();
        let second = take(&mut pool, members.clone()).unwrap();
        let third = take(&mut pool, members).unwrap_err();
        assert_eq!(third, Rejection::amount(Reason::InsufficientCpus, Scalar::from_milli(600)));
        let ports = |taken: &Taken| taken.ports.iter().filter_map(|p| p.host).collect::<Vec<_>>();
        let mut all = [ports(&first), ports(&second)].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4, "no port is given twice");
        let names: Vec<_> = first.resources.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["cpus", "mem", "ports"]);
        assert_eq!(scalar_of(&first.resources[0]), Scalar::from_milli(700));
    }

    #[test]
    fn what_an_offer_lacks() {
        let amount = |reason, has| Rejection::amount(reason, Scalar::from_units(has));
        let words = |reason, words: &str| Rejection::words(reason, words);
        let ports: Vec<u16> = vec![0; 11];
        #[rustfmt::skip]
        let table: &[(Value, Rejection)] = &[
            (json!({"cpus": 4000}),            amount(Reason::InsufficientCpus, 2)),
            (json!({"mem": 512.001}),          amount(Reason::InsufficientMemory, 512)),
            (json!({"disk": 1}),               amount(Reason::InsufficientDisk, 0)),
            (json!({"gpus": 1}),               amount(Reason::InsufficientGpus, 0)),
            (json!({"ports": ports}),          words(Reason::InsufficientPorts, "needs 11 host ports, the offer of an agent has 10")),
            (json!({"ports": [80], "requirePorts": true}), words(Reason::InsufficientPorts, "needs host port 80, which no offer has")),
        ];
        for (members, want) in table {
            assert_eq!(
                take(&mut Pool::new(offer(0)), members.clone()).as_ref(),
                Err(want),
                "{members}"
            );
        }
        let mut reserved = offer(0);
        reserved.resources = vec![scalar("cpus", 2.0, "gold")];
        let rejection = take(&mut Pool::new(reserved), json!({})).unwrap_err();
        assert_eq!(rejection.reason, Reason::UnfulfilledRole);
    }

    #[test]
    fn required_ports_are_the_ones_taken() {
        let mut pool = Pool::new(offer(0));
        let members = json!({"ports": [31_004, 0], "requirePorts": true, "cpus": 0.1});
        let wanted = ports::wanted(&app(members));
        assert_eq!([wanted[0].host, wanted[1].host], [HostPort::Exact(31_004), HostPort::Any]);
        let only = app(json!({"ports": [31_004], "requirePorts": true, "cpus": 0.1}));
        let taken = pool.take(&only, [].iter(), &mut Dice::new(1)).unwrap();
        assert_eq!(taken.ports[0].host, Some(31_004));
        let again = pool.take(&only, [].iter(), &mut Dice::new(1)).unwrap_err();
        assert_eq!(again.reason, Reason::InsufficientPorts);
    }

    #[test]
    fn reserved_resources_keep_their_marks_and_go_first() {
        let mut offer = offer(0);
        offer.resources.push(scalar("cpus", 1.0, "gold"));
        let mut app = app(json!({"cpus": 1.5}));
        app.accepted_resource_roles = vec!["*".to_owned(), "gold".to_owned()];
        let taken = Pool::new(offer).take(&app, [].iter(), &mut Dice::new(1)).unwrap();
        let cpus = taken.resources.iter().filter(|resource| resource.name == "cpus");
        let parts: Vec<_> = cpus.map(|r| (role_of(r), scalar_of(r).milli())).collect();
        assert_eq!(parts, [("gold", 1000), ("*", 500)]);
    }
}
