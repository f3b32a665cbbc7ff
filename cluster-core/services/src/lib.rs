//! The built-in service scheduler: a framework like any other, which keeps the
//! copies of Marathon apps running.
//!
//! [`Services`] is a value without clock, socket or file. It takes in the events of
//! its subscription at the master ([`Services::handle_event`]), requests of clients
//! ([`Services::handle_request`]) and time, and gives out [`Effect`]s: records to
//! write down, then calls to send.
//!
//! ```text
//! api/ ── Marathon's interface        app/, validation ── what an app is
//! scheduler/ ── events, launches, deployments of Services
//! rolling, deployment, backoff, instance ── one decision each, pure functions
//! offer/ ── taking from offers        task/ ── what an agent is told
//! why ── the sentence for whoever waits
//! ```

pub mod api;
pub mod app;
pub mod app_id;
mod backoff;
pub mod deployment;
pub mod instance;
mod offer;
pub mod problem;
pub mod rolling;
mod scheduler;
mod service;
mod settings;
mod store;
mod task;
#[cfg(test)]
mod testing;
pub mod validation;
pub mod version;
pub mod why;

pub use api::{Body, Preview, Reply, Request};
pub use scheduler::{Effect, Services};
pub use settings::Settings;
pub use store::SavedStateError;
