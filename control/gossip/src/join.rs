//! How a new node comes in: it finds the authority's node, proves that it has a token, and
//! gets a certificate, the keys of datagrams and addresses of nodes.
//!
//! The joining node believes whoever has a certificate of the authority that its token
//! names; it tells the token's secret to the authority's own node alone. Every node of the
//! cluster knows where that is.

use crate::certificate::{Certificate, Root, TrustError, is_authority, node_of};
use crate::frame;
use crate::identity::{Credentials, NodeKey};
use crate::issued::Issued;
use crate::text;
use crate::tls;
use crate::token::{Applicant, Refusal, Token};
use mizzen_types::ids::OwnerId;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A conversation about joining takes at most this long, on either side.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// Messages of such a conversation are at most this long, in bytes.
pub(crate) const MAX_MESSAGE: usize = 1 << 20;
/// So many addresses are tried, those included that others name.
const MAX_TRIES: usize = 16;

/// Why a node did not come in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The host's name leads nowhere.
    #[error("cannot find {host}")]
    Host {
        /// As it was given.
        host: String,
        /// The resolver's answer.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answers there, or not as a node does.
    #[error("cannot join by {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the connection says.
        #[source]
        source: std::io::Error,
    },
    /// Nodes answered, and none of them leads to the authority's node.
    #[error("none of the nodes that answer knows where the authority of the cluster is")]
    NoAuthority,
    /// It was told why not.
    #[error("the cluster refuses this node")]
    Refused(#[source] Refusal),
    /// What it was told is of no use.
    #[error("the cluster's answer cannot be trusted")]
    Untrusted(#[source] TrustError),
}

impl JoinError {
    /// Whether it may be otherwise in a moment.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.kind() != std::io::ErrorKind::InvalidData,
            Self::Host { .. } | Self::NoAuthority => true,
            Self::Refused(_) | Self::Untrusted(_) => false,
        }
    }
}

/// A node of the cluster, and where it listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its name.
    pub node: OwnerId,
    /// Its address.
    pub address: SocketAddr,
}

/// What a node gets that comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// Its certificate.
    pub certificate: Certificate,
    /// The authority's, as DER.
    #[serde(with = "text::bytes")]
    pub root: Vec<u8>,
    /// What it issued to all.
    #[serde(flatten)]
    pub issued: Issued,
    /// Some nodes.
    pub contacts: Vec<Contact>,
}

/// What a node says to one that wants to join.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Welcome {
    /// Where the authority's node listens, if it is another one.
    pub(crate) authorities: Vec<SocketAddr>,
}

/// Who comes in.
#[derive(Debug)]
pub struct Joined {
    /// What it proves itself by from now on.
    pub credentials: Credentials,
    /// What the authority issued to all.
    pub issued: Issued,
    /// Some nodes.
    pub contacts: Vec<Contact>,
}

/// The application of a node with a token.
#[must_use]
pub fn apply(token: &Token, node: &OwnerId, key: &NodeKey) -> Applicant {
    let mut applicant = Applicant {
        token: token.id(),
        secret: token.secret(),
        node: node.clone(),
        public_key: key.public().to_vec(),
        signature: Vec::new(),
    };
    applicant.signature = key.sign(&applicant.message());
    applicant
}

/// Joins the cluster of a token by one of its nodes.
///
/// * `hosts` — `HOST:PORT` of each.
///
/// # Errors
///
/// [`JoinError`] of the last that was tried.
pub async fn join(
    hosts: &[String],
    token: &Token,
    (node, key): (&OwnerId, &NodeKey),
) -> Result<Joined, JoinError> {
    let config = tls::joining(*token.fingerprint()).map_err(JoinError::Untrusted)?;
    let mut last = JoinError::NoAuthority;
    let mut addresses = VecDeque::new();
    for host in hosts {
        match tokio::net::lookup_host(host).await {
            Ok(found) => addresses.extend(found),
            Err(source) => last = JoinError::Host { host: host.clone(), source },
        }
    }
    let mut tried = Vec::new();
    while let Some(address) = addresses.pop_front() {
        if tried.contains(&address) || tried.len() >= MAX_TRIES {
            continue;
        }
        tried.push(address);
        let applicant = apply(token, node, key);
        let talk = talk(address, Arc::clone(&config), &applicant);
        match tokio::time::timeout(LIMIT, talk).await {
            Ok(Ok(Told::Answer(answer))) => {
                let admission = answer.map_err(JoinError::Refused)?;
                return take(admission, token, (node, key)).map_err(JoinError::Untrusted);
            }
            Ok(Ok(Told::Elsewhere(others))) => addresses.extend(others),
            Ok(Err(source)) => last = JoinError::Unreachable { address, source },
            Err(_) => {
                let source = std::io::ErrorKind::TimedOut.into();
                last = JoinError::Unreachable { address, source };
            }
        }
    }
    Err(last)
}

enum Told {
    Answer(Result<Admission, Refusal>),
    Elsewhere(Vec<SocketAddr>),
}

async fn talk(
    address: SocketAddr,
    config: Arc<ClientConfig>,
    applicant: &Applicant,
) -> std::io::Result<Told> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    let welcome: Welcome = hear(&mut stream).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    if !chain.first().is_some_and(is_authority) {
        return Ok(Told::Elsewhere(welcome.authorities));
    }
    say(&mut stream, applicant).await?;
    Ok(Told::Answer(hear(&mut stream).await?))
}

/// Reads what belongs to one message of a conversation.
pub(crate) async fn hear<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> std::io::Result<T> {
    let invalid = |text: String| std::io::Error::new(std::io::ErrorKind::InvalidData, text);
    match frame::read(stream, MAX_MESSAGE).await? {
        Some((_, bytes)) => serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string())),
        None => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Writes one message of a conversation.
pub(crate) async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    stream.write_all(&frame::frame(0, &bytes)).await?;
    stream.flush().await
}

/// Checks what the cluster gave: it shall not be found out later that it is of no use.
fn take(
    admission: Admission,
    token: &Token,
    (node, key): (&OwnerId, &NodeKey),
) -> Result<Joined, TrustError> {
    let root = Root::new(admission.root);
    if root.fingerprint() != *token.fingerprint() {
        return Err(TrustError::Signature);
    }
    let der = CertificateDer::from(admission.certificate.der.clone());
    root.check(&der, UnixTime::now())?;
    if node_of(&der)? != *node {
        return Err(TrustError::Nameless);
    }
    let (node, key) = (node.clone(), key.clone());
    let credentials = Credentials { node, key, certificate: admission.certificate, root };
    tls::Tls::new(&credentials)?;
    Ok(Joined { credentials, issued: admission.issued, contacts: admission.contacts })
}
