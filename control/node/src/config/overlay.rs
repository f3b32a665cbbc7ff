//! The section `overlay`: which overlays the cluster has, and what they look like here.
//!
//! What all nodes must agree on (networks, numbers, addresses of the tunnels' ends) is what
//! the leading master says; on the other nodes those keys only count until it has spoken.

use super::build::Reader;
use super::error::Origin;
use super::{Config, Role, value};
use crate::instance::{Instance, MAX_LINK_BYTES};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mizzen_master::overlay::{OverlayDefinition, OverlaySettings, Pool, SettingsError};
use mizzen_types::encryption::PlainPackets;
use mizzen_types::overlay::{Habits, OverlayClaim};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// First three bytes of the link-layer addresses of the tunnels' ends, as DC/OS has them.
const MAC_PREFIX: [u8; 3] = [0x70, 0xb3, 0xd5];

/// The overlay networks.
#[derive(Debug, Clone, Serialize)]
pub struct OverlayConfig {
    /// Name that tasks ask for.
    pub name: String,
    /// The whole overlay's addresses.
    pub network: Ipv4Net,
    /// Length of the prefix of one node's share.
    pub prefix: u8,
    /// The whole overlay's IPv6 addresses, if it has any.
    #[serde(serialize_with = "write_optional")]
    pub network6: Option<Ipv6Net>,
    /// Length of the prefix of one node's share of those.
    pub prefix6: u8,
    /// Its number in the tunnels.
    pub vni: u32,
    /// Bridge that containers attach to.
    pub bridge: String,
    /// Largest packet that containers send, in bytes.
    pub mtu: u32,
    /// This node's share of `network`, if it is said and nobody else has it.
    pub subnet: Ipv4Net,
    /// Further overlays, by name.
    #[serde(serialize_with = "write_networks")]
    pub networks: BTreeMap<String, Vec<Word>>,
    /// Whose habits count: `separate` or `dcos`.
    #[serde(serialize_with = "write_mode")]
    pub mode: Habits,
    /// Whether packets are kept from passing from one overlay to another.
    pub isolation: bool,
    /// Whether packets between containers may pass by bridges and routes.
    pub fast_path: bool,
    /// UDP port of the tunnels.
    pub port: u16,
    /// Whether packets between nodes are encrypted, and if so, what becomes of plain ones:
    /// `none`, `opportunistic` or `wireguard`.
    #[serde(serialize_with = "write_encryption")]
    pub encryption: Option<PlainPackets>,
    /// UDP port of encrypted packets.
    pub encryption_port: u16,
    /// Where the tunnels' ends get their addresses.
    pub vtep_network: Ipv4Net,
    /// The same for overlays with IPv6 addresses.
    pub vtep_network6: Ipv6Net,
}

/// One thing that is said of a further overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `10.128.0.0/12/24`: a network, and the length of the prefix of one node's share.
    Pool(Pool),
    /// `vni=2000`.
    Vni(u32),
    /// `mtu=1400`.
    Mtu(u32),
}

impl OverlayConfig {
    /// What the leading master gives addresses by.
    #[must_use]
    pub fn settings(&self) -> OverlaySettings {
        let v6 =
            self.network6.map(|network| Pool { network: network.into(), prefix: self.prefix6 });
        let v4 = Pool { network: self.network.into(), prefix: self.prefix };
        let first = OverlayDefinition {
            name: self.name.clone(),
            vni: Some(self.vni),
            pools: [Some(v4), v6].into_iter().flatten().collect(),
            mtu: self.mtu,
        };
        let further = self.networks.iter().map(|(name, words)| definition(name, words, self.mtu));
        let overlays: Vec<OverlayDefinition> = [first].into_iter().chain(further).collect();
        let is_v6 = |pool: &Pool| pool.network.addr().is_ipv6();
        let any6 = overlays.iter().flat_map(|overlay| &overlay.pools).any(is_v6);
        OverlaySettings {
            vtep_network: self.vtep_network,
            vtep_network6: any6.then_some(self.vtep_network6),
            mac_prefix: MAC_PREFIX,
            port: self.port,
            habits: self.mode,
            overlays,
        }
    }

    /// Names of all overlays.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        [&self.name].into_iter().chain(self.networks.keys())
    }

    /// The networks of all overlays.
    #[must_use]
    pub fn all_networks(&self) -> Vec<IpNet> {
        let overlays = self.settings().overlays;
        overlays.iter().flat_map(|overlay| overlay.pools.iter().map(|pool| pool.network)).collect()
    }

    /// The bridge of an overlay on this node.
    #[must_use]
    pub fn bridge_of(&self, overlay: &str, instance: &Instance) -> String {
        if overlay == self.name { self.bridge.clone() } else { instance.overlay_bridge(overlay) }
    }
}

