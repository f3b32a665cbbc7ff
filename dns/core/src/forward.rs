//! Whom to ask about names that are not ours.

use crate::name::{DnsName, NameError};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Port of DNS.
const PLAIN_PORT: u16 = 53;
/// Port of DNS over TLS (RFC 7858).
const TLS_PORT: u16 = 853;
/// Port of HTTPS.
const HTTPS_PORT: u16 = 443;
/// What every way of writing an upstream looks like, for error messages.
const FORMS: &str = "IP, IP:PORT, tls://IP[:PORT]#name or https://IP[:PORT]/path#name";

/// A resolver that can be asked, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is spoken with it.
    pub channel: Channel,
}

/// What carries questions to an upstream.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// UDP, and TCP for what does not fit.
    Plain,
    /// DNS over TLS (RFC 7858).
    Tls {
        /// The name that its certificate must have; its address if there is none.
        name: Option<DnsName>,
    },
    /// DNS over HTTPS (RFC 8484).
    Https {
        /// The name that its certificate must have; its address if there is none.
        name: Option<DnsName>,
        /// Where questions are posted, with the slash at its start.
        path: String,
    },
}

/// Why a text names no upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamSpecError {
    /// Before `://` stands something that is not spoken here.
    #[error("upstream `{spec}`: `{scheme}` is neither `tls` nor `https`; write {FORMS}")]
    Scheme {
        /// As written.
        spec: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// The address is none; a name is no address, because somebody would have to be
    /// asked for it first.
    #[error(
        "upstream `{spec}`: `{address}` is no IP address with or without a port; write {FORMS}"
    )]
    Address {
        /// As written.
        spec: String,
        /// The part that should be an address.
        address: String,
    },
    /// Port 0 cannot be asked.
    #[error("upstream `{0}`: port 0 cannot be asked")]
    Port(String),
    /// The name of its certificate is no name.
    #[error("upstream `{spec}`: the name behind `#` is none")]
    Name {
        /// As written.
        spec: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// HTTPS without a path, or with one that cannot be asked for.
    #[error("upstream `{0}`: a path of visible ASCII characters is needed, such as `/dns-query`")]
    Path(String),
}

/// Resolvers by suffix, and those for the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardTable<U = Upstream> {
    zones: BTreeMap<DnsName, Vec<U>>,
    rest: Vec<U>,
}

impl Upstream {
    /// A resolver that is asked by UDP and TCP.
    #[must_use]
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, channel: Channel::Plain }
    }

    /// The certificate's name as it was written, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&DnsName> {
        match &self.channel {
            Channel::Plain => None,
            Channel::Tls { name } | Channel::Https { name, .. } => name.as_ref(),
        }
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::plain(address)
    }
}

impl FromStr for Upstream {
    type Err = UpstreamSpecError;

    /// Reads `IP`, `IP:PORT`, `tls://IP[:853]#name` or `https://IP[:443]/path#name`; an
    /// IPv6 address with a port stands in brackets.
    fn from_str(spec: &str) -> Result<Self, Self::Err> {
        let Some((scheme, rest)) = spec.split_once("://") else {
            return Ok(Self::plain(address(spec, spec, PLAIN_PORT)?));
        };
        let (place, name) = match rest.split_once('#') {
            Some((place, name)) => (place, Some(certificate_name(spec, name)?)),
            None => (rest, None),
        };
        match scheme {
            "tls" => {
                let address = address(spec, place, TLS_PORT)?;
                Ok(Self { address, channel: Channel::Tls { name } })
            }
            "https" => {
                let slash = place.find('/').ok_or_else(|| bad_path(spec))?;
                let (place, path) = place.split_at(slash);
                if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(bad_path(spec));
                }
                let address = address(spec, place, HTTPS_PORT)?;
                Ok(Self { address, channel: Channel::Https { name, path: path.to_owned() } })
            }
            _ => {
                let (spec, scheme) = (spec.to_owned(), scheme.to_owned());
                Err(UpstreamSpecError::Scheme { spec, scheme })
            }
        }
    }
}

impl fmt::Display for Upstream {
    /// Writes it as it is read, with its port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.channel {
            Channel::Plain => write!(f, "{}", self.address)?,
            Channel::Tls { .. } => write!(f, "tls://{}", self.address)?,
            Channel::Https { path, .. } => write!(f, "https://{}{path}", self.address)?,
        }
        self.name().map_or(Ok(()), |name| write!(f, "#{}", name.as_str()))
    }
}

