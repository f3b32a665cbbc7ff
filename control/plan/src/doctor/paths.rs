//! How large packets may be: this machine's link, overlays, and paths to other nodes.

use super::{Observed, Told, Verdict, Wanted};

/// Bytes that a packet grows by in a tunnel, over IPv4 and IPv6, and by encryption.
const OVERHEAD: [u32; 2] = [50, 70];
const ENCRYPTION: [u32; 2] = [60, 80];
/// How many narrow paths are named.
const NAMED: usize = 3;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    verdicts.extend(no_link(observed));
    verdicts.extend(overlay_too_large(observed));
    verdicts.extend(observed.told().and_then(|told| narrow_paths(observed, told)));
    if verdicts.is_empty() {
        let mtu = observed.underlay().map_or_else(String::new, |link| {
            format!("packets of {} bytes on {}", link.mtu, link.name)
        });
        let peers = observed.told().map_or(0, |told| told.peers.len());
        let paths =
            if peers > 0 { format!(", as wide to {peers} other nodes") } else { String::new() };
        let text = format!("{mtu}{paths}");
        let text = if text.is_empty() { "nothing narrows packets".to_owned() } else { text };
        verdicts.push(Verdict::ok(text));
    }
    verdicts
}

fn no_link(observed: &Observed) -> Option<Verdict> {
    let address = observed.wanted.address.filter(|address| !address.is_loopback())?;
    let is_seen = observed.machine.links.is_ok() && observed.underlay().is_none();
    is_seen.then(|| {
        Verdict::error(format!("no link of this machine has the node's address {address}"))
            .because("other nodes do not reach this one, and its listeners cannot be bound")
            .remedy("set `address` in the configuration to one of `ip -brief address`")
    })
}

fn overlay_too_large(observed: &Observed) -> Option<Verdict> {
    if !observed.wanted.overlay {
        return None;
    }
    let link = observed.underlay()?;
    let overhead = overhead(&observed.wanted);
    let room = link.mtu.saturating_sub(overhead);
    let mtu = observed.wanted.overlay_mtu;
    (mtu > room).then(|| {
        let what = format!(
            "packets of overlays ({mtu} bytes) do not fit into tunnels over {} ({} bytes)",
            link.name, link.mtu
        );
        Verdict::warning(what)
            .because("routes to other nodes say so, and what heeds neither that nor ICMP is lost")
            .remedy(format!(
                "ip link set {} mtu {}, or `overlay.mtu = {room}` on the master",
                link.name,
                mtu + overhead
            ))
    })
}

fn overhead(wanted: &Wanted) -> u32 {
    let family = usize::from(wanted.address.is_some_and(|address| address.is_ipv6()));
    let encryption = wanted.encryption.map_or(0, |_| ENCRYPTION[family]);
    OVERHEAD[family] + encryption
}

fn narrow_paths(observed: &Observed, told: &Told) -> Option<Verdict> {
    let wide = observed.underlay()?.mtu;
    let narrow: Vec<String> = told
        .peers
        .iter()
        .filter_map(|peer| Some((peer, peer.path_mtu.filter(|mtu| *mtu < wide)?)))
        .map(|(peer, mtu)| format!("{} ({mtu})", peer.name))
        .collect();
    let first = narrow.first()?;
    let more = narrow.len().saturating_sub(NAMED);
    let mut names = narrow.get(..NAMED.min(narrow.len())).unwrap_or_default().join(", ");
    if more > 0 {
        names.push_str(&format!(" and {more} more"));
    }
    let node = first.split(' ').next().unwrap_or_default();
    let verdict = Verdict::warning(format!(
        "paths to {names} take smaller packets than this machine's link ({wide} bytes)"
    ))
    .because("connections to containers there get smaller segments, which costs throughput")
    .remedy(format!("mizzen ping {node}; ask for the same MTU on all links between the nodes"));
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{peer, well};
    use super::super::{Daemon, Grade};
    use super::*;

    #[test]
    fn links_overlays_and_paths() {
        type Row = (&'static str, u32, u32, Option<u32>, Grade);
        #[rustfmt::skip]
        let table: [Row; 4] = [
            ("all fits",       1500, 1420, Some(1500), Grade::Ok),
            ("not known",      1500, 1420, None,       Grade::Ok),
            ("overlay",        1440, 1420, None,       Grade::Warning),
            ("a narrow path",  1500, 1420, Some(1400), Grade::Warning),
        ];
        for (name, link, overlay, path, want) in table {
            let mut observed = well();
            observed.machine.links.as_mut().unwrap()[0].mtu = link;
            observed.wanted.overlay_mtu = overlay;
            let Daemon::Running(told) = &mut observed.daemon else { panic!("it runs") };
            told.peers = vec![super::super::PeerTold { path_mtu: path, ..peer("beta") }];
            let verdicts = judge(&observed);
            assert_eq!(verdicts[0].grade, want, "{name}: {verdicts:?}");
        }
    }

    #[test]
    fn an_address_that_no_link_has() {
        let mut observed = well();
        observed.wanted.address = Some([10, 9, 9, 9].into());
        assert_eq!(judge(&observed)[0].grade, Grade::Error);
    }
}
