//! The resolver of this node: its zones, made from what the configuration says, and the
//! server that answers from them.

use super::core::Core;
use super::name_memory::Memory;
use super::names::Names;
use super::resolv_conf::{self, ResolvConfFile, Standing};
use super::serials::Serials;
use super::{clock, successor};
use crate::config::{Config, DnsConfig, Origin, Role};
use anyhow::Context;
use mizzen_dns_core::{DnsName, Options, Seed, Zones};
use mizzen_dns_server::{Access, ForwardSettings, Server, Settings, SharedZones, Sockets};
use mizzen_types::error::chain;
use mizzen_types::ids::OwnerId;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The resolver's name in problems.
const RESOLVER: &str = "dns";
/// Its settings' name there.
const SETTINGS: &str = "dns settings";

/// The node's resolver, and what it takes to start another one.
pub(crate) struct ResolverPart {
    /// Answers as long as it is here.
    pub(crate) server: Option<Server>,
    /// Where it listens.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Its sockets once more.
    pub(crate) sockets: Vec<OwnedFd>,
    /// Numbers of the zones that no other process uses.
    pub(crate) serials: Serials,
}

impl ResolverPart {
    /// None runs yet.
    pub(crate) fn new(serials: Serials) -> Self {
        Self { server: None, addresses: Vec::new(), sockets: Vec::new(), serials }
    }
}

impl Core {
    /// Starts the resolver, in the place of one that runs.
    pub(crate) fn start_resolver(&mut self) -> anyhow::Result<()> {
        self.resolver.server = None;
        let held = std::mem::take(&mut self.resolver.sockets);
        let started = start(&self.config, &self.names, held)?;
        self.note_resolver(started);
        Ok(())
    }

    /// Sees to it that the next process's serial numbers are larger than those of this one.
    pub(crate) fn reserve_serials(&mut self) {
        let Some((serial, _)) = self.names.size() else { return };
        if self.resolver.serials.follow(serial) {
            self.node_saves.push(Serials::KEY, Some(self.resolver.serials.record()));
            self.flush_node(clock::now());
        }
    }

    /// Takes over a resolver that runs.
    pub(crate) fn note_resolver(&mut self, started: Option<Started>) {
        let Some(Started { server, sockets, missing }) = started else { return };
        self.resolver.sockets = sockets;
        self.resolver.addresses = server.addresses().to_vec();
        self.resolver.server = Some(server);
        self.guard_listeners();
        match missing.as_slice() {
            [] => self.problems.solve(RESOLVER),
            [..] => {
                let texts: Vec<String> = missing.iter().map(ToString::to_string).collect();
                let text = format!("this machine does not have {}", texts.join(", "));
                self.problems.report(RESOLVER, text);
            }
        }
    }

    /// Goes on with what the configuration says now; no question is lost.
    pub(crate) fn follow_dns_config(&mut self) {
        self.names.finish_loading(clock::now().mono);
        let Some(served) = self.names.zones() else { return };
        let former = self.names.options();
        let first_serial = served.read(Zones::serial).wrapping_add(1).max(1);
        let options = Options { first_serial, seed: former.seed, ..self.config.name_options() };
        let same_zones = former.domain == options.domain;
        let zones = Arc::new(SharedZones::new(Zones::new(&options)));
        self.names.replace(Arc::clone(&zones), options);
        self.fill_names();
        self.names.begin();
        let changed = match &self.resolver.server {
            // Zones are told apart by number, and other zones have other numbers.
            Some(server) if same_zones => {
                served.swap(&zones);
                self.names.serve_from(served);
                let settings = settings(&self.config.dns, self.resolver.addresses.clone());
                server.reconfigure(&settings).context("resolver goes on as it was before")
            }
            _ => self.start_resolver(),
        };
        match changed {
            Ok(()) => self.problems.solve(SETTINGS),
            Err(error) => self.problems.report(SETTINGS, format!("{error:#}")),
        }
    }
}

/// A resolver that answers.
pub(crate) struct Started {
    server: Server,
    /// Its sockets once more, for whoever comes after it.
    sockets: Vec<OwnedFd>,
    /// Addresses that this machine could not be given.
    missing: Vec<IpAddr>,
}

/// Makes the zones, with nothing in them but what every node has.
///
/// * `first_serial` — larger than that of all zones of this node before.
pub(crate) fn open(config: &Config, here: OwnerId, first_serial: u32) -> Names {
    if !config.has(Role::Dns) {
        return Names::off();
    }
    let memory = Memory::new(config.state_dir.join("names.log"));
    let options = Options { first_serial, ..config.name_options() };
    let seed = memory.seed(&options, &here).unwrap_or_else(seed);
    let options = Options { seed, ..options };
    let zones = Arc::new(SharedZones::new(Zones::new(&options)));
    Names::new(zones, options, here, memory)
}

