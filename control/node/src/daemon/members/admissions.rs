//! Who comes in and who stays: certificates, keys of datagrams.

use super::expulsions::EXPELLED;
use super::{CLUSTER, IDENTITY, Members};
use crate::daemon::clock;
use crate::daemon::core::Core;
use crate::daemon::credentials::{CONTACTS, CREDENTIALS, MEMBERS, NAMES, NODE_KEY, TOKENS};
use crate::daemon::replies::{Answer, Refusal as Refused, empty, json, only, refuse};
use mizzen_gossip::authority::{Authority, Standing};
use mizzen_gossip::certificate::Certificate;
use mizzen_gossip::join::{Admission, Contact};
use mizzen_gossip::token::{Applicant, Refusal, Tokens};
use mizzen_http::core::{ServicesReply, ServicesRequest};
use mizzen_membership::identity::node_of;
use mizzen_membership::nodes::Node;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Now, Wall};
use std::time::Duration;
use tracing::{info, warn};

/// Certificates and keys are looked at this often, at most.
const LOOK: Duration = Duration::from_secs(60);
/// And at least so far apart.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// An authority that has just started hears within this what it issued before.
const LISTEN: Duration = Duration::from_secs(60);
/// A node that joins is told of so many others.
const TOLD: usize = 8;

/// Lets nodes in.
pub(super) struct Desk {
    pub(super) authority: Authority,
    pub(super) tokens: Tokens,
}

impl Desk {
    pub(super) fn new(authority: Authority, tokens: Tokens) -> Self {
        Self { authority, tokens }
    }
}

impl Core {
    /// Whether a node may come in, and with what.
    pub(super) fn admit(&mut self, applicant: &Applicant, now: Now) -> Result<Admission, Refusal> {
        let life = self.config.cluster.certificate_life;
        let here = || Refusal::Unable("the authority is not here".to_owned());
        let members = self.members.as_mut().ok_or_else(here)?;
        let desk = members.desk.as_mut().ok_or_else(here)?;
        let node = &applicant.node;
        if members.transport.issued().expulsions.has(node) {
            warn!(%node, "an expelled node wants to join");
            return Err(Refusal::Expelled);
        }
        let admitted = desk.tokens.admit(applicant, now.wall);
        admitted.inspect_err(|refusal| warn!(%node, %refusal, "a node wants to join"))?;
        let public_key = applicant.public_key().ok_or(Refusal::Unsigned)?;
        let unable = |error: String| Refusal::Unable(error);
        let certificate = desk
            .authority
            .certify(node, &public_key, Standing::Member, (now.wall, life))
            .map_err(|error| unable(chain(&error)))?;
        let record = desk.tokens.get(&applicant.token).map(serde_json::to_vec).transpose();
        let record = record.map_err(|error| unable(chain(&error)))?;
        // What lets a node in is used up before the node hears of it.
        self.store
            .write(&[
                (format!("{TOKENS}{}", applicant.token), record),
                (format!("{NAMES}{node}"), Some(public_key.to_vec())),
            ])
            .map_err(|error| unable(chain(&error)))?;
        info!(%node, token = applicant.token, "a node joins");
        Ok(Admission {
            certificate,
            root: desk.authority.root().der().to_vec(),
            issued: members.transport.issued(),
            contacts: members.contacts_for(node),
        })
    }

    /// A peer asks for its next certificate.
    pub(super) fn certify(&mut self, peer: &OwnerId, public_key: &[u8], now: Now) {
        let (life, patience) = (self.config.cluster.certificate_life, self.patience());
        let Some(members) = self.members.as_mut() else { return };
        if members.may_lag(patience, now) {
            return; // it asks again
        }
        let recorded = members.record(peer, public_key, &self.store);
        let answer =
            recorded.and_then(|()| members.next_certificate(peer, public_key, (now.wall, life)));
        if let Err(reason) = &answer {
            warn!(%peer, reason, "no new certificate for a node");
        }
        members.transport.answer_renewal(peer, answer, now.mono);
    }

    /// How long an authority that has just started listens before it issues anything: it may
    /// come from a backup, and not know what it issued since.
    pub(super) fn patience(&self) -> Duration {
        let cluster = &self.config.cluster;
        LISTEN.min(cluster.certificate_life / 12).min(cluster.key_rotation / 4)
    }

    /// This node's next certificate came.
    pub(super) fn take_certificate(&mut self, certificate: Certificate, now: Now) {
        let Some(members) = self.members.as_mut() else { return };
        match members.take_certificate(certificate) {
            Ok(()) => {
                info!("this node's certificate was renewed");
                self.problems.solve(CLUSTER);
                self.keep_credentials(now);
            }
            Err(reason) => warn!(reason, "the new certificate of this node is of no use"),
        }
    }

