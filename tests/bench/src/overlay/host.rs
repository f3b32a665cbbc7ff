//! Hosts with containers at a bridge, made by hand: what the ordinary path consists of, and what
//! the programs of the fast path and of VIPs are attached to.

use crate::network::Namespace;
use crate::process::first_line;
use crate::sandbox::{self, Sandbox};
use anyhow::{Context, Result};
use mizzen_ebpf_loader::{
    ContainerWanted, Dataplane, FastPath, FastPathWanted, LinkWanted, Options, PeerWanted, Tuning,
    teardown, teardown_fast_path,
};
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Largest packet in the overlay (bytes): fifty less than the wire takes.
const MTU: u32 = 1450;

/// Where the servers answer.
const PORT: u16 = 8081;

/// A host with its containers.
pub(super) struct Host {
    pub namespace: Namespace,
    pub number: u8,
    containers: Vec<(u8, Namespace)>,
    server: Option<Child>,
    programs: Option<Programs>,
}

/// Programs of ours on a host's links.
struct Programs {
    _path: FastPath,
    vips: Dataplane,
    options: Options,
}

/// What is attached to a host's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    /// Nothing: this is somebody's who does it by hand.
    Nothing,
    /// Nothing but a rule of nf_tables that lets containers out under the host's address.
    Masquerade,
    /// The fast path and the programs of VIPs, for containers whose VIPs are translated at their sockets.
    Sockets,
    /// Likewise, for containers whose VIPs are translated on the way.
    Packets,
    /// Likewise, and nothing takes the fast path.
    Ordinary,
}

/// Somebody that a link belongs to.
#[derive(Clone, Copy)]
struct Link {
    index: u32,
    mac: [u8; 6],
}

impl Host {
    /// The host with this number and its bridge; addresses follow from the number.
    pub(super) fn create(number: u8) -> Result<Self> {
        let namespace = Namespace::create()?;
        for words in [
            format!("link add m-dcos mtu {MTU} address 02:42:00:00:00:0{number} type bridge"),
            "link set m-dcos up".to_owned(),
            format!("address add 9.0.{number}.1/24 dev m-dcos"),
        ] {
            namespace.ip(&words)?;
        }
        Ok(Self { namespace, number, containers: Vec::new(), server: None, programs: None })
    }

    /// Adds the container with this number and returns its address.
    pub(super) fn add(&mut self, number: u8) -> Result<IpAddr> {
        let container = Namespace::create()?;
        let (host, path) = (self.number, container.path());
        let link = format!("pod{number}");
        let pair =
            format!("link add {link} mtu {MTU} type veth peer name eth0 mtu {MTU} netns {path}");
        self.namespace.ip(&pair)?;
        self.namespace.ip(&format!("link set {link} master m-dcos up"))?;
        let address = format!("9.0.{host}.{number}");
        container.ip(&format!("link set eth0 address 02:6d:09:00:0{host}:0{number} up"))?;
        container.ip(&format!("address add {address}/24 dev eth0"))?;
        container.ip(&format!("route add default via 9.0.{host}.1"))?;
        self.containers.push((number, container));
        Ok(address.parse()?)
    }

    /// The container that was added as number `index`.
    pub(super) fn container(&self, index: usize) -> Result<&Namespace> {
        self.containers.get(index).map(|(_, namespace)| namespace).context("no such container")
    }

    /// Starts a server in a container, on the generators' core.
    pub(super) fn serve(&mut self, sandbox: &Sandbox, index: usize) -> Result<()> {
        self.server = Some(serve(sandbox, self.container(index)?)?);
        Ok(())
    }

    /// Makes the host's end of the tunnel to `other`, over the link `eth0`, as people do it by hand.
    pub(super) fn tunnel(&self, other: u8) -> Result<()> {
        let me = self.number;
        for words in [
            format!(
                "link add vtep1024 address 70:b3:d5:80:00:0{me} mtu {MTU} type vxlan id 1024 \
                 dstport 64000 local 192.0.2.{me} dev eth0 nolearning"
            ),
            "link set vtep1024 up".to_owned(),
            format!("address add 44.128.0.{me}/20 dev vtep1024"),
            format!(
                "neigh add 44.128.0.{other} lladdr 70:b3:d5:80:00:0{other} dev vtep1024 nud permanent"
            ),
            format!("route add 9.0.{other}.0/24 via 44.128.0.{other} dev vtep1024"),
        ] {
            self.namespace.ip(&words)?;
        }
        let entry = format!("fdb add 70:b3:d5:80:00:0{other} dev vtep1024 dst 192.0.2.{other}");
        self.namespace.run(Command::new("bridge").args(entry.split(' ')), "").map(drop)
    }

    /// Attaches programs of ours to the host's links. `name` is that of the contestant.
    pub(super) fn attach(&mut self, sandbox: &Sandbox, name: &str, what: Attached) -> Result<()> {
        match what {
            Attached::Nothing => return Ok(()),
            Attached::Masquerade => return self.masquerade(),
            Attached::Sockets | Attached::Packets | Attached::Ordinary => {}
        }
        let pin_dir = PathBuf::from(format!("/sys/fs/bpf/bench-{name}-{}", self.number));
        let (vips, options) = self.attach_vips(sandbox, &pin_dir)?;
        let mut path = FastPath::open(&pin_dir).context("cannot load the programs")?;
        let mut wanted = self.wanted()?;
        for container in wanted.containers.values_mut() {
            container.hooked = what != Attached::Packets;
            container.sends = what != Attached::Ordinary;
            container.receives = container.sends;
        }
        let changed = self.namespace.within(|| Ok(path.follow(&wanted)?))?;
        anyhow::ensure!(changed.errors.is_empty(), "{:?}", changed.errors);
        self.programs = Some(Programs { _path: path, vips, options });
        Ok(())
    }

