//! What somebody wants explained, as it was typed.

use super::sight::Seen;
use mizzen_types::vip::{Protocol, VipKey};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address or a name, with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub host: Host,
    pub port: u16,
    /// If it was said.
    pub protocol: Option<Protocol>,
}

/// Where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// An address.
    Address(IpAddr),
    /// A name of a VIP, or the beginning of one.
    Name(String),
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The client.
    pub from: SocketAddr,
    /// A VIP or a backend.
    pub to: End,
}

/// A text that is neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskedError {
    /// No end of a connection.
    #[error("`{text}` is not of the form NAME:PORT or IP:PORT, with /tcp or /udp or without")]
    End {
        /// What was typed.
        text: String,
    },
    /// No connection.
    #[error("`{text}` is not of the form SRC:PORT->VIP:PORT")]
    Pair {
        /// What was typed.
        text: String,
    },
    /// A client without an address.
    #[error("`{text}` is no client's address and port, such as 192.0.2.7:40312")]
    Client {
        /// What was typed.
        text: String,
    },
}

impl FromStr for End {
    type Err = AskedError;

    fn from_str(text: &str) -> Result<Self, AskedError> {
        let wrong = || AskedError::End { text: text.to_owned() };
        let (place, protocol) = match text.trim().split_once('/') {
            Some((place, word)) => (place, Some(Protocol::from_text(word).ok_or_else(wrong)?)),
            None => (text.trim(), None),
        };
        if let Ok(socket) = place.parse::<SocketAddr>() {
            let host = Host::Address(socket.ip().to_canonical());
            return Ok(Self { host, port: socket.port(), protocol });
        }
        let (name, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        if name.is_empty() || name.contains(':') {
            return Err(wrong());
        }
        let name = name.trim_end_matches('.').to_lowercase();
        Ok(Self { host: Host::Name(name), port, protocol })
    }
}

impl FromStr for Pair {
    type Err = AskedError;

    fn from_str(text: &str) -> Result<Self, AskedError> {
        let wrong = || AskedError::Pair { text: text.to_owned() };
        let (from, to) = text.split_once("->").ok_or_else(wrong)?;
        let client = || AskedError::Client { text: from.trim().to_owned() };
        let from: SocketAddr = from.trim().parse().map_err(|_| client())?;
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        Ok(Self { from, to: to.parse()? })
    }
}

impl End {
    /// Whether this is the VIP.
    pub fn is_vip(&self, seen: &Seen) -> bool {
        let key = &seen.spec.key;
        let host = match &self.host {
            Host::Address(address) => *address == key.address,
            Host::Name(name) => has_name(seen, name),
        };
        host && self.port == key.port && self.may_be(key)
    }

    /// Whether it has the protocol that was said, if one was.
    pub fn may_be(&self, key: &VipKey) -> bool {
        self.protocol.is_none_or(|protocol| protocol == key.protocol)
    }

    /// Address and port, if it is not a name.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self.host {
            Host::Address(address) => Some(SocketAddr::new(address, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Whether the VIP is something that may have been meant.
    pub fn is_near(&self, seen: &Seen) -> bool {
        let key = &seen.spec.key;
        match &self.host {
            Host::Address(address) => *address == key.address || self.port == key.port,
            Host::Name(name) => {
                let label = name.split('.').next().unwrap_or(name);
                seen.spec.name.as_ref().is_some_and(|known| known.contains(label))
            }
        }
    }
}

/// The whole name, with the suffix of all names or without, or its label alone.
fn has_name(seen: &Seen, name: &str) -> bool {
    let (Some(known), Some(full)) = (&seen.spec.name, seen.name()) else { return false };
    let label = known.split('.').next().unwrap_or(known);
    name == known || name == full || name == label
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::vip_views::sight::tests::vip;

    #[test]
    fn what_is_meant() {
        let seen = vip(Vec::new());
        #[rustfmt::skip]
        let table = [
            ("11.0.0.1:80",          true),  ("11.0.0.1:80/tcp", true),  ("11.0.0.1:80/udp", false),
            ("[::ffff:11.0.0.1]:80", true),  ("11.0.0.2:80",     false), ("11.0.0.1:81",     false),
            ("web:80",               true),  ("web.marathon:80", true),  ("WEB.marathon:80", true),
            ("web.marathon.l4lb.thisdcos.directory:80", true),
            ("web.marathon.l4lb.thisdcos.directory.:80/tcp", true),
            ("we:80",                false), ("marathon:80",     false),
        ];
        for (text, want) in table {
            assert_eq!(text.parse::<End>().unwrap().is_vip(&seen), want, "{text}");
        }
        for text in ["", "web", "web:", "web:x", ":80", "web:80/sctp", "11.0.0.1", "fd00::1:80"] {
            assert!(text.parse::<End>().is_err(), "{text}");
        }
    }

    #[test]
    fn connections() {
        let pair: Pair = "172.31.255.1:4711->web:80/tcp".parse().unwrap();
        assert_eq!((pair.from.port(), pair.to.port), (4711, 80));
        let pair: Pair = "[::1]:4711 -> [fd01:c::1]:80".parse().unwrap();
        assert_eq!(pair.to.socket(), Some("[fd01:c::1]:80".parse().unwrap()));
        for (text, want) in [
            ("web:80", "is not of the form SRC:PORT->VIP:PORT"),
            ("web:80->web:80", "is no client's address"),
            ("1.2.3.4:5->web", "is not of the form NAME:PORT"),
        ] {
            let error = text.parse::<Pair>().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn what_may_have_been_meant() {
        let seen = vip(Vec::new());
        for (text, want) in [
            ("11.0.0.1:81", true),
            ("11.0.0.9:80", true),
            ("11.0.0.9:81", false),
            ("we:81", true),
            ("web.other:81", true),
            ("db:80", false),
        ] {
            assert_eq!(text.parse::<End>().unwrap().is_near(&seen), want, "{text}");
        }
    }
}
