//! The balancers that one would have otherwise, from their distribution's packages
//! and set up as their users do it.

use super::stage::{Route, Service};
use crate::network::Namespace;
use crate::process::{self, Crew};
use crate::sandbox::{Sandbox, find_executable};
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A proxy may take this long until it listens.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Where Debian and its relatives have nginx's module for TCP.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A balancer of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rules, one chain for each VIP.
    Iptables,
    /// A verdict map from VIPs to chains.
    Nft,
    /// A map that holds every backend of every VIP, which must have equally many.
    NftFlat,
    /// In its TCP mode.
    Haproxy,
    /// Its stream module.
    Nginx,
}

impl Kind {
    /// As it is called in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nft => "nftables",
            Self::NftFlat => "nftables, one map",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Iptables => "iptables-restore",
            Self::Nft | Self::NftFlat => "nft",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// What its network does with virtual addresses.
    pub(super) fn route(self) -> Route {
        match self {
            Self::Iptables | Self::Nft | Self::NftFlat => Route::Out,
            Self::Haproxy | Self::Nginx => Route::Local,
        }
    }
}

/// A balancer that balances, until it is dropped with its network.
#[derive(Debug)]
pub(super) struct Peer {
    /// Where its processes are, if it has any.
    pub cgroup: PathBuf,
    _crew: Option<Crew>,
}

/// Has a balancer serve `services` in `network`, which must be its own.
pub(super) fn start(
    kind: Kind,
    sandbox: &Sandbox,
    network: &Namespace,
    services: &[Service],
) -> Result<Peer> {
    find_executable(kind.program())?;
    let cgroup = sandbox.cgroup(kind.program())?;
    match kind {
        Kind::Iptables => rules(network, &["iptables-restore"], &iptables(services))?,
        Kind::Nft => rules(network, &["nft", "-f", "-"], &nft_chains(services))?,
        Kind::NftFlat => rules(network, &["nft", "-f", "-"], &nft_flat(services))?,
        Kind::Haproxy | Kind::Nginx => {
            let crew = proxy(kind, sandbox, network, &cgroup, services)?;
            return Ok(Peer { cgroup, _crew: Some(crew) });
        }
    }
    // Only now there is something that tracks connections.
    network.tune()?;
    Ok(Peer { cgroup, _crew: None })
}

fn rules(network: &Namespace, words: &[&str], text: &str) -> Result<()> {
    network.run(Command::new(words[0]).args(&words[1..]), text).map(drop)
}

fn proxy(
    kind: Kind,
    sandbox: &Sandbox,
    network: &Namespace,
    cgroup: &Path,
    services: &[Service],
) -> Result<Crew> {
    let directory = sandbox.directory(kind.program())?;
    let (file, log) = (directory.join("configuration"), directory.join("log"));
    let text = match kind {
        Kind::Nginx => nginx(services, &directory),
        _ => haproxy(services),
    };
    std::fs::write(&file, text)?;
    let mut command = process::in_cgroup(cgroup, kind.program(), &log)?;
    match kind {
        Kind::Nginx => command.arg("-e").arg(&log).arg("-c").arg(&file),
        _ => command.args(["-W", "-db", "-f"]).arg(&file),
    };
    let mut crew = Crew::new(network.spawn(&mut command)?, cgroup);
    let last = services.last().context("a proxy without services")?.vip;
    wait::until("a proxy listens", START_LIMIT, || {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(crew.runs()?, "{} ended: {}", kind.program(), said());
        Ok(network.within(|| Ok(TcpStream::connect(last)?)).ok())
    })?;
    Ok(crew)
}

