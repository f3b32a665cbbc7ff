//! Virtual services that somebody registered by hand, for programs outside of the
//! cluster: what they are called and where their connections go.

use crate::vip::{PolicyWish, Protocol};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What stands in the place of a framework in the name of a service that was
/// registered without one: `demo` is `demo.static`.
pub const STATIC: &str = "static";

/// Longest name in bytes, so that it fits into a DNS name together with its zone.
const MAX_NAME: usize = 220;
/// Longest label of a DNS name.
const MAX_LABEL: usize = 63;

/// Which service: `demo:80/tcp`, `10.1.2.3:53/udp`, `[fd00::1]:80/tcp`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipServiceId {
    /// Its name or address.
    pub host: VipHost,
    /// Virtual port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// What a VIP is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VipHost {
    /// An address of its own.
    Address(IpAddr),
    /// `label.framework`; its address is claimed.
    Name(String),
}

/// A service that was registered by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipServiceFact {
    /// Where its connections go, sorted by address, none twice.
    pub backends: Vec<VipServiceBackend>,
    /// How one of them is chosen.
    #[serde(default)]
    pub policy: PolicyWish,
}

/// A backend of a registered service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct VipServiceBackend {
    /// Address and port.
    pub address: SocketAddr,
    /// Relative share; 0 takes no new connections.
    pub weight: u16,
}

/// A text that names no service or backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipServiceError {
    /// Not of the form `NAME:PORT/PROTOCOL`.
    #[error("`{0}` is not of the form NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL")]
    Service(String),
    /// No transport that a VIP can have.
    #[error("`{0}` is not a protocol that a VIP can have (tcp, udp)")]
    Protocol(String),
    /// A number that is no port.
    #[error("`{0}` is not a port (1 to 65535)")]
    Port(String),
    /// No name that DNS takes.
    #[error("`{0}` is neither an address nor a name of letters, digits, dashes and dots")]
    Name(String),
    /// An address that no connection can go to.
    #[error("{0} cannot be connected to")]
    Address(IpAddr),
    /// Not of the form `IP:PORT` or `IP:PORT@WEIGHT`.
    #[error("`{0}` is not of the form IP:PORT or IP:PORT@WEIGHT (weight 0 to 65535)")]
    Backend(String),
}

impl VipServiceId {
    /// The name of the VIP without its zone, `label.framework`, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            VipHost::Name(name) => Some(name),
            VipHost::Address(_) => None,
        }
    }
}

impl fmt::Display for VipServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, protocol) = (self.port, self.protocol);
        match &self.host {
            VipHost::Address(address) => {
                write!(f, "{}/{protocol}", SocketAddr::new(*address, port))
            }
            VipHost::Name(name) => {
                let short = name.strip_suffix(STATIC).and_then(|name| name.strip_suffix('.'));
                // `my.app.static` is not `my.app`.
                let short = short.filter(|short| !short.contains('.')).unwrap_or(name);
                write!(f, "{short}:{port}/{protocol}")
            }
        }
    }
}

impl FromStr for VipServiceId {
    type Err = VipServiceError;

    /// Without `/PROTOCOL` it is TCP. A name without a dot is one of [`STATIC`]; one
    /// with its zone is taken without it.
    fn from_str(text: &str) -> Result<Self, VipServiceError> {
        let form = || VipServiceError::Service(text.to_owned());
        let text = text.strip_prefix('/').unwrap_or(text);
        let (left, protocol) = match text.rsplit_once('/') {
            Some((left, word)) => {
                let protocol = Protocol::from_text(word);
                (left, protocol.ok_or_else(|| VipServiceError::Protocol(word.to_owned()))?)
            }
            None => (text, Protocol::Tcp),
        };
        let (host, port) = left.rsplit_once(':').ok_or_else(form)?;
        let port = read_port(port, form)?;
        Ok(Self { host: parse_host(host)?, port, protocol })
    }
}

impl fmt::Display for VipServiceBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weight {
            1 => write!(f, "{}", self.address),
            weight => write!(f, "{}@{weight}", self.address),
        }
    }
}

impl FromStr for VipServiceBackend {
    type Err = VipServiceError;

    fn from_str(text: &str) -> Result<Self, VipServiceError> {
        let form = || VipServiceError::Backend(text.to_owned());
        let (address, weight) = match text.split_once('@') {
            Some((address, weight)) => (address, number(weight).ok_or_else(form)?),
            None => (text, 1),
        };
        let address: SocketAddr = address.parse().map_err(|_| form())?;
        if address.port() == 0 {
            return Err(form());
        }
        let address = SocketAddr::new(connectable(address.ip())?, address.port());
        Ok(Self { address, weight })
    }
}

