//! Whose datagrams they are.

use mizzen_netlink::{Protocol, SocketDiag};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// The own addresses of UDP sockets that are connected to `backends`, by the kernel's numbers of them: nothing
/// tells the programs when the first datagram leaves, so they do not know. Of the calling thread's network
/// namespace; nothing where the kernel does not list sockets.
#[must_use]
pub fn udp_clients(backends: &BTreeSet<SocketAddr>) -> BTreeMap<u64, SocketAddr> {
    let Ok(mut diag) = SocketDiag::open() else { return BTreeMap::new() };
    let connected = backends
        .iter()
        .flat_map(|to| diag.observe_connected(Protocol::Udp, *to).unwrap_or_default());
    connected.map(|socket| (socket.cookie, socket.local)).collect()
}
