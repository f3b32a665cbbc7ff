//! What containers that are gone left behind in their networks.
//!
//! A reboot empties the run directories, and with them what DEL would need; leases lie
//! on a disk. So the plugins are told which containers there still are.

use crate::cni::{CONFIGURATION, CniError, Networks, read_checkpoint};
use crate::containerizer::Containerizer;
use crate::rundir::{RunDir, is_unreadable};
use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::invoke::{self, Additions, Call, Verb};
use mizzen_cni_core::version::SpecVersion;
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::Path;

/// The version of the specification that has GC, whatever version the configuration of
/// a network is in.
const VERSION: SpecVersion = SpecVersion::V1_1_0;

impl Containerizer {
    /// Has the plugins of every network free the leases and links of containers that are
    /// gone. Every container that has a run directory is kept, whether it runs or not:
    /// what it has is freed by [`destroy`](Self::destroy). Launches wait meanwhile with
    /// their networks. Plugins that do not know how, and networks with `disableGC` in
    /// their configuration, are left out.
    ///
    /// # Errors
    ///
    /// One per network whose plugin failed; the others were asked.
    pub async fn collect_garbage(&self) -> Result<(), Vec<CniError>> {
        self.inner.networks.collect(&self.inner.run_root).await
    }
}

/// What a container was attached to, or is being attached to.
struct Attached {
    key: AttachmentKey,
    /// Name of the network; any if its checkpoint cannot be understood.
    network: Option<String>,
}

impl Networks {
    async fn collect(&self, run_root: &Path) -> Result<(), Vec<CniError>> {
        // A lease that is made after the look at the containers would be taken for garbage.
        let _quiet = self.attaching.write().await;
        let attached = observe_attached(run_root).map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        for network in self.names() {
            if let Err(error) = self.collect_of(&network, &attached).await {
                errors.push(error);
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    async fn collect_of(&self, network: &str, attached: &[Attached]) -> Result<(), CniError> {
        let list = self.list(network)?;
        if list.is_shared() {
            tracing::debug!(network, "other runtimes use it as well");
            return Ok(());
        }
        let valid: Vec<AttachmentKey> = attached
            .iter()
            .filter(|found| found.network.as_deref().is_none_or(|name| name == network))
            .map(|found| found.key.clone())
            .collect();
        let additions = Additions { valid_attachments: Some(&valid), ..Additions::default() };
        // As DEL goes: ports are nobody's before the addresses are that they lead to.
        for plugin in list.plugins().iter().rev() {
            if !self.has_collector(network, plugin).await? {
                tracing::debug!(network, plugin = ?plugin.get("type"), "does not collect garbage");
                continue;
            }
            let mut plugin = plugin.clone();
            plugin.insert("cniVersion".to_owned(), VERSION.as_str().into());
            let input = invoke::standard_input(&plugin, &additions);
            self.run(network, &plugin, &self.call(Verb::Gc), &input).await?;
        }
        Ok(())
    }

    /// Whether a plugin of the network says that it knows the version that has GC. One that
    /// cannot say does not.
    async fn has_collector(
        &self,
        network: &str,
        configuration: &Map<String, Value>,
    ) -> Result<bool, CniError> {
        let input = json!({ "cniVersion": VERSION.as_str() }).to_string();
        let call = self.call(Verb::Version);
        match self.run(network, configuration, &call, input.as_bytes()).await {
            Ok((_, answer)) => Ok(invoke::supports(VERSION, answer.as_bytes())),
            Err(CniError::Invoke { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn call(&self, verb: Verb) -> Call<'_> {
        Call { verb, key: None, netns: None, plugin_path: &self.plugin_dirs, args: "" }
    }
}

/// All attachments of which there is a checkpoint.
fn observe_attached(run_root: &Path) -> Result<Vec<Attached>, CniError> {
    let mut attached = Vec::new();
    for id in names_in(run_root)? {
        let networks = RunDir::new(run_root, &id).networks();
        for ifname in names_in(&networks)? {
            let network = match read_checkpoint(&networks.join(&ifname).join(CONFIGURATION)) {
                Ok(Some(configuration)) => {
                    configuration.get("name").and_then(Value::as_str).map(str::to_owned)
                }
                // An ADD that did not come so far did nothing.
                Ok(None) => continue,
                Err(CniError::Checkpoint { source, .. }) if is_unreadable(&source) => None,
                Err(error) => return Err(error),
            };
            let key = AttachmentKey { container_id: id.clone(), ifname };
            attached.push(Attached { key, network });
        }
    }
    Ok(attached)
}

/// What a directory holds, in order; nothing if it is none.
fn names_in(directory: &Path) -> Result<Vec<String>, CniError> {
    let failed = |source| CniError::Checkpoint { path: directory.to_path_buf(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}
