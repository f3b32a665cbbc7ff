//! Networks of containers: CNI plugins, run and remembered.
//!
//! What a plugin is given and what its answer means is decided in `mizzen-cni-core`;
//! here the executables are found, run, and killed when their time is over. The
//! configuration of an ADD is kept in the run directory and used again by DEL, so a
//! network may change, or be forgotten, while containers are attached to it.

use crate::command::{Finished, Overtime, run_bounded};
use crate::rundir::RunDir;
use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::invoke::{self, Additions, Call, InvokeError, Output, Verb};
use mizzen_cni_core::list::{ListError, NetworkList};
use mizzen_cni_core::result::{CniResult, Dns};
use mizzen_files::{Sync, replace};
use rustix::fs::statfs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::{RwLock, Semaphore};

/// How much of each output of a plugin is read, in bytes; the rest is dropped.
const KEEP: usize = 64 * 1024;

/// Plugins that run at one time. The kernel does most of their work for one after the other, so
/// each of hundreds would take as long as all of them, which is longer than it may.
pub(crate) const PLUGINS_AT_ONCE: usize = 16;

/// `PATH` of plugins, some of which run `iptables`.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// File system of a bound namespace: `NSFS_MAGIC` of the kernel.
const NSFS_MAGIC: i64 = 0x6e73_6673;

/// Names of the checkpoints of one interface.
pub(crate) const CONFIGURATION: &str = "network.conf";
const ANSWER: &str = "network.info";

/// A network to attach a container to.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// Mesos' `NetworkInfo` as JSON, which its plugins are told. Its port mappings are
    /// published by the plugin that can.
    pub info: Option<Value>,
}

impl From<&str> for NetworkRequest {
    fn from(name: &str) -> Self {
        Self { name: name.to_owned(), info: None }
    }
}

/// A container's place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// Interface inside the container.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether a plugin publishes the ports of the host that were asked for.
    #[serde(default)]
    pub publishes: bool,
}