/// Starts a resolver for names; without the role, sees to it that nobody listens.
///
/// * `held` — sockets of the one before.
pub(crate) fn start(
    config: &Config,
    names: &Names,
    held: Vec<OwnedFd>,
) -> anyhow::Result<Option<Started>> {
    let Some(zones) = names.zones() else {
        successor::end(config);
        return Ok(None);
    };
    let (listen, missing) = listeners(config);
    let cannot = "the resolver cannot start";
    let settings = settings(&config.dns, listen);
    if Sockets::any_elsewhere(&held, &settings.listen) {
        successor::make_way(config);
    }
    let bound = Sockets::take_over(held, &settings.listen, settings.threads).context(cannot)?;
    let sockets = bound.descriptors().context(cannot)?;
    let server = Server::start_on(bound, &settings, zones).context(cannot)?;
    successor::leave(config, &sockets);
    Ok(Some(Started { server, sockets, missing }))
}

/// `/etc/resolv.conf` of this machine.
const RESOLV_CONF: &str = resolv_conf::PATH;

impl Core {
    /// Leads the machine's programs to our resolver, if that is wanted.
    pub(crate) fn write_resolv_conf(&mut self) {
        if !self.config.has(Role::Dns) || !resolv_conf::is_ours_to_write(&self.config.dns) {
            return;
        }
        let written = file(&self.config).write(&resolv_conf::text(&self.config.dns));
        self.note_resolv_conf(written);
    }

    /// Says if somebody else has changed it.
    pub(crate) fn look_at_resolv_conf(&mut self) {
        if self.config.has(Role::Dns) && resolv_conf::is_ours_to_write(&self.config.dns) {
            let standing = file(&self.config).look();
            self.note_resolv_conf(standing);
        }
    }

    fn note_resolv_conf(&mut self, standing: std::io::Result<Standing>) {
        match standing {
            Ok(Standing::Ours) => self.problems.solve(RESOLV_CONF),
            Ok(Standing::Changed) => {
                let text = "somebody else has changed it, and it is left as it is";
                self.problems.report(RESOLV_CONF, text.to_owned());
            }
            Err(error) => {
                self.problems
                    .report(RESOLV_CONF, format!("it is left as it is: {}", chain(&error)));
            }
        }
    }
}

/// Puts back what was there before the node wrote it; nothing if it did not.
pub(crate) fn restore_resolv_conf(config: &Config) -> Option<String> {
    let restored = file(config).restore();
    restored.err().map(|error| format!("{RESOLV_CONF} is not as it was: {}", chain(&error)))
}

fn file(config: &Config) -> ResolvConfFile {
    ResolvConfFile::new(Path::new(RESOLV_CONF), &config.state_dir)
}

/// Where to listen, and which addresses this machine could not be given. What was
/// configured is listened on or there is no start; of the usual addresses some are enough.
fn listeners(config: &Config) -> (Vec<SocketAddr>, Vec<IpAddr>) {
    let all = config.dns.listeners();
    if config.origins.get("dns.addresses") != Some(&Origin::Default) {
        return (all, Vec::new());
    }
    let own = |address: &SocketAddr| config.dns.addresses.contains(&address.ip());
    // An address can be bound if and only if the machine has it.
    let has = |address: &SocketAddr| !own(address) || UdpSocket::bind((address.ip(), 0)).is_ok();
    let (there, missing): (Vec<SocketAddr>, Vec<SocketAddr>) = all.iter().partition(|a| has(a));
    match there.as_slice() {
        // The server says what is wrong with them.
        [] => (all, Vec::new()),
        [..] => (there, missing.into_iter().map(|address| address.ip()).collect()),
    }
}

/// From the system's randomness: names that collide cannot be prepared for it.
fn seed() -> Seed {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    Seed(high, low)
}

fn settings(dns: &DnsConfig, listen: Vec<SocketAddr>) -> Settings {
    let forward = ForwardSettings {
        upstreams: dns.upstreams.clone(),
        zones: dns.forward_zones.clone(),
        cache_entries: dns.cache_entries as usize,
        serve_stale: Duration::from_secs(dns.serve_stale.into()),
        search: names(&dns.search),
        ca_file: Some(dns.ca_file.clone()).filter(|path| !path.as_os_str().is_empty()),
        ..ForwardSettings::default()
    };
    let access = Access { clients: dns.clients.clone(), transfer_to: dns.transfer_to.clone() };
    Settings {
        listen,
        threads: dns.threads,
        forward,
        access,
        query_log: names(&dns.query_log),
        ..Settings::default()
    }
}

/// Names that the configuration has read already.
fn names(texts: &[String]) -> Vec<DnsName> {
    texts.iter().filter_map(|text| DnsName::parse(text).ok()).collect()
}
