//! The daemon: what a node is made of, how it starts, and how it is taken down.
//!
//! `build` makes every part, top to bottom; `core` is the loop in which they meet; the
//! other modules are what the loop does for one part each.

mod agent;
mod asking;
mod build;
mod checkpoints;
mod clock;
mod cluster;
mod core;
mod credentials;
mod dns_records;
mod executables;
mod explained;
mod facts;
mod files;
mod forwarded;
mod health;
mod input;
mod kept;
mod leaving;
mod links;
mod lookups;
mod master_views;
mod members;
mod name_lists;
pub(crate) mod name_loading;
pub(crate) mod name_memory;
mod name_metrics;
pub(crate) mod name_records;
mod name_views;
mod names;
mod network_files;
mod overlay;
mod policy;
mod problems;
mod queries;
mod replies;
pub(crate) mod resolv_conf;
mod resolver;
mod sandbox;
mod saves;
mod serials;
mod services;
mod signals;
mod status;
mod streams;
mod successor;
mod task_pages;
mod teardown;
mod vip_engine;
mod vip_links;
mod vip_part;
mod vip_plan;
mod vip_services;
mod vip_views;

use crate::config::Config;
use crate::node::{Frame, Joining};
use crate::notify::{Notice, notify, watchdog_interval};
use anyhow::Context;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::info;

pub(crate) use build::{listener_settings, mark};
pub use successor::hold_sockets;
pub use teardown::teardown;

/// The listeners while they serve.
pub(crate) struct Serving {
    /// Dropped to let them close.
    close: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Runs the node until it is told to stop. Tasks and connections go on afterwards.
///
/// # Errors
///
/// What stood in the way of starting.
pub async fn run(config: Config, frame: Frame, joining: &Joining) -> anyhow::Result<()> {
    let mut signals =
        signals::Signals::listen(watchdog_interval()).context("cannot listen for signals")?;
    let built = tokio::select! {
        built = build::build(config, frame, joining) => built?,
        // A cluster that does not answer is waited for.
        () = signals.stop() => {
            info!("stopped before it was ready");
            return Ok(());
        }
    };
    let (mut core, parts) = (built.core, built.parts);
    let (close, closed) = oneshot::channel::<()>();
    let serving = tokio::spawn(parts.listeners.serve(parts.handle, async move {
        // Told or dropped, the listeners are to close.
        let _ = closed.await;
    }));
    let serving = Serving { close: Some(close), task: serving };
    core.settle();
    notify(Notice::Ready);
    info!(ready_ms = clock::now().mono.since(core.started.mono).as_millis() as u64, "ready");

    core.run(parts.inputs, parts.requests, parts.arrivals, signals, serving).await;
    core.names.save(clock::now().wall);
    if let Some(problem) = resolver::restore_resolv_conf(&core.config) {
        tracing::warn!(problem);
    }
    info!("stopped; tasks and connections go on");
    Ok(())
}
