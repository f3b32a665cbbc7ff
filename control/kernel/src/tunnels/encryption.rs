//! The link that encrypts packets of tunnels: its keys, its peers, and with whom it shook
//! hands.

use super::{Removals, TunnelReport, Tunnels};
use ipnet::IpNet;
use mizzen_netlink::{
    Ensured, IfIndex, Netlink, NetlinkError, PrivateKey, TunnelChange, TunnelEntry, Wireguard,
    WireguardChange, WireguardPeer, WireguardPeerState, WireguardSpec,
};
use mizzen_plan::overlay::desired::ENCRYPTION_TABLE;
use mizzen_plan::overlay::{Desired, EncryptedPeer, EncryptionEnd, PeerChange, Trust};
use mizzen_types::encryption::PublicKey;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Seconds between packets to a node with which no hands were shaken yet.
const KEEPALIVE: u16 = 25;
/// Who shook hands within this time is where it was heard from; WireGuard's sessions end then.
const LATELY: Duration = Duration::from_secs(180);

/// The link that encrypts, as the last pass left it.
#[derive(Debug)]
pub(super) struct Encrypting {
    pub(super) link: IfIndex,
    name: String,
    underlay: IpAddr,
    /// Whom it shook hands with, ever.
    proven: BTreeSet<PublicKey>,
}

impl Encrypting {
    /// The route that packets of tunnels to a node take, once they are encrypted.
    pub(super) fn route(&self, peer: &EncryptedPeer) -> Option<TunnelEntry> {
        self.trusts(peer).then(|| TunnelEntry::Route {
            link: self.link,
            destination: IpNet::from(peer.endpoint.ip()),
            via: None,
            table: ENCRYPTION_TABLE,
            source: Some(self.underlay),
            mtu: None,
        })
    }

    fn trusts(&self, peer: &EncryptedPeer) -> bool {
        peer.trust == Trust::AtOnce || self.proven.contains(&peer.public_key)
    }

    fn wanted(&self, peer: &EncryptedPeer) -> WireguardPeer {
        WireguardPeer {
            public_key: peer.public_key.0,
            endpoint: peer.endpoint,
            allowed: peer.endpoint.ip(),
            keepalive: if self.trusts(peer) { 0 } else { KEEPALIVE },
        }
    }
}

/// Makes the link that encrypts, without peers, and returns the public key that belongs to
/// its secret one.
///
/// # Errors
///
/// [`NetlinkError::is_unsupported`] if the kernel has no WireGuard; otherwise its refusal.
pub fn prepare(spec: &WireguardSpec) -> Result<PublicKey, NetlinkError> {
    Netlink::open()?.ensure_wireguard(spec)?;
    let state = Wireguard::open()?.observe(&spec.name)?;
    let vanished = || NetlinkError::Vanished { object: format!("key of link `{}`", spec.name) };
    state.public_key.map(PublicKey).ok_or_else(vanished)
}

/// When the link that encrypts shook hands with each of its peers last.
///
/// # Errors
///
/// [`NetlinkError`] if there is no such link.
pub fn handshakes(link: &str) -> Result<BTreeMap<PublicKey, Option<SystemTime>>, NetlinkError> {
    let peers = Wireguard::open()?.observe(link)?.peers;
    Ok(peers.into_iter().map(|peer| (PublicKey(peer.public_key), peer.handshake)).collect())
}

impl Tunnels {
    /// A pass over the link that encrypts and its peers.
    pub(super) fn reconcile_encryption(
        &mut self,
        desired: &Desired,
        removals: Removals,
        report: &mut TunnelReport,
    ) {
        let before = self.encrypting.take();
        let (Some(end), Some(key)) = (&desired.encryption, &self.key) else { return };
        match self.netlink.ensure_wireguard(&spec(end, key, &self.mark)) {
            Ok(made) => {
                report.changed += usize::from(!matches!(made, Ensured::Unchanged(_)));
                let (link, name) = (made.into_inner().index, end.link.clone());
                let proven = BTreeSet::new();
                self.encrypting = Some(Encrypting { link, name, underlay: end.underlay, proven });
            }
            Err(error) => return report.fail("link that encrypts", &error),
        }
        let before = before.map(|before| before.proven).unwrap_or_default();
        if let Err(error) = self.reconcile_peers(desired, removals, &before, report) {
            report.fail("nodes that packets are encrypted for", &error);
        }
    }

