//! A host with a network configuration, and a runtime's calls of the plugins on it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use mizzen_cni_core::portmap::{DEFAULT_TABLE, PortRecord, RECORD_LOCK, record_directory};
use mizzen_netlink::{LinkState, namespace_name};
use serde_json::{Value, json};
use tempfile::TempDir;

use mizzen_tests_support::namespace::Namespace;

pub const OVERLAY: &str = env!("CARGO_BIN_EXE_mizzen-overlay");
pub const IPAM: &str = env!("CARGO_BIN_EXE_mizzen-ipam");
pub const PORTMAP: &str = env!("CARGO_BIN_EXE_mizzen-portmap");

/// Where Debian has the plugins of the CNI project (`packaging/setup.sh`).
pub const DEBIAN: &str = "/usr/lib/cni";

/// A host with its network configuration.
pub struct Host {
    pub namespace: Namespace,
    pub dir: TempDir,
    pub config: Value,
}

pub struct Answer {
    pub success: bool,
    pub json: Value,
}

/// What a call is about.
pub struct Container<'a> {
    pub id: &'a str,
    pub netns: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay",
            "bridge": "m-dcos", "mtu": 1420, "hairpinMode": true, "isGateway": true,
            "ipam": { "type": "mizzen-ipam", "subnet": "9.0.5.0/25",
                      "dataDir": dir.path(), "routes": [{ "dst": "0.0.0.0/0" }] },
            "dns": { "nameservers": ["198.51.100.1"] },
        });
        Self { namespace: Namespace::new(), dir, config }
    }

    pub fn command(&self, plugin: &str, verb: &str, container: &Container) -> Command {
        let mut command = Command::new(plugin);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container.id)
            .env("CNI_NETNS", &container.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", format!("{}:{DEBIAN}", self.dir.path().display()))
            // Debian's plugins run `iptables`.
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the command in the host's namespace and gives it its input.
    pub fn start(&self, mut command: Command, stdin: &[u8]) -> Child {
        let mut child = self.namespace.run(|| command.spawn().unwrap());
        let _ = child.stdin.take().unwrap().write_all(stdin);
        child
    }

    pub fn finish(&self, command: Command, stdin: &[u8]) -> Answer {
        let output = self.start(command, stdin).wait_with_output().unwrap();
        let json = match output.stdout.as_slice() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).unwrap(),
        };
        Answer { success: output.status.success(), json }
    }

    pub fn call(&self, verb: &str, container: &Container) -> Answer {
        self.call_with(verb, container, &self.config)
    }

    pub fn call_with(&self, verb: &str, container: &Container, config: &Value) -> Answer {
        self.finish(self.command(OVERLAY, verb, container), config.to_string().as_bytes())
    }

    pub fn add(&self, id: &str, namespace: &Namespace) -> Value {
        self.call("ADD", &container(id, namespace)).result()
    }

    pub fn check(&self, id: &str, namespace: &Namespace, result: &Value) -> Answer {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        self.call_with("CHECK", &container(id, namespace), &config)
    }

    pub fn leases(&self) -> BTreeSet<IpAddr> {
        let Ok(files) = std::fs::read_dir(self.dir.path().join("dcos")) else {
            return BTreeSet::new();
        };
        files.filter_map(|file| file.unwrap().file_name().to_str()?.parse().ok()).collect()
    }

    /// Containers with a record of published ports.
    pub fn port_records(&self) -> BTreeSet<String> {
        let place = self.namespace.run(|| namespace_name().unwrap());
        let records = record_directory(self.dir.path(), &place, DEFAULT_TABLE);
        let files = std::fs::read_dir(records).into_iter().flatten().map(|file| file.unwrap());
        let records = files.filter(|file| file.file_name() != RECORD_LOCK);
        let read = |path: PathBuf| -> PortRecord {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        records.map(|file| read(file.path()).container_id).collect()
    }

    /// The host's ends of pairs.
    pub fn pairs(&self) -> Vec<LinkState> {
        let links = self.namespace.netlink().observe_links().unwrap();
        links.into_iter().filter(|link| link.kind.as_deref() == Some("veth")).collect()
    }

    pub fn assert_nothing_left(&self, what: &str) {
        assert_eq!(self.leases(), BTreeSet::new(), "{what}");
        assert_eq!(self.pairs(), [], "{what}");
        let files = std::fs::read_dir(self.dir.path().join("dcos"));
        let drafts = files.into_iter().flatten().filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            [".new-", ".of-"].iter().any(|start| name.to_string_lossy().starts_with(start))
        });
        assert_eq!(drafts.count(), 0, "{what}");
    }
}

impl Answer {
    pub fn result(self) -> Value {
        assert!(self.success, "{}", self.json);
        self.json
    }

    pub fn refusal(self, code: u32) -> String {
        assert!(!self.success, "{}", self.json);
        assert_eq!(self.json["code"], code, "{}", self.json);
        assert!(self.json["cniVersion"].is_string(), "{}", self.json);
        format!("{} {}", self.json["msg"], self.json["details"])
    }
}

pub fn container<'a>(id: &'a str, namespace: &Namespace) -> Container<'a> {
    Container { id, netns: namespace.path() }
}

pub fn address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split('/').next().unwrap().parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The `ip` tool inside a namespace, for the kinds of links that only tests need.
pub fn ip_tool(namespace: &Namespace, arguments: &str) {
    let run = || Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    let output = namespace.run(run);
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Calls one plugin of a chain: `config` with the name and version of the host's network.
pub fn chained(
    host: &Host,
    plugin: &str,
    verb: &str,
    container: &Container,
    config: &Value,
) -> Answer {
    let mut config = config.clone();
    for key in ["cniVersion", "name"] {
        config[key] = host.config[key].clone();
    }
    if plugin == PORTMAP {
        config["dataDir"] = json!(host.dir.path());
    }
    host.finish(host.command(plugin, verb, container), config.to_string().as_bytes())
}