/// A port; digits that are none are said to be a number that is none.
fn read_port(text: &str, form: impl FnOnce() -> VipServiceError) -> Result<u16, VipServiceError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(form());
    }
    let port = number(text).filter(|port| *port > 0);
    port.ok_or_else(|| VipServiceError::Port(text.to_owned()))
}

/// Digits only: `u16::from_str` takes a sign, too.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_host(text: &str) -> Result<VipHost, VipServiceError> {
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return connectable(address).map(VipHost::Address);
    }
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let name = name.strip_suffix(".l4lb.thisdcos.directory").unwrap_or(name);
    // Nobody means a name by digits and dots: it is an address with a mistake in it.
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if name.len() > MAX_NAME || numeric || !name.split('.').all(is_label) {
        return Err(VipServiceError::Name(text.to_owned()));
    }
    let has_framework = name.contains('.');
    Ok(VipHost::Name(if has_framework { name.to_owned() } else { format!("{name}.{STATIC}") }))
}

fn is_label(label: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The address in its plain form, if a connection can go there.
fn connectable(address: IpAddr) -> Result<IpAddr, VipServiceError> {
    let address = address.to_canonical();
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(VipServiceError::Address(address));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_as_people_write_them() {
        #[rustfmt::skip]
        let table = [
            ("demo:80/tcp",            "demo.static",   "demo:80/tcp"),
            ("Demo.static:80",         "demo.static",   "demo:80/tcp"),
            ("/demo:80/TCP",           "demo.static",   "demo:80/tcp"),
            ("web.marathon:443/tcp",   "web.marathon",  "web.marathon:443/tcp"),
            ("web.marathon.l4lb.thisdcos.directory:1/udp", "web.marathon", "web.marathon:1/udp"),
            ("a.b.static:1",           "a.b.static",    "a.b.static:1/tcp"),
            ("10.1.2.3:53/udp",        "-",             "10.1.2.3:53/udp"),
            ("[fd00::1]:80/tcp",       "-",             "[fd00::1]:80/tcp"),
            ("fd00::1:80/tcp",         "-",             "[fd00::1]:80/tcp"),
            ("[::ffff:1.2.3.4]:80",    "-",             "1.2.3.4:80/tcp"),
        ];
        for (text, name, shown) in table {
            let id: VipServiceId = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(id.name().unwrap_or("-"), name, "{text}");
            assert_eq!(id.to_string(), shown, "{text}");
            assert_eq!(id.to_string().parse(), Ok(id), "{text}");
        }
    }

    #[test]
    fn what_is_no_service_or_backend() {
        let service = |text: &str| text.parse::<VipServiceId>().unwrap_err().to_string();
        let form = "is not of the form NAME:PORT/PROTOCOL or ADDRESS:PORT/PROTOCOL";
        for text in ["demo", "demo:+1/tcp", "demo:/tcp"] {
            assert!(service(text).ends_with(form), "{text}: {}", service(text));
        }
        assert_eq!(service("demo:65536/tcp"), "`65536` is not a port (1 to 65535)");
        assert_eq!(service("demo:0"), "`0` is not a port (1 to 65535)");
        assert_eq!(service("a:1/sctp"), "`sctp` is not a protocol that a VIP can have (tcp, udp)");
        let long = "a".repeat(64);
        for name in ["", "a_b", "-a", "a..b", ".a", "10.1.2", "10.1.2.300", long.as_str()] {
            let text = service(&format!("{name}:80"));
            assert!(text.contains("is neither an address nor a name"), "{name}: {text}");
        }
        assert_eq!(service("224.0.0.1:80"), "224.0.0.1 cannot be connected to");

        let backend = |text: &str| text.parse::<VipServiceBackend>();
        let shown = |text: &str| backend(text).map(|backend| backend.to_string());
        assert_eq!(shown("10.0.0.1:80").as_deref(), Ok("10.0.0.1:80"));
        assert_eq!(shown("[fd00::1]:80@7").as_deref(), Ok("[fd00::1]:80@7"));
        assert_eq!(shown("[::ffff:10.0.0.1]:80@0").as_deref(), Ok("10.0.0.1:80@0"));
        for text in ["10.0.0.1", "10.0.0.1:0", "10.0.0.1:80@", "10.0.0.1:80@65536", "host:80"] {
            assert!(matches!(backend(text), Err(VipServiceError::Backend(_))), "{text}");
        }
        assert!(matches!(backend("0.0.0.0:80"), Err(VipServiceError::Address(_))));
    }
}
