//! A reply before it is bytes: what it says, and what it says about itself (RFC 6891).
//!
//! How it is written, and cut to what its transport takes, is in [`crate::encode`].

use hickory_proto::op::{Edns, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

/// Largest UDP message that we send or ask for, in bytes: it passes any path without
/// fragments.
pub(crate) const UDP_PAYLOAD: u16 = 1232;
/// UDP messages for clients that say nothing about their size (RFC 1035, 2.3.4).
const UDP_PLAIN: u16 = 512;
/// The smallest record: a pointer for its name and an IPv4 address.
const SMALLEST_RECORD: usize = 16;
/// Code of the option that carries extended errors (RFC 8914).
pub(crate) const EXTENDED_ERROR: u16 = 15;

/// What will be sent.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) metadata: Metadata,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) edns: Option<ReplyEdns>,
    /// Why it is as it is, whether the client is told or not.
    pub(crate) reason: Option<ExtendedError>,
}

/// What a reply's OPT record says; only requests that have one get one (RFC 6891, 6.1.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplyEdns {
    /// Whether the client takes DNSSEC records; repeated (RFC 3225, 3).
    pub(crate) dnssec_ok: bool,
    /// Code and data of each option.
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

/// Why an answer is as it is, as RFC 8914 numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExtendedError {
    /// This client may not ask this.
    Prohibited,
    /// The name is somebody else's, and there is nobody to ask.
    NotAuthoritative,
    /// The server does not do this.
    NotSupported,
}

impl ExtendedError {
    fn code(self) -> u16 {
        match self {
            Self::Prohibited => 18,
            Self::NotAuthoritative => 20,
            Self::NotSupported => 21,
        }
    }

    /// As metrics label it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prohibited => "prohibited",
            Self::NotAuthoritative => "not_authoritative",
            Self::NotSupported => "not_supported",
        }
    }
}

impl Reply {
    /// An empty reply.
    pub(crate) fn to(request: &Request, code: ResponseCode) -> Self {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = code;
        let edns = request
            .edns
            .as_ref()
            .map(|asked| ReplyEdns { dnssec_ok: asked.flags().dnssec_ok, options: Vec::new() });
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self { metadata, answers, authorities, additionals, edns, reason: None }
    }

    /// Says why, to clients that understand it; `text` is for people.
    pub(crate) fn explain(&mut self, why: ExtendedError, text: &str) {
        self.reason = Some(why);
        if let Some(edns) = &mut self.edns {
            let data = [&why.code().to_be_bytes(), text.as_bytes()].concat();
            edns.options.push((EXTENDED_ERROR, data));
        }
    }

    /// The same, for a reply that is made in one go.
    pub(crate) fn because(mut self, why: ExtendedError, text: &str) -> Self {
        self.explain(why, text);
        self
    }
}

/// How many records are worth making for a request.
pub(crate) fn record_room(request: &Request) -> usize {
    usize::from(limit(request)) / SMALLEST_RECORD
}

/// Bytes that the transport and the client take.
pub(crate) fn limit(request: &Request) -> u16 {
    match request.protocol() {
        Protocol::Udp => udp_limit(request.edns.as_ref().map(Edns::max_payload)),
        _ => u16::MAX,
    }
}

/// Bytes of a UDP message for a client that offers `payload`.
pub(crate) fn udp_limit(payload: Option<u16>) -> u16 {
    payload.map_or(UDP_PLAIN, |payload| payload.clamp(UDP_PLAIN, UDP_PAYLOAD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_as_large_as_client_and_path_take() {
        #[rustfmt::skip]
        let table = [
            (None, 512), (Some(0), 512), (Some(511), 512), (Some(513), 513),
            (Some(1232), 1232), (Some(4096), 1232), (Some(u16::MAX), 1232),
        ];
        for (offered, want) in table {
            assert_eq!(udp_limit(offered), want, "{offered:?}");
        }
    }
}
