//! `mizzen status`.

use super::clock;
use super::core::Core;
use crate::config::Role;
use mizzen_agent::Agent;
use mizzen_http::server::{Address, Part};
use mizzen_isolators::Statistics;
use mizzen_types::time::Wall;
use serde_json::{Map, Value, json};

impl Core {
    /// `GET /v1/status`: what the node is and how it is.
    pub(crate) fn status(&self) -> Value {
        let config = &self.config;
        let mut status = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "instance": config.instance.as_str(),
            "hostname": config.hostname,
            "address": config.address,
            "roles": config.running_roles().map(|role| role.to_string()).collect::<Vec<_>>(),
            "uptime_seconds": clock::now().mono.since(self.started.mono).as_secs(),
            "pid": std::process::id(),
            "listeners": self.listener_map(),
            "problems": self.all_problems(),
        });
        if let Some(object) = status.as_object_mut() {
            self.add_parts(object);
        }
        status
    }

    /// `GET /v1/configuration`: what is in force, as a file would have it, and which parts run.
    pub(crate) fn configuration(&self) -> Value {
        json!({
            "toml": self.config.to_annotated_toml(),
            "roles": self.config.running_roles().map(|role| role.to_string()).collect::<Vec<_>>(),
        })
    }

    /// Those that were met, and those that only show when all is added up.
    pub(crate) fn all_problems(&self) -> Vec<String> {
        let overcommitted = self.agent.as_ref().and_then(Agent::overcommitted);
        let mut texts = self.problems.texts();
        texts.extend(self.vips.problem());
        texts.extend(self.vips.unreachable());
        let shut_out = self.agent.as_ref().and_then(Agent::shut_out);
        texts.extend(shut_out.map(|text| format!("agent: takes no part in the cluster: {text}")));
        texts.extend(self.link_problem());
        texts.extend(overcommitted.map(|text| format!("agent: {text}")));
        texts
    }

    fn add_parts(&self, status: &mut Map<String, Value>) {
        let config = &self.config;
        if let Some(cluster) = self.cluster_status() {
            status.insert("cluster".to_owned(), cluster);
        }
        if let Some(master) = &self.master {
            let frameworks = master.metrics()["master/frameworks_connected"].as_f64();
            let frameworks = frameworks.unwrap_or_default() as u64;
            let part = json!({ "id": self.master_id, "frameworks": frameworks, "leading": true });
            status.insert("master".to_owned(), part);
        }
        if let Some(agent) = &self.agent {
            let mut part = agent.totals();
            part["id"] = json!(agent.id());
            part["tasks"] = json!(agent.live_tasks());
            part["state"] = json!(self.agent_state(agent));
            status.insert("agent".to_owned(), part);
        }
        if let Some((serial, records)) = self.names.size() {
            let now = clock::now().wall;
            let age = |heard: &Wall| now.0.saturating_sub(heard.0) / 1_000_000_000;
            let sources = self.names.heard().iter();
            let sources: Map<String, Value> =
                sources.map(|(owner, heard)| (owner.to_string(), json!(age(heard)))).collect();
            let standing = self.names.standing(now);
            let part = json!({
                "listen": self.resolver.addresses, "records": records, "serial": serial,
                "unconfirmed_facts": standing.stale, "age_seconds": standing.age_seconds,
                "last_change_seconds": sources,
            });
            status.insert("dns".to_owned(), part);
        }
        if config.has(Role::Vip) {
            let specs = self.vips.planner.specs();
            let backends: usize = specs.values().map(|spec| spec.backends.len()).sum();
            let engine = self.vips.balancer.engine().word();
            let (ejected, out) = self.vips.idle_backends();
            let part = json!({
                "engine": engine, "mechanism": self.vips.balancer.mechanism(), "count": specs.len(), "backends": backends,
                "ejected": ejected, "out": out,
                "problems": self.vips.problems(),
            });
            status.insert("vips".to_owned(), part);
        }
        if config.has(Role::Overlay) {
            let overlay = &config.overlay;
            let shares = self.overlay.grant.iter().flat_map(|grant| &grant.shares);
            let (own, further): (Vec<_>, Vec<_>) =
                shares.partition(|share| share.overlay.name == overlay.name);
            let blocks: Vec<_> = own.iter().flat_map(|share| &share.blocks).collect();
            let further: Vec<_> = further.iter().map(|share| &share.overlay.name).collect();
            let part = json!({
                "subnet": blocks.first(), "blocks": blocks, "bridge": overlay.bridge,
                "mtu": overlay.mtu, "peers": self.overlay.peers.entries().count(),
                "further": further,
            });
            status.insert("overlay".to_owned(), part);
            status.insert("policy".to_owned(), self.policy_status());
        }
    }

    /// Where the agent stands with the master, in a word.
    fn agent_state(&self, agent: &Agent) -> &'static str {
        match agent.id() {
            _ if agent.shut_out().is_some() => "shut out",
            None => "registering",
            Some(_) if self.link_problem().is_some() => "away",
            Some(_) => "registered",
        }
    }

    fn listener_map(&self) -> Map<String, Value> {
        let name = |part: &Part, address: &Address| match address {
            Address::Unix(_) => "socket".to_owned(),
            Address::Tcp(_) => part.to_string(),
        };
        self.listeners
            .iter()
            .map(|(part, address)| (name(part, address), json!(address.to_string())))
            .collect()
    }
}

/// Statistics of a container under the names that Mesos gives them.
pub(crate) fn statistics(statistics: &Statistics) -> Value {
    let seconds = |microseconds: Option<u64>| microseconds.map(|us| us as f64 / 1e6);
    json!({
        "timestamp": clock::now().wall.as_secs_f64(),
        "cpus_user_time_secs": seconds(statistics.cpu_user_usec),
        "cpus_system_time_secs": seconds(statistics.cpu_system_usec),
        "cpus_nr_periods": statistics.cpu_periods,
        "cpus_nr_throttled": statistics.cpu_throttled_periods,
        "cpus_throttled_time_secs": seconds(statistics.cpu_throttled_usec),
        "mem_total_bytes": statistics.mem_bytes,
        "mem_rss_bytes": statistics.mem_anon_bytes,
        "mem_file_bytes": statistics.mem_file_bytes,
        "mem_limit_bytes": statistics.mem_limit_bytes,
        "threads": statistics.pids,
    })
}
