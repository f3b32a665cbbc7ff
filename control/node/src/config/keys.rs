//! The table of configuration keys: one row makes a TOML key, an environment
//! variable and a flag.

/// What form a key's value has in the file. In the environment and in flags all
/// of them are text; the parts of a list are separated by commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// An array of strings.
    List,
    /// A table of strings or of arrays of strings; elsewhere a list of `name=value`.
    Table,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// At the next SIGHUP.
    Now,
    /// When the node is started again.
    NeedsRestart,
}

/// One configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its path in the file, for example `vip.named_range`.
    pub path: &'static str,
    /// Form of its value in the file.
    pub kind: Kind,
    /// When a change takes effect.
    pub applies: Applies,
    /// What it is for; the help text of its flag.
    pub help: &'static str,
}

impl Key {
    /// Its environment variable, for example `MIZZEN_VIP_NAMED_RANGE`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("MIZZEN_{}", self.path.replace('.', "_").to_ascii_uppercase())
    }

    /// Its flag without the dashes, for example `vip-named-range`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// The section that it is in, for example `vip`; empty for the top level.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.path.split_once('.').map_or("", |(section, _)| section)
    }
}

/// The key at `path`.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key or variable or flag in `candidates` that `word` was probably meant to be.
#[must_use]
pub fn closest(word: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let allowed = (word.chars().count() / 4).max(2);
    candidates
        .map(|candidate| (distance(word, &candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The key that an unknown `path` was probably meant to be: a misspelt one, or
/// one that belongs into another section.
#[must_use]
pub fn closest_key(path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let mut elsewhere = KEYS.iter().filter(|key| last(key.path) == last(path));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(key), None) => Some(key.path.to_owned()),
        // `listen` is in three sections: naming one of them would be a guess.
        (Some(_), Some(_)) if !path.contains('.') => None,
        _ => closest(path, KEYS.iter().map(|key| key.path.to_owned())),
    }
}

const fn row(path: &'static str, kind: Kind, applies: Applies, help: &'static str) -> Key {
    Key { path, kind, applies, help }
}

/// All keys, in the order in which documentation and `--check-config` show them.
#[rustfmt::skip]
pub const KEYS: &[Key] = {
    use Applies::{NeedsRestart, Now};
    use Kind::{Boolean, Integer, List, Table, Text};
    &[
        row("instance", Text, NeedsRestart, "Name that keeps this node apart from others in the same kernel [a-z0-9-]{1,8}"),
        row("roles", List, NeedsRestart, "Parts that this node runs: master,agent,services,dns,vip,overlay; services need master; in a cluster that was joined, these two are elsewhere"),
        row("state_dir", Text, NeedsRestart, "Directory of everything that survives a restart"),
        row("run_dir", Text, NeedsRestart, "Directory of the node's socket and of what does not survive a reboot"),
        row("cgroup_root", Text, NeedsRestart, "Cgroup of all containers, relative to each hierarchy's mount"),
        row("address", Text, NeedsRestart, "IP address by which other machines reach this node"),
        row("hostname", Text, NeedsRestart, "Name by which other machines reach this node"),
        row("zone", Text, NeedsRestart, "Where this node stands, such as a rack; VIPs prefer backends of the same zone"),
        row("libexec_dir", Text, NeedsRestart, "Directory of mizzen-launch and the CNI plugins"),
        row("log.format", Text, NeedsRestart, "Form of log lines: text or json"),
        row("log.level", Text, Now, "Least important level that is logged: error, warn, info, debug, trace, or target=level,..."),
        row("cluster.listen", Text, NeedsRestart, "Where other nodes reach this one, by UDP and TCP: IP:PORT, :PORT on the node's address, or none"),
        row("cluster.certificate_life", Text, Now, "How long certificates of nodes count; those that are used renew themselves"),
        row("cluster.key_rotation", Text, Now, "How often the nodes exchange the key of their datagrams"),
        row("master.listen", Text, NeedsRestart, "Where the master's API listens: IP:PORT, or :PORT on the node's address"),
        row("master.allocation_interval", Text, NeedsRestart, "Time between two rounds of offers"),
        row("agent.listen", Text, NeedsRestart, "Where the agent's API listens: IP:PORT, or :PORT on the node's address"),
        row("agent.resources", Text, NeedsRestart, "What the agent offers, for example cpus:4;mem:4096;disk:10240;ports:[31000-32000]"),
        row("agent.attributes", Text, NeedsRestart, "Attributes of the agent, for example rack:a;zone:b"),
        row("agent.cpu_quota", Boolean, NeedsRestart, "Whether a task's cpus are a ceiling too, not only a share"),
        row("agent.plugin_timeout", Text, NeedsRestart, "Time after which a CNI plugin that does not answer is killed"),
        row("agent.network_dir", Text, NeedsRestart, "Directory of CNI configurations (*.conf, *.conflist, *.json) of further networks"),
        row("agent.gc_delay", Text, Now, "How long sandboxes of ended tasks are kept; the fuller the disk, the shorter"),
        row("agent.gc_disk_headroom", Integer, Now, "Percentage of the disk that is to stay free of them"),
        row("services.listen", Text, NeedsRestart, "Where the service scheduler's API (/v2) listens: IP:PORT, or :PORT on the node's address"),
        row("services.framework_name", Text, NeedsRestart, "Framework name of the service scheduler, a part of its tasks' names"),
        row("dns.addresses", List, NeedsRestart, "Addresses that the node gives itself for its resolver"),
        row("dns.port", Integer, NeedsRestart, "Port on which the resolver answers there"),
        row("dns.listen", List, NeedsRestart, "Further listeners of the resolver: IP:PORT"),
        row("dns.upstreams", List, Now, "Resolvers for all other names: IP, IP:PORT, tls://IP#name or https://IP/path#name"),
        row("dns.forward_zones", Table, Now, "Resolvers for names below a suffix: suffix=IP; several for one suffix by naming it again"),
        row("dns.ca_file", Text, Now, "Certificates (PEM) that upstreams over TLS and HTTPS may be signed by, beside those the machine trusts"),
        row("dns.search", List, Now, "Search domains of clients, answered here where they cannot help"),
        row("dns.clients", List, Now, "Networks that may ask about names of others"),
        row("dns.ttl", Integer, Now, "Time to live of answers, in seconds"),
        row("dns.negative_ttl", Integer, Now, "Time to live of the answer that there is nothing, in seconds"),
        row("dns.draining_ttl", Integer, Now, "Time to live of answers while something behind a name goes away, in seconds"),
        row("dns.mode", Text, Now, "Where RFCs and the old servers differ: strict or legacy"),
        row("dns.domain", Text, Now, "Zone of tasks and frameworks"),
        row("dns.ip_sources", List, Now, "Which address of a task is taken, the first that it has: netinfo, host (mesos and docker mean netinfo)"),
        row("dns.enforce_rfc952", Boolean, Now, "Whether labels are at most 24 letters and begin with one"),
        row("dns.srv_weight", Integer, Now, "Weight of SRV records of tasks"),
        row("dns.serve_unhealthy", Boolean, Now, "Whether tasks are answered whose health check fails"),
        row("dns.serve_killing", Boolean, Now, "Whether tasks are answered that were told to stop"),
        row("dns.masters", List, Now, "IP addresses of all masters, in the order of their numbers (master0.mesos, ...); if empty, this node's"),
        row("dns.ensemble", List, Now, "IP addresses of the ZooKeeper ensemble (zk-1.zk, ...); if empty, those of the masters"),
        row("dns.public_addresses", List, Now, "IP addresses by which the world reaches this node"),
        row("dns.components", Table, Now, "Other names for names: name=target makes name.component.thisdcos.directory"),
        row("dns.cluster_key", Text, Now, "The cluster's public key in z-base-32, for names in <key>.dcos.directory"),
        row("dns.cache_entries", Integer, Now, "How many forwarded answers are kept; 0 for none"),
        row("dns.serve_stale", Integer, Now, "How long they are given after their end while no upstream answers, in seconds; 0 for never"),
        row("dns.transfer_to", List, Now, "Networks that may have whole zones (AXFR)"),
        row("dns.query_log", List, Now, "Suffixes of names whose questions are logged; . for all"),
        row("dns.enumerate", Boolean, Now, "Whether /v1/enumerate of Mesos-DNS' HTTP answers"),
        row("dns.threads", Integer, NeedsRestart, "Threads of the resolver"),
        row("dns.resolv_conf", Text, NeedsRestart, "What is done with /etc/resolv.conf: leave or write"),
        row("vip.engine", Text, NeedsRestart, "What translates VIPs: auto, ebpf, nfqueue or off"),
        row("vip.cgroup", Text, NeedsRestart, "Directory of the v2 cgroup whose processes can use VIPs"),
        row("vip.ingress", List, Now, "Links that VIP traffic may arrive by: auto (our bridges), none, names, or beginnings of names with *"),
        row("vip.named_range", Text, NeedsRestart, "Network from which named VIPs get their addresses"),
        row("vip.bpffs", Text, NeedsRestart, "Where the BPF file system is mounted"),
        row("vip.eject_after", Integer, Now, "Failed handshakes in a row after which a backend gets no connections for a while; 0 for never"),
        row("vip.eject_pause", Text, Now, "Length of the first such while; each further one is twice as long"),
        row("vip.eject_longest", Text, Now, "Length of the longest such while"),
        row("vip.handshake_limit", Text, Now, "Time without an answered handshake after which a backend with open ones is avoided"),
        row("overlay.name", Text, NeedsRestart, "Name of the overlay network that tasks ask for"),
        row("overlay.network", Text, NeedsRestart, "The whole overlay's addresses"),
        row("overlay.prefix", Integer, NeedsRestart, "Length of the prefix of one node's share"),
        row("overlay.bridge", Text, NeedsRestart, "Name of the bridge that containers attach to"),
        row("overlay.mtu", Integer, NeedsRestart, "Largest packet that containers send, in bytes"),
        row("overlay.subnet", Text, NeedsRestart, "Share of the overlay that this node asks the master for; any if nothing is said"),
        row("overlay.network6", Text, NeedsRestart, "The whole overlay's IPv6 addresses, such as fd01:b::/64; none if empty"),
        row("overlay.prefix6", Integer, NeedsRestart, "Length of the prefix of one node's share of them"),
        row("overlay.vni", Integer, NeedsRestart, "The overlay's number in the tunnels between nodes"),
        row("overlay.networks", Table, NeedsRestart, "Further overlays: name=NETWORK/LENGTH/SHARE, such as web=10.128.0.0/12/24; also name=vni=N and name=mtu=N"),
        row("overlay.mode", Text, NeedsRestart, "Habits of the overlays: separate (a number for each) or dcos (one for all, bridges m- and d-, table 42)"),
        row("overlay.isolation", Boolean, NeedsRestart, "Whether packets are kept from passing from one overlay to another"),
        row("overlay.fast_path", Boolean, Now, "Whether packets between containers may pass by bridges, routes and capture tools of the host"),
        row("overlay.port", Integer, NeedsRestart, "UDP port of the tunnels between nodes"),
        row("overlay.encryption", Text, NeedsRestart, "Whether packets between nodes are encrypted: none, opportunistic (with nodes that do so, too) or wireguard (with nobody else)"),
        row("overlay.encryption_port", Integer, NeedsRestart, "UDP port of encrypted packets between nodes"),
        row("overlay.vtep_network", Text, NeedsRestart, "Network from which the tunnels' ends get their addresses"),
        row("overlay.vtep_network6", Text, NeedsRestart, "The same for overlays with IPv6 addresses"),
        row("bridge.name", Text, NeedsRestart, "Name of the network of this node alone, of apps in mode container/bridge"),
        row("bridge.network", Text, NeedsRestart, "Its addresses, the same on every node; none if there is no such network"),
        row("bridge.link", Text, NeedsRestart, "Name of the bridge that its containers attach to"),
        row("bridge.mtu", Integer, NeedsRestart, "Largest packet on it, in bytes"),
        row("admin.mesos_dns", Text, NeedsRestart, "Where Mesos-DNS' HTTP API (/v1/hosts, ...) listens"),
        row("admin.minuteman", Text, NeedsRestart, "Where Minuteman's HTTP API (/vips) listens"),
        row("admin.node", Text, NeedsRestart, "Where the node's own HTTP API listens"),
    ]
};

/// Levenshtein's distance: how many letters have to be added, dropped or replaced.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = previous[0];
        previous[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = previous[j + 1];
            previous[j + 1] = replaced.min(previous[j] + 1).min(diagonal + 1);
        }
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_find_their_neighbour() {
        #[rustfmt::skip]
        let table: &[(&str, Option<&str>)] = &[
            ("vip.engin",        Some("vip.engine")),
            ("vips.engine",      Some("vip.engine")),
            ("statedir",         Some("state_dir")),
            ("dns.vni",          Some("overlay.vni")),
            ("listen",           None),
            ("weather.forecast", None),
        ];
        for (word, want) in table {
            assert_eq!(closest_key(word).as_deref(), *want, "{word}");
        }
    }

    #[test]
    fn one_row_makes_three_names() {
        let key = find("vip.named_range").unwrap();
        assert_eq!(key.variable(), "MIZZEN_VIP_NAMED_RANGE");
        assert_eq!(key.flag(), "vip-named-range");
        assert_eq!(key.section(), "vip");
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let mut names: Vec<_> = KEYS.iter().map(Key::variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KEYS.len());
    }
}
