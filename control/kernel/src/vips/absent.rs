//! Connections to VIPs that are not there.
//!
//! Programs let pass what is no VIP, and to the routes the networks of VIPs are far away: a
//! connection to a service without tasks would leave by the default route, and its program
//! wait for an answer from nowhere. A route behind all others refuses it at once. It stays
//! while the daemon is away, as the programs do.

use ipnet::IpNet;
use mizzen_netlink::{Ensured, Netlink, NetlinkError, Removed};

/// Marks routes as those of VIPs.
const PROTOCOL: u8 = 0x6e;

/// Has connections to VIPs of these networks that are not there refused; returns whether some were not before.
///
/// # Errors
///
/// The kernel's answer about one of them; the others are refused all the same.
pub fn refuse_absent(networks: &[IpNet]) -> Result<bool, NetlinkError> {
    each(networks, |netlink, network| {
        Ok(matches!(netlink.ensure_unreachable(network, PROTOCOL)?, Ensured::Created(())))
    })
}

/// Undoes that; returns whether there was something to undo.
///
/// # Errors
///
/// The kernel's answer about one of them; the others are undone all the same.
pub fn admit_absent(networks: &[IpNet]) -> Result<bool, NetlinkError> {
    each(networks, |netlink, network| {
        Ok(netlink.remove_unreachable(network, PROTOCOL)? == Removed::Removed)
    })
}

fn each(
    networks: &[IpNet],
    change: impl Fn(&mut Netlink, IpNet) -> Result<bool, NetlinkError>,
) -> Result<bool, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let mut outcome = Ok(false);
    for network in networks {
        let changed = change(&mut netlink, *network);
        outcome = match (outcome, changed) {
            (Ok(before), Ok(now)) => Ok(before | now),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
    }
    outcome
}
