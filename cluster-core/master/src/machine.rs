//! Machines, as operators name them.

use mizzen_api::v1;
use std::fmt;
use std::net::IpAddr;

/// A machine: its host's name, its address, or both. Host names are compared in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Machine {
    hostname: Option<String>,
    ip: Option<IpAddr>,
}

impl Machine {
    /// The machine of an agent.
    pub(crate) fn of(info: &v1::AgentInfo, peer: IpAddr) -> Self {
        Self { hostname: Some(info.hostname.to_lowercase()), ip: Some(peer.to_canonical()) }
    }

    /// The machine that an operator names.
    pub(crate) fn named(id: &v1::MachineId) -> Result<Self, String> {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let hostname = some(&id.hostname).map(|name| name.to_lowercase());
        let ip = some(&id.ip)
            .map(|text| text.parse::<IpAddr>().map_err(|error| format!("'{text}': {error}")))
            .transpose()?;
        if hostname.is_none() && ip.is_none() {
            return Err("Both 'hostname' and 'ip' for a machine are empty".to_owned());
        }
        Ok(Self { hostname, ip: ip.map(|ip| ip.to_canonical()) })
    }

    /// Whether the name that an operator gave means this machine of an agent: what it says
    /// has to be right, and it need not say all.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let fits = |own: &Option<String>, other: &Option<String>| own.is_none() || own == other;
        fits(&self.hostname, &other.hostname) && (self.ip.is_none() || self.ip == other.ip)
    }

    /// As the API writes it.
    pub(crate) fn to_v1(&self) -> v1::MachineId {
        v1::MachineId {
            hostname: self.hostname.clone(),
            ip: self.ip.as_ref().map(ToString::to_string),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hostname, self.ip) {
            (Some(name), Some(ip)) => write!(f, "'{name}' ({ip})"),
            (Some(name), None) => write!(f, "'{name}'"),
            (None, Some(ip)) => write!(f, "'{ip}'"),
            (None, None) => f.write_str("''"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_a_machine_if_nothing_of_it_is_wrong() {
        let info = v1::AgentInfo { hostname: "Node".into(), ..v1::AgentInfo::default() };
        let agent = Machine::of(&info, "10.0.0.2".parse().unwrap());
        let table = [
            ("node", "", true),
            ("NODE", "10.0.0.2", true),
            ("", "10.0.0.2", true),
            ("", "::ffff:10.0.0.2", true),
            ("node", "10.0.0.3", false),
            ("other", "10.0.0.2", false),
            ("other", "", false),
        ];
        for (hostname, ip, means) in table {
            let id = v1::MachineId { hostname: Some(hostname.into()), ip: Some(ip.into()) };
            let named = Machine::named(&id).unwrap();
            assert_eq!(named.means(&agent), means, "{named}");
        }
        for (hostname, ip) in [("", ""), ("node", "no address")] {
            let id = v1::MachineId { hostname: Some(hostname.into()), ip: Some(ip.into()) };
            assert!(Machine::named(&id).is_err());
        }
    }
}