fn iptables(services: &[Service]) -> String {
    let (mut chains, mut rules) = (String::from("*nat\n"), String::new());
    for (number, Service { vip, backends }) in services.iter().enumerate() {
        let _ = writeln!(chains, ":VIP-{number} - [0:0]");
        for hook in ["OUTPUT", "PREROUTING"] {
            let (ip, port) = (vip.ip(), vip.port());
            let _ = writeln!(rules, "-A {hook} -d {ip}/32 -p tcp --dport {port} -j VIP-{number}");
        }
        for (index, backend) in backends.iter().enumerate() {
            let left = backends.len() - index;
            let chance = match left {
                1 => String::new(),
                _ => format!(" -m statistic --mode random --probability {:.9}", 1.0 / left as f64),
            };
            let _ = writeln!(
                rules,
                "-A VIP-{number} -p tcp{chance} -j DNAT --to-destination {backend}"
            );
        }
    }
    format!("{chains}{rules}COMMIT\n")
}

fn nft_chains(services: &[Service]) -> String {
    let (mut chains, mut elements) = (String::new(), Vec::new());
    for (number, Service { vip, backends }) in services.iter().enumerate() {
        elements.push(format!("{} . {} : goto vip-{number}", vip.ip(), vip.port()));
        let pairs: Vec<String> =
            backends.iter().enumerate().map(|(i, b)| format!("{i} : {}", pair(*b))).collect();
        let (count, pairs) = (backends.len(), pairs.join(", "));
        let _ = write!(
            chains,
            " chain vip-{number} {{\n  meta l4proto tcp dnat ip to numgen random mod {count} map \
             {{ {pairs} }}\n }}\n"
        );
    }
    format!(
        "table ip vips {{\n{chains} map services {{\n  type ipv4_addr . inet_service : verdict\n  \
         elements = {{ {} }}\n }}\n{}}}\n",
        elements.join(",\n"),
        nft_hooks("meta l4proto tcp ip daddr . tcp dport vmap @services")
    )
}

fn nft_flat(services: &[Service]) -> String {
    let count = services.first().map_or(1, |service| service.backends.len());
    let elements: Vec<String> = services
        .iter()
        .flat_map(|Service { vip, backends }| {
            backends.iter().enumerate().map(move |(index, backend)| {
                format!("{} . {} . {index} : {}", vip.ip(), vip.port(), pair(*backend))
            })
        })
        .collect();
    let key = format!("ip daddr . tcp dport . numgen random mod {count}");
    format!(
        "table ip vips {{\n map backends {{\n  typeof {key} : ip daddr . tcp dport\n  \
         elements = {{ {} }}\n }}\n{}}}\n",
        elements.join(",\n"),
        nft_hooks(&format!(
            "ip daddr 10.100.0.0/15 meta l4proto tcp dnat ip to {key} map @backends"
        ))
    )
}

/// The same rule for connections of this network and for those that arrive.
fn nft_hooks(rule: &str) -> String {
    let chain = |name, hook| {
        format!(" chain {name} {{\n  type nat hook {hook} priority -100\n  {rule}\n }}\n")
    };
    chain("own", "output") + &chain("arriving", "prerouting")
}

fn pair(address: SocketAddr) -> String {
    format!("{} . {}", address.ip(), address.port())
}

fn haproxy(services: &[Service]) -> String {
    let mut text = String::from(
        "global\n maxconn 4000\ndefaults\n mode tcp\n balance roundrobin\n maxconn 4000\n \
         timeout connect 5s\n timeout client 60s\n timeout server 60s\n",
    );
    for (number, Service { vip, backends }) in services.iter().enumerate() {
        let _ = writeln!(text, "listen vip-{number}\n bind {vip}");
        for (index, backend) in backends.iter().enumerate() {
            let _ = writeln!(text, " server b{index} {backend}");
        }
    }
    text
}

fn nginx(services: &[Service], directory: &Path) -> String {
    let mut text = format!(
        "load_module {STREAM_MODULE};\nuser root;\ndaemon off;\nworker_processes auto;\n\
         pid {}/pid;\nevents {{ worker_connections 4000; }}\nstream {{\n",
        directory.display()
    );
    for (number, Service { vip, backends }) in services.iter().enumerate() {
        let servers: String = backends.iter().map(|b| format!("server {b}; ")).collect();
        let _ = writeln!(text, " upstream vip-{number} {{ {servers}}}");
        let _ = writeln!(text, " server {{ listen {vip}; proxy_pass vip-{number}; }}");
    }
    text + "}\n"
}
