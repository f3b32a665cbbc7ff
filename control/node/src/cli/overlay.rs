//! `mizzen overlay`.

use super::error::CliError;
use super::files::read;
use super::session::{Session, print, print_json};
use super::table::{Field, Paint, Tone, age, plain, render as table, toned};
use crate::args::{OverlayAdoptArgs, OverlayArgs, OverlayCommand};
use crate::several::several;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What lasts longer than this is not worth a forecast: a year, in seconds.
const FAR: u64 = 365 * 86_400;

/// What the node says of the overlays.
#[derive(Debug, Deserialize)]
pub(super) struct Overlays {
    vtep: Option<Vtep>,
    port: Option<u16>,
    underlay: String,
    underlay_mtu: Option<u32>,
    encryption: Option<Encryption>,
    #[serde(default)]
    overlays: Vec<Overlay>,
    #[serde(default)]
    peers: Vec<Peer>,
    registry: Option<Registry>,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Vtep {
    addresses: Vec<String>,
    mac: String,
}

/// What packets to other nodes are encrypted by.
#[derive(Debug, Deserialize)]
struct Encryption {
    mode: String,
    link: String,
    port: u16,
    /// None if the kernel cannot.
    public_key: Option<String>,
}

/// How packets to a node travel.
#[derive(Debug, Deserialize)]
struct PeerEncryption {
    state: String,
    handshake_seconds: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Overlay {
    name: String,
    vni: Option<u32>,
    networks: Vec<String>,
    blocks: Vec<String>,
    bridge: String,
    tunnel: String,
    mtu: u32,
    leases: u64,
}

#[derive(Debug, Deserialize)]
struct Peer {
    node: String,
    hostname: Option<String>,
    underlay: Vec<String>,
    blocks: BTreeMap<String, Vec<String>>,
    #[serde(default = "yes")]
    alive: bool,
    /// Whether it is an agent of DC/OS.
    #[serde(default)]
    foreign: bool,
    reached: bool,
    mtu: Option<u32>,
    encryption: Option<PeerEncryption>,
    #[serde(default)]
    problems: Vec<String>,
}

/// What the leading master has given away, if it is this node.
#[derive(Debug, Deserialize)]
struct Registry {
    usage: Vec<Usage>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    overlay: Option<String>,
    network: String,
    used: f64,
    total: f64,
    exhausted_in_seconds: Option<u64>,
    waiting: u64,
}

pub(super) async fn run(session: &Session, args: &OverlayArgs) -> Result<(), CliError> {
    match &args.command {
        Some(OverlayCommand::Adopt(args)) => adopt(session, args).await,
        None => session.show("/v1/overlay", args.output, render).await,
    }
}

async fn adopt(session: &Session, args: &OverlayAdoptArgs) -> Result<(), CliError> {
    let text = read(&args.file)?;
    let state: Value = serde_json::from_str(&text)
        .map_err(|source| CliError::Json { path: args.file.clone(), source })?;
    let answer = session.send("POST", "/v1/cluster/overlay-agents", Some(&state)).await?;
    if args.output.json {
        return print_json(&answer);
    }
    let addresses = |key: &str| -> Vec<&str> {
        answer[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    for address in addresses("ours") {
        crate::say(&format!("{address} is an agent of this cluster, with blocks of its own\n"));
    }
    let lines: Vec<String> =
        addresses("adopted").iter().map(|address| format!("{address}\n")).collect();
    print(&lines.concat())
}

/// This node's end of the tunnels, its blocks, the other nodes, what is left, and what is wrong.
pub(super) fn render(all: &Overlays, paint: Paint) -> String {
    let mut text = match &all.vtep {
        None => "this node has no share of the overlays: no master has given it one\n".to_owned(),
        Some(vtep) => {
            let mtu = all.underlay_mtu.map(|mtu| format!(", MTU {mtu}")).unwrap_or_default();
            let port = all.port.unwrap_or_default();
            let at = vtep.addresses.join(" ");
            format!("tunnels end at {at} ({}), over {} port {port}{mtu}\n", vtep.mac, all.underlay)
        }
    };
    text.extend(all.encryption.iter().map(encryption));
    let mut part = |headings: &[&str], rows: Vec<Vec<Field>>| {
        if !rows.is_empty() {
            text.push('\n');
            text.push_str(&table(headings, rows, paint));
        }
    };
    part(
        &["OVERLAY", "VNI", "NETWORK", "BLOCKS HERE", "LEASES", "BRIDGE", "TUNNEL", "MTU"],
        all.overlays.iter().map(overlay).collect(),
    );
    match &all.encryption {
        None => part(&PEER_HEADINGS, all.peers.iter().map(|of| peer(of).into()).collect()),
        Some(_) => {
            let [node, address, state, mtu, blocks] = PEER_HEADINGS;
            let headings = [node, address, state, "PACKETS", mtu, blocks];
            part(&headings, all.peers.iter().map(encrypted_peer).collect());
        }
    }
    let usage = all.registry.iter().flat_map(|registry| &registry.usage);
    part(&["GIVEN BY THE MASTER", "NETWORK", "USED", "OF", "LASTS"], usage.map(used).collect());
    // What the node says of others is shown with each of them.
    let is_ours = |text: &&String| !["node ", "nodes "].iter().any(|start| text.starts_with(start));
    let ours = all.problems.iter().filter(is_ours).cloned();
    for problem in ours.chain(theirs(&all.peers)) {
        text.push_str(&paint.mark(Tone::Bad, &format!("\nproblem: {problem}")));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// What is wrong with other nodes, each thing once.
fn theirs(peers: &[Peer]) -> Vec<String> {
    let mut all: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for peer in peers {
        for problem in &peer.problems {
            all.entry(problem).or_default().push(name(peer));
        }
    }
    let line = |(problem, names): (&str, Vec<&str>)| match names.len() {
        1 => format!("{} {problem}", several(&names)),
        _ => format!("{}: each {problem}", several(&names)),
    };
    all.into_iter().map(line).collect()
}

fn overlay(overlay: &Overlay) -> Vec<Field> {
    vec![
        plain(&overlay.name),
        plain(overlay.vni.map(|vni| vni.to_string()).unwrap_or_default()),
        plain(overlay.networks.join(" ")),
        plain(overlay.blocks.join(" ")),
        plain(overlay.leases),
        plain(&overlay.bridge),
        plain(&overlay.tunnel),
        plain(overlay.mtu),
    ]
}

const PEER_HEADINGS: [&str; 5] = ["NODE", "ADDRESS", "STATE", "MTU", "BLOCKS"];

/// What encrypts, and what becomes of packets that are not.
fn encryption(encryption: &Encryption) -> String {
    let Encryption { mode, link, port, .. } = encryption;
    let Some(key) = &encryption.public_key else {
        return format!("not encrypted: `{mode}` is asked for, and the kernel does not do it\n");
    };
    let others = match mode.as_str() {
        "wireguard" => "plain packets are refused",
        _ => "plain to nodes that do not encrypt",
    };
    format!("encrypted by WireGuard on {link}, port {port}, key {key}; {others}\n")
}

fn encrypted_peer(of: &Peer) -> Vec<Field> {
    let packets = match &of.encryption {
        None => plain(""),
        Some(found) => match (found.state.as_str(), found.handshake_seconds) {
            ("encrypted", Some(seconds)) => {
                toned(Tone::Good, format!("encrypted, handshake {} ago", age(seconds)))
            }
            ("encrypted", None) => toned(Tone::Busy, "encrypted, no handshake yet"),
            ("waiting", _) => toned(Tone::Busy, "plain until a handshake"),
            _ => toned(Tone::Bad, "plain"),
        },
    };
    let [node, address, state, mtu, blocks] = peer(of);
    vec![node, address, state, packets, mtu, blocks]
}

fn peer(peer: &Peer) -> [Field; 5] {
    let state = match (peer.reached, peer.problems.is_empty()) {
        _ if !peer.alive => toned(Tone::Bad, "not heard"),
        (true, true) if peer.foreign => toned(Tone::Busy, "of DC/OS"),
        (true, true) => toned(Tone::Good, "reached"),
        (true, false) => toned(Tone::Busy, "in part"),
        (false, true) => toned(Tone::Faint, "no block"),
        (false, false) => toned(Tone::Bad, "refused"),
    };
    let blocks: Vec<String> = peer.blocks.values().flatten().cloned().collect();
    [
        plain(name(peer)),
        plain(peer.underlay.join(" ")),
        state,
        plain(peer.mtu.map(|mtu| mtu.to_string()).unwrap_or_default()),
        plain(blocks.join(" ")),
    ]
}

fn used(usage: &Usage) -> Vec<Field> {
    let tone = if usage.waiting > 0 { Tone::Bad } else { Tone::Normal };
    let lasts = match usage.exhausted_in_seconds {
        _ if usage.waiting > 0 => toned(Tone::Bad, format!("{} agents wait", usage.waiting)),
        Some(seconds) if seconds < FAR => plain(age(seconds)),
        _ => plain(""),
    };
    vec![
        plain(usage.overlay.as_deref().unwrap_or("tunnels' ends")),
        plain(&usage.network),
        toned(tone, usage.used),
        plain(usage.total),
        lasts,
    ]
}

fn yes() -> bool {
    true
}

fn name(peer: &Peer) -> &str {
    peer.hostname.as_deref().unwrap_or(&peer.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_among_others() {
        let all: Overlays = serde_json::from_str(
            r#"{"vtep":{"addresses":["44.128.0.1/20"],"mac":"70:b3:d5:80:00:01"},"port":64000,
            "underlay":"10.0.0.1","underlay_mtu":1500,
            "overlays":[{"name":"dcos","vni":1024,"networks":["9.0.0.0/8"],"blocks":["9.0.0.0/24"],
                "bridge":"m-dcos","second":null,"tunnel":"vtep1024","mtu":1420,"leases":3}],
            "peers":[
                {"node":"n2","hostname":"beta","underlay":["10.0.0.2"],"vtep":[],"mac":"","reached":true,
                 "path_mtu":1460,"mtu":1410,"blocks":{"dcos":["9.0.1.0/24"]},"problems":[]},
                {"node":"n3","hostname":null,"underlay":["10.0.0.3"],"vtep":[],"mac":"","reached":false,
                 "path_mtu":null,"mtu":null,"blocks":{"dcos":["9.0.0.0/24"]},
                 "problems":["claims 9.0.0.0/24 of overlay `dcos`, which is this node's"]}],
            "registry":{"usage":[{"overlay":"dcos","network":"9.0.0.0/22","used":3,"total":4,
                "exhausted_in_seconds":777600,"waiting":0}],"agents":[],"problems":[]},
            "problems":["node n3 claims 9.0.0.0/24 of overlay `dcos`, which is this node's"]}"#,
        )
        .unwrap();
        let want = "\
tunnels end at 44.128.0.1/20 (70:b3:d5:80:00:01), over 10.0.0.1 port 64000, MTU 1500

OVERLAY   VNI    NETWORK     BLOCKS HERE   LEASES   BRIDGE   TUNNEL     MTU
dcos      1024   9.0.0.0/8   9.0.0.0/24    3        m-dcos   vtep1024   1420

NODE   ADDRESS    STATE     MTU    BLOCKS
beta   10.0.0.2   reached   1410   9.0.1.0/24
n3     10.0.0.3   refused   -      9.0.0.0/24

GIVEN BY THE MASTER   NETWORK      USED   OF   LASTS
dcos                  9.0.0.0/22   3      4    9d00h

problem: n3 claims 9.0.0.0/24 of overlay `dcos`, which is this node's
";
        assert_eq!(render(&all, Paint::Plain), want);
    }

    #[test]
    fn encryption_is_shown_where_it_is_asked_for() {
        let of = |encryption: &str| -> String {
            let peer = |packets: &str| {
                format!(
                    r#"{{"node":"n","hostname":"beta","underlay":["10.0.0.2"],"reached":true,
                    "mtu":1390,"encryption":{packets},"blocks":{{"dcos":["9.0.1.0/24"]}}}}"#
                )
            };
            let peers = [
                r#"{"state":"encrypted","handshake_seconds":12}"#,
                r#"{"state":"encrypted","handshake_seconds":null}"#,
                r#"{"state":"waiting","handshake_seconds":null}"#,
                r#"{"state":"plain"}"#,
                "null",
            ];
            let text = format!(
                r#"{{"vtep":null,"port":null,"underlay":"10.0.0.1","encryption":{encryption},
                "peers":[{}]}}"#,
                peers.map(peer).join(",")
            );
            let shown = render(&serde_json::from_str(&text).unwrap(), Paint::Plain);
            shown.split_once('\n').unwrap().1.to_owned()
        };
        let mode = |mode: &str, key: &str| {
            of(&format!(r#"{{"mode":"{mode}","link":"mz-wg0","port":64001,"public_key":{key}}}"#))
        };
        let want = "\
encrypted by WireGuard on mz-wg0, port 64001, key k=; plain packets are refused

NODE   ADDRESS    STATE     PACKETS                        MTU    BLOCKS
beta   10.0.0.2   reached   encrypted, handshake 12s ago   1390   9.0.1.0/24
beta   10.0.0.2   reached   encrypted, no handshake yet    1390   9.0.1.0/24
beta   10.0.0.2   reached   plain until a handshake        1390   9.0.1.0/24
beta   10.0.0.2   reached   plain                          1390   9.0.1.0/24
beta   10.0.0.2   reached   -                              1390   9.0.1.0/24
";
        assert_eq!(mode("wireguard", r#""k=""#), want);
        assert!(mode("opportunistic", r#""k=""#).contains("plain to nodes that do not encrypt"));
        assert!(mode("wireguard", "null").starts_with("not encrypted: `wireguard` is asked for"));
        assert!(!of("null").contains("PACKETS"));
    }

    #[test]
    fn a_node_without_a_share() {
        let all: Overlays =
            serde_json::from_str(r#"{"vtep":null,"port":null,"underlay":"10.0.0.1"}"#).unwrap();
        assert!(render(&all, Paint::Plain).contains("no master has given it one"));
    }
}