impl<U> Default for ForwardTable<U> {
    fn default() -> Self {
        Self { zones: BTreeMap::new(), rest: Vec::new() }
    }
}

impl<U: Clone> ForwardTable<U> {
    /// Makes a table.
    ///
    /// * `rest` — resolvers for names that no zone holds; none refuses them.
    /// * `zones` — resolvers by suffix; a suffix without resolvers is refused.
    ///
    /// # Errors
    ///
    /// [`NameError`] if a suffix is no name.
    pub fn new(rest: Vec<U>, zones: &BTreeMap<String, Vec<U>>) -> Result<Self, NameError> {
        let zones = zones
            .iter()
            .map(|(suffix, resolvers)| Ok((DnsName::parse(suffix)?, resolvers.clone())))
            .collect::<Result<_, NameError>>()?;
        Ok(Self { zones, rest })
    }
}

impl<U> ForwardTable<U> {
    /// The resolvers for `name`: those of the longest suffix that holds it.
    #[must_use]
    pub fn route(&self, name: &DnsName) -> &[U] {
        let zone = self.zone_for(name).and_then(|suffix| self.zones.get(suffix));
        zone.unwrap_or(&self.rest)
    }

    /// The suffix that holds `name`, if it is not only the rest.
    #[must_use]
    pub fn zone_for<'n>(&self, name: &'n DnsName) -> Option<&'n str> {
        name.lineage().find(|suffix| self.zones.contains_key(*suffix))
    }

    /// Whether a suffix, and not only the rest, holds `name`.
    #[must_use]
    pub fn has_zone_for(&self, name: &DnsName) -> bool {
        self.zone_for(name).is_some()
    }

    /// Whether anybody can be asked at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.zones.values().all(Vec::is_empty)
    }

    /// Takes out the resolvers that `unwanted` names, and returns them.
    pub fn take_out(&mut self, unwanted: impl Fn(&U) -> bool) -> Vec<U> {
        let mut out = Vec::new();
        for resolvers in self.zones.values_mut().chain([&mut self.rest]) {
            out.extend(resolvers.extract_if(.., |resolver| unwanted(resolver)));
        }
        out
    }

    /// The same table of other values, for example of numbers that stand for resolvers.
    /// `change` sees the rest first, then the suffixes in order.
    #[must_use]
    pub fn map<V>(self, mut change: impl FnMut(U) -> V) -> ForwardTable<V> {
        let rest = self.rest.into_iter().map(&mut change).collect();
        let mut each = |(suffix, list): (DnsName, Vec<U>)| {
            (suffix, list.into_iter().map(&mut change).collect())
        };
        ForwardTable { zones: self.zones.into_iter().map(&mut each).collect(), rest }
    }
}

/// Reads `IP`, `IP:PORT` or `[IP]`.
fn address(spec: &str, text: &str, port: u16) -> Result<SocketAddr, UpstreamSpecError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let read = match bare.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port)),
        Err(_) => text.parse::<SocketAddr>(),
    };
    match read {
        Ok(address) if address.port() == 0 => Err(UpstreamSpecError::Port(spec.to_owned())),
        Ok(address) => Ok(address),
        Err(_) => {
            Err(UpstreamSpecError::Address { spec: spec.to_owned(), address: text.to_owned() })
        }
    }
}

fn certificate_name(spec: &str, name: &str) -> Result<DnsName, UpstreamSpecError> {
    let wrong = |source| UpstreamSpecError::Name { spec: spec.to_owned(), source };
    // No certificate is for the root, and written down it would be nothing.
    if name.is_empty() || name == "." {
        return Err(wrong(NameError::EmptyLabel(name.to_owned())));
    }
    DnsName::parse(name).map_err(wrong)
}

