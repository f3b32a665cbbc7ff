//! What an operator may choose about names.

use crate::hash::Seed;
use crate::mangle::LabelRules;
use crate::name::DnsName;
use crate::route::Aliases;
use crate::statics::{BUILT_IN, COMPONENTS};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the dispatcher listens on every node.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// How long clients kept an answer of Mesos-DNS, in seconds.
const MESOS_DNS_TTL: u32 = 60;
/// The networks of VIPs and of the overlay as DC/OS sets them up.
const VIPS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(11, 0, 0, 0), 8);
const OVERLAY: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(9, 0, 0, 0), 8);
/// Their twins of IPv6, and the networks of resolvers.
const FIXED: [IpNet; 4] = [
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0), 64)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd01, 0xb, 0, 0, 0, 0, 0, 0), 64)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(198, 51, 100, 0), 24)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfd01, 0xd, 0, 0, 0, 0, 0, 0), 64)),
];

/// Which address a task's name leads to, if it has one of that source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpSource {
    /// Its container's (`netinfo`; `mesos` and `docker` mean the same here).
    Container,
    /// Its agent's (`host`).
    Host,
}

impl IpSource {
    /// Reads a word of Mesos-DNS' `IPSources`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "netinfo" | "mesos" | "docker" => Some(Self::Container),
            "host" => Some(Self::Host),
            _ => None,
        }
    }
}

/// Whose habits count where the RFCs and the old servers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Those of the RFCs.
    #[default]
    Strict,
    /// Those of Mesos-DNS and the DC/OS dispatcher.
    Legacy,
}

impl Mode {
    /// Reads `strict` or `legacy`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "strict" => Some(Self::Strict),
            "legacy" => Some(Self::Legacy),
            _ => None,
        }
    }
}

/// Settings of names; the default is what a node does if nothing is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose habits count.
    pub mode: Mode,
    /// The zone of tasks and frameworks, `mesos` by default; see [`Self::check`].
    pub domain: DnsName,
    /// How long clients may keep an answer, in seconds. The zones follow at once, so
    /// this is all the delay that a client sees.
    pub ttl: u32,
    /// The same for names in `domain`, if it is another time: see [`Self::domain_ttl`].
    pub ttl_in_domain: Option<u32>,
    /// How long clients may keep an answer while something behind its name goes away,
    /// in seconds.
    pub draining_ttl: u32,
    /// How long clients may remember that there is nothing, in seconds.
    pub negative_ttl: u32,
    /// Sources of a task's address; the first one that has any is taken.
    pub ip_sources: Vec<IpSource>,
    /// How labels are made.
    pub labels: LabelRules,
    /// Whether a task whose health check fails is answered.
    pub serve_unhealthy: bool,
    /// Whether a task that was told to stop is answered.
    pub serve_killing: bool,
    /// Weight of SRV records in `domain`.
    pub srv_weight: u16,
    /// TCP port of agents, for `_slave._tcp`.
    pub agent_port: u16,
    /// Where this resolver listens, for `ns.spartan`.
    pub resolver_addresses: Vec<IpAddr>,
    /// Addresses of this node, for `thisnode.thisdcos.directory`.
    pub node_addresses: Vec<IpAddr>,
    /// Addresses by which the world reaches this node, for
    /// `public.thisnode.thisdcos.directory`.
    pub public_addresses: Vec<IpAddr>,
    /// The masters, in the order of their numbers; none if only the leader is known.
    pub masters: Vec<IpAddr>,
    /// Members of the ZooKeeper ensemble, for `zk-1.zk` to `zk-5.zk`; the masters if
    /// there are none.
    pub ensemble: Vec<IpAddr>,
    /// Names in `component.thisdcos.directory`, without that zone, and what each stands
    /// for.
    pub components: BTreeMap<String, DnsName>,
    /// Networks whose reverse names are ours, whatever an upstream would say.
    pub reverse_networks: Vec<IpNet>,
    /// The cluster's public key in z-base-32: names in `<key>.dcos.directory` are this
    /// cluster's.
    pub cluster_key: Option<String>,
    /// Keys the hash of names; drawn anew at every start, so that nobody can prepare
    /// names which collide.
    pub seed: Seed,
    /// Where the serial starts; a node that was here before continues its own.
    pub first_serial: u32,
}

/// Why names cannot be made by some options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Tasks could take names that are the cluster's own.
    #[error("the domain `{domain}` meets the zone `{zone}`, which is the resolver's own")]
    Domain {
        /// The zone of tasks that was asked for.
        domain: DnsName,
        /// The zone that it holds, is held by, or is.
        zone: DnsName,
    },
    /// The domain of everything.
    #[error("the domain must not be the root")]
    Root,
    /// What a component is called is no name.
    #[error("`{0}` cannot be a name in component.thisdcos.directory")]
    Component(String),
    /// Components lead from one to the next, and from the last to the first.
    #[error("the component `{}` stands for itself", .0.join("` and `"))]
    Circle(Vec<String>),
}

impl Options {
    /// How long clients may keep an answer about `domain`, in seconds: as configured,
    /// or as for the rest; in legacy mode the minute that it always was.
    #[must_use]
    pub fn domain_ttl(&self) -> u32 {
        self.ttl_in_domain.unwrap_or(match self.mode {
            Mode::Strict => self.ttl,
            Mode::Legacy => MESOS_DNS_TTL,
        })
    }

    /// The cluster's own networks, for [`Self::reverse_networks`].
    #[must_use]
    pub fn networks(vips: Ipv4Net, overlay: Ipv4Net) -> Vec<IpNet> {
        [IpNet::V4(vips), IpNet::V4(overlay)].into_iter().chain(FIXED).collect()
    }

