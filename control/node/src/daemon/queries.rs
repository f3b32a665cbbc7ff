//! Requests of the listeners, answered.

use super::clock;
use super::core::Core;
use super::explained::Hosts;
use super::forwarded::{self, onward};
use mizzen_dns_core::{DnsName, RecordType};
use mizzen_dns_server::Whom;
use mizzen_http::core::{Addressee, CoreRequest, Query, QueryReply};
use mizzen_types::error::chain;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Mono;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use tokio::sync::oneshot;

impl Core {
    /// Takes a request in. A client that went away meanwhile is no concern.
    pub(crate) fn serve(&mut self, request: CoreRequest) {
        if self.names.is_loading() && needs_all_names(&request) {
            return self.waiting_for_names.push(request);
        }
        match request {
            CoreRequest::Scheduler { call, stream_id, reply } => {
                let answer = self.scheduler_call(*call, stream_id.as_deref());
                let _ = reply.send(answer);
            }
            CoreRequest::Operator { call, reply } => {
                let answer = self.operator_call(*call);
                let _ = reply.send(answer);
            }
            CoreRequest::DeleteOverlayAgents { addresses, reply } => {
                let answer = self.delete_overlay_agents(&addresses);
                let _ = reply.send(answer);
            }
            CoreRequest::StreamClosed { stream_id } => self.stream_closed(&stream_id),
            CoreRequest::Pass { to, request, reply } => {
                let answer = match to {
                    Addressee::Services => self.services_request(&request),
                    Addressee::VipServices => self.vip_services_request(&request),
                    Addressee::DnsRecords => self.dns_records_request(&request),
                    Addressee::Cluster => self.cluster_request(&request),
                    Addressee::Policies => return self.serve_policies(request, reply),
                    Addressee::Attached => {
                        self.judge_attached(reply);
                        // Other runtimes use addresses up as well.
                        return self.want_addresses(clock::now().mono);
                    }
                    Addressee::Addresses => return self.get_addresses(reply, clock::now().mono),
                };
                let _ = reply.send(answer);
            }
            CoreRequest::Query { query: Query::Dns { name, record_type }, reply } => {
                self.explain_name(&name, record_type.as_deref(), reply);
            }
            CoreRequest::Metrics { encoding, reply } => self.serve_metrics(encoding, reply),
            CoreRequest::Query { query, reply } => {
                if let Some(node) = self.whom_to_ask(&query) {
                    return self.ask_node(&node, query, reply, clock::now());
                }
                let query = match self.view_names(query) {
                    Ok(answer) => return drop(reply.send(answer)),
                    Err(query) => query,
                };
                let look = self.look_up(query).or_else(|query| self.view_vips(query));
                match look.or_else(|query| self.ping(query)) {
                    Ok(look) => drop(tokio::task::spawn_blocking(move || reply.send(look()))),
                    Err(query) => {
                        let _ = reply.send(self.answer(query));
                    }
                }
            }
        }
    }

    /// What a former process knew of names is in the zones.
    pub(crate) fn names_are_loaded(&mut self, now: Mono) {
        self.names.finish_loading(now);
        for request in std::mem::take(&mut self.waiting_for_names) {
            self.serve(request);
        }
    }

    fn answer(&mut self, query: Query) -> QueryReply {
        match query {
            Query::AgentState
            | Query::AgentMetrics
            | Query::AgentFlags
            | Query::FilesDebug
            | Query::Tasks
            | Query::EndedTasks => self.answer_agent(&query),
            Query::Status => QueryReply::Json(self.status()),
            Query::Configuration => QueryReply::Json(self.configuration()),
            Query::VipProblems => QueryReply::Json(self.vips.problems()),
            Query::Nodes => QueryReply::Json(self.nodes()),
            Query::Overlay => QueryReply::Json(self.overlay_view()),
            Query::PolicyDrops { after } => self.policy_drops(after),
            Query::PolicyExplain { from, to } => self.explain_policy(&from, &to),
            Query::OverlayAgent => self.overlay_agent_state(),
            Query::OverlayMaster => self.overlay_master_state(),
            master => self.answer_master(master),
        }
    }

    fn answer_agent(&self, query: &Query) -> QueryReply {
        let Some(agent) = &self.agent else { return role_is_off("agent") };
        match query {
            Query::AgentState => QueryReply::Json(agent.state()),
            Query::AgentMetrics => {
                QueryReply::Json(super::master_views::with_system(agent.metrics(clock::now())))
            }
            Query::AgentFlags => QueryReply::Json(self.flags()),
            Query::EndedTasks => QueryReply::Json(agent.ended_rows()),
            Query::FilesDebug => QueryReply::Json(attached(&agent.rows(), &agent.ended_rows())),
            _ => QueryReply::Json(agent.rows()),
        }
    }