    /// Writes down what the node proves itself by, and what the authority issued.
    pub(super) fn keep_credentials(&mut self, now: Now) {
        let Some(members) = self.members.as_ref() else { return };
        match members.kept() {
            Ok(kept) => {
                self.node_saves.push(CREDENTIALS, Some(kept));
                self.flush_node(now);
            }
            Err(error) => self.problems.report(CLUSTER, chain(&error)),
        }
    }

    /// Renews what ends soon: the certificate, and the key of datagrams.
    pub(super) fn look_at_trust(&mut self, now: Now) {
        let (life, rotation) =
            (self.config.cluster.certificate_life, self.config.cluster.key_rotation);
        let patience = self.patience();
        let Some(members) = self.members.as_mut() else { return };
        if !members.membership.is_refused() {
            self.problems.solve(IDENTITY);
        }
        match members.why_unheard(now.wall) {
            Some(text) => self.problems.report(CLUSTER, text),
            None => self.problems.solve(CLUSTER),
        }
        let left = members.credentials.certificate.renew_in(now.wall);
        members.trust_at = now.mono + left.min(rotation / 4).clamp(LOOK_AGAIN, LOOK);
        if !members.may_lag(patience, now) {
            members.rotate(rotation, now);
        }
        if !left.is_zero() {
            return;
        }
        let me = members.credentials.node.clone();
        let public_key = members.credentials.key.public();
        if members.has_authority() {
            match members.next_certificate(&me, &public_key, (now.wall, life)) {
                Ok(certificate) => self.take_certificate(certificate, now),
                Err(reason) => warn!(reason, "this node's certificate cannot be renewed"),
            }
            return;
        }
        for authority in members.authorities() {
            members.transport.ask_renewal(&authority, &public_key, now.mono);
        }
    }

    /// A request about the cluster.
    pub(crate) fn cluster_request(&mut self, request: &ServicesRequest) -> ServicesReply {
        self.route_cluster(request).unwrap_or_else(Refused::reply)
    }

    fn route_cluster(&mut self, request: &ServicesRequest) -> Answer {
        let method = request.method.as_str();
        match request.path.trim_end_matches('/') {
            "/v1/cluster/nodes" => {
                only(method, "GET, HEAD")?;
                Ok(json(200, &self.list_nodes()))
            }
            "/v1/cluster/tasks" => {
                only(method, "GET, HEAD")?;
                Ok(json(200, &self.list_tasks()))
            }
            "/v1/cluster/tokens" => match method {
                "POST" => self.make_token(&request.body),
                _ => {
                    only(method, "GET, HEAD, POST")?;
                    self.list_tokens()
                }
            },
            "/v1/cluster/leave" => {
                only(method, "POST")?;
                self.leave_cluster()
            }
            "/v1/cluster/expel" => {
                only(method, "POST")?;
                self.expel_node(&request.body)
            }
            "/v1/cluster/overlay-agents" => {
                only(method, "POST")?;
                self.adopt_overlay_agents(&request.body)
            }
            path => match path.strip_prefix("/v1/cluster/tokens/") {
                Some(id) => {
                    only(method, "DELETE")?;
                    self.revoke_token(id)
                }
                None => Err(refuse(404, format!("There is nothing at {path}"))),
            },
        }
    }

    fn leave_cluster(&mut self) -> Answer {
        let now = clock::now();
        let members = self.members.as_mut().ok_or_else(alone)?;
        if members.has_authority() {
            let text = "this node has the cluster's authority: without it nobody could join or \
                        renew a certificate";
            return Err(refuse(409, text));
        }
        // Its name is that of its key, should it come back.
        let key = members.credentials.key.to_bytes();
        let mut batch = vec![(NODE_KEY.to_owned(), Some(key))];
        batch.extend([CREDENTIALS, MEMBERS, CONTACTS].map(|key| (key.to_owned(), None)));
        self.store.write(&batch).map_err(|error| refuse(503, chain(&error)))?;
        members.membership.leave(now);
        self.settle();
        let others: Vec<OwnerId> = self.view.owners().cloned().collect();
        self.members = None;
        for owner in others {
            let node = node_of(&owner);
            if node != *self.node_log.owner() {
                let changes = self.view.forget(&node);
                self.follow_changes(changes);
            }
        }
        self.follow_leader(now);
        info!("this node has left its cluster");
        Ok(empty(204))
    }
}

impl Members {
    /// Some nodes for one that joins, this one first.
    fn contacts_for(&self, joiner: &OwnerId) -> Vec<Contact> {
        let me = self.membership.me();
        let first = Contact { node: me.node().clone(), address: me.address };
        let others = self.membership.nodes().iter().filter(|node| {
            node.is_here() && node.identity.node() != joiner && node.identity.node() != me.node()
        });
        let contact = |node: &Node| Contact {
            node: node.identity.node().clone(),
            address: node.identity.address,
        };
        [first].into_iter().chain(others.map(contact)).take(TOLD).collect()
    }

