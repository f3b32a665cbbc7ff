//! Names by HTTP: what Mesos-DNS and the dispatcher answered, and what our zones are.

use super::clock;
use super::core::{Core, Input};
use super::name_lists::{axfr, enumerate, pieces, records, zones_view};
use super::queries::role_is_off;
use mizzen_dns_core::{Data, DnsName, RecordType, Zones, records_of};
use mizzen_dns_server::SharedZones;
use mizzen_http::core::{Query, QueryReply};
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Wall;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What a name without a target shows.
const NOTHING: &str = "";

impl Core {
    /// Answers a question about names, or gives back one that is about something else.
    pub(crate) fn view_names(&self, query: Query) -> Result<QueryReply, Query> {
        let Some(zones) = self.names.zones() else {
            return match is_of_names(&query) {
                true => Ok(role_is_off("dns")),
                false => Err(query),
            };
        };
        Ok(match query {
            Query::MesosDnsConfig => QueryReply::Json(self.mesos_dns_config()),
            Query::MesosDnsHosts(host) => mesos_dns_hosts(&zones, &host),
            Query::MesosDnsServices(name) => services(&zones, &name, Dialect::MesosDns),
            Query::MesosDnsEnumerate if !self.config.dns.enumerate => {
                QueryReply::NotFound("404 page not found".to_owned())
            }
            Query::MesosDnsEnumerate => self.enumerate(),
            Query::MesosDnsAxfr => self.axfr(zones),
            Query::Hosts(host) => hosts(&zones, &host),
            Query::Services(name) => services(&zones, &name, Dialect::Dispatcher),
            Query::Records => pieces(move |put| records(&zones, put)),
            Query::DnsZones => {
                let standing = self.names.standing(clock::now().wall);
                pieces(move |put| zones_view(&zones, &standing, put))
            }
            other => return Err(other),
        })
    }

    /// As Mesos-DNS shows it, without what nobody should see.
    fn mesos_dns_config(&self) -> Value {
        let dns = &self.config.dns;
        let listen = dns.listeners().first().copied();
        json!({
            "RefreshSeconds": 0,
            "Port": listen.map_or(dns.port, |listen| listen.port()),
            "Timeout": 5,
            "TTL": self.names.options().domain_ttl(),
            "Domain": dns.domain,
            "Resolvers": dns.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "ZoneResolvers": dns.forward_zones.iter().map(|(suffix, upstreams)| {
                (suffix.clone(), upstreams.iter().map(ToString::to_string).collect())
            }).collect::<BTreeMap<String, Vec<String>>>(),
            "Listener": listen.map(|listen| listen.ip()),
            "HTTPListener": self.config.admin.mesos_dns.ip(),
            "HttpPort": self.config.admin.mesos_dns.port(),
            "DnsOn": true,
            "HttpOn": true,
            "ExternalOn": !dns.upstreams.is_empty(),
            "RecurseOn": true,
            "EnumerationOn": dns.enumerate,
            "SetTruncateBit": true,
            "EnforceRFC952": dns.enforce_rfc952,
            "IPSources": dns.ip_sources,
            "SOAMname": format!("ns1.{}.", dns.domain),
            "SOARname": format!("root.ns1.{}.", dns.domain),
            "SOARefresh": 60,
            "SOARetry": 600,
            "SOAExpire": 86_400,
            "SOAMinttl": dns.negative_ttl,
            "SRVRecordDefaultWeight": dns.srv_weight,
        })
    }

    /// Tasks by framework, asked of the loop page by page so that it is never held up.
    fn enumerate(&self) -> QueryReply {
        let inputs = self.inputs.clone();
        let (options, places) = (self.names.options().clone(), self.names.places().clone());
        let frameworks = self.framework_names();
        pieces(move |put| {
            let ask = |after| {
                let (reply, page) = oneshot::channel();
                inputs.send(Input::TaskPage(after, reply)).ok()?;
                Some(page)
            };
            let mut coming = ask(None);
            // The loop gets the next page ready while this one is written.
            let next = || {
                let page = coming.take()?.blocking_recv().ok()?;
                coming = page.next.clone().and_then(|here| ask(Some(here)));
                Some(page)
            };
            // Those that Mesos-DNS had; the dispatcher's are in `/v1/records`.
            let records = |owner: &OwnerId, key: &Key, fact: &Fact| {
                let mut records = records_of(owner, key, fact, &options, &places);
                records.retain(|record| record.name.before(&options.domain).is_some());
                records
            };
            enumerate(next, &frameworks, records, put)
        })
    }

