//! What the scheduler says about itself.

use super::Reply;
use crate::instance::Condition;
use crate::scheduler::Services;
use serde_json::{Value, json};

const VERSION: &str = "1.11.24";

impl Services {
    pub(super) fn leader(&self) -> String {
        format!("{}:{}", self.settings.hostname, self.settings.http_port)
    }

    pub(super) fn leader_reply(&self) -> Reply {
        Reply::json(200, json!({"leader": self.leader()}))
    }

    pub(super) fn info(&self) -> Reply {
        let settings = &self.settings;
        let millis =
            |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Reply::json(
            200,
            json!({
                "name": settings.framework_name,
                "version": VERSION,
                "buildref": "mizzen",
                "elected": true,
                "leader": self.leader(),
                "frameworkId": self.framework,
                "marathon_config": {
                    "checkpoint": true,
                    "executor": "//cmd",
                    "failover_timeout": settings.failover_timeout.as_secs(),
                    "framework_name": settings.framework_name,
                    "ha": false,
                    "hostname": settings.hostname,
                    "local_port_min": settings.service_ports.0,
                    "local_port_max": settings.service_ports.1,
                    "default_network_name": settings.default_network,
                    "mesos_bridge_name": settings.bridge_network,
                    "mesos_role": settings.role,
                    "mesos_user": settings.user,
                    "reconciliation_interval": millis(settings.reconcile_interval),
                    "task_launch_timeout": millis(settings.staging_timeout),
                    "features": [],
                },
                "zookeeper_config": {},
                "http_config": {"http_port": settings.http_port},
            }),
        )
    }

    pub(super) fn metrics(&self) -> Reply {
        let copies = || self.services.values().flat_map(|service| service.instances.values());
        let running = copies().filter(|copy| copy.condition == Condition::Running).count();
        let staged = copies()
            .filter(|copy| matches!(copy.condition, Condition::Staging | Condition::Starting))
            .count();
        let waiting = self.services.values().filter(|service| service.queue.is_some()).count();
        let gauge = |value: usize| -> Value { json!({"value": value}) };
        Reply::json(
            200,
            json!({
                "version": "4.0.0",
                "counters": {},
                "gauges": {
                    "marathon.apps.active.gauge": gauge(self.apps().count()),
                    "marathon.deployments.active.gauge": gauge(self.deployments.len()),
                    "marathon.instances.running.gauge": gauge(running),
                    "marathon.instances.staged.gauge": gauge(staged),
                    "mizzen_services_waiting_apps": gauge(waiting),
                },
                "histograms": {},
                "meters": {},
                "timers": {},
            }),
        )
    }
}
