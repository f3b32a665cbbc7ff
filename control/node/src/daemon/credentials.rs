//! How a node comes by its place in a cluster: it was there before, it joins, or it begins
//! one.

use super::clock;
use super::saves::saved;
use crate::config::{Config, Role};
use crate::node::Joining;
use anyhow::{Context, bail};
use mizzen_gossip::authority::{Authority, Standing};
use mizzen_gossip::identity::{Credentials, NodeKey};
use mizzen_gossip::issued::Issued;
use mizzen_gossip::join::{Contact, join};
use mizzen_gossip::token::Tokens;
use mizzen_store::Store;
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use std::time::Duration;
use tracing::{info, warn};

/// Key of the node's credentials in the store.
pub(crate) const CREDENTIALS: &str = "cluster/credentials";
/// Key of the node's secret key while it has no certificate.
pub(crate) const NODE_KEY: &str = "cluster/key";
/// Key of the cluster's authority.
const AUTHORITY: &str = "cluster/authority";
/// Key of what was known of members.
pub(crate) const MEMBERS: &str = "cluster/members";
/// Key of the nodes that this one was told of when it joined.
pub(crate) const CONTACTS: &str = "cluster/contacts";
/// Prefix of the records of tokens.
pub(crate) const TOKENS: &str = "cluster/token/";
/// Prefix of the keys that were certified, by the names of their nodes.
pub(crate) const NAMES: &str = "cluster/name/";
/// A cluster that does not answer is asked again for so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// With so much time between.
const PAUSE: Duration = Duration::from_secs(1);

/// A node's place in a cluster.
pub(crate) struct Place {
    pub(crate) credentials: Credentials,
    /// What the authority issued to all.
    pub(crate) issued: Issued,
    /// The cluster's root of trust and who was let in, if that is here.
    pub(crate) authority: Option<(Authority, Tokens)>,
    /// Nodes to begin with: those that this one was told of when it joined.
    pub(crate) contacts: Vec<Contact>,
}

/// Whether the node is, or is told to be, in a cluster that another node began.
pub(crate) fn is_joined(store: &Store, joining: &Joining) -> anyhow::Result<bool> {
    let began = store.get(AUTHORITY)?.is_some();
    Ok(!began && (joining.is_asked() || store.get(CREDENTIALS)?.is_some()))
}

/// Finds the node's place, or makes one. There is none for a node that nobody can reach,
/// and for one that is no master and was not told of a cluster.
pub(crate) async fn find(
    config: &Config,
    store: &Store,
    node: &OwnerId,
    joining: &Joining,
) -> anyhow::Result<Option<Place>> {
    if config.cluster.listen.is_none() {
        if joining.is_asked() {
            bail!("a node without an address for others cannot join: set --cluster-listen");
        }
        return Ok(None);
    }
    if let Some(found) = kept(store, joining)? {
        return Ok(Some(found));
    }
    if joining.is_asked() {
        return enter(store, node, joining).await.map(Some);
    }
    if config.has(Role::Master) {
        return begin(store, node, config.cluster.certificate_life).map(Some);
    }
    Ok(None)
}

/// What a former process had.
fn kept(store: &Store, joining: &Joining) -> anyhow::Result<Option<Place>> {
    let Some(bytes) = store.get(CREDENTIALS)? else { return Ok(None) };
    let (credentials, issued) = Credentials::from_bytes(&bytes)
        .context("cannot read the node's credentials in the store")?;
    let authority = match store.get(AUTHORITY)? {
        Some(bytes) => {
            let authority = Authority::from_bytes(&bytes)
                .context("cannot read the cluster's authority in the store")?;
            Some((authority, tokens(store)?))
        }
        None => None,
    };
    if let Some(token) = joining.token()? {
        if *token.fingerprint() != credentials.root.fingerprint() {
            bail!(
                "this node is in another cluster already; `mizzen leave` takes it out, \
                 and one that began a cluster needs a new state directory"
            );
        }
        if !credentials.certificate.counts_at(clock::now().wall) {
            // It slept too long, or a clock was ahead when it came in; its name and its key are still its own.
            return Ok(None);
        }
    }
    let contacts = match store.get(CONTACTS)? {
        Some(bytes) => serde_json::from_slice(&bytes).context("cannot read the first contacts")?,
        None => Vec::new(),
    };
    Ok(Some(Place { credentials, issued, authority, contacts }))
}

fn tokens(store: &Store) -> anyhow::Result<Tokens> {
    let mut tokens = Tokens::default();
    for (id, value) in saved(store, TOKENS)? {
        match serde_json::from_slice(&value) {
            Ok(record) => tokens.adopt(id, record),
            Err(error) => warn!(token = id, %error, "the record of a token is unreadable"),
        }
    }
    for (node, public_key) in saved(store, NAMES)? {
        tokens.adopt_name(node.into(), public_key);
    }
    Ok(tokens)
}

/// Joins a cluster. The key is kept before, so that a second attempt is the same node's.
async fn enter(store: &Store, node: &OwnerId, joining: &Joining) -> anyhow::Result<Place> {
    let token = joining.token()?.context("--join needs a token: `mizzen join-token` prints one")?;
    let key = match (store.get(CREDENTIALS)?, store.get(NODE_KEY)?) {
        (Some(bytes), _) => Credentials::from_bytes(&bytes)?.0.key,
        (None, Some(bytes)) => NodeKey::from_bytes(&bytes)?,
        (None, None) => {
            let key = NodeKey::generate()?;
            store.write(&[(NODE_KEY.to_owned(), Some(key.to_bytes()))])?;
            key
        }
    };
    let started = clock::now().mono;
    let joined = loop {
        match join(&joining.hosts, &token, (node, &key)).await {
            Ok(joined) => break joined,
            Err(error) if error.is_passing() && clock::now().mono.since(started) < PATIENCE => {
                info!(error = chain(&error), "waiting for the cluster");
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error).context("cannot join the cluster"),
        }
    };
    store.write(&[
        (CREDENTIALS.to_owned(), Some(joined.credentials.to_bytes(&joined.issued)?)),
        (CONTACTS.to_owned(), Some(serde_json::to_vec(&joined.contacts)?)),
        (NODE_KEY.to_owned(), None),
    ])?;
    info!(%node, contacts = joined.contacts.len(), "joined the cluster");
    let (credentials, issued, contacts) = (joined.credentials, joined.issued, joined.contacts);
    Ok(Place { credentials, issued, authority: None, contacts })
}

/// Begins a cluster: this node is its first one and has its authority.
fn begin(store: &Store, node: &OwnerId, life: Duration) -> anyhow::Result<Place> {
    let now = clock::now().wall;
    let authority = Authority::generate(now)?;
    let key = NodeKey::generate()?;
    let public_key = key.public();
    let certificate = authority.certify(node, &public_key, Standing::Authority, (now, life))?;
    let epoch = authority.new_epoch(1, now)?;
    let root = authority.root().clone();
    let credentials = Credentials { node: node.clone(), key, certificate, root };
    let issued = Issued { epochs: vec![epoch], ..Issued::default() };
    store.write(&[
        (AUTHORITY.to_owned(), Some(authority.to_bytes()?)),
        (CREDENTIALS.to_owned(), Some(credentials.to_bytes(&issued)?)),
        (format!("{NAMES}{node}"), Some(public_key.to_vec())),
    ])?;
    let mut tokens = Tokens::default();
    tokens.adopt_name(node.clone(), public_key.to_vec());
    let authority = Some((authority, tokens));
    Ok(Place { credentials, issued, authority, contacts: Vec::new() })
}
