//! How the text of a value is read. Each function returns what the text should
//! have been, as words with their article.

use super::{LogFormat, Role, VipEngine};
use crate::instance::{Instance, MAX_LINK_BYTES};
use ipnet::Ipv4Net;
use mizzen_plan::ingress::{IngressRule, RuleError};
use mizzen_types::time;
use serde::Serializer;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// In seconds.
const DAY: u64 = 86_400;
/// The shortest time that counts as one.
const SHORTEST: Duration = Duration::from_millis(1);

type Read<T> = Result<T, String>;

pub(super) fn instance(text: &str) -> Read<Instance> {
    text.parse().map_err(|error: crate::instance::InstanceError| error.to_string())
}

pub(super) fn role(text: &str) -> Read<Role> {
    Ok(match text {
        "master" => Role::Master,
        "agent" => Role::Agent,
        "services" => Role::Services,
        "dns" => Role::Dns,
        "vip" => Role::Vip,
        "overlay" => Role::Overlay,
        _ => return Err("a role (master, agent, services, dns, vip, overlay)".to_owned()),
    })
}

pub(super) fn log_format(text: &str) -> Read<LogFormat> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("a log format (text, json)".to_owned()),
    }
}

pub(super) fn log_level(text: &str) -> Read<String> {
    crate::logging::check_filter(text).map(|()| text.to_owned()).map_err(|_| {
        "a log level (error, warn, info, debug, trace) or target=level pairs".to_owned()
    })
}

pub(super) fn engine(text: &str) -> Read<VipEngine> {
    match text {
        "auto" => Ok(VipEngine::Auto),
        "ebpf" => Ok(VipEngine::Ebpf),
        "nfqueue" => Ok(VipEngine::Nfqueue),
        "off" => Ok(VipEngine::Off),
        _ => Err("a VIP engine (auto, ebpf, nfqueue, off)".to_owned()),
    }
}

pub(super) fn absolute_path(text: &str) -> Read<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("an absolute path".to_owned()) }
}

/// An absolute path; an empty text is none.
pub(super) fn path_or_none(text: &str) -> Read<PathBuf> {
    if text.is_empty() { Ok(PathBuf::new()) } else { absolute_path(text) }
}

/// A cgroup below the mount of a hierarchy.
pub(super) fn cgroup(text: &str) -> Read<String> {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    if text.split('/').all(part) {
        Ok(text.to_owned())
    } else {
        Err("the path of a cgroup below its hierarchy's mount, such as mizzen".to_owned())
    }
}

pub(super) fn ip(text: &str) -> Read<IpAddr> {
    text.parse().map_err(|_| "an IP address".to_owned())
}

/// An address that others can connect to.
pub(super) fn own_ip(text: &str) -> Read<IpAddr> {
    ip(text)
        .ok()
        .filter(|ip| !ip.is_unspecified() && !ip.is_multicast())
        .ok_or_else(|| "an IP address of this machine".to_owned())
}

/// An address of some machine.
pub(super) fn peer_ip(text: &str) -> Read<IpAddr> {
    let parsed = ip(text).ok().filter(|ip| !ip.is_unspecified() && !ip.is_multicast());
    parsed.ok_or_else(|| "an IP address of a machine".to_owned())
}

/// `IP:PORT`, or `:PORT` for that port on the node's `address`.
pub(super) fn listen(text: &str, address: IpAddr) -> Read<SocketAddr> {
    let parsed = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(address, port)),
        None => text.parse::<SocketAddr>().ok(),
    };
    parsed.filter(|a| a.port() != 0).ok_or_else(|| "an address and port, such as :5050".to_owned())
}

pub(super) fn port(text: &str) -> Read<u16> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| "a port (1 to 65535)".to_owned())
}

/// A whole number in `range`; `what` has its article and unit.
pub(super) fn number<T: TryFrom<u64> + PartialOrd + std::fmt::Display + Copy>(
    text: &str,
    what: &str,
    range: std::ops::RangeInclusive<T>,
) -> Read<T> {
    text.parse::<u64>()
        .ok()
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("{what} ({} to {})", range.start(), range.end()))
}

pub(super) fn truth(text: &str) -> Read<bool> {
    match text {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true or false".to_owned()),
    }
}

/// A network without host bits, of at most `longest` bits.
pub(super) fn network(text: &str, longest: u8) -> Read<Ipv4Net> {
    text.parse::<Ipv4Net>()
        .ok()
        .filter(|net| net.trunc() == *net && net.prefix_len() <= longest)
        .ok_or_else(|| format!("an IPv4 network of at most {longest} bits, such as 9.0.0.0/8"))
}

