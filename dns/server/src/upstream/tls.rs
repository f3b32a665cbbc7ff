//! TLS to upstreams: whose certificates are believed.

use super::UpstreamError;
use crate::forward::ForwardError;
use mizzen_dns_core::Upstream;
use mizzen_types::error::chain;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::SockRef;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::warn;

/// How long what was sent may stay unacknowledged.
const UNHEARD: Duration = Duration::from_secs(5);

/// Connects to one upstream and verifies it.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    address: SocketAddr,
    name: ServerName<'static>,
}

/// Certificates that are believed: those that the machine trusts, because operators put
/// their own there and get the others' changes with the machine's updates; and those of
/// a file.
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Reads them; whatever of the machine's cannot be read is passed over.
    pub(super) fn read(extra: Option<&Path>) -> Result<Self, ForwardError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            warn!(error = chain(&error), "some of this machine's certificates cannot be read");
        }
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = extra {
            let wrong =
                |source| ForwardError::CaFile { path: path.to_owned(), source: Box::new(source) };
            for certificate in CertificateDer::pem_file_iter(path).map_err(wrong)? {
                let added = roots.add(certificate.map_err(wrong)?);
                added.map_err(|source| ForwardError::Certificate {
                    path: path.to_owned(),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(Self { roots: Arc::new(roots) })
    }

    /// What connects to `upstream`.
    ///
    /// * `protocol` — what is spoken above, for ALPN.
    pub(super) fn connector(
        &self,
        upstream: &Upstream,
        protocol: &[u8],
    ) -> Result<Connector, ForwardError> {
        if self.roots.is_empty() {
            return Err(ForwardError::NoCertificates(Box::new(upstream.clone())));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| ForwardError::Tls {
                upstream: Box::new(upstream.clone()),
                source: Box::new(source),
            })?;
        let mut config =
            config.with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = match upstream.name() {
            Some(name) => ServerName::try_from(name.as_str().to_owned())
                .map_err(|_| ForwardError::CertificateName(Box::new(upstream.clone())))?,
            None => ServerName::from(upstream.address.ip()),
        };
        let tls = TlsConnector::from(Arc::new(config));
        Ok(Connector { tls, address: upstream.address, name })
    }
}

impl Connector {
    pub(super) async fn connect(&self) -> Result<TlsStream<TcpStream>, UpstreamError> {
        let stream = TcpStream::connect(self.address).await;
        let stream = stream.map_err(UpstreamError::socket("connecting by TCP"))?;
        set_up(&stream).map_err(UpstreamError::socket("setting up TCP"))?;
        let stream = self.tls.connect(self.name.clone(), stream).await;
        stream.map_err(UpstreamError::socket("setting up TLS"))
    }

    /// The certificate's name as URLs have it.
    pub(super) fn authority(&self) -> String {
        let host = match &self.name {
            ServerName::IpAddress(_) if self.address.is_ipv6() => {
                format!("[{}]", self.address.ip())
            }
            name => name.to_str().into_owned(),
        };
        match self.address.port() {
            443 => host,
            port => format!("{host}:{port}"),
        }
    }
}

/// Questions are small and wait for nothing; a connection whose other end is gone shall
/// not be kept until the kernel gives up, which takes a quarter of an hour.
fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNHEARD))
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("address", &self.address)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
