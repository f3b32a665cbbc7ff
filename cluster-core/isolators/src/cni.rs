//! Networks of containers: CNI plugins, run and remembered.
//!
//! What a plugin is given and what its answer means is decided in `mizzen-cni-core`;
//! here the executable is found, run, and killed when its time is over. The
//! configuration of an ADD is kept in the run directory and used again by DEL, so a
//! network may change, or be forgotten, while containers are attached to it.

use crate::command::{Finished, Overtime, run_bounded};
use crate::rundir::{RunDir, write_atomically};
use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::invoke::{self, Additions, Call, InvokeError, Output, Verb};
use mizzen_cni_core::result::{CniResult, Dns};
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
use tokio::sync::RwLock;

/// How much of each output of a plugin is read, in bytes; the rest is dropped.
const KEEP: usize = 64 * 1024;

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
    /// Mesos' `NetworkInfo` as JSON, which its plugin is told.
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
    /// Its configuration is not a JSON object.
    #[error("the configuration of network `{network}` is not an object")]
    NotAnObject {
        /// Name of the network.
        network: String,
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
        let configuration = self.configuration(&network)?;
        let additions =
            Additions { mesos_network_info: request.info.as_ref(), ..Additions::default() };
        let input = invoke::standard_input(&configuration, &additions)
            .map_err(|source| CniError::Invoke { network: network.clone(), source })?;
        let key = AttachmentKey { container_id: id.to_owned(), ifname: format!("eth{index}") };
        let place = run_dir.networks().join(&key.ifname);
        // Before ADD: one that is cut short has to be undone as well.
        fs::create_dir_all(&place).map_err(|source| checkpoint(&place, source))?;
        write_checkpoint(&place.join(CONFIGURATION), &input)?;

        let netns = run_dir.netns();
        let call = Call {
            verb: Verb::Add,
            key: Some(&key),
            netns: Some(&netns),
            plugin_path: &self.plugin_dirs,
            args: "",
        };
        let (result, answer) = self.run(&network, &configuration, &call, &input).await?;
        write_checkpoint(&place.join(ANSWER), answer.as_bytes())?;
        let addresses = result.ips.iter().map(|ip| ip.address.addr()).collect();
        Ok(Attached {
            attachment: Attachment { network, interface: key.ifname, addresses },
            resolv_conf: resolv_conf(&result.dns),
        })
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
            let network =
                configuration.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let answer = read_checkpoint(&place.join(ANSWER))?.map(Value::from);
            let additions = Additions { prev_result: answer.as_ref(), ..Additions::default() };
            let input = invoke::standard_input(&configuration, &additions)
                .map_err(|source| CniError::Invoke { network: network.clone(), source })?;
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
            self.run(&network, &configuration, &call, &input).await?;
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
        let plugin = invoke::plugin_of(configuration).map_err(invoke)?;
        let executable = invoke::candidates(plugin, &self.plugin_dirs)
            .map_err(invoke)?
            .into_iter()
            .find(|path| path.is_file())
            .ok_or_else(|| CniError::NoPlugin {
                plugin: plugin.to_owned(),
                directories: self.plugin_dirs.clone(),
            })?;
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

    pub(crate) fn configuration(&self, network: &str) -> Result<Map<String, Value>, CniError> {
        let name = || network.to_owned();
        let configurations = self.configurations.read().unwrap_or_else(PoisonError::into_inner);
        configurations
            .get(network)
            .ok_or_else(|| CniError::UnknownNetwork { network: name() })?
            .as_object()
            .cloned()
            .ok_or_else(|| CniError::NotAnObject { network: name() })
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
    write_atomically(path, content).map_err(|source| checkpoint(path, source))
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