fn bad_path(spec: &str) -> UpstreamSpecError {
    UpstreamSpecError::Path(spec.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_suffix_wins() {
        let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 53));
        let zones = BTreeMap::from([
            ("example.com".to_owned(), vec![at(1)]),
            ("Corp.Example.COM.".to_owned(), vec![at(2), at(3)]),
            ("blocked".to_owned(), vec![]),
        ]);
        let mut table = ForwardTable::new(vec![at(9)], &zones).expect("names");
        let name = |text| DnsName::parse(text).expect("a name");
        #[rustfmt::skip]
        let rows: &[(&str, Vec<SocketAddr>, Option<&str>)] = &[
            ("example.com",          vec![at(1)],        Some("example.com")),
            ("a.b.example.com",      vec![at(1)],        Some("example.com")),
            ("corp.example.com",     vec![at(2), at(3)], Some("corp.example.com")),
            ("x.corp.example.com",   vec![at(2), at(3)], Some("corp.example.com")),
            ("notexample.com",       vec![at(9)],        None),
            ("x.blocked",            vec![],             Some("blocked")),
            ("",                     vec![at(9)],        None),
        ];
        for (text, want, zone) in rows {
            assert_eq!(table.route(&name(text)), *want, "{text}");
            assert_eq!(table.zone_for(&name(text)), *zone, "{text}");
            assert_eq!(table.has_zone_for(&name(text)), zone.is_some(), "{text}");
        }
        assert_eq!(table.take_out(|resolver| *resolver == at(2)), [at(2)]);
        assert_eq!(table.route(&name("corp.example.com")), [at(3)]);
        assert!(!table.is_empty() && ForwardTable::<SocketAddr>::default().is_empty());
        let last = table.map(|address| address.to_string());
        assert_eq!(last.route(&name("x.corp.example.com")), ["10.0.0.3:53"]);
        let bad = BTreeMap::from([("a..b".to_owned(), Vec::<SocketAddr>::new())]);
        assert_eq!(ForwardTable::new(vec![], &bad), Err(NameError::EmptyLabel("a..b".into())));
    }

    #[test]
    fn every_form_of_an_upstream() {
        #[rustfmt::skip]
        let table = &[
            ("192.0.2.1",                          "192.0.2.1:53"),
            ("192.0.2.1:5353",                     "192.0.2.1:5353"),
            ("2001:db8::1",                        "[2001:db8::1]:53"),
            ("[2001:db8::1]",                      "[2001:db8::1]:53"),
            ("[2001:db8::1]:5353",                 "[2001:db8::1]:5353"),
            ("tls://192.0.2.1#dns.example",        "tls://192.0.2.1:853#dns.example"),
            ("tls://192.0.2.1:8853#DNS.Example.",  "tls://192.0.2.1:8853#dns.example"),
            ("tls://[2001:db8::1]#dns.example",    "tls://[2001:db8::1]:853#dns.example"),
            ("tls://192.0.2.1",                    "tls://192.0.2.1:853"),
            ("https://192.0.2.1/dns-query#d.test", "https://192.0.2.1:443/dns-query#d.test"),
            ("https://192.0.2.1:8443/#d.test",     "https://192.0.2.1:8443/#d.test"),
            ("https://[2001:db8::1]:8443/q?a=b",   "https://[2001:db8::1]:8443/q?a=b"),
        ];
        for (text, want) in table {
            let upstream: Upstream = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(upstream.to_string(), *want, "{text}");
            assert_eq!(want.parse(), Ok(upstream), "and back");
        }
    }

    #[test]
    fn what_is_no_upstream_is_told_why() {
        #[rustfmt::skip]
        let table = &[
            ("dns.example",                    "`dns.example` is no IP address"),
            ("",                               "`` is no IP address"),
            ("192.0.2.1:99999",                "`192.0.2.1:99999` is no IP address"),
            ("192.0.2.1:0",                    "port 0 cannot be asked"),
            ("tls://dns.example",              "`dns.example` is no IP address"),
            ("tls://192.0.2.1#",               "the name behind `#` is none"),
            ("tls://192.0.2.1#.",              "the name behind `#` is none"),
            ("tls://192.0.2.1#a..b",           "the name behind `#` is none"),
            ("quic://192.0.2.1",               "`quic` is neither `tls` nor `https`"),
            ("https://192.0.2.1#dns.example",  "a path of visible ASCII characters is needed"),
            ("https://192.0.2.1/a b#x",        "a path of visible ASCII characters is needed"),
            ("https://example/dns-query",      "`example` is no IP address"),
        ];
        for (text, want) in table {
            let error = text.parse::<Upstream>().expect_err(text).to_string();
            assert!(error.contains(want) && error.contains(text), "{text}: {error}");
        }
    }
}
