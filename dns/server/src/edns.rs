//! EDNS options that are answered: NSID (RFC 5001), cookies (RFC 7873, RFC 9018) and the
//! keepalive of TCP (RFC 7828). All others are ignored, padding among them.

use hickory_proto::op::Edns;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Option codes.
const NSID: u16 = 3;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
/// Bytes of a client's half of a cookie.
const CLIENT_COOKIE: usize = 8;
/// Bytes that a whole cookie may have (RFC 7873, 4).
const WHOLE_COOKIE: std::ops::RangeInclusive<usize> = 16..=40;
/// Version of server cookies and three reserved bytes (RFC 9018, 4).
const COOKIE_VERSION: [u8; 4] = [1, 0, 0, 0];

/// What a server says of itself.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Its name for operators, if it shall have one.
    pub(crate) nsid: Option<Vec<u8>>,
    /// Known to nobody else; server cookies are made with it.
    pub(crate) cookie_secret: [u8; 16],
    /// How long TCP clients may be silent.
    pub(crate) tcp_idle: Duration,
}

/// A request's options that cannot be: to be answered with FORMERR.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MalformedCookie;

impl std::fmt::Debug for Identity {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("nsid", &self.nsid).finish_non_exhaustive()
    }
}

impl Identity {
    /// Code and data of the options that answer those of a request.
    pub(crate) fn options(
        &self,
        request: &Request,
    ) -> Result<Vec<(u16, Vec<u8>)>, MalformedCookie> {
        let Some(edns) = &request.edns else { return Ok(Vec::new()) };
        let mut options = Vec::new();
        if let (Some(_), Some(nsid)) = (data(edns, NSID), &self.nsid) {
            options.push((NSID, nsid.clone()));
        }
        if let Some(cookie) = data(edns, COOKIE) {
            options.push((COOKIE, self.cookie(cookie, request.src().ip(), now())?));
        }
        if request.protocol() == Protocol::Tcp && data(edns, KEEPALIVE).is_some() {
            let tenths = u16::try_from(self.tcp_idle.as_millis() / 100).unwrap_or(u16::MAX);
            options.push((KEEPALIVE, tenths.to_be_bytes().to_vec()));
        }
        Ok(options)
    }

    /// The client's half and ours, which says that `client` had it from us.
    fn cookie(&self, asked: &[u8], client: IpAddr, now: u32) -> Result<Vec<u8>, MalformedCookie> {
        let half = asked.first_chunk::<CLIENT_COOKIE>().ok_or(MalformedCookie)?;
        if asked.len() != CLIENT_COOKIE && !WHOLE_COOKIE.contains(&asked.len()) {
            return Err(MalformedCookie);
        }
        let mut cookie = [&half[..], &COOKIE_VERSION, &now.to_be_bytes()].concat();
        let mut hasher = SipHasher24::new_with_key(&self.cookie_secret);
        hasher.write(&cookie);
        match client {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        cookie.extend_from_slice(&hasher.finish().to_le_bytes());
        Ok(cookie)
    }
}

/// Whether a request carries a cookie: such a one may come without a question
/// (RFC 7873, 5.4).
pub(crate) fn has_cookie(request: &Request) -> bool {
    request.edns.as_ref().is_some_and(|edns| data(edns, COOKIE).is_some())
}

/// The data of a request's first option of a code.
fn data(edns: &Edns, code: u16) -> Option<&[u8]> {
    match edns.option(EdnsCode::from(code))? {
        EdnsOption::Unknown(_, data) => Some(data),
        _ => Some(&[]),
    }
}

/// Seconds since 1970, on the circle of RFC 1982.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() & u64::from(u32::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn identity(secret: &str) -> Identity {
        let cookie_secret = bytes(secret).try_into().expect("16 bytes");
        Identity { nsid: None, cookie_secret, tcp_idle: Duration::from_secs(10) }
    }

    #[test]
    fn cookies_are_those_of_rfc_9018() {
        #[rustfmt::skip]
        let table = [
            // Appendix A.1 and A.4.
            ("e5e973e5a6b2a43f48e7dc849e37bfcf", "2464c4abcf10c957", "198.51.100.100", 1_559_731_985,
             "2464c4abcf10c957010000005cf79f111f8130c3eee29480"),
            ("445536bcd2513298075a5d379663c962", "22681ab97d52c298", "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961,
             "22681ab97d52c298010000005cf7c609a6bb79d16625507a"),
        ];
        for (secret, half, client, time, want) in table {
            let client = client.parse().expect("an address");
            let cookie = identity(secret).cookie(&bytes(half), client, time);
            assert_eq!(cookie, Ok(bytes(want)), "{client}");
        }
    }

    #[test]
    fn cookies_of_impossible_lengths_are_refused() {
        let identity = identity("e5e973e5a6b2a43f48e7dc849e37bfcf");
        for length in 0..60 {
            let cookie = identity.cookie(&vec![1; length], [10, 0, 0, 1].into(), 0);
            let fine = length == 8 || (16..=40).contains(&length);
            assert_eq!(cookie.is_ok(), fine, "{length}");
        }
    }
}