impl Config {
    /// The share that is wanted of the master: the configured subnet, if there is one.
    #[must_use]
    pub fn overlay_claim(&self) -> OverlayClaim {
        let said = self.origins.get("overlay.subnet").is_some_and(|o| *o != Origin::Default);
        let blocks = (self.overlay.name.clone(), vec![IpNet::V4(self.overlay.subnet)]);
        let blocks = Some(blocks).filter(|_| said).into_iter().collect();
        OverlayClaim { vtep: Vec::new(), blocks }
    }
}

pub(super) fn read(read: &mut Reader<'_>, instance: &Instance) -> OverlayConfig {
    let whole = Ipv4Net::new_assert(Ipv4Addr::new(9, 0, 0, 0), 8);
    let network = read.one("overlay.network", whole, |t| value::network(t, 29));
    let bits = |t: &str| value::number(t, "a prefix length", 8..=30);
    // A network that is smaller than a node's usual share is one node's.
    let prefix = read.one("overlay.prefix", network.prefix_len().max(24), bits);
    let first = Ipv4Net::new(network.network(), prefix).unwrap_or(network);
    let ends = Ipv4Net::new_assert(Ipv4Addr::new(44, 128, 0, 0), 20);
    let ends6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd01, 0xa, 0, 0, 0, 0, 0, 0), 64);
    let words = read.many("overlay.networks", Vec::new(), further);
    OverlayConfig {
        name: read.one("overlay.name", "dcos".to_owned(), value::plain_name),
        bridge: read.one("overlay.bridge", instance.bridge(), value::link_name),
        mtu: read.one("overlay.mtu", 1420, |t| value::number(t, "an MTU in bytes", 576..=65_535)),
        subnet: read.one("overlay.subnet", first, |t| value::network(t, 30)),
        network6: read.one("overlay.network6", None, optional_network6),
        prefix6: read.one("overlay.prefix6", 80, |t| value::number(t, "a prefix length", 8..=126)),
        vni: read.one("overlay.vni", 1024, vni),
        networks: words.into_iter().fold(BTreeMap::new(), |mut networks, (name, word)| {
            networks.entry(name).or_insert_with(Vec::new).push(word);
            networks
        }),
        mode: read.one("overlay.mode", Habits::Ours, mode),
        isolation: read.one("overlay.isolation", true, value::truth),
        fast_path: read.one("overlay.fast_path", true, value::truth),
        port: read.one("overlay.port", 64_000, value::port),
        encryption: read.one("overlay.encryption", None, encryption),
        encryption_port: read.one("overlay.encryption_port", 64_001, value::port),
        vtep_network: read.one("overlay.vtep_network", ends, |t| value::network(t, 30)),
        vtep_network6: read.one("overlay.vtep_network6", ends6, network6),
        network,
        prefix,
    }
}

/// Values in the section that do not go together: key, value, why.
pub(super) fn conflicts(config: &Config) -> Vec<(&'static str, String, String)> {
    let overlay = &config.overlay;
    let mut found = Vec::new();
    for mistake in overlay.settings().mistakes() {
        let key = match &mistake {
            // Any name does where links are called otherwise; sizes of blocks have words of
            // their own.
            SettingsError::Name { name, .. } if *name == overlay.name => continue,
            SettingsError::Prefix { name, network: IpNet::V4(_), .. } if *name == overlay.name => {
                continue;
            }
            SettingsError::Prefix { name, .. } if *name == overlay.name => "overlay.prefix6",
            SettingsError::VtepNetwork { .. } => "overlay.vtep_network",
            SettingsError::Overlap { what, .. }
                if what.ends_with(&format!("`{}`", overlay.name)) =>
            {
                "overlay.network"
            }
            _ => "overlay.networks",
        };
        let value = match &mistake {
            SettingsError::Name { name, .. }
            | SettingsError::Twice { name }
            | SettingsError::Networks { name }
            | SettingsError::NoVtep6 { name }
            | SettingsError::Vni { name, .. } => name.clone(),
            SettingsError::Overlap { network, .. } => network.to_string(),
            SettingsError::Prefix { prefix, .. } => prefix.to_string(),
            SettingsError::VtepNetwork { network } => network.to_string(),
        };
        found.push((key, value, format!("does not go: {mistake}")));
    }
    if overlay.encryption.is_some() && overlay.encryption_port == overlay.port {
        let port = overlay.encryption_port.to_string();
        found.push(("overlay.encryption_port", port, "is overlay.port as well".to_owned()));
    }
    // Packets to other nodes would go to a bridge, or to an end of tunnels.
    let ends: [IpNet; 2] = [overlay.vtep_network.into(), overlay.vtep_network6.into()];
    let all = overlay.all_networks().into_iter().chain(ends);
    for network in all.filter(|net| config.has(Role::Overlay) && net.contains(&config.address)) {
        let key = match network {
            IpNet::V4(net) if net == overlay.network => "overlay.network",
            IpNet::V4(net) if net == overlay.vtep_network => "overlay.vtep_network",
            IpNet::V6(net) if net == overlay.vtep_network6 => "overlay.vtep_network6",
            IpNet::V6(net) if overlay.network6 == Some(net) => "overlay.network6",
            _ => "overlay.networks",
        };
        let why = format!("has the node's address, {}, in it", config.address);
        found.push((key, network.to_string(), why));
    }
    for name in overlay.networks.keys() {
        let link = overlay.bridge_of(name, &config.instance);
        if link.len() > MAX_LINK_BYTES {
            let why =
                format!("makes a bridge `{link}`, and a link's name has {MAX_LINK_BYTES} letters");
            found.push(("overlay.networks", name.clone(), why));
        }
    }
    found
}

