//! What the master shows, and the machine's own figures beside it.

use super::core::Core;
use super::queries::role_is_off;
use mizzen_http::core::{Order, Query, QueryReply, TasksFilter};
use mizzen_master::view::{Order as MasterOrder, TasksQuery};
use rustix::system::sysinfo;
use serde_json::{Value, json};

impl Core {
    /// Questions to the master.
    pub(crate) fn answer_master(&self, query: Query) -> QueryReply {
        let Some(master) = &self.master else { return role_is_off("master") };
        QueryReply::Json(match query {
            Query::MasterStateSummary => master.state_summary(),
            Query::MasterSlaves { slave_id } => master.slaves(slave_id.as_deref()),
            Query::MasterFrameworks { framework_id } => master.frameworks(framework_id.as_deref()),
            Query::MasterTasks(filter) => master.tasks(&tasks_query(filter)),
            Query::MasterRoles => master.roles(),
            Query::MasterMetrics => with_system(master.metrics()),
            Query::MasterFlags => master.flags(),
            _ => master.state(),
        })
    }
}

/// Adds what every Mesos process says of its machine.
pub(crate) fn with_system(mut metrics: Value) -> Value {
    let info = sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(object) = metrics.as_object_mut() else { return metrics };
    object.insert("system/cpus_total".to_owned(), json!(cpus));
    object.insert("system/mem_total_bytes".to_owned(), json!(info.totalram as u64 * unit));
    object.insert("system/mem_free_bytes".to_owned(), json!(info.freeram as u64 * unit));
    for (name, load) in ["load_1min", "load_5min", "load_15min"].iter().zip(info.loads) {
        // The kernel counts in units of 1/65536.
        object.insert(format!("system/{name}"), json!(load as f64 / 65536.0));
    }
    metrics
}

fn tasks_query(filter: TasksFilter) -> TasksQuery {
    TasksQuery {
        framework_id: filter.framework_id,
        task_id: filter.task_id,
        limit: filter.limit,
        offset: filter.offset,
        order: match filter.order {
            Order::Ascending => MasterOrder::Ascending,
            Order::Descending => MasterOrder::Descending,
        },
    }
}