    fn axfr(&self, zones: Arc<SharedZones>) -> QueryReply {
        let domain = self.names.options().domain.clone();
        let ttl = self.names.options().domain_ttl();
        pieces(move |put| axfr(&zones, &domain, ttl, put))
    }
}

fn is_of_names(query: &Query) -> bool {
    use Query as Q;
    matches!(
        query,
        Q::MesosDnsConfig
            | Q::MesosDnsHosts(_)
            | Q::MesosDnsServices(_)
            | Q::MesosDnsEnumerate
            | Q::MesosDnsAxfr
            | Q::Hosts(_)
            | Q::Services(_)
            | Q::Records
            | Q::DnsZones
    )
}

/// Whose shape a service is shown in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// The port is a text, and what is not there is one empty object.
    MesosDns,
    /// The port is a number, and what is not there is nothing.
    Dispatcher,
}

/// The name as the zones hold it.
fn held(zones: &Zones, name: &str) -> Option<DnsName> {
    let explained = mizzen_dns_core::explain(zones, name, None, Wall::default()).ok()?;
    let name = explained.stands_for.unwrap_or(explained.name);
    explained.zone.and_then(|_| DnsName::parse(&name).ok())
}

fn addresses(zones: &Zones, name: &DnsName) -> Vec<IpAddr> {
    let of = |kind| zones.lookup(name.as_str(), Some(kind));
    of(RecordType::A).chain(of(RecordType::AAAA)).filter_map(|data| address(&data)).collect()
}

fn address(data: &Data) -> Option<IpAddr> {
    match data {
        Data::A(address) => Some((*address).into()),
        Data::Aaaa(address) => Some((*address).into()),
        _ => None,
    }
}

fn mesos_dns_hosts(zones: &SharedZones, host: &str) -> QueryReply {
    let found = zones.read(|zones| Some(addresses(zones, &held(zones, host)?)));
    let shown = full(host);
    let rows: Vec<Value> = found
        .unwrap_or_default()
        .iter()
        .map(|address| json!({ "host": shown, "ip": address }))
        .collect();
    match rows.as_slice() {
        [] => QueryReply::Json(json!([{ "host": NOTHING, "ip": NOTHING }])),
        [..] => QueryReply::Json(rows.into()),
    }
}

fn hosts(zones: &SharedZones, host: &str) -> QueryReply {
    let found = zones.read(|zones| Some(addresses(zones, &held(zones, host)?)));
    let v4 = found.into_iter().flatten().filter(IpAddr::is_ipv4);
    QueryReply::Json(v4.map(|ip| json!({ "host": full(host), "ip": ip })).collect())
}

fn services(zones: &SharedZones, name: &str, dialect: Dialect) -> QueryReply {
    let rows = zones.read(|zones| {
        let services = held(zones, name).map(|held| {
            let services = zones.lookup(held.as_str(), Some(RecordType::SRV));
            services.collect::<Vec<_>>()
        });
        let row = |data: &Data| service_rows(zones, name, data, dialect);
        services.unwrap_or_default().iter().flat_map(row).collect::<Vec<Value>>()
    });
    if rows.is_empty() && dialect == Dialect::MesosDns {
        let row = json!({ "service": NOTHING, "host": NOTHING, "ip": NOTHING, "port": NOTHING });
        return QueryReply::Json(json!([row]));
    }
    QueryReply::Json(rows.into())
}

/// One row for the target's first address of each family; one without if it has none.
fn service_rows(zones: &Zones, name: &str, data: &Data, dialect: Dialect) -> Vec<Value> {
    let Data::Srv { port, target, .. } = data else { return Vec::new() };
    let found = addresses(zones, target);
    let first = |v4: bool| found.iter().find(|address| address.is_ipv4() == v4);
    let port = match dialect {
        Dialect::MesosDns => json!(port.to_string()),
        Dialect::Dispatcher => json!(port),
    };
    let row =
        |ip: String| json!({ "service": name, "host": target.to_string(), "ip": ip, "port": port });
    let rows: Vec<Value> =
        [first(true), first(false)].into_iter().flatten().map(|ip| row(ip.to_string())).collect();
    if rows.is_empty() { vec![row(String::new())] } else { rows }
}

/// A name with its last dot, in lower case, as answers have it.
fn full(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}
