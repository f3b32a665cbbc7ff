//! What the scheduler is told once, at its start.

use std::collections::BTreeSet;
use std::time::Duration;

/// Settings of the scheduler.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Name of the framework; part of every name and VIP of its tasks.
    pub framework_name: String,
    /// User that tasks run as unless their app says otherwise.
    pub user: String,
    /// Name of the machine that it runs on.
    pub hostname: String,
    /// Address of the HTTP interface as clients see it, for `/v2/info` and `/v2/leader`.
    pub http_port: u16,
    /// Role under which it asks for resources.
    pub role: String,
    /// How long the master keeps its tasks when it is away.
    pub failover_timeout: Duration,
    /// Network of apps that ask for one without naming it.
    pub default_network: String,
    /// Networks that containers can be attached to; `None` if that is not known here.
    pub networks: Option<BTreeSet<String>>,
    /// Network of apps in mode `container/bridge`.
    pub bridge_network: String,
    /// Service ports that may be given away, both ends included.
    pub service_ports: (u16, u16),
    /// Time between two questions to the master about every task.
    pub reconcile_interval: Duration,
    /// How long agents may take to come back after a subscription; until then, a task
    /// that the master does not know is not given up.
    pub return_timeout: Duration,
    /// How long a task may take to run before it is ended and tried anew.
    pub staging_timeout: Duration,
    /// Time before a kill is repeated; it doubles with every repetition.
    pub kill_retry: Duration,
    /// How long an offer that fits nobody is declined for, in seconds.
    pub refuse_waiting: f64,
    /// The same while nothing waits; asking anew ends it at once.
    pub refuse_idle: f64,
    /// Older versions that are kept of each app.
    pub max_versions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            framework_name: "marathon".to_owned(),
            user: "root".to_owned(),
            hostname: "localhost".to_owned(),
            http_port: 8080,
            role: "*".to_owned(),
            failover_timeout: Duration::from_secs(604_800),
            default_network: "dcos".to_owned(),
            networks: None,
            bridge_network: "mesos-bridge".to_owned(),
            service_ports: (10_000, 20_000),
            reconcile_interval: Duration::from_secs(600),
            return_timeout: Duration::from_secs(60),
            staging_timeout: Duration::from_secs(300),
            kill_retry: Duration::from_secs(10),
            refuse_waiting: 5.0,
            refuse_idle: 3600.0,
            max_versions: 50,
        }
    }
}
