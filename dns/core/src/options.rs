//! What an operator may choose about names.

use crate::hash::Seed;
use crate::mangle::LabelRules;
use crate::name::DnsName;
use std::net::{IpAddr, Ipv4Addr};

/// Where the dispatcher listens on every node.
const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));

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

/// Settings of names; the default is what a node does if nothing is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The zone of tasks and frameworks, `mesos` by default.
    pub domain: DnsName,
    /// How long clients may keep an answer, in seconds. The zones follow at once, so
    /// this is all the delay that a client sees: 5, where Mesos-DNS had 60.
    pub ttl: u32,
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
    /// The cluster's public key in z-base-32: names in `<key>.dcos.directory` are this
    /// cluster's.
    pub cluster_key: Option<String>,
    /// Keys the hash of names; drawn anew at every start, so that nobody can prepare
    /// names which collide.
    pub seed: Seed,
    /// Where the serial starts; a node that was here before continues its own.
    pub first_serial: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            domain: DnsName::fixed("mesos"),
            ttl: 5,
            negative_ttl: 1,
            ip_sources: vec![IpSource::Container, IpSource::Host],
            labels: LabelRules::Rfc1123,
            serve_unhealthy: false,
            serve_killing: false,
            srv_weight: 1,
            agent_port: 5051,
            resolver_addresses: vec![RESOLVER],
            node_addresses: Vec::new(),
            cluster_key: None,
            seed: Seed::default(),
            first_serial: 1,
        }
    }
}