    /// What a name means: from the zones, or from whoever knows it.
    fn explain_name(
        &self,
        name: &str,
        record_type: Option<&str>,
        reply: oneshot::Sender<QueryReply>,
    ) {
        let kind = record_type.and_then(record_type_of);
        let answer = match (record_type, kind) {
            (Some(text), None) => {
                QueryReply::Bad(format!("`{text}` is no record type, such as A or SRV"))
            }
            _ => self.explained(name, kind),
        };
        let asked = match &answer {
            QueryReply::Json(document) => onward(document),
            _ => None,
        };
        match (answer, asked, self.resolver.addresses.first()) {
            (QueryReply::Json(document), Some(asked), Some(resolver)) => {
                let whom = self.whom(&asked, kind);
                forwarded::complete(document, asked, (*resolver, whom), kind, reply);
            }
            // A client that went away meanwhile is no concern.
            (answer, ..) => drop(reply.send(answer)),
        }
    }

    fn whom(&self, name: &str, kind: Option<RecordType>) -> Option<Whom> {
        let name = DnsName::parse(name).ok()?;
        self.resolver.server.as_ref()?.whom(&name, kind.unwrap_or(RecordType::A))
    }

    fn explained(&self, name: &str, kind: Option<RecordType>) -> QueryReply {
        match self.names.explain(name, kind, &self.hosts(), clock::now().wall) {
            None => role_is_off("dns"),
            Some(Ok(document)) => QueryReply::Json(document),
            Some(Err(error)) => QueryReply::Bad(chain(&error)),
        }
    }

    /// Names of nodes' hosts.
    pub(crate) fn hosts(&self) -> Hosts {
        let host = |node: &OwnerId| match self.view.facts_from(node, &Key::Node).next()? {
            (Key::Node, Fact::Node(fact)) => Some((node.clone(), fact.hostname.clone())),
            _ => None,
        };
        self.view.owners().filter_map(host).collect()
    }

    fn nodes(&self) -> Value {
        let nodes = self.view.facts().filter_map(|(_, _, fact)| match fact {
            Fact::Node(node) => Some(node),
            _ => None,
        });
        nodes
            .map(|node| {
                json!({
                    "private_ip": node.address,
                    "public_ips": [],
                    "hostname": node.hostname,
                })
            })
            .collect()
    }

    /// The configuration in force, as Mesos shows flags: a flat object of texts.
    pub(crate) fn flags(&self) -> Value {
        json!({ "flags": self.flag_texts() })
    }

    /// The same as a map.
    pub(crate) fn flag_texts(&self) -> BTreeMap<String, String> {
        [
            ("work_dir", super::build::work_dir(&self.config).display().to_string()),
            ("hostname", self.config.hostname.clone()),
            ("ip", self.config.address.to_string()),
            ("resources", self.config.agent.resources.clone()),
            ("cgroups_root", self.config.cgroup_root.clone()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

/// The type of records that a text names, as `A` or as `TYPE1` (RFC 3597, 5).
/// Whether an answer tells of all names, or of which of them nobody has confirmed.
fn needs_all_names(request: &CoreRequest) -> bool {
    use Query as Q;
    let CoreRequest::Query { query, .. } = request else { return false };
    matches!(
        query,
        Q::Dns { .. } | Q::MesosDnsEnumerate | Q::MesosDnsAxfr | Q::Records | Q::DnsZones
    )
}

fn record_type_of(text: &str) -> Option<RecordType> {
    let text = text.to_uppercase();
    let number = || text.strip_prefix("TYPE")?.parse::<u16>().ok();
    RecordType::from_str(&text).ok().or_else(|| number().map(RecordType::from))
}

/// What a node answers for a part that it does not have.
pub(crate) fn role_is_off(role: &str) -> QueryReply {
    QueryReply::NotFound(format!("this node does not have the role `{role}`"))
}

/// Every sandbox under the path by which it is asked for, which is its own.
fn attached(current: &Value, ended: &Value) -> Value {
    let rows = [current, ended].into_iter().filter_map(Value::as_array).flatten();
    let sandboxes = rows.filter_map(|row| row["sandbox"].as_str());
    sandboxes.map(|path| (path.to_owned(), json!(path))).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_name_and_by_number() {
        #[rustfmt::skip]
        let table = [
            ("a",         Some(RecordType::A)),
            ("TYPE28",    Some(RecordType::AAAA)),
            ("type65280", Some(RecordType::Unknown(65280))),
            ("TYPE65536", None),
            ("nonsense",  None),
        ];
        for (text, want) in table {
            assert_eq!(record_type_of(text), want, "{text}");
        }
    }
}