    /// Whether the authority here may not know yet what it issued before.
    pub(super) fn may_lag(&self, patience: Duration, now: Now) -> bool {
        now.mono.since(self.begun) < patience
    }

    /// Records a node that the authority does not know, because it came in after the backup
    /// that the authority's state is from. The certificate on the node's stream proves the key
    /// and the name, and counts until now.
    fn record(&mut self, node: &OwnerId, key: &[u8], store: &Store) -> Result<(), String> {
        let desk = self.desk.as_mut().ok_or("the authority is not here")?;
        if desk.tokens.has_name(node) {
            return Ok(());
        }
        if self.transport.issued().expulsions.has(node) {
            return Err("the node was expelled".to_owned());
        }
        store
            .write(&[(format!("{NAMES}{node}"), Some(key.to_vec()))])
            .map_err(|error| chain(&error))?;
        desk.tokens.adopt_name(node.clone(), key.to_vec());
        info!(%node, "a node that came in after this authority's backup is known again");
        Ok(())
    }

    fn next_certificate(
        &self,
        node: &OwnerId,
        public_key: &[u8],
        life: (Wall, Duration),
    ) -> Result<Certificate, String> {
        let desk = self.desk.as_ref().ok_or("the authority is not here")?;
        let key = public_key.try_into().map_err(|_| "that is no key".to_owned())?;
        if !desk.tokens.is_key_of(node, public_key) {
            return Err("the node came in with another key".to_owned());
        }
        let own = *node == self.credentials.node;
        let standing = if own { Standing::Authority } else { Standing::Member };
        desk.authority.certify(node, key, standing, life).map_err(|error| chain(&error))
    }

    /// Why no other node speaks with this one.
    fn why_unheard(&self, now: Wall) -> Option<String> {
        let certificate = &self.credentials.certificate;
        if self.is_expelled() {
            return Some(EXPELLED.to_owned());
        }
        if certificate.counts_at(now) {
            return None;
        }
        let text = if now < certificate.from {
            "this node's certificate does not count yet, so no other node speaks with it: set the \
             clock right or, if it was ahead before, start it with --join and a new token"
        } else {
            "this node's certificate has ended, so no other node speaks with it; start it with \
             --join and a new token"
        };
        Some(text.to_owned())
    }

    fn take_certificate(&mut self, certificate: Certificate) -> Result<(), String> {
        let checked = certificate.check(&self.credentials.root, clock::now().wall);
        let node = checked.map_err(|error| chain(&error))?;
        if node != self.credentials.node {
            return Err(format!("it is that of {node}"));
        }
        let mut credentials = self.credentials.clone();
        credentials.certificate = certificate;
        self.transport.renew(&credentials).map_err(|error| chain(&error))?;
        self.signer.renew(&credentials.certificate);
        self.credentials = credentials;
        Ok(())
    }

    /// Makes the next key of datagrams when it is time.
    fn rotate(&mut self, rotation: Duration, now: Now) {
        let Some(desk) = &self.desk else { return };
        let mut issued = self.transport.issued();
        let Some(newest) = issued.epochs.last() else { return };
        if !newest.is_due(rotation, now.wall) {
            return;
        }
        let number = newest.number + 1;
        let made = desk.authority.new_epoch(number, now.wall).and_then(|epoch| {
            issued.epochs.push(epoch);
            self.transport.learn(&issued, now)
        });
        match made {
            Ok(()) => info!(epoch = number, "a new key of datagrams"),
            Err(error) => warn!(error = chain(&error), "cannot make a key of datagrams"),
        }
    }

    /// Nodes that have the authority, as they say themselves.
    fn authorities(&self) -> Vec<OwnerId> {
        let has =
            |node: &&Node| node.is_here() && node.fact.as_ref().is_some_and(|fact| fact.authority);
        let all = self.membership.nodes().iter().filter(has);
        all.map(|node| node.identity.node().clone()).collect()
    }

    /// What somebody is told who wants something of the authority here.
    pub(super) fn authority_elsewhere(&self) -> Refused {
        let names = self.authority_names().join(", ");
        refuse(409, format!("this node does not have the cluster's authority; ask {names}"))
    }

    fn authority_names(&self) -> Vec<String> {
        let all = self.authorities();
        let names = all.iter().filter_map(|id| {
            Some(self.membership.nodes().get(id)?.fact.as_ref()?.hostname.clone())
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() { vec!["the first node".to_owned()] } else { names }
    }
}

pub(super) fn alone() -> Refused {
    refuse(409, "this node is in no cluster: it has no address for others, or did not join one")
}
