//! How a node takes up its part in a cluster.

use super::addresses::SharedAddresses;
use super::admissions::Desk;
use super::clocks::Clocks;
use super::{Arrivals, Members};
use crate::config::{Config, Role};
use crate::daemon::credentials::{self, MEMBERS, Place};
use crate::daemon::{build, clock};
use crate::node::Joining;
use mizzen_gossip::identity::Signer;
use mizzen_gossip::join::Contact;
use mizzen_gossip::transport::Transport;
use mizzen_membership::identity::Identity;
use mizzen_membership::membership::{Membership, Settings};
use mizzen_membership::nodes::Node;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use mizzen_types::time::Now;
use std::net::SocketAddr;
use tracing::{info, warn};

/// So many members are called at a start.
const CALLED: usize = 16;
/// And so many of them are asked for all that they know.
const ASKED: usize = 3;

impl Members {
    /// Finds the node's place among others, and listens for them.
    pub(crate) async fn open(
        config: &Config,
        store: &Store,
        (owner, generation): (&OwnerId, u64),
        seed: u64,
        joining: &Joining,
    ) -> anyhow::Result<(Option<Self>, Arrivals)> {
        let found = credentials::find(config, store, owner, joining).await?;
        let (Some(place), Some(listen)) = (found, config.cluster.listen) else {
            return Ok((None, None));
        };
        let now = clock::now();
        let Place { credentials, issued, authority, contacts } = place;
        let (transport, arrivals) = Transport::bind(listen, &credentials, &issued, now).await?;
        let ip = if listen.ip().is_unspecified() { config.address } else { listen.ip() };
        let me = Identity::new(owner.clone(), SocketAddr::new(ip, listen.port()), generation);
        let signer = Signer::new(&credentials);
        signer.expel(&issued.expulsions);
        let settings = Settings::new(me, seed);
        let mut membership = Membership::new(settings, Box::new(signer.clone()), now);
        for node in issued.expulsions.nodes.keys() {
            membership.expel(node, now);
        }
        membership.open(owner, generation);
        if config.has(Role::Master) {
            membership.open(&build::master_log(owner), generation);
        }
        info!(%listen, authority = authority.is_some(), "listening for other nodes");
        let members = Self {
            membership,
            transport,
            credentials,
            signer,
            desk: authority.map(|(authority, tokens)| Desk::new(authority, tokens)),
            contacts,
            remember_at: None,
            remembered_until: now.mono,
            trust_at: now.mono,
            begun: now.mono,
            is_told: false,
            faults: 0,
            clocks: Clocks::new(now.mono),
            shared: SharedAddresses::default(),
            settled_at: None,
        };
        Ok((Some(members), Some(arrivals)))
    }

    /// Lets others hear what this node says, and finds those that it knew, or was told of.
    pub(super) fn begin(&mut self, store: &Store, now: Now) {
        self.membership.publish(now);
        match store.get(MEMBERS) {
            Ok(Some(bytes)) => {
                if let Err(error) = self.membership.adopt(&bytes, now) {
                    warn!(%error, "what was known of other nodes is unreadable");
                }
            }
            Ok(None) => {}
            Err(error) => warn!(error = chain(&error), "cannot read what was known of others"),
        }
        let me = self.membership.me().node();
        let known = self.membership.nodes().iter().filter(|node| node.identity.node() != me);
        let contact = |node: &Node| Contact {
            node: node.identity.node().clone(),
            address: node.identity.address,
        };
        let mut calls: Vec<Contact> = known.map(contact).collect();
        // Those that it was told of when it joined may be elsewhere by now.
        let old = std::mem::take(&mut self.contacts);
        let news = |old: &Contact| calls.iter().all(|known| known.node != old.node);
        let old: Vec<Contact> = old.into_iter().filter(news).collect();
        calls.extend(old);
        calls.truncate(CALLED);
        for contact in &calls {
            self.transport.place(&contact.node, contact.address);
        }
        // By a stream, too: it settles which key of datagrams counts meanwhile.
        for contact in calls.iter().take(ASKED) {
            self.membership.join(&contact.node, now);
        }
        self.membership.call(calls.into_iter().map(|contact| contact.address).collect(), now);
    }
}
