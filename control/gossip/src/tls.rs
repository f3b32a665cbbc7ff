//! TLS between nodes: version 1.3, certificates of the cluster's authority on both sides.
//!
//! Sessions are not resumed: a certificate that has ended would live on in them.

use crate::certificate::{Root, TrustError, fingerprint};
use crate::identity::Credentials;
use mizzen_types::ids::OwnerId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::Arc;

/// What is spoken between nodes of the cluster.
pub(crate) const PEERS: &[u8] = b"mizzen/1";
/// What is spoken with nodes that want to be.
pub(crate) const JOINS: &[u8] = b"mizzen-join/1";

/// How a node speaks with others.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    /// To peers.
    pub(crate) client: Arc<ClientConfig>,
    /// With peers that connect.
    pub(crate) server: Arc<ServerConfig>,
    /// With nodes that join.
    pub(crate) desk: Arc<ServerConfig>,
}

impl Tls {
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, TrustError> {
        let refused = |error| TrustError::Tls(Box::new(error));
        let mut roots = RootCertStore::empty();
        roots.add(credentials.root.der().clone()).map_err(refused)?;
        let roots = Arc::new(roots);
        let chain = vec![
            CertificateDer::from(credentials.certificate.der.clone()),
            credentials.root.der().clone(),
        ];
        let key = || credentials.key.to_tls();

        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key())
            .map_err(refused)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| refused(Error::General(error.to_string())))?;
        let server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key())
            .map_err(refused)?;
        let desk = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key())
            .map_err(refused)?;
        Ok(Self {
            client: Arc::new(to_speak(client, PEERS)),
            server: Arc::new(to_hear(server, PEERS)),
            desk: Arc::new(to_hear(desk, JOINS)),
        })
    }
}

/// How a node without a certificate speaks with a cluster of which it knows the
/// authority's fingerprint.
pub(crate) fn joining(authority: [u8; 32]) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = provider();
    let verifier = Arc::new(Pinned { authority, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| TrustError::Tls(Box::new(error)))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(to_speak(config, JOINS)))
}

/// A node as TLS names it.
pub(crate) fn server_name(node: &OwnerId) -> Option<ServerName<'static>> {
    ServerName::try_from(node.as_str().to_owned()).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn to_speak(mut config: ClientConfig, protocol: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

fn to_hear(mut config: ServerConfig, protocol: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// Believes whoever has a certificate of the authority with this fingerprint. That one's
/// certificate comes last in the chain.
#[derive(Debug)]
struct Pinned {
    authority: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = || Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = chain.last().ok_or_else(unknown)?;
        if fingerprint(authority) != self.authority {
            return Err(unknown());
        }
        Root::new(authority.to_vec()).check(leaf, now).map_err(|_| unknown())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
