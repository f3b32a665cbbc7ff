//! Who may ask what: everybody about our own names, the cluster's own machines about
//! others, and named secondaries for whole zones.
//!
//! Answers about somebody else's names are what makes a resolver useful to those who
//! flood a victim with replies that it never asked for.

use ipnet::IpNet;
use std::net::IpAddr;

/// Networks by what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// May ask about names that are not ours.
    pub clients: Vec<IpNet>,
    /// May have whole zones (RFC 5936).
    pub transfer_to: Vec<IpNet>,
}

impl Access {
    pub(crate) fn may_forward(&self, client: IpAddr) -> bool {
        is_in(&self.clients, client)
    }

    pub(crate) fn may_transfer(&self, client: IpAddr) -> bool {
        is_in(&self.transfer_to, client)
    }
}

impl Default for Access {
    /// Addresses that do not cross the internet may ask; nobody may have whole zones.
    fn default() -> Self {
        let clients = [
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "100.64.0.0/10",
            "9.0.0.0/8",
            "44.128.0.0/16",
            "198.51.100.0/24",
            "::1/128",
            "fc00::/7",
            "fe80::/10",
        ];
        let clients = clients.iter().filter_map(|network| network.parse().ok()).collect();
        Self { clients, transfer_to: Vec::new() }
    }
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_private_addresses_may_ask_and_nobody_may_transfer() {
        #[rustfmt::skip]
        let table = [
            ("127.0.0.1", true), ("10.1.2.3", true), ("172.31.0.1", true), ("172.32.0.1", false),
            ("192.168.7.7", true), ("169.254.1.1", true), ("8.8.8.8", false), ("::1", true),
            ("fd01:d::1", true), ("fe80::1", true), ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true), ("::ffff:8.8.8.8", false), ("9.0.1.5", true),
        ];
        let access = Access::default();
        assert_eq!(access.clients.len(), 12, "every network of the table can be read");
        for (address, want) in table {
            let address = address.parse().expect("an address");
            assert_eq!(access.may_forward(address), want, "{address}");
            assert!(!access.may_transfer(address), "{address}");
        }
    }
}
