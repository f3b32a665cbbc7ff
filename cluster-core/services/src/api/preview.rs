//! What running a definition would do to an app's copies, without doing it.

use super::read::Query;
use crate::app::{App, NetworkMode, normal};
use crate::app_id::AppId;
use crate::instance::Goal;
use crate::problem::Refusal;
use crate::rolling;
use crate::scheduler::Services;
use crate::task::discovery;
use crate::task::ports::{self, AssignedPort, HostPort};
use mizzen_api::v1;
use mizzen_types::random::Dice;
use mizzen_types::time::Now;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What would become of one app.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    /// Its id.
    pub app: AppId,
    /// Tasks that would end.
    pub ends: Vec<String>,
    /// How many would be started.
    pub starts: u32,
    /// What each of these would announce. A port that only its agent will know is 0.
    pub discovery: v1::DiscoveryInfo,
    /// Host ports of each of these, 0 for those that only its agent will know.
    pub host_ports: Vec<u16>,
    /// Labels of each of these.
    pub labels: BTreeMap<String, String>,
    /// The network of each of these.
    pub network: NetworkMode,
}

impl Services {
    /// What would become of the apps of a definition, or of a list of them, if they were
    /// run: made where they do not exist, changed by what is given where they do.
    ///
    /// # Errors
    ///
    /// The [`Refusal`] that running it would meet.
    pub fn preview(&self, definition: &Value, now: Now) -> Result<Vec<Preview>, Refusal> {
        let all = match definition {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        all.iter().map(|definition| self.preview_app(definition, now)).collect()
    }

    fn preview_app(&self, definition: &Value, now: Now) -> Result<Preview, Refusal> {
        let Value::Object(members) = definition else {
            return Err(Refusal::invalid("/", "must be an object"));
        };
        let id = members.get("id").and_then(Value::as_str).unwrap_or_default();
        let id = AppId::parse(id).map_err(|error| Refusal::invalid("/id", error.to_string()))?;
        let mut app = self.updated(&id, members.clone(), &Query::read(""))?;
        let old = self.app(&id);
        let taken: BTreeSet<u16> = self.apps().flat_map(App::service_ports).collect();
        normal::assign_service_ports(&mut app, old, &taken, &self.settings);
        let (ends, starts) = self.moves(&app, old, now);
        let ports = assigned(&app);
        Ok(Preview {
            ends,
            starts,
            discovery: discovery::info(&app, &ports),
            host_ports: ports.iter().filter_map(|port| port.host).collect(),
            labels: app.labels.clone(),
            network: app.network_mode(),
            app: id,
        })
    }

    /// A change of anything but the number of copies replaces all of them.
    fn moves(&self, app: &App, old: Option<&App>, now: Now) -> (Vec<String>, u32) {
        let Some(service) = self.services.get(&app.id) else { return (Vec::new(), app.instances) };
        if let Some(old) = old.filter(|old| old.same_config(app)) {
            let scaled = App { instances: app.instances, ..old.clone() };
            let plan = rolling::plan(Some(&scaled), service.instances.values(), now.mono);
            return (plan.kill, plan.start);
        }
        let wanted = service.instances.values().filter(|copy| copy.goal == Goal::Run);
        (wanted.map(|copy| copy.task_id.clone()).collect(), app.instances)
    }
}

fn assigned(app: &App) -> Vec<AssignedPort> {
    let wanted = ports::wanted(app);
    let on_host: Vec<u16> = wanted
        .iter()
        .filter_map(|port| match port.host {
            HostPort::None => None,
            HostPort::Any => Some(0),
            HostPort::Exact(number) => Some(number),
        })
        .collect();
    let mut ports = ports::assign(wanted, &on_host, &mut Dice::new(0));
    // A container port that nobody named is made up anew for each copy.
    for port in ports.iter_mut().filter(|port| port.requested == 0) {
        port.container = port.container.map(|_| port.host.unwrap_or(0));
    }
    ports
}

#[cfg(test)]
mod tests {
    use crate::scheduler::Services;
    use crate::settings::Settings;
    use mizzen_types::time::{Mono, Now, Wall};
    use serde_json::json;

    #[test]
    fn an_app_that_is_not_there_would_start_all_of_its_copies() {
        let now = Now { mono: Mono(0), wall: Wall(0) };
        let services = Services::new(Settings::default(), Vec::new(), 1, now).unwrap();
        let web = json!({
            "id": "/web", "cmd": "sleep 1", "instances": 3,
            "portDefinitions": [{"port": 0, "labels": {"VIP_0": "/web:80"}}],
        });
        let previews = services.preview(&json!([web]), now).unwrap();
        assert_eq!((previews[0].starts, previews[0].ends.len()), (3, 0));
        let ports = &previews[0].discovery.ports.as_ref().unwrap().ports;
        assert_eq!((ports.len(), ports[0].number), (1, 0), "only the agent will know it");
        assert_eq!(previews[0].host_ports, [0]);
        let refusal = services.preview(&json!({"id": "/web", "cpus": -1}), now).unwrap_err();
        assert_eq!(refusal.status(), 422);
        assert_eq!(services.preview(&json!([]), now), Ok(Vec::new()));
    }
}
