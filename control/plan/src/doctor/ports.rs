//! Who has the ports on which the node listens.

use super::{Listener, Observed, User, Verdict, of_look};
use mizzen_types::vip::Protocol;
use std::net::{IpAddr, SocketAddr};

/// A socket that is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    /// Its transport.
    pub transport: Protocol,
    /// Where.
    pub address: SocketAddr,
    /// Whose it is, as far as that can be seen.
    pub holder: Option<Holder>,
}

/// A process that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Whether it is the node's daemon, or holds its sockets while it is away.
    pub is_ours: bool,
}

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    of_look(&observed.machine.sockets, "sockets", |sockets| {
        let mut verdicts: Vec<Verdict> = observed
            .wanted
            .listeners
            .iter()
            .filter_map(|listener| of_listener(observed, listener, sockets))
            .collect();
        verdicts.extend(tunnel_port(observed));
        if verdicts.is_empty() {
            let count = observed.wanted.listeners.len();
            let state = if observed.runs() { "the node's own" } else { "free" };
            verdicts.push(Verdict::ok(format!("{count} ports of the node are {state}")));
        }
        verdicts
    })
}

fn of_listener(observed: &Observed, listener: &Listener, sockets: &[Socket]) -> Option<Verdict> {
    let in_way = |socket: &&Socket| {
        socket.transport == listener.transport
            && socket.address.port() == listener.address.port()
            && overlap(socket.address.ip(), listener.address.ip())
    };
    let is_foreign = |socket: &&Socket| match &socket.holder {
        Some(holder) => !holder.is_ours,
        // Whose it is only root sees; while the daemon runs it is most likely its.
        None => !observed.runs(),
    };
    let socket = sockets.iter().filter(in_way).find(is_foreign)?;
    let (address, transport) = (listener.address, listener.transport);
    if socket.holder.is_none() && observed.machine.user != User::Root {
        let what =
            format!("{transport} {address} ({}) is taken: only root sees by whom", listener.part);
        return Some(Verdict::skipped(what));
    }
    let what = format!("{transport} {address} ({}) is taken by {}", listener.part, words(socket));
    let verdict = Verdict::error(what).because(match observed.runs() {
        true => "the node does not answer there, or shares what is sent to it",
        false => "the node does not start, or starts without it",
    });
    Some(verdict.remedy(remedy(listener, socket)))
}

fn remedy(listener: &Listener, socket: &Socket) -> String {
    let port = listener.address.port();
    match &socket.holder {
        Some(holder) => {
            let Holder { pid, name, .. } = holder;
            format!("systemctl status {pid}; stop {name}, or let one of the two listen elsewhere")
        }
        None => format!("ss -ltunp 'sport = {port}' as root says which process it is"),
    }
}

fn words(socket: &Socket) -> String {
    match &socket.holder {
        Some(holder) => format!("{} (process {}) at {}", holder.name, holder.pid, socket.address),
        None => format!("somebody at {}", socket.address),
    }
}

/// Whether one of the two keeps the other from being bound.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    // A socket at `::` usually takes IPv4 as well.
    a == b
        || [a, b].iter().any(|address| *address == IpAddr::from([0; 16]))
        || (a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified()))
}

/// The kernel holds the port of tunnels for links, and no process shows.
fn tunnel_port(observed: &Observed) -> Option<Verdict> {
    let wanted = &observed.wanted;
    if !wanted.overlay {
        return None;
    }
    let foreign = |link: &&super::Link| {
        link.tunnel_port == Some(wanted.tunnel_port) && link.alias.as_deref() != Some(&wanted.mark)
    };
    let link = observed.links().iter().find(foreign)?;
    let verdict = Verdict::warning(format!(
        "link {} has tunnels on UDP port {}, too, and is not this node's",
        link.name, wanted.tunnel_port
    ))
    .because(
        "two links cannot have one number of tunnels on one port; an agent of DC/OS may still run",
    )
    .remedy(format!(
        "ip -d link show {}; ip link del {}, or another overlay.port",
        link.name, link.name
    ));
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::testing::well;
    use super::super::{Daemon, Grade, Link};
    use super::*;

    fn socket(transport: Protocol, address: &str, holder: Option<(&str, bool)>) -> Socket {
        let holder = holder.map(|(name, is_ours)| Holder { pid: 7, name: name.into(), is_ours });
        Socket { transport, address: address.parse().unwrap(), holder }
    }

    #[test]
    fn who_is_in_the_way() {
        use Protocol::{Tcp, Udp};
        let other = Some(("dnsmasq", false));
        #[rustfmt::skip]
        let table = [
            (socket(Udp, "198.51.100.1:53", other),                    true,  Grade::Error),
            (socket(Udp, "0.0.0.0:53",      other),                    true,  Grade::Error),
            (socket(Udp, "[::]:53",         other),                    true,  Grade::Error),
            (socket(Udp, "127.0.0.53:53",   other),                    true,  Grade::Ok),
            (socket(Tcp, "198.51.100.1:53", other),                    true,  Grade::Ok),
            (socket(Tcp, "10.0.0.1:5050",   Some(("mizzen", true))),   true,  Grade::Ok),
            (socket(Tcp, "10.0.0.1:5050",   None),                     true,  Grade::Ok),
            (socket(Tcp, "10.0.0.1:5050",   None),                     false, Grade::Error),
            (socket(Tcp, "[::ffff:10.0.0.1]:5050", other),             false, Grade::Error),
        ];
        for (socket, runs, want) in table {
            let mut observed = well();
            if !runs {
                observed.daemon = Daemon::Away;
            }
            observed.machine.sockets = Ok(vec![socket.clone()]);
            assert_eq!(judge(&observed)[0].grade, want, "{socket:?}, daemon: {runs}");
        }
    }

    #[test]
    fn tunnels_of_another_one() {
        let mut observed = well();
        let mut links = observed.machine.links.clone().unwrap();
        links.push(Link { name: "vtep99".into(), tunnel_port: Some(64_000), ..Link::default() });
        observed.machine.links = Ok(links);
        assert_eq!(judge(&observed)[0].grade, Grade::Warning);
    }
}