fn definition(name: &str, words: &[Word], mtu: u32) -> OverlayDefinition {
    let mut definition = OverlayDefinition { name: name.to_owned(), vni: None, pools: vec![], mtu };
    for word in words {
        match word {
            Word::Pool(pool) => definition.pools.push(*pool),
            Word::Vni(vni) => definition.vni = Some(*vni),
            Word::Mtu(mtu) => definition.mtu = *mtu,
        }
    }
    definition
}

/// `name=word`.
fn further(text: &str) -> Result<(String, Word), String> {
    let expected = || {
        "an overlay and its network with the prefix length of a node's share, or its vni or mtu, \
         such as web=10.128.0.0/12/24 or web=vni=2000"
            .to_owned()
    };
    let (name, word) = text.split_once('=').ok_or_else(expected)?;
    let word = word.trim().parse().map_err(|()| expected())?;
    Ok((value::plain_name(name.trim())?, word))
}

impl FromStr for Word {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(number) = text.strip_prefix("vni=") {
            return vni(number).map(Self::Vni).map_err(drop);
        }
        if let Some(bytes) = text.strip_prefix("mtu=") {
            return bytes
                .parse()
                .ok()
                .filter(|mtu| (576..=65_535).contains(mtu))
                .map(Self::Mtu)
                .ok_or(());
        }
        let (network, prefix) = text.rsplit_once('/').ok_or(())?;
        let network: IpNet = network.parse().map_err(drop)?;
        let prefix = prefix.parse().map_err(drop)?;
        if network.trunc() == network { Ok(Self::Pool(Pool { network, prefix })) } else { Err(()) }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pool(pool) => write!(f, "{}/{}", pool.network, pool.prefix),
            Self::Vni(vni) => write!(f, "vni={vni}"),
            Self::Mtu(mtu) => write!(f, "mtu={mtu}"),
        }
    }
}

fn vni(text: &str) -> Result<u32, String> {
    value::number(text, "a number of tunnels", 1..=0x00ff_ffff)
}

fn network6(text: &str) -> Result<Ipv6Net, String> {
    let parsed = text.parse::<Ipv6Net>().ok().filter(|net| net.trunc() == *net);
    parsed.ok_or_else(|| "an IPv6 network, such as fd01:b::/64".to_owned())
}

/// An empty text is none.
fn optional_network6(text: &str) -> Result<Option<Ipv6Net>, String> {
    if text.is_empty() { Ok(None) } else { network6(text).map(Some) }
}

fn mode(text: &str) -> Result<Habits, String> {
    match text {
        "separate" => Ok(Habits::Ours),
        "dcos" => Ok(Habits::Dcos),
        _ => Err("a mode of overlays (separate, dcos)".to_owned()),
    }
}

fn encryption(text: &str) -> Result<Option<PlainPackets>, String> {
    let all = [None, Some(PlainPackets::Taken), Some(PlainPackets::Refused)];
    let meant = all.into_iter().find(|plain| encryption_word(*plain) == text);
    meant.ok_or_else(|| "a kind of encryption (none, opportunistic, wireguard)".to_owned())
}

/// The configuration's word for what becomes of plain packets; none are encrypted without it.
#[must_use]
pub fn encryption_word(plain: Option<PlainPackets>) -> &'static str {
    match plain {
        None => "none",
        Some(PlainPackets::Taken) => "opportunistic",
        Some(PlainPackets::Refused) => "wireguard",
    }
}

fn write_encryption<S: Serializer>(
    plain: &Option<PlainPackets>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(encryption_word(*plain))
}

fn write_mode<S: Serializer>(mode: &Habits, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        Habits::Ours => "separate",
        Habits::Dcos => "dcos",
    })
}

fn write_optional<S: Serializer>(
    network: &Option<Ipv6Net>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&network.map(|network| network.to_string()).unwrap_or_default())
}

fn write_networks<S: Serializer>(
    networks: &BTreeMap<String, Vec<Word>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let texts =
        |words: &Vec<Word>| -> Vec<String> { words.iter().map(ToString::to_string).collect() };
    serializer.collect_map(networks.iter().map(|(name, words)| (name, texts(words))))
}