    /// Whether names can be made by these options.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] names the first option that cannot be.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.domain.as_str().is_empty() {
            return Err(OptionsError::Root);
        }
        for zone in BUILT_IN.map(DnsName::fixed) {
            if self.domain.before(&zone).is_some() || zone.before(&self.domain).is_some() {
                return Err(OptionsError::Domain { domain: self.domain.clone(), zone });
            }
        }
        let wrong = |name: &&String| name.is_empty() || DnsName::parse(name).is_err();
        if let Some(name) = self.components.keys().find(wrong) {
            return Err(OptionsError::Component(name.clone()));
        }
        self.circle().map_or(Ok(()), |way| Err(OptionsError::Circle(way)))
    }

    /// Components that lead to each other in a circle, in that order.
    fn circle(&self) -> Option<Vec<String>> {
        let (zone, forms) = (DnsName::fixed(COMPONENTS), Aliases::new(self));
        let parsed = |(name, target): (&String, &DnsName)| {
            let target = forms.held(target).before(&zone)?.to_owned();
            Some((DnsName::parse(name).ok()?.as_str().to_owned(), target))
        };
        let leads: BTreeMap<String, String> = self.components.iter().filter_map(parsed).collect();
        leads.keys().find_map(|first| {
            let mut way = vec![first.clone()];
            while let Some(next) = way.last().and_then(|last| leads.get(last)) {
                match next {
                    next if next == first => return Some(way),
                    // One that does not come by here is found from one of its own.
                    next if way.contains(next) => return None,
                    next => way.push(next.clone()),
                }
            }
            None
        })
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Strict,
            domain: DnsName::fixed("mesos"),
            ttl: 5,
            ttl_in_domain: None,
            draining_ttl: 1,
            negative_ttl: 1,
            ip_sources: vec![IpSource::Container, IpSource::Host],
            labels: LabelRules::Rfc1123,
            serve_unhealthy: false,
            serve_killing: false,
            srv_weight: 1,
            agent_port: 5051,
            resolver_addresses: vec![RESOLVER],
            node_addresses: Vec::new(),
            public_addresses: Vec::new(),
            masters: Vec::new(),
            ensemble: Vec::new(),
            components: BTreeMap::new(),
            reverse_networks: Self::networks(VIPS, OVERLAY),
            cluster_key: None,
            seed: Seed::default(),
            first_serial: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_of_tasks_stands_alone() {
        #[rustfmt::skip]
        let table: &[(&str, Option<&str>)] = &[
            ("mesos",                 None),
            ("cluster.example",       None),
            ("thisdcos.directory",    Some("thisdcos.directory")),
            ("directory",             Some("thisdcos.directory")),
            ("l4lb.thisdcos.directory", Some("thisdcos.directory")),
            ("x.thisdcos.global",     Some("thisdcos.global")),
            ("dcos.directory",        Some("dcos.directory")),
            ("spartan",               Some("spartan")),
            ("arpa",                  Some("in-addr.arpa")),
            ("my.zk",                 Some("zk")),
        ];
        for (domain, zone) in table {
            let domain = DnsName::parse(domain).unwrap();
            let options = Options { domain: domain.clone(), ..Options::default() };
            let meets = |zone: &&str| OptionsError::Domain {
                domain: domain.clone(),
                zone: DnsName::parse(zone).unwrap(),
            };
            assert_eq!(options.check(), zone.as_ref().map_or(Ok(()), |zone| Err(meets(zone))));
        }
        let root = Options { domain: DnsName::root(), ..Options::default() };
        assert_eq!(root.check(), Err(OptionsError::Root));
        let components = BTreeMap::from([("a b".to_owned(), DnsName::root())]);
        let odd = Options { components, ..Options::default() };
        assert_eq!(odd.check(), Err(OptionsError::Component("a b".to_owned())));
    }

    #[test]
    fn components_lead_somewhere() {
        /// Names and what they lead to; which of them are refused.
        type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);
        #[rustfmt::skip]
        let table: &[Case] = &[
            (&[("a", "web.marathon.mesos"), ("b", "a.component.thisdcos.directory")], &[]),
            (&[("a", "c.component.thisdcos.directory"), ("b", "a.mesos")],            &[]),
            (&[("a", "A.Component.thisdcos.directory.")],                             &["a"]),
            (&[("a", "a.component.thisdcos.global")],                                 &["a"]),
            (&[("a", "a.component.key.dcos.directory")],                              &["a"]),
            (&[("a.", "a.component.thisdcos.directory")],                             &["a"]),
            (&[("x.y", "b.component.thisdcos.directory"), ("b", "x.y.component.thisdcos.directory")], &["b", "x.y"]),
            // The first one only leads to a circle.
            (&[("a", "b.component.thisdcos.directory"), ("b", "c.component.thisdcos.directory"), ("c", "b.component.thisdcos.directory")], &["b", "c"]),
        ];
        for (components, way) in table {
            let pair =
                |(name, to): &(&str, &str)| ((*name).to_owned(), DnsName::parse(to).unwrap());
            let components: BTreeMap<_, _> = components.iter().map(pair).collect();
            let options = Options {
                components: components.clone(),
                cluster_key: Some("key".to_owned()),
                ..Options::default()
            };
            let want = match way {
                [] => Ok(()),
                way => Err(OptionsError::Circle(way.iter().map(|s| (*s).to_owned()).collect())),
            };
            assert_eq!(options.check(), want, "{components:?}");
        }
    }

    #[test]
    fn the_old_minute_counts_in_legacy_mode_only() {
        let mut options = Options { ttl: 7, ..Options::default() };
        assert_eq!(options.domain_ttl(), 7);
        options.mode = Mode::Legacy;
        assert_eq!(options.domain_ttl(), 60);
        options.ttl_in_domain = Some(9);
        assert_eq!(options.domain_ttl(), 9);
    }
}