    fn masquerade(&self) -> Result<()> {
        let rules = format!(
            "table ip nat {{ chain postrouting {{ type nat hook postrouting priority srcnat; \
             ip saddr 9.0.{}.0/24 ip daddr != 9.0.0.0/8 masquerade; }}; }}",
            self.number
        );
        self.namespace.run(Command::new("nft").args(["-f", "-"]), &rules).map(drop)
    }

    fn attach_vips(&self, sandbox: &Sandbox, pin_dir: &Path) -> Result<(Dataplane, Options)> {
        let cgroup = sandbox.cgroup("nobody")?;
        let options = Options { pin_dir: pin_dir.to_owned(), cgroup, tuning: Tuning::default() };
        let mut vips = Dataplane::open(&options).context("cannot load the programs of VIPs")?;
        let bridge = self.link("m-dcos")?.index;
        let networks = vec![(format!("9.0.{}.1", self.number).parse()?, 24)];
        let mut names = vec![("m-dcos".to_owned(), None)];
        names.extend(self.tunnel_link()?.map(|_| ("vtep1024".to_owned(), None)));
        names.extend(self.containers.iter().map(|(n, _)| (format!("pod{n}"), Some(bridge))));
        let mut wanted = Vec::new();
        for (name, bridge) in names {
            let (index, networks) = (self.link(&name)?.index, networks.clone());
            let is_tunnel = name == "vtep1024";
            wanted.push(LinkWanted { index, name, bridge, is_tunnel, mtu: MTU, networks });
        }
        let followed = self.namespace.within(|| Ok(vips.follow_links(&wanted)?))?;
        anyhow::ensure!(followed.errors.is_empty(), "{:?}", followed.errors);
        Ok((vips, options))
    }

    /// What the fast path has to know of this host and the other one.
    fn wanted(&self) -> Result<FastPathWanted> {
        let tunnel = self.tunnel_link()?;
        let bridge = self.link("m-dcos")?;
        // Without a tunnel there is still a bridge.
        let index = tunnel.unwrap_or(bridge).index;
        let mut wanted = FastPathWanted::default();
        for (number, _) in &self.containers {
            let container = ContainerWanted {
                link: self.link(&format!("pod{number}"))?.index,
                tunnel: index,
                mtu: MTU,
                group: 7,
                target: [0x02, 0x6d, 9, 0, self.number, *number],
                source: bridge.mac,
                sends: true,
                receives: true,
                hooked: true,
            };
            wanted.containers.insert(format!("9.0.{}.{number}", self.number).parse()?, container);
        }
        if let Some(tunnel) = tunnel {
            let other = 3 - self.number;
            let peer = PeerWanted {
                tunnel: index,
                mtu: MTU,
                is_narrow: false,
                group: 7,
                target: [0x70, 0xb3, 0xd5, 0x80, 0, other],
                source: tunnel.mac,
            };
            wanted.peers.insert((format!("9.0.{other}.0").parse()?, 24), peer);
            // As many as a cluster of a thousand nodes has.
            for block in 0..1000_u32 {
                let first = std::net::Ipv4Addr::from(0x0901_0000 + (block << 8));
                wanted.peers.insert((first.into(), 24), peer);
            }
        }
        Ok(wanted)
    }

    fn tunnel_link(&self) -> Result<Option<Link>> {
        let links = self.links()?;
        let is_there = links.iter().any(|link| link["ifname"] == "vtep1024");
        is_there.then(|| self.link("vtep1024")).transpose()
    }

    fn link(&self, name: &str) -> Result<Link> {
        let links = self.links()?;
        let link = links.iter().find(|link| link["ifname"] == name);
        let link = link.with_context(|| format!("there is no link {name}"))?;
        let index = link["ifindex"].as_u64().and_then(|index| u32::try_from(index).ok());
        let mac = link["address"].as_str().unwrap_or_default().split(':');
        let mac: Vec<u8> =
            mac.map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
        let mac = mac.try_into().ok().with_context(|| format!("{name} has no address"))?;
        Ok(Link { index: index.context("a link without a number")?, mac })
    }

    fn links(&self) -> Result<Vec<Value>> {
        let text = self.namespace.run(Command::new("ip").args(["-json", "link"]), "")?;
        serde_json::from_str(&text).context("cannot read what `ip` says")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            end(server);
        }
        if let Some(programs) = self.programs.take() {
            drop(programs.vips);
            let options = programs.options;
            let _ = self.namespace.within(|| Ok(teardown_fast_path(&options.pin_dir)?));
            let _ = self.namespace.within(|| Ok(teardown(&options)?));
        }
    }
}

/// Where a server of [`serve`] answers.
pub(super) fn answering(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, PORT)
}

/// Starts a server in a namespace, on the generators' core.
pub(super) fn serve(sandbox: &Sandbox, namespace: &Namespace) -> Result<Child> {
    let (ourselves, cgroup) = (sandbox::ourselves()?, sandbox.cgroup("servers")?);
    let mut command = Command::new(&ourselves);
    command.arg("join").arg(cgroup).arg("--").arg(&ourselves).arg("serve");
    command.args(["--port", &PORT.to_string(), "--closing", "0"]);
    command.args(["--cpu", &sandbox::core().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(first_line(namespace.spawn(&mut command)?)?.0)
}

/// Ends a server.
pub(super) fn end(server: &mut Child) {
    let _ = server.kill();
    let _ = server.wait();
}
