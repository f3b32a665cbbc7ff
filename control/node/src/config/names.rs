//! From the configuration to what names are made by.

use super::{Config, Role};
use mizzen_dns_core::mangle::LabelRules;
use mizzen_dns_core::{DnsName, IpSource, Options, OptionsError};
use std::net::{IpAddr, SocketAddr};

impl Config {
    /// What names are made by. The key of their hash and the first serial are not
    /// configured: whoever makes zones gives them.
    #[must_use]
    pub fn name_options(&self) -> Options {
        let dns = &self.dns;
        let name = |text: &String| DnsName::parse(text).ok();
        let components = dns.components.iter();
        Options {
            mode: dns.mode,
            // The configuration has read the name already.
            domain: name(&dns.domain).unwrap_or(Options::default().domain),
            ttl: dns.ttl,
            negative_ttl: dns.negative_ttl,
            draining_ttl: dns.draining_ttl,
            ip_sources: dns.ip_sources.iter().filter_map(|t| IpSource::from_text(t)).collect(),
            labels: if dns.enforce_rfc952 { LabelRules::Rfc952 } else { LabelRules::Rfc1123 },
            serve_unhealthy: dns.serve_unhealthy,
            serve_killing: dns.serve_killing,
            srv_weight: dns.srv_weight,
            agent_port: self.agent.listen.port(),
            resolver_addresses: self.resolver_addresses(),
            node_addresses: vec![self.address],
            public_addresses: dns.public_addresses.clone(),
            masters: self.masters(),
            ensemble: dns.ensemble.clone(),
            components: components.filter_map(|(n, to)| Some((n.clone(), name(to)?))).collect(),
            reverse_networks: Options::networks(self.vip.named_range, self.overlay.network),
            cluster_key: Some(dns.cluster_key.clone()).filter(|key| !key.is_empty()),
            ..Options::default()
        }
    }

    /// Those that the resolver gives itself, or else where it listens. Every address of the
    /// machine is the node's, as others know it.
    fn resolver_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = self.dns.addresses.clone();
        if addresses.is_empty() {
            for ip in self.dns.listen.iter().map(SocketAddr::ip) {
                let address = if ip.is_unspecified() { self.address } else { ip };
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        addresses
    }

    /// Those that are configured, or this node if it is one. Where it listens may be an
    /// address that means every machine to itself; then it is the node's.
    fn masters(&self) -> Vec<IpAddr> {
        if !self.dns.masters.is_empty() || !self.has(Role::Master) {
            return self.dns.masters.clone();
        }
        let listen = self.master.listen.ip();
        let is_of_all = listen.is_loopback() || listen.is_unspecified();
        vec![if is_of_all { self.address } else { listen }]
    }
}

/// Why names cannot be made: key, value, why.
pub(super) fn conflict(config: &Config) -> Option<(&'static str, String, String)> {
    let error = config.name_options().check().err()?;
    Some(match error {
        OptionsError::Domain { domain, zone } => {
            let why = format!("meets the zone {zone}, which is the resolver's own");
            ("dns.domain", domain.as_str().to_owned(), why)
        }
        OptionsError::Root => {
            ("dns.domain", config.dns.domain.clone(), "is the domain of everything".to_owned())
        }
        OptionsError::Component(name) => {
            let why = "cannot be a name in component.thisdcos.directory".to_owned();
            ("dns.components", name, why)
        }
        OptionsError::Circle(way) => {
            let (name, others) = way.split_first()?;
            let why = match others {
                [] => "stands for itself".to_owned(),
                others => format!("stands for itself by way of {}", others.join(", ")),
            };
            ("dns.components", name.clone(), why)
        }
    })
}
