//! What an operator relies on: the order of the layers, that no mistake hides
//! another one, and that each is found where it was made.

use super::show::flat;
use super::*;

fn host() -> HostFacts {
    HostFacts {
        addresses: vec!["9.0.0.1".parse().unwrap(), "192.0.2.7".parse().unwrap()],
        hostname: "anchor".to_owned(),
        executable_dir: PathBuf::from("/opt/mizzen"),
        cpus: 2,
        memory_mib: 4096,
        disk_mib: 20_480,
        resolv_conf: "nameserver 192.0.2.53\n".to_owned(),
        ipv6: true,
        cgroup2: Some(PathBuf::from("/sys/fs/cgroup/unified")),
    }
}

fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Sources {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let file = ConfigFile { path: PathBuf::from("m.toml"), text: file.to_owned() };
    Sources { file: Some(file), environment: map(environment), flags: map(flags), host: host() }
}

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Config {
    Config::load(&sources(file, environment, flags)).unwrap()
}

fn mistakes(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Vec<String> {
    let errors = Config::load(&sources(file, environment, flags)).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_come_from_the_machine() {
    let config = load("", &[], &[]);
    assert_eq!(config.address.to_string(), "192.0.2.7", "9.0.0.1 is our own bridge");
    assert_eq!(config.master.listen.to_string(), "192.0.2.7:5050");
    assert_eq!(config.agent.resources, "cpus:2;mem:3072;disk:15360;ports:[31000-32000]");
    assert_eq!(config.dns.upstreams, ["192.0.2.53".parse().unwrap()]);
    assert_eq!(config.dns.listeners().len(), 4);
    assert_eq!(config.dns.listeners()[3].to_string(), "[fd01:d::c633:6401]:53");
    assert_eq!(config.vip.cgroup, PathBuf::from("/sys/fs/cgroup/unified"));
    assert_eq!(config.libexec_dir, PathBuf::from("/opt/mizzen"));
    assert_eq!(config.overlay.subnet.to_string(), "9.0.0.0/24");
    assert_eq!(config.overlay.bridge, "m-dcos");
    assert_eq!(config.roles.len(), 6);
    assert_eq!(config.socket(), PathBuf::from("/run/mizzen/mizzen.sock"));
    let alone = Config::load(&Sources::default()).unwrap();
    assert_eq!(alone.address.to_string(), "127.0.0.1");
}

#[test]
fn a_higher_layer_wins() {
    let file = "hostname = 'f'\n[log]\nlevel = 'warn'\n[overlay]\nmtu = 1400\n";
    let env = [("MIZZEN_HOSTNAME", "e"), ("MIZZEN_LOG_LEVEL", "debug"), ("PATH", "/bin")];
    let config = load(file, &env, &[("hostname", "flag")]);
    let origin = |key| config.origins[key].to_string();
    assert_eq!((config.hostname.as_str(), origin("hostname")), ("flag", "--hostname".into()));
    assert_eq!(
        (config.log.level.as_str(), origin("log.level")),
        ("debug", "MIZZEN_LOG_LEVEL".into())
    );
    assert_eq!((config.overlay.mtu, origin("overlay.mtu")), (1400, "m.toml:5".into()));
    assert_eq!(origin("state_dir"), "default");
}

#[test]
fn values_are_understood() {
    let file = "roles = ['master', 'dns']\n[agent]\ncpu_quota = true\n[dns]\nport = 5353\n\
                upstreams = ['192.0.2.1', '[2001:db8::1]:5300']\n[master]\nlisten = ':6050'\n\
                allocation_interval = '250ms'\n";
    let env = [
        ("MIZZEN_ADDRESS", "192.0.2.9"),
        ("MIZZEN_DNS_ADDRESSES", "127.0.0.53, 127.0.0.54"),
        ("MIZZEN_VIP_ENGINE", "off"),
        ("MIZZEN_OVERLAY_NETWORK", "10.9.0.0/16"),
    ];
    let config = load(file, &env, &[]);
    assert!(config.has(Role::Master) && config.has(Role::Dns) && !config.has(Role::Vip));
    assert_eq!(config.master.listen.to_string(), "192.0.2.9:6050");
    assert_eq!(config.master.allocation_interval, Duration::from_millis(250));
    assert_eq!(config.dns.upstreams[1].to_string(), "[2001:db8::1]:5300");
    assert_eq!(config.dns.addresses.len(), 2);
    let zones = "[dns.forward_zones]\n'corp.example' = ['10.0.0.2', 'tls://10.0.0.3#dns.corp.example']\nsecret = []\n";
    let shown = load(zones, &[], &[]).to_annotated_toml();
    assert!(shown.contains(r#""corp.example" = ["10.0.0.2:53", "tls://10.0.0.3:853#dns.corp.example"], secret = []"#), "{shown}");
    let same = load(
        "",
        &[(
            "MIZZEN_DNS_FORWARD_ZONES",
            "corp.example=10.0.0.2,secret=,corp.example=tls://10.0.0.3#dns.corp.example",
        )],
        &[],
    );
    assert_eq!(load(zones, &[], &[]).difference(&same), []);
    assert!(config.agent.cpu_quota);
    assert_eq!(config.overlay.subnet.to_string(), "10.9.0.0/24");
    assert_eq!(load("", &[("MIZZEN_DNS_UPSTREAMS", "")], &[]).dns.upstreams, []);
}

#[test]
fn an_instance_names_everything_else() {
    let config = load("", &[], &[("instance", "blue")]);
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/mizzen-blue"));
    assert_eq!(config.run_dir, PathBuf::from("/run/mizzen-blue"));
    assert_eq!(config.cgroup_root, "mizzen-blue");
    assert_eq!(config.overlay.bridge, "m-dcos-blue");
    assert_eq!(
        load("", &[], &[("instance", "blue"), ("overlay.bridge", "b0")]).overlay.bridge,
        "b0"
    );
}

#[test]
fn a_bridge_of_the_node_is_there_unless_its_addresses_are_taken() {
    let network = |at: &[&str], flags: &[(&str, &str)]| {
        let mut sources = sources("", &[], flags);
        sources.host.addresses = at.iter().map(|address| address.parse().unwrap()).collect();
        let config = Config::load(&sources).unwrap();
        (config.bridge_network().map(|net| net.to_string()), config.address.to_string())
    };
    let usual = || Some("172.31.254.0/24".to_owned());
    let here = "192.0.2.7".to_owned();
    assert_eq!(network(&["192.0.2.7"], &[]), (usual(), here.clone()));
    let again = network(&["172.31.254.1", "192.0.2.7"], &[]);
    assert_eq!(again, (usual(), here.clone()), "the bridge's own");
    let taken = network(&["172.31.254.9"], &[]);
    assert_eq!(taken, (None, "172.31.254.9".to_owned()), "the machine's");
    for flag in [("instance", "blue"), ("bridge.network", "none"), ("roles", "dns,vip")] {
        assert_eq!(network(&["192.0.2.7"], &[flag]), (None, here.clone()), "{flag:?}");
    }
    let flags = [("instance", "blue"), ("bridge.network", "10.1.0.0/24")];
    assert_eq!(network(&["192.0.2.7"], &flags), (Some("10.1.0.0/24".to_owned()), here));
}

#[test]
fn every_mistake_in_one_report() {
    let file = "\
state_dir = 'relative'
address = 1
colour = true
[vip]
engin = 'ebpf'
named_range = '11.0.0.1/8'
[dns]
port = 70000
upstreams = ['192.0.2.1', 53]
[master]
listen = 'everywhere'
";
    let env = [("MIZZEN_INSTANCE", "Too Long"), ("MIZZEN_OVERLAY_MUT", "9000")];
    let found = mistakes(file, &env, &[("overlay.mtu", "9"), ("dns.ttl", "-1")]);
    let want = [
        "m.toml:1: state_dir: `relative` is not an absolute path",
        "m.toml:2: address: expected a string, found an integer",
        "m.toml:3: colour: unknown key",
        "m.toml:5: vip.engin: unknown key; did you mean `vip.engine`?",
        "m.toml:6: vip.named_range: `11.0.0.1/8` is not an IPv4 network of at most 30 bits, such as 9.0.0.0/8",
        "m.toml:8: dns.port: `70000` is not a port (1 to 65535)",
        "m.toml:9: dns.upstreams: expected an array of strings, found an integer in it",
        "m.toml:11: master.listen: `everywhere` is not an address and port, such as :5050",
        "MIZZEN_INSTANCE: `Too Long` is not an instance name of 1 to 8 letters a-z, digits and dashes",
        "MIZZEN_OVERLAY_MUT: unknown key; did you mean `MIZZEN_OVERLAY_MTU`?",
        "--dns-ttl: `-1` is not a number of seconds (0 to 86400)",
        "--overlay-mtu: `9` is not an MTU in bytes (576 to 65535)",
    ];
    assert_eq!(found, want);
}

/// A file, and the only complaint about it.
#[test]
fn each_kind_of_mistake() {
    #[rustfmt::skip]
    let table: &[(&str, &str)] = &[
        ("roles = ['master', 'butler']", "m.toml:1: roles: `butler` is not a role (master, agent, services, dns, vip, overlay)"),
        ("roles = 'master'",             "m.toml:1: roles: expected an array of strings, found a string"),
        ("vip = 3",                      "m.toml:1: vip: expected a table, found an integer"),
        ("[vips]\nengine = 'off'",       "m.toml:1: vips: unknown key; did you mean `vip`?"),
        ("statedir = '/x'",              "m.toml:1: statedir: unknown key; did you mean `state_dir`?"),
        ("bpffs = '/x'",                 "m.toml:1: bpffs: unknown key; did you mean `vip.bpffs`?"),
        ("[log]\nformat = 'xml'",        "m.toml:2: log.format: `xml` is not a log format (text, json)"),
        ("[log]\nlevel = 'loud'",        "m.toml:2: log.level: `loud` is not a log level (error, warn, info, debug, trace) or target=level pairs"),
        ("[vip]\nengine = 'ipvs'",       "m.toml:2: vip.engine: `ipvs` is not a VIP engine (auto, ebpf, nfqueue, off)"),
        ("[agent]\nattributes = 'rack'", "m.toml:2: agent.attributes: `rack` is not a list of attributes, such as rack:a;zone:b"),
        ("[agent]\nplugin_timeout = '5'", "m.toml:2: agent.plugin_timeout: `5` is not a time with its unit, such as 250ms, 1s or 2m"),
        ("[agent]\ngc_delay = '1w'",      "m.toml:2: agent.gc_delay: `1w` is not a time with its unit, such as 30m, 12h or 7d"),
        ("[agent]\ngc_disk_headroom = 101", "m.toml:2: agent.gc_disk_headroom: `101` is not a percentage of the disk (0 to 100)"),
        ("cgroup_root = '../up'",        "m.toml:1: cgroup_root: `../up` is not the path of a cgroup below its hierarchy's mount, such as mizzen"),
        ("address = '0.0.0.0'",          "m.toml:1: address: `0.0.0.0` is not an IP address of this machine"),
        ("instance = 'lab-1'",           "m.toml:1: instance: `lab-1` is not an instance name that is free (those with `lab-` belong to sandboxes)"),
        ("[overlay]\nbridge = 'a/b'",    "m.toml:2: overlay.bridge: `a/b` is not the name of a link (1 to 15 letters)"),
        ("[overlay]\nsubnet = '9.0.0.0/25'", "m.toml:2: overlay.subnet: `9.0.0.0/25` is no /24 (overlay.prefix) of overlay.network, 9.0.0.0/8"),
        ("[overlay]\nnetworks = { web = '9.1.0.0/16/24' }", "m.toml:2: overlay.networks: `9.1.0.0/16` does not go: overlay `web`, 9.1.0.0/16, overlaps overlay `dcos`, 9.0.0.0/8"),
        ("[overlay]\nnetworks = { host = '10.1.0.0/16/24' }", "m.toml:2: overlay.networks: `host` does not go: `host` cannot be the name of an overlay: it means another network"),
        ("[overlay]\nencryption = 'ipsec'", "m.toml:2: overlay.encryption: `ipsec` is not a kind of encryption (none, opportunistic, wireguard)"),
        ("[overlay]\nencryption = 'wireguard'\nencryption_port = 64000", "m.toml:3: overlay.encryption_port: `64000` is overlay.port as well"),
        ("[overlay]\nnetworks = { web = 'x' }", "m.toml:2: overlay.networks: `web=x` is not an overlay and its network with the prefix length of a node's share, or its vni or mtu, such as web=10.128.0.0/12/24 or web=vni=2000"),
        ("[bridge]\nnetwork = '9.1.0.0/16'", "m.toml:2: bridge.network: `9.1.0.0/16` overlaps 9.0.0.0/8, an overlay"),
        ("[bridge]\nnetwork = '192.0.2.0/24'", "m.toml:2: bridge.network: `192.0.2.0/24` has the node's address, 192.0.2.7, in it"),
        ("[bridge]\nname = 'dcos'", "m.toml:2: bridge.name: `dcos` is also the name of an overlay"),
        ("[vip]\nnamed_range = '9.1.0.0/16'", "m.toml:2: vip.named_range: `9.1.0.0/16` overlaps 9.0.0.0/8, an overlay"),
        ("[overlay]\nnetworks = { web = '11.4.0.0/16/24' }", "default: vip.named_range: `11.0.0.0/8` overlaps 11.4.0.0/16, an overlay"),
        ("address = '192.0.2.7'\n[overlay]\nnetwork = '192.0.0.0/16'", "m.toml:3: overlay.network: `192.0.0.0/16` has the node's address, 192.0.2.7, in it"),
        ("address = '192.0.2.7'\n[overlay]\nvtep_network = '192.0.2.0/24'", "m.toml:3: overlay.vtep_network: `192.0.2.0/24` has the node's address, 192.0.2.7, in it"),
        ("[agent]\nlisten = ':5050'",    "m.toml:2: agent.listen: `192.0.2.7:5050` is also the value of master.listen"),
        ("[admin]\nnode = '0.0.0.0:5051'", "default: agent.listen: `192.0.2.7:5051` is also the value of admin.node"),
        ("roles = ['services', 'dns']", "m.toml:1: roles: `services` needs `master` on the same node in this version"),
        ("roles = []",                   "m.toml:1: roles: `[]` leaves nothing to run"),
        ("[agent]\nresources = ''",      "m.toml:2: agent.resources: `` is not a list of resources, such as cpus:4;mem:4096 (nothing is offered)"),
        ("[agent]\nresources = 'cpus:1;mem:9;cpus:2'", "m.toml:2: agent.resources: `cpus:1;mem:9;cpus:2` is not a list of resources, such as cpus:4;mem:4096 (`cpus` is there twice)"),
        ("[dns]\naddresses = []",      "m.toml:2: dns.addresses: `[]` leaves the role dns without one, and dns.listen is empty, too"),
        ("[dns]\nlisten = ['127.0.0.1']",  "m.toml:2: dns.listen: `127.0.0.1` is not an IP address with a port, such as 127.0.0.1:61053"),
        ("[dns]\nlisten = ['198.51.100.1:53']", "m.toml:2: dns.listen: `198.51.100.1:53` is listened on already"),
        ("[dns]\nupstreams = ['dns.example']", "m.toml:2: dns.upstreams: `dns.example` is not a resolver (IP, IP:PORT, tls://IP#name or https://IP/dns-query#name)"),
        ("[dns]\nforward_zones = ['corp.example']", "m.toml:2: dns.forward_zones: expected a table, found an array"),
        ("[dns.forward_zones]\n'a..b' = ['10.0.0.2']", "m.toml:1: dns.forward_zones: `a..b=10.0.0.2` is not a domain name"),
        ("[dns]\nmode = 'lax'",          "m.toml:2: dns.mode: `lax` is not a mode (strict, legacy)"),
        ("[dns]\ndomain = 'spartan'",    "m.toml:2: dns.domain: `spartan` meets the zone spartan., which is the resolver's own"),
        ("[dns]\nmasters = ['0.0.0.0']",  "m.toml:2: dns.masters: `0.0.0.0` is not an IP address of a machine"),
        ("[dns]\nca_file = 'ca.pem'",     "m.toml:2: dns.ca_file: `ca.pem` is not an absolute path"),
        ("[dns]\ncomponents = { web = [] }", "m.toml:2: dns.components: `web=` is not a name and what it stands for, such as web=web.marathon.mesos"),
        ("[dns]\ncomponents = { web = 'a.mesos', web2 = 1 }", "m.toml:2: dns.components: expected an array of strings, found an integer"),
        ("[dns]\ncomponents = { 'a b' = 'a.mesos' }", "m.toml:2: dns.components: `a b` cannot be a name in component.thisdcos.directory"),
        ("[dns]\ncomponents = { a = 'a.component.thisdcos.directory' }", "m.toml:2: dns.components: `a` stands for itself"),
        ("[dns]\ncomponents = { a = 'b.component.thisdcos.directory', b = 'a.component.thisdcos.global' }", "m.toml:2: dns.components: `a` stands for itself by way of b"),
        ("[dns]\nip_sources = ['rkt']",  "m.toml:2: dns.ip_sources: `rkt` is not a source of addresses (host, netinfo, mesos, docker)"),
        ("[dns]\ncluster_key = 'secret!'", "m.toml:2: dns.cluster_key: `secret!` is not a public key in z-base-32"),
        ("[dns]\ntransfer_to = ['all']", "m.toml:2: dns.transfer_to: `all` is not a network, such as 10.0.0.0/8"),
        ("[dns]\nthreads = 0",           "m.toml:2: dns.threads: `0` is not a number of threads (1 to 64)"),
        ("[dns]\nresolv_conf = 'keep'",  "m.toml:2: dns.resolv_conf: `keep` is not what is done with /etc/resolv.conf (leave, write)"),
        ("[dns]\nport = 54\nresolv_conf = 'write'", "m.toml:3: dns.resolv_conf: `write` needs an address of the resolver with port 53, the only one that programs ask"),
        ("[admin]\nmesos_dns = '127.0.0.1:62080'", "m.toml:2: admin.mesos_dns: `127.0.0.1:62080` is also the value of admin.node"),
    ];
    for (file, want) in table {
        assert_eq!(mistakes(file, &[], &[]), [*want], "{file}");
    }
}

#[test]
fn what_is_no_toml_is_found_by_line() {
    let found =
        mistakes("[log]\nlevel = \n\n[vip\nengine = 'auto'\n[overlay]\nmtu = 'x'\n", &[], &[]);
    assert!(found[0].starts_with("m.toml:2: "), "{found:?}");
    assert!(found.iter().any(|e| e.starts_with("m.toml:4: ")), "{found:?}");
    assert!(found.iter().any(|e| e.starts_with("m.toml:7: overlay.mtu: ")), "{found:?}");
}

#[test]
fn a_mistake_in_a_hidden_layer_is_one() {
    let found = mistakes("[overlay]\nmtu = 1\n", &[], &[("overlay.mtu", "1400")]);
    assert_eq!(found, ["m.toml:2: overlay.mtu: `1` is not an MTU in bytes (576 to 65535)"]);
}

#[test]
fn resources_must_be_readable() {
    let found = mistakes("[agent]\nresources = 'cpus:many:more'\n", &[], &[]);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("m.toml:2: agent.resources: "), "{found:?}");
}

#[test]
fn a_socket_path_must_fit() {
    let long = format!("/{}", "x".repeat(100));
    let found = mistakes("", &[("MIZZEN_RUN_DIR", &long)], &[]);
    assert!(found[0].contains("too long for a socket"), "{found:?}");
}

#[test]
fn variables_of_others_are_left_alone() {
    let env = [("MIZZEN_LAB", "7"), ("MIZZEN_CONFIG", "x"), ("MIZZEN_SOMETHING_ELSE", "1")];
    load("", &env, &[]);
}

#[test]
fn a_reload_knows_what_it_can_apply() {
    let old = load("[log]\nlevel = 'info'\n", &[], &[]);
    let new = load("hostname = 'b'\n[log]\nlevel = 'debug'\n[dns]\nttl = 9\n", &[], &[]);
    let changes = old.difference(&new);
    let found: Vec<_> =
        changes.iter().map(|c| (c.key, c.old.as_str(), c.new.as_str(), c.applies)).collect();
    assert_eq!(
        found,
        [
            ("hostname", "\"anchor\"", "\"b\"", Applies::NeedsRestart),
            ("log.level", "\"info\"", "\"debug\"", Applies::Now),
            ("dns.ttl", "5", "9", Applies::Now),
        ]
    );
    assert_eq!(old.difference(&old), []);
}

#[test]
fn a_reload_takes_over_what_it_says_it_can() {
    let old = load("", &[], &[]);
    let all: String = include_str!("../../../../packaging/mizzen.toml")
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let env = [
        ("MIZZEN_LOG_LEVEL", "trace"),
        ("MIZZEN_MASTER_ALLOCATION_INTERVAL", "7s"),
        ("MIZZEN_AGENT_PLUGIN_TIMEOUT", "7s"),
        ("MIZZEN_CLUSTER_CERTIFICATE_LIFE", "7d"),
        ("MIZZEN_CLUSTER_KEY_ROTATION", "7h"),
        ("MIZZEN_AGENT_GC_DELAY", "12h"),
        ("MIZZEN_AGENT_GC_DISK_HEADROOM", "77"),
        ("MIZZEN_DNS_UPSTREAMS", "192.0.2.77"),
        ("MIZZEN_DNS_FORWARD_ZONES", "corp.example=192.0.2.77"),
        ("MIZZEN_DNS_CA_FILE", "/etc/ca.pem"),
        ("MIZZEN_DNS_SEARCH", "marathon.mesos"),
        ("MIZZEN_DNS_CLIENTS", "10.0.0.0/8"),
        ("MIZZEN_DNS_TTL", "77"),
        ("MIZZEN_DNS_NEGATIVE_TTL", "77"),
        ("MIZZEN_DNS_DRAINING_TTL", "77"),
        ("MIZZEN_DNS_MODE", "legacy"),
        ("MIZZEN_DNS_DOMAIN", "cluster"),
        ("MIZZEN_DNS_IP_SOURCES", "host"),
        ("MIZZEN_DNS_ENFORCE_RFC952", "true"),
        ("MIZZEN_DNS_SRV_WEIGHT", "7"),
        ("MIZZEN_DNS_SERVE_UNHEALTHY", "true"),
        ("MIZZEN_DNS_SERVE_KILLING", "true"),
        ("MIZZEN_DNS_MASTERS", "10.0.0.8,10.0.0.9"),
        ("MIZZEN_DNS_ENSEMBLE", "10.0.0.9"),
        ("MIZZEN_DNS_PUBLIC_ADDRESSES", "192.0.2.9"),
        ("MIZZEN_DNS_COMPONENTS", "web=web.marathon.mesos"),
        ("MIZZEN_DNS_CLUSTER_KEY", "yybnd"),
        ("MIZZEN_DNS_CACHE_ENTRIES", "77"),
        ("MIZZEN_DNS_SERVE_STALE", "77"),
        ("MIZZEN_DNS_TRANSFER_TO", "10.0.0.7"),
        ("MIZZEN_DNS_QUERY_LOG", "."),
        ("MIZZEN_DNS_ENUMERATE", "false"),
        ("MIZZEN_VIP_INGRESS", "eth0"),
        ("MIZZEN_VIP_EJECT_AFTER", "7"),
        ("MIZZEN_VIP_EJECT_PAUSE", "7s"),
        ("MIZZEN_VIP_EJECT_LONGEST", "7m"),
        ("MIZZEN_VIP_HANDSHAKE_LIMIT", "77ms"),
        ("MIZZEN_OVERLAY_FAST_PATH", "false"),
    ];
    let new = load(&all, &env, &[]);
    let kept: Vec<_> =
        old.with_applicable(&new).difference(&new).iter().map(|c| c.applies).collect();
    assert!(!kept.is_empty() && kept.iter().all(|a| *a == Applies::NeedsRestart));
    let taken: Vec<_> = old.difference(&old.with_applicable(&new)).iter().map(|c| c.key).collect();
    let now: Vec<_> = KEYS.iter().filter(|k| k.applies == Applies::Now).map(|k| k.path).collect();
    assert_eq!(taken, now);
}

#[test]
fn the_table_of_keys_and_the_configuration_agree() {
    let config = load("", &[], &[]);
    let mut keys: Vec<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    keys.sort();
    let fields: Vec<_> = flat(&config).into_keys().collect();
    assert_eq!(fields, keys);
    let origins: Vec<_> = config.origins.keys().map(|key| (*key).to_owned()).collect();
    assert_eq!(origins, keys);
}

#[test]
fn what_is_shown_can_be_loaded() {
    let config = load("", &[("MIZZEN_INSTANCE", "a"), ("MIZZEN_AGENT_ATTRIBUTES", "rack:a")], &[]);
    let shown = config.to_annotated_toml();
    assert!(shown.contains("# MIZZEN_INSTANCE"), "{shown}");
    assert_eq!(config.difference(&load(&shown, &[], &[])), [], "{shown}");
}

#[test]
fn the_reference_has_every_key() {
    let page = include_str!("../../../../docs/reference/configuration.md");
    for key in KEYS {
        assert!(page.contains(&format!("| `{}` |", key.path)), "{} is not in the page", key.path);
    }
}

#[test]
fn the_example_of_a_forwarder_is_right() {
    let config = load(include_str!("../../../../examples/forwarder.toml"), &[], &[]);
    assert_eq!(config.roles, BTreeSet::from([Role::Dns]));
    assert_eq!(config.dns.forward_zones.len(), 2);
}

#[test]
fn the_sample_file_is_right() {
    let sample = include_str!("../../../../packaging/mizzen.toml");
    load(sample, &[], &[]);
    // The same with every key in force.
    let all: String = sample
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let config = load(&all, &[], &[]);
    let set = config.origins.values().filter(|origin| **origin != Origin::Default).count();
    assert_eq!(set, KEYS.len(), "the sample names every key");
}

#[test]
fn masters_are_where_others_reach_them() {
    let masters = |file: &str| -> Vec<String> {
        load(file, &[], &[]).name_options().masters.iter().map(ToString::to_string).collect()
    };
    #[rustfmt::skip]
    let table: &[(&str, &[&str])] = &[
        ("",                                                       &["192.0.2.7"]),
        ("[master]\nlisten = '127.0.0.1:5050'",                    &["192.0.2.7"]),
        ("[master]\nlisten = '0.0.0.0:5050'",                      &["192.0.2.7"]),
        ("[master]\nlisten = '192.0.2.8:5050'",                    &["192.0.2.8"]),
        ("roles = ['dns']",                                        &[]),
        ("roles = ['dns']\n[dns]\nmasters = ['10.0.0.2', '10.0.0.1']", &["10.0.0.2", "10.0.0.1"]),
        ("[dns]\nmasters = ['10.0.0.2']",                          &["10.0.0.2"]),
    ];
    for (file, want) in table {
        assert_eq!(masters(file), *want, "{file}");
    }
}

#[test]
fn the_resolver_is_named_where_it_listens() {
    let everywhere = "listen = ['0.0.0.0:53', '192.0.2.7:61053', '192.0.2.8:53']";
    #[rustfmt::skip]
    let table: &[(&str, &[&str])] = &[
        ("addresses = ['127.0.0.53']", &["127.0.0.53"]),
        ("addresses = []",             &["192.0.2.7", "192.0.2.8"]),
    ];
    for (addresses, want) in table {
        let config = load(&format!("[dns]\n{addresses}\n{everywhere}"), &[], &[]);
        let found = config.name_options().resolver_addresses;
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, *want, "{addresses}");
    }
}

#[test]
fn names_are_made_by_what_is_configured() {
    let file = "[dns]\nensemble = ['10.0.0.3']\npublic_addresses = ['192.0.2.9']\n\
        components = { Web = 'web.marathon.mesos', db = ['db.marathon.mesos.'] }";
    let config = load(file, &[], &[]);
    let options = config.name_options();
    assert_eq!(options.ensemble, ["10.0.0.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(options.public_addresses, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
    let components = options.components.iter();
    let components: Vec<_> = components.map(|(name, to)| (name.as_str(), to.as_str())).collect();
    assert_eq!(components, [("db", "db.marathon.mesos"), ("web", "web.marathon.mesos")]);
    assert_eq!(config.difference(&load(&config.to_annotated_toml(), &[], &[])), []);
}