pub(super) fn link_name(text: &str) -> Read<String> {
    let letter = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
    if (1..=MAX_LINK_BYTES).contains(&text.len())
        && text.chars().all(letter)
        && !matches!(text, "." | "..")
    {
        Ok(text.to_owned())
    } else {
        Err(format!("the name of a link (1 to {MAX_LINK_BYTES} letters)"))
    }
}

/// Links that VIP traffic may arrive by.
pub(super) fn ingress(text: &str) -> Read<IngressRule> {
    text.parse().map_err(|error: RuleError| error.to_string())
}

/// A name that is part of DNS names after mangling.
pub(super) fn plain_name(text: &str) -> Read<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=63).contains(&text.len()) && text.chars().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("a name of 1 to 63 letters, digits, dots, dashes and underscores".to_owned())
    }
}

pub(super) fn hostname(text: &str) -> Read<String> {
    let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if (1..=253).contains(&text.len()) && text.chars().all(letter) {
        Ok(text.to_owned())
    } else {
        Err("a host name or an address".to_owned())
    }
}

/// Letters as in [`plain_name`]; an empty text is no zone.
pub(super) fn zone(text: &str) -> Read<String> {
    if text.is_empty() { Ok(String::new()) } else { plain_name(text) }
}

pub(super) fn resources(text: &str) -> Read<String> {
    let why = match mizzen_types::resources::Resources::parse(text) {
        Ok(parsed) if parsed.is_empty() => "nothing is offered".to_owned(),
        Ok(_) => match said_twice(text) {
            None => return Ok(text.to_owned()),
            Some(name) => format!("`{name}` is there twice"),
        },
        Err(error) => error.to_string(),
    };
    Err(format!("a list of resources, such as cpus:4;mem:4096 ({why})"))
}

/// A resource that has two amounts; which of them is meant, or both, nobody can tell.
fn said_twice(text: &str) -> Option<&str> {
    let mut seen = BTreeSet::new();
    let names = text.split([';', '\n']).filter_map(|part| part.split_once(':'));
    names.map(|(name, _)| name.trim()).find(|name| !seen.insert(*name))
}

pub(super) fn attributes(text: &str) -> Read<String> {
    let pair = |pair: &str| {
        pair.split_once(':').is_some_and(|(n, v)| !n.trim().is_empty() && !v.trim().is_empty())
    };
    if text.trim().is_empty() || text.split(';').filter(|p| !p.trim().is_empty()).all(pair) {
        Ok(text.to_owned())
    } else {
        Err("a list of attributes, such as rack:a;zone:b".to_owned())
    }
}

/// A positive time of at most a day with its unit: `250ms`, `1s`, `2m`.
pub(super) fn duration(text: &str) -> Read<Duration> {
    time::parse(text, SHORTEST..=time::DAY)
        .ok_or_else(|| "a time with its unit, such as 250ms, 1s or 2m".to_owned())
}

/// A positive time of at most ten years with its unit: `30m`, `12h`, `7d`.
pub(super) fn span(text: &str) -> Read<Duration> {
    time::parse(text, SHORTEST..=3650 * time::DAY)
        .ok_or_else(|| "a time with its unit, such as 30m, 12h or 7d".to_owned())
}

/// Writes each as its text.
pub(super) fn write_texts<T: ToString, S: Serializer>(
    values: &[T],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}

/// As [`listen`], or `none`.
pub(super) fn listen_or_none(text: &str, address: IpAddr) -> Read<Option<SocketAddr>> {
    match text {
        "none" => Ok(None),
        text => listen(text, address).map(Some).map_err(|expected| format!("{expected}, or none")),
    }
}

/// Writes what [`listen_or_none`] reads.
pub(super) fn write_or_none<T: ToString, S: Serializer>(
    value: &Option<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = value.as_ref().map(ToString::to_string);
    serializer.serialize_str(text.as_deref().unwrap_or("none"))
}

/// Writes what [`duration`] reads.
pub(super) fn write_duration<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let text = match duration.as_secs() {
        _ if duration.subsec_millis() != 0 => format!("{}ms", duration.as_millis()),
        seconds if seconds % DAY == 0 => format!("{}d", seconds / DAY),
        seconds => format!("{seconds}s"),
    };
    serializer.serialize_str(&text)
}
