//! Who an address belongs to, as far as policies ask.

use ipnet::IpNet;
use mizzen_types::fact::TaskFact;
use mizzen_types::policy::{ANY_OVERLAY, Entity, Selector};
use std::collections::BTreeMap;

/// What kind of owner an address has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Nobody of the cluster.
    World,
    /// This node.
    Host,
    /// Another node.
    Node,
    /// A container, or an address of an overlay that nobody is known to have.
    Container,
    /// An address of this node's blocks that nobody is known to have: it may be that of a guarded
    /// container which is about to start.
    Pending,
}

/// The owner of some addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) kind: Kind,
    /// Its overlay, if it is in one.
    pub(super) overlay: Option<&'a str>,
    /// Its addresses; one of them is enough for a selector.
    pub(super) networks: &'a [IpNet],
    /// The task, if it is one.
    pub(super) task: Option<&'a Task>,
}

/// A task with addresses of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    /// Its id.
    pub(super) id: String,
    name: String,
    /// The app that it is an instance of, without the first `/`.
    app: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Task {
    pub(super) fn new(fact: &TaskFact) -> Self {
        let id = fact.task_id.as_str().to_owned();
        // Ids of apps have no `_`, which stands for `/` in those of tasks.
        let app = id.rsplit_once(".instance-").map(|(app, _)| app.replace('_', "/"));
        Self { name: fact.name.clone(), app, labels: fact.labels.clone(), id }
    }

    /// Whether it, or its app, is called so.
    pub(super) fn is_called(&self, name: &str) -> bool {
        let wanted = name.strip_prefix('/').unwrap_or(name);
        let fits = |own: &str| match wanted.strip_suffix('*') {
            Some(stem) => own.starts_with(stem),
            None => own == wanted,
        };
        fits(&self.name) || self.app.as_deref().is_some_and(fits)
    }
}

impl Subject<'_> {
    /// Whether all parts of a selector hold for it.
    pub(super) fn is_meant(&self, selector: &Selector) -> bool {
        let Selector { overlay, labels, name, address, entity } = selector;
        let overlay_holds = match (overlay.as_deref(), self.overlay) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(own)) => wanted == ANY_OVERLAY || wanted == own,
        };
        overlay_holds
            && address.is_none_or(|wanted| self.networks.iter().any(|own| wanted.contains(own)))
            && entity.is_none_or(|entity| self.is_entity(entity))
            && self.has_labels(labels)
            && name.as_deref().is_none_or(|name| self.task.is_some_and(|task| task.is_called(name)))
    }

    fn is_entity(&self, entity: Entity) -> bool {
        match entity {
            Entity::Host => matches!(self.kind, Kind::Host | Kind::Node),
            Entity::World => self.kind == Kind::World,
        }
    }

    fn has_labels(&self, wanted: &BTreeMap<String, String>) -> bool {
        let has =
            |task: &Task| wanted.iter().all(|(key, value)| task.labels.get(key) == Some(value));
        wanted.is_empty() || self.task.is_some_and(has)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use mizzen_types::fact::{Health, Reach, TaskPhase};
    use mizzen_types::time::Wall;

    /// A task of the service scheduler: `shop/db` with labels, at these addresses.
    pub(in crate::policy) fn task(app: &str, labels: &[(&str, &str)], at: &[&str]) -> TaskFact {
        let id = format!("{}.instance-{}._app.1", app.replace('/', "_"), at.join("-"));
        TaskFact {
            task_id: id.as_str().into(),
            framework_id: "f".into(),
            framework_name: "marathon".into(),
            agent_id: "a".into(),
            container_id: "c".into(),
            name: app.rsplit('/').collect::<Vec<_>>().join("."),
            discovery_name: None,
            phase: TaskPhase::Running,
            health: Health::Unchecked,
            host_address: [192, 0, 2, 1].into(),
            container_addresses: at.iter().map(|address| address.parse().unwrap()).collect(),
            container_reach: Reach::Cluster,
            host_ports: Vec::new(),
            ports: Vec::new(),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            launched: Wall(0),
        }
    }

    #[test]
    fn all_parts_of_a_selector_have_to_hold() {
        let task = Task::new(&task("shop/db", &[("app", "db"), ("tier", "1")], &["9.0.0.2"]));
        let own = ["9.0.0.2/32".parse().unwrap()];
        let container = Subject {
            kind: Kind::Container,
            overlay: Some("dcos"),
            networks: &own,
            task: Some(&task),
        };
        let world = Subject { kind: Kind::World, overlay: None, networks: &[], task: None };
        #[rustfmt::skip]
        let table = [
            ("{}",                                            true,  true),
            (r#"{"overlay":"dcos"}"#,                         true,  false),
            (r#"{"overlay":"*"}"#,                            true,  false),
            (r#"{"overlay":"web"}"#,                          false, false),
            (r#"{"labels":{"app":"db"}}"#,                    true,  false),
            (r#"{"labels":{"app":"db","tier":"2"}}"#,         false, false),
            (r#"{"overlay":"dcos","labels":{"app":"web"}}"#,  false, false),
            (r#"{"name":"shop/db"}"#,                         true,  false),
            (r#"{"name":"/shop/*"}"#,                         true,  false),
            (r#"{"name":"db.shop"}"#,                         true,  false),
            (r#"{"name":"db"}"#,                              false, false),
            (r#"{"address":"9.0.0.0/8"}"#,                    true,  false),
            (r#"{"address":"::/0"}"#,                         false, false),
            (r#"{"entity":"world"}"#,                         false, true),
            (r#"{"entity":"host"}"#,                          false, false),
        ];
        for (text, container_meant, world_meant) in table {
            let selector: Selector = serde_json::from_str(text).unwrap();
            assert_eq!(container.is_meant(&selector), container_meant, "{text}");
            assert_eq!(world.is_meant(&selector), world_meant, "{text}");
        }
    }
}