/// A network that a container could not be attached to or detached from.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// There is no configuration of that name.
    #[error("there is no network `{network}`")]
    UnknownNetwork {
        /// Name of the network.
        network: String,
    },
    /// Its configuration is none.
    #[error("network `{network}` cannot be used")]
    Configuration {
        /// Name of the network.
        network: String,
        /// What it is instead.
        #[source]
        source: ListError,
    },
    /// No directory has the plugin.
    #[error("plugin `{plugin}` is in none of the plugin directories {directories:?}")]
    NoPlugin {
        /// File name of the plugin.
        plugin: String,
        /// Where it was looked for.
        directories: Vec<PathBuf>,
    },
    /// The plugin could not be run.
    #[error("cannot run plugin {}", plugin.display())]
    Run {
        /// Executable.
        plugin: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The plugin took too long and was killed.
    #[error("plugin `{plugin}` did not finish {verb} within {} ms: {words}", limit.as_millis())]
    Overtime {
        /// File name of the plugin.
        plugin: String,
        /// What it was told to do.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
        /// What it had written to stderr.
        words: String,
    },
    /// The plugin refused, or cannot be asked.
    #[error("network `{network}` is not available")]
    Invoke {
        /// Name of the network.
        network: String,
        /// In the plugin's words.
        #[source]
        source: InvokeError,
    },
    /// A checkpoint could not be written or read.
    #[error("cannot use the checkpoint {}", path.display())]
    Checkpoint {
        /// File.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// A fresh attachment.
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    /// For the container's `/etc/resolv.conf`, if the plugin names servers.
    pub(crate) resolv_conf: Option<String>,
}

/// The networks of a node.
#[derive(Debug)]
pub(crate) struct Networks {
    /// They change while the node runs.
    pub(crate) configurations: std::sync::RwLock<BTreeMap<String, Value>>,
    pub(crate) plugin_dirs: Vec<PathBuf>,
    pub(crate) timeout: Duration,
    /// Turns of plugins, [`PLUGINS_AT_ONCE`].
    pub(crate) turns: Semaphore,
    /// Shared by ADDs; nobody attaches while garbage is collected.
    pub(crate) attaching: RwLock<()>,
}

impl Networks {
    /// Attaches a container to a network, as its interface number `index`.
    pub(crate) async fn add(
        &self,
        run_dir: &RunDir,
        id: &str,
        index: usize,
        request: &NetworkRequest,
    ) -> Result<Attached, CniError> {
        let _attaching = self.attaching.read().await;
        let network = request.name.clone();
        let list = self
            .list(&network)?
            .for_container(request.info.as_ref())
            .map_err(|source| CniError::Invoke { network: network.clone(), source })?;
        // One that is not there could not take back what those before it did, either.
        for plugin in list.plugins() {
            self.executable(&network, plugin)?;
        }
        let key = AttachmentKey { container_id: id.to_owned(), ifname: format!("eth{index}") };
        let place = run_dir.networks().join(&key.ifname);
        // Before ADD: one that is cut short has to be undone as well.
        fs::create_dir_all(&place).map_err(|source| checkpoint(&place, source))?;
        write_checkpoint(&place.join(CONFIGURATION), list.to_json().to_string().as_bytes())?;

        let netns = run_dir.netns();
        let call = Call {
            verb: Verb::Add,
            key: Some(&key),
            netns: Some(&netns),
            plugin_path: &self.plugin_dirs,
            args: "",
        };
        let (result, answer) = self.add_in_order(&network, &list, &call).await?;
        write_checkpoint(&place.join(ANSWER), answer.as_bytes())?;
        let addresses = result.ips.iter().map(|ip| ip.address.addr()).collect();
        let (interface, publishes) = (key.ifname, list.publishes());
        Ok(Attached {
            attachment: Attachment { network, interface, addresses, publishes },
            resolv_conf: resolv_conf(&result.dns),
        })
    }

    /// Runs ADD of each plugin with the answer of the one before; the last answer is the
    /// network's.
    async fn add_in_order(
        &self,
        network: &str,
        list: &NetworkList,
        call: &Call<'_>,
    ) -> Result<(CniResult, String), CniError> {
        let mut last = (CniResult::default(), String::new());
        for plugin in list.plugins() {
            let previous: Option<Value> = serde_json::from_str(&last.1).ok();
            let additions = Additions { prev_result: previous.as_ref(), ..Additions::default() };
            let input = invoke::standard_input(plugin, &additions);
            last = self.run(network, plugin, call, &input).await?;
        }
        Ok(last)
    }

    /// Detaches a container from all its networks, the last one first, as its
    /// checkpoints say. Goes on after a failure; what failed can be tried again.
    pub(crate) async fn remove_all(&self, run_dir: &RunDir, id: &str) -> Result<(), Vec<CniError>> {
        let root = run_dir.networks();
        let mut interfaces: Vec<String> = match fs::read_dir(&root) {
            Ok(entries) => {
                entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(vec![checkpoint(&root, source)]),
        };
        // `eth10` comes after `eth9`.
        interfaces.sort_by_key(|name| std::cmp::Reverse((name.len(), name.clone())));
        let mut errors = Vec::new();
        for interface in interfaces {
            if let Err(error) = self.remove(run_dir, id, &interface).await {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn remove(&self, run_dir: &RunDir, id: &str, interface: &str) -> Result<(), CniError> {
        let place = run_dir.networks().join(interface);
        // An ADD that did not come so far as to have a checkpoint did nothing.
        if let Some(configuration) = read_checkpoint(&place.join(CONFIGURATION))? {
            let list = read_list(interface, &configuration.into())?;
            let answer = read_checkpoint(&place.join(ANSWER))?.map(Value::from);
            let additions = Additions { prev_result: answer.as_ref(), ..Additions::default() };
            let key = AttachmentKey { container_id: id.to_owned(), ifname: interface.to_owned() };
            let netns = run_dir.netns();
            let call = Call {
                verb: Verb::Del,
                key: Some(&key),
                // The empty file of a namespace that is gone would only confuse.
                netns: is_namespace(&netns).then_some(&netns),
                plugin_path: &self.plugin_dirs,
                args: "",
            };
            // In reverse, also past the plugin at which ADD stopped. One that fails keeps
            // those before it: an address is not free while a port leads to it.
            for plugin in list.plugins().iter().rev() {
                let input = invoke::standard_input(plugin, &additions);
                self.run(list.name(), plugin, &call, &input).await?;
            }
        }
        fs::remove_dir_all(&place).map_err(|source| checkpoint(&place, source))
    }

    /// Runs a plugin; returns its answer, read and as it was.
    pub(crate) async fn run(
        &self,
        network: &str,
        configuration: &Map<String, Value>,
        call: &Call<'_>,
        input: &[u8],
    ) -> Result<(CniResult, String), CniError> {
        let invoke = |source| CniError::Invoke { network: network.to_owned(), source };
        let executable = self.executable(network, configuration)?;
        let plugin = invoke::plugin_of(configuration).map_err(invoke)?;
        // Its time begins with its turn. The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let mut command = Command::new(&executable);
        command.env_clear().envs(invoke::environment(call, SEARCH_PATH)).current_dir("/");
        let Finished { status, stdout, stderr } =
            run_bounded(command, input, self.timeout, KEEP, Overtime::KillGroup)
                .await
                .map_err(|source| CniError::Run { plugin: executable, source })?;
        let Some(status) = status else {
            return Err(self.overtime(plugin, call.verb, &stderr));
        };
        let (out, err) = (stdout.as_bytes(), stderr.as_bytes());
        let output = Output { code: status.code(), stdout: out, stderr: err };
        let result = invoke::read_answer(plugin, call.verb, &output).map_err(invoke)?;
        Ok((result, stdout))
    }

    /// Where the plugin of a configuration is.
    fn executable(
        &self,
        network: &str,
        configuration: &Map<String, Value>,
    ) -> Result<PathBuf, CniError> {
        let invoke = |source| CniError::Invoke { network: network.to_owned(), source };
        let plugin = invoke::plugin_of(configuration).map_err(invoke)?;
        let candidates = invoke::candidates(plugin, &self.plugin_dirs).map_err(invoke)?;
        candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| CniError::NoPlugin {
            plugin: plugin.to_owned(),
            directories: self.plugin_dirs.clone(),
        })
    }

    /// The plugins of a network.
    pub(crate) fn list(&self, network: &str) -> Result<NetworkList, CniError> {
        let configurations = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        let configuration = configurations.get(network);
        let unknown = || CniError::UnknownNetwork { network: network.to_owned() };
        read_list(network, configuration.ok_or_else(unknown)?)
    }

    /// Their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let configurations = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        configurations.keys().cloned().collect()
    }

    fn overtime(&self, plugin: &str, verb: Verb, stderr: &str) -> CniError {
        let words: String = stderr.trim().chars().take(400).collect();
        CniError::Overtime {
            plugin: plugin.to_owned(),
            verb: verb.as_str(),
            limit: self.timeout,
            words: if words.is_empty() { "it wrote nothing".to_owned() } else { words },
        }
    }
}

fn resolv_conf(dns: &Dns) -> Option<String> {
    if dns.nameservers.is_empty() {
        return None;
    }
    let mut lines: Vec<String> =
        dns.nameservers.iter().map(|server| format!("nameserver {server}")).collect();
    lines.extend(dns.domain.as_ref().map(|domain| format!("domain {domain}")));
    for (word, values) in [("search", &dns.search), ("options", &dns.options)] {
        if !values.is_empty() {
            lines.push(format!("{word} {}", values.join(" ")));
        }
    }
    Some(lines.join("\n") + "\n")
}

fn read_list(network: &str, configuration: &Value) -> Result<NetworkList, CniError> {
    NetworkList::read(configuration)
        .map_err(|source| CniError::Configuration { network: network.to_owned(), source })
}

fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.f_type == NSFS_MAGIC)
}

/// What a checkpoint says; `None` if there is none.
pub(crate) fn read_checkpoint(path: &Path) -> Result<Option<Map<String, Value>>, CniError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(checkpoint(path, source)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| checkpoint(path, error.into()))
}

fn write_checkpoint(path: &Path, content: &[u8]) -> Result<(), CniError> {
    replace(path, content, 0o644, Sync::Disk).map_err(|error| checkpoint(path, error.source))
}

fn checkpoint(path: &Path, source: io::Error) -> CniError {
    CniError::Checkpoint { path: path.to_path_buf(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_a_plugin_become_a_file() {
        assert_eq!(resolv_conf(&Dns::default()), None);
        let text = |text: &str| vec![text.to_owned()];
        let dns = Dns {
            nameservers: text("198.51.100.1"),
            domain: None,
            search: text("mesos"),
            options: text("ndots:2"),
        };
        let want = "nameserver 198.51.100.1\nsearch mesos\noptions ndots:2\n";
        assert_eq!(resolv_conf(&dns).as_deref(), Some(want));
    }
}
