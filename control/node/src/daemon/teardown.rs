//! `mizzen node --teardown`: no new connections, tasks ended, everything removed that
//! the node made. What users told it (apps, claims, the agent's id) stays in the
//! state directory; the next start runs the apps again.

use super::build::{containerizer, network_spec, run_root};
use super::overlay::calls::teardown_calls;
use super::overlay::fast_path::teardown_fast_path;
use super::overlay::{kept_grant, teardown_tunnels};
use super::policy::teardown_policy;
use super::resolver::restore_resolv_conf;
use super::successor;
use super::vip_engine::teardown_vips;
use crate::config::Config;
use crate::node::Frame;
use anyhow::bail;
use mizzen_isolators::Containerizer;
use mizzen_kernel::network;
use mizzen_store::Store;
use mizzen_types::error::chain;
use std::path::PathBuf;
use std::time::Duration;
use tracing::{info, warn};

const SIGTERM: i32 = 15;
/// How long tasks have between SIGTERM and the end.
const GRACE: Duration = Duration::from_secs(10);

/// Takes the node down. The state directory's lock is held, so no daemon runs.
///
/// # Errors
///
/// Names everything that is left, after all of it was tried.
pub async fn teardown(config: Config, _frame: Frame) -> anyhow::Result<()> {
    let mut left = Vec::new();
    // First the VIPs: no new connection shall come while tasks end.
    left.extend(teardown_fast_path(&config));
    left.extend(teardown_policy(&config));
    left.extend(teardown_vips(&config));
    match containerizer(&config, None) {
        Ok(containerizer) => left.extend(end_containers(&containerizer).await),
        Err(error) => left.push(format!("{error:#}")),
    }
    // Before the addresses that it names are gone.
    left.extend(restore_resolv_conf(&config));
    successor::end(&config);
    left.extend(teardown_calls(&config));
    left.extend(teardown_tunnels(&config));
    let grant = Store::open(&config.state_dir.join("store.redb")).map_err(anyhow::Error::from);
    let grant = grant.and_then(|store| kept_grant(&store)).unwrap_or_else(|error| {
        left.push(format!("{error:#}"));
        None
    });
    let report = network::remove_network(&network_spec(&config, grant.as_ref(), Vec::new()));
    left.extend(report.errors.iter().map(|error| chain(error)));
    if left.is_empty() {
        // Only now: with them a second try would find what is left.
        left.extend(remove_directories(&config));
    }
    if left.is_empty() {
        info!("nothing of this node is left but its state directory");
        return Ok(());
    }
    bail!("something is left: {}", left.join("; "))
}

fn remove_directories(config: &Config) -> Vec<String> {
    let directories = [config.state_dir.join("tasks"), run_root(config), config.run_dir.clone()];
    let remove = |directory: PathBuf| match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Some(format!("cannot remove {}: {error}", directory.display()))
        }
        _ => None,
    };
    directories.into_iter().filter_map(remove).collect()
}

async fn end_containers(containerizer: &Containerizer) -> Vec<String> {
    let found = match containerizer.recover() {
        Ok(found) => found,
        Err(error) => return vec![format!("cannot look for containers: {error}")],
    };
    let mut ends = tokio::task::JoinSet::new();
    for container in found {
        let containerizer = containerizer.clone();
        ends.spawn(async move { end(&containerizer, &container.id, container.running).await });
    }
    let mut left: Vec<String> = ends.join_all().await.into_iter().flatten().collect();
    if let Err(error) = containerizer.remove_cgroup_root() {
        left.push(chain(&error));
    }
    left
}

async fn end(containerizer: &Containerizer, id: &str, running: bool) -> Vec<String> {
    if running {
        info!(container = id, "ending");
        if let Err(error) = containerizer.signal(id, SIGTERM).await {
            warn!(container = id, error = chain(&error), "cannot ask the container to end");
        }
        if tokio::time::timeout(GRACE, containerizer.wait(id)).await.is_err() {
            warn!(container = id, "did not end in time and is killed");
        }
    }
    match containerizer.destroy(id).await {
        Ok(()) => Vec::new(),
        Err(errors) => errors.iter().map(|error| chain(error)).collect(),
    }
}
