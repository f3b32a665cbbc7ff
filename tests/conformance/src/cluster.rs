//! A cluster that stands still: its facts, and the zones that they make.

use anyhow::{Context, Result};
use mizzen_dns_core::mangle::LabelRules;
use mizzen_dns_core::{DnsName, IpSource, Mode, Options, OwnerKey, Zones, records_of, vip_records};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the node that answers knows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// The node that answers.
    here: OwnerId,
    /// Its options, where they are not the usual ones.
    options: serde_json::Value,
    /// The facts.
    log: Vec<Said>,
    /// Named VIPs with their addresses.
    vips: BTreeMap<String, Vec<IpAddr>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    owner: OwnerId,
    key: Key,
    fact: Fact,
}

/// Options as the files write them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    ttl_in_domain: Option<u32>,
    ip_sources: Option<Vec<String>>,
    rfc952: bool,
    serve_unhealthy: bool,
    serve_killing: bool,
    srv_weight: Option<u16>,
    resolver_addresses: Option<Vec<IpAddr>>,
    node_addresses: Vec<IpAddr>,
    public_addresses: Vec<IpAddr>,
    masters: Vec<IpAddr>,
    ensemble: Vec<IpAddr>,
    components: BTreeMap<String, String>,
    cluster_key: Option<String>,
}

impl Cluster {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// What is wrong with the JSON.
    pub fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json).context("these are no facts")
    }

    /// The zones of the node in a mode, with options that `differ`.
    ///
    /// # Errors
    ///
    /// An option that cannot be read.
    pub fn zones(&self, mode: Mode, differ: &serde_json::Value) -> Result<Zones> {
        let mut written = self.options.clone();
        if let (Some(all), Some(differ)) = (written.as_object_mut(), differ.as_object()) {
            all.extend(differ.clone());
        }
        let written: Written = serde_json::from_value(written).context("options")?;
        let options = written.options(mode)?;
        options.check()?;
        let mut places = Places::new(self.here.clone());
        for said in &self.log {
            if let Fact::Node(node) = &said.fact {
                places.apply(&said.owner, Some(node));
            }
        }
        let mut zones = Zones::new(&options);
        for Said { owner, key, fact } in &self.log {
            let records = records_of(owner, key, fact, &options, &places);
            zones.set(OwnerKey::Fact { owner: owner.clone(), key: key.clone() }, records);
        }
        for (name, addresses) in &self.vips {
            zones.set(OwnerKey::Vip(name.clone()), vip_records(name, addresses, &options));
        }
        Ok(zones)
    }
}

impl Written {
    fn options(self, mode: Mode) -> Result<Options> {
        let usual = Options::default();
        let source = |text: &String| {
            IpSource::from_text(text).with_context(|| format!("no address source: {text}"))
        };
        let ip_sources = match &self.ip_sources {
            Some(texts) => texts.iter().map(source).collect::<Result<_>>()?,
            None => usual.ip_sources,
        };
        let component = |(name, target)| Ok((name, DnsName::parse(target)?));
        let components =
            self.components.iter().map(|(name, target)| (name.clone(), target.as_str()));
        Ok(Options {
            mode,
            ttl_in_domain: self.ttl_in_domain,
            ip_sources,
            labels: if self.rfc952 { LabelRules::Rfc952 } else { LabelRules::Rfc1123 },
            serve_unhealthy: self.serve_unhealthy,
            serve_killing: self.serve_killing,
            srv_weight: self.srv_weight.unwrap_or(usual.srv_weight),
            resolver_addresses: self.resolver_addresses.unwrap_or(usual.resolver_addresses),
            node_addresses: self.node_addresses,
            public_addresses: self.public_addresses,
            masters: self.masters,
            ensemble: self.ensemble,
            components: components.map(component).collect::<Result<_>>()?,
            cluster_key: self.cluster_key,
            ..Options::default()
        })
    }
}
