//! How names of others are asked for.

use mizzen_dns_core::{DnsName, ForwardTable, NameError, Upstream};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;
use tracing::warn;

/// What forwarding does and costs.
#[derive(Debug, Clone)]
pub struct ForwardSettings {
    /// Resolvers for names that are not ours, the preferred ones first.
    pub upstreams: Vec<Upstream>,
    /// Resolvers for the names below a suffix; the longest suffix wins.
    pub zones: BTreeMap<String, Vec<Upstream>>,
    /// How long a question may wait for upstreams in all. Clients give up after five
    /// seconds.
    pub deadline: Duration,
    /// How many questions may wait for upstreams at once, and how many for one of them.
    /// Each holds a socket or two.
    pub in_flight: usize,
    /// How many answers are kept at most; with 0 none is.
    pub cache_entries: usize,
    /// How much memory answers may take, in bytes.
    pub cache_bytes: usize,
    /// How long an answer may be given after its time if no upstream can be asked
    /// (RFC 8767); zero for never.
    pub serve_stale: Duration,
    /// Suffixes that stub resolvers append: what they make of our names is answered here.
    pub search: Vec<DnsName>,
    /// Certificates in PEM form that upstreams over TLS and HTTPS may be signed by,
    /// beside those that the machine trusts.
    pub ca_file: Option<PathBuf>,
}

/// Why forwarding cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A forward zone's suffix is no name.
    #[error("forward zone is not usable")]
    Zone(#[source] NameError),
    /// The file of certificates cannot be read.
    #[error("cannot read certificates from {path}")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<rustls::pki_types::pem::Error>,
    },
    /// A certificate cannot be used to check others.
    #[error("a certificate in {path} cannot be used")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<rustls::Error>,
    },
    /// Upstreams over TLS could never be verified.
    #[error(
        "upstream {0} cannot be verified: this machine trusts no certificates, and no file of them is given"
    )]
    NoCertificates(Box<Upstream>),
    /// TLS itself cannot be set up.
    #[error("cannot set up TLS for upstream {upstream}")]
    Tls {
        /// The upstream.
        upstream: Box<Upstream>,
        /// What is wrong.
        #[source]
        source: Box<rustls::Error>,
    },
    /// The name behind `#` is not one that a certificate can have.
    #[error("upstream {0}: no certificate can have this name")]
    CertificateName(Box<Upstream>),
}

impl Default for ForwardSettings {
    fn default() -> Self {
        Self {
            upstreams: Vec::new(),
            zones: BTreeMap::new(),
            deadline: Duration::from_secs(4),
            in_flight: 512,
            cache_entries: 50_000,
            cache_bytes: 32 << 20,
            serve_stale: Duration::from_secs(86_400),
            search: Vec::new(),
            ca_file: None,
        }
    }
}

impl ForwardSettings {
    /// Whether every question would be asked of the same upstreams, or of nobody.
    pub(super) fn asks_as(&self, other: &Self) -> bool {
        (&self.upstreams, &self.zones, &self.search)
            == (&other.upstreams, &other.zones, &other.search)
    }

    /// Whether what was set up for `other` serves these settings, too, if the certificates
    /// are the same.
    pub(super) fn connects_as(&self, other: &Self) -> bool {
        self.asks_as(other) && self.in_flight == other.in_flight
    }

    /// What the file of certificates holds now.
    pub(super) fn certificates(&self) -> Option<Vec<u8>> {
        std::fs::read(self.ca_file.as_ref()?).ok()
    }

    /// The table of upstreams by number, and the upstreams; without ourselves, because a
    /// resolver that asks itself asks for ever.
    pub(super) fn table(
        &self,
        listen: &[SocketAddr],
    ) -> Result<(ForwardTable<usize>, Vec<Upstream>), ForwardError> {
        let table = ForwardTable::new(self.upstreams.clone(), &self.zones);
        let mut table = table.map_err(ForwardError::Zone)?;
        for loops in table.take_out(|upstream| is_ourselves(upstream.address, listen)) {
            warn!(upstream = %loops, "upstream is this resolver itself and will not be asked");
        }
        let mut numbers = BTreeMap::new();
        let table = table.map(|upstream| {
            let next = numbers.len();
            *numbers.entry(upstream).or_insert(next)
        });
        let mut specs: Vec<(usize, Upstream)> =
            numbers.into_iter().map(|(upstream, number)| (number, upstream)).collect();
        specs.sort_by_key(|(number, _)| *number);
        Ok((table, specs.into_iter().map(|(_, upstream)| upstream).collect()))
    }
}

/// Whether a question sent to `upstream` would arrive at one of `addresses`.
fn is_ourselves(upstream: SocketAddr, addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|address| {
        if address.port() != upstream.port() {
            return false;
        }
        let all = address.ip().is_unspecified() && address.is_ipv4() == upstream.is_ipv4();
        // An address can be bound if and only if it is one of this machine.
        address.ip() == upstream.ip() || (all && UdpSocket::bind((upstream.ip(), 0)).is_ok())
    })
}