    fn reconcile_peers(
        &mut self,
        desired: &Desired,
        removals: Removals,
        before: &BTreeSet<PublicKey>,
        report: &mut TunnelReport,
    ) -> Result<(), NetlinkError> {
        let Some(encrypting) = &mut self.encrypting else { return Ok(()) };
        let wireguard = match &mut self.wireguard {
            Some(open) => open,
            closed => closed.insert(Wireguard::open()?),
        };
        let observed = wireguard.observe(&encrypting.name)?.peers;
        let shook = observed.iter().filter(|peer| peer.handshake.is_some());
        encrypting.proven = shook.map(|peer| PublicKey(peer.public_key)).collect();
        report.proven = encrypting.proven.difference(before).count();
        let peers: Vec<EncryptedPeer> =
            desired.peers.values().filter_map(|entries| entries.encryption).collect();
        report.unproven = peers.iter().filter(|peer| !encrypting.trusts(peer)).count();
        let wanted: Vec<WireguardPeer> = peers.iter().map(|peer| encrypting.wanted(peer)).collect();
        let mut changes = difference(&observed, &wanted, SystemTime::now());
        if removals == Removals::Later {
            changes.retain(|change| !matches!(change, WireguardChange::Remove(_)));
        }
        if !changes.is_empty() {
            wireguard.change_peers(&encrypting.name, &changes)?;
            report.changed += changes.len();
        }
        Ok(())
    }

    /// Makes the link know what is different of some nodes.
    pub(super) fn change_peers(&mut self, changes: &[PeerChange], report: &mut TunnelReport) {
        let (Some(encrypting), Some(wireguard)) = (&self.encrypting, &mut self.wireguard) else {
            return;
        };
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for change in changes {
            let before = change.before.as_ref().and_then(|entries| entries.encryption);
            let after = change.after.as_ref().and_then(|entries| entries.encryption);
            if before == after {
                continue;
            }
            let stays = |peer: &EncryptedPeer| after.map(|a| a.public_key) == Some(peer.public_key);
            gone.extend(before.filter(|peer| !stays(peer)).map(|peer| peer.public_key));
            come.extend(after.map(|peer| encrypting.wanted(&peer)));
        }
        // A key that one node lost may be another one's now.
        gone.retain(|key| !come.iter().any(|peer| peer.public_key == key.0));
        report.unproven += come.iter().filter(|peer| peer.keepalive > 0).count();
        let gone = gone.into_iter().map(|key| WireguardChange::Remove(key.0));
        let changes: Vec<_> = gone.chain(come.into_iter().map(WireguardChange::Set)).collect();
        if changes.is_empty() {
            return;
        }
        match wireguard.change_peers(&encrypting.name, &changes) {
            Ok(()) => report.changed += changes.len(),
            Err(error) => report.fail("nodes that packets are encrypted for", &error),
        }
    }
}

/// The kernel keeps the way to a machine with the forwarding entry that leads there. Over IPv6 it
/// does not notice when a table that a rule leads to has another way: those entries, of `wanted`,
/// are made anew.
pub(super) fn forgotten_ways<'a>(
    changes: &[TunnelChange],
    wanted: impl Iterator<Item = &'a TunnelEntry>,
) -> Vec<TunnelChange> {
    let moved: BTreeSet<IpAddr> = changes
        .iter()
        .filter_map(|change| match change.entry() {
            TunnelEntry::Route { destination: IpNet::V6(to), table: ENCRYPTION_TABLE, .. } => {
                Some(to.addr().into())
            }
            _ => None,
        })
        .collect();
    let is_new = |entry: &TunnelEntry| changes.iter().any(|change| change.entry() == entry);
    let kept = wanted.filter(|entry| match entry {
        TunnelEntry::Forwarding { remote, .. } => moved.contains(remote) && !is_new(entry),
        _ => false,
    });
    kept.flat_map(|entry| [TunnelChange::Remove(*entry), TunnelChange::Add(*entry)]).collect()
}

fn spec(end: &EncryptionEnd, key: &PrivateKey, mark: &str) -> WireguardSpec {
    WireguardSpec {
        name: end.link.clone(),
        address: end.underlay,
        mtu: end.mtu,
        port: end.port,
        private_key: key.clone(),
        alias: mark.to_owned(),
    }
}

/// Who goes, and then who comes or changes.
fn difference(
    observed: &[WireguardPeerState],
    wanted: &[WireguardPeer],
    now: SystemTime,
) -> Vec<WireguardChange> {
    let by_key: BTreeMap<_, _> = observed.iter().map(|peer| (peer.public_key, peer)).collect();
    let keys: BTreeSet<_> = wanted.iter().map(|peer| peer.public_key).collect();
    let gone = by_key.keys().filter(|key| !keys.contains(*key));
    let gone = gone.map(|key| WireguardChange::Remove(*key));
    let come = wanted
        .iter()
        .filter(|peer| by_key.get(&peer.public_key).is_none_or(|found| differs(found, peer, now)));
    gone.chain(come.cloned().map(WireguardChange::Set)).collect()
}

fn differs(found: &WireguardPeerState, wanted: &WireguardPeer, now: SystemTime) -> bool {
    let silent = |at: SystemTime| now.duration_since(at).is_ok_and(|silence| silence > LATELY);
    let elsewhere = found.endpoint != Some(wanted.endpoint);
    let lost = elsewhere && (found.endpoint.is_none() || found.handshake.is_none_or(silent));
    lost || found.allowed != [wanted.allowed] || found.keepalive != wanted.keepalive
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_netlink::Mac;

    fn wanted(key: u8, last: u8) -> WireguardPeer {
        let allowed = IpAddr::from([10, 0, 0, last]);
        let endpoint = (allowed, 64_001).into();
        WireguardPeer { public_key: [key; 32], endpoint, allowed, keepalive: 0 }
    }

    fn found(peer: &WireguardPeer) -> WireguardPeerState {
        WireguardPeerState {
            public_key: peer.public_key,
            endpoint: Some(peer.endpoint),
            allowed: vec![peer.allowed],
            keepalive: peer.keepalive,
            handshake: None,
        }
    }

    #[test]
    fn who_was_heard_lately_is_where_it_was_heard_from() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds| Some(now - Duration::from_secs(seconds));
        let (peer, moved) = (wanted(1, 2), wanted(1, 3));
        let elsewhere = |handshake| {
            let endpoint = Some(moved.endpoint);
            WireguardPeerState { endpoint, handshake, ..found(&peer) }
        };
        #[rustfmt::skip]
        let table = [
            ("as it should be",    found(&peer), false),
            ("heard elsewhere",    elsewhere(ago(10)), false),
            ("not heard for long", elsewhere(ago(300)), true),
            ("never heard",        elsewhere(None), true),
            ("nowhere",            WireguardPeerState { endpoint: None, ..found(&peer) }, true),
            ("another address",    WireguardPeerState { allowed: vec![moved.allowed], ..found(&peer) }, true),
            ("too talkative",      WireguardPeerState { keepalive: 25, ..found(&peer) }, true),
        ];
        for (name, observed, want) in table {
            let changes = difference(&[observed], std::slice::from_ref(&peer), now);
            let set = vec![WireguardChange::Set(peer.clone())];
            assert_eq!(changes, if want { set } else { Vec::new() }, "{name}");
        }
        let (gone, new) = (wanted(7, 7), wanted(8, 7));
        let changes = difference(&[found(&gone)], std::slice::from_ref(&new), now);
        assert_eq!(changes, [WireguardChange::Remove([7; 32]), WireguardChange::Set(new)]);
    }

    #[test]
    fn ways_over_ipv6_are_forgotten_when_their_routes_change() {
        let link = IfIndex(3);
        let entries = |address: &str| {
            let remote: IpAddr = address.parse().unwrap();
            let forwarding = TunnelEntry::Forwarding { link, mac: Mac([2; 6]), remote };
            let (destination, table) = (IpNet::from(remote), ENCRYPTION_TABLE);
            let (via, source, mtu) = (None, None, None);
            (forwarding, TunnelEntry::Route { link, destination, via, table, source, mtu })
        };
        let (forwarding, route) = entries("2001:db8::2");
        let (other, old_route) = entries("10.0.0.2");
        let anew = [TunnelChange::Remove(forwarding), TunnelChange::Add(forwarding)];
        for (changes, want) in [
            (vec![TunnelChange::Add(route)], &anew[..]),
            (vec![TunnelChange::Remove(route)], &anew[..]),
            (vec![TunnelChange::Add(route), TunnelChange::Add(forwarding)], &[]),
            (vec![TunnelChange::Add(old_route)], &[]),
            (vec![], &[]),
        ] {
            let found = forgotten_ways(&changes, [forwarding, other, route].iter());
            assert_eq!(found, want, "{changes:?}");
        }
    }

    #[test]
    fn packets_are_kept_plain_until_hands_were_shaken_or_at_no_time() {
        let (proven, other) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let encrypting = Encrypting {
            link: IfIndex(7),
            name: "mz-wg0".into(),
            underlay: [10, 0, 0, 1].into(),
            proven: BTreeSet::from([proven]),
        };
        for (public_key, trust, want) in [
            (proven, Trust::AfterHandshake, true),
            (other, Trust::AfterHandshake, false),
            (other, Trust::AtOnce, true),
        ] {
            let peer = EncryptedPeer { public_key, endpoint: wanted(1, 2).endpoint, trust };
            assert_eq!(encrypting.route(&peer).is_some(), want, "{peer:?}");
            assert_eq!(encrypting.wanted(&peer).keepalive > 0, !want, "{peer:?}");
        }
    }
}
