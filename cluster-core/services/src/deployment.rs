//! A deployment: the way of some apps from one version to the next, in steps.
//!
//! Removed apps are stopped first, new ones begin without copies, then apps are
//! scaled or restarted layer by layer, those that others depend on first. The
//! copies themselves are moved by `rolling`; a deployment only says whose turn it
//! is and notices when everything is as wanted.

use crate::app::App;
use crate::app_id::AppId;
use crate::version::Version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most deployments at a time.
pub const MAX_DEPLOYMENTS: usize = 100;

/// What is done to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are Marathon's")]
pub enum ActionKind {
    StartApplication,
    StopApplication,
    ScaleApplication,
    RestartApplication,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// What.
    pub action: ActionKind,
    /// To which app.
    pub app: AppId,
}

/// Actions that go on at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// All of them.
    pub actions: Vec<Action>,
}

/// A deployment under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// A UUID.
    pub id: String,
    /// Version that it leads to.
    pub version: Version,
    /// All steps.
    pub steps: Vec<Step>,
    /// Index of the one that goes on.
    pub current: usize,
    /// What the apps were before; `None` was not there.
    pub originals: BTreeMap<AppId, Option<App>>,
}

impl Deployment {
    /// Whether it changes the app.
    #[must_use]
    pub fn affects(&self, app: &AppId) -> bool {
        self.originals.contains_key(app)
    }

    /// Whether the app's turn is still to come.
    #[must_use]
    pub fn holds_back(&self, app: &AppId) -> bool {
        // Starting an app means to begin without copies, so it is no turn yet.
        let now = self.steps.get(self.current).is_some_and(|step| step.moves(app));
        let later = self.steps.iter().skip(self.current + 1).any(|step| step.moves(app));
        later && !now
    }
}

impl Step {
    fn moves(&self, app: &AppId) -> bool {
        let moves = |action: &Action| action.action != ActionKind::StartApplication;
        self.actions.iter().any(|action| action.app == *app && moves(action))
    }
}

/// The steps from `originals` to `targets`; apps that do not change have none, unless they
/// are `resumed` because an earlier deployment of them was not finished.
///
/// # Errors
///
/// The apps that depend on each other in a circle.
pub fn steps(
    originals: &BTreeMap<AppId, Option<App>>,
    targets: &BTreeMap<AppId, Option<App>>,
    resumed: &BTreeSet<AppId>,
) -> Result<Vec<Step>, Vec<AppId>> {
    let step = |action, apps: Vec<&AppId>| Step {
        actions: apps.into_iter().map(|app| Action { action, app: app.clone() }).collect(),
    };
    let present =
        |apps: &BTreeMap<AppId, Option<App>>, id| apps.get(id).is_some_and(Option::is_some);
    let stopped = originals.keys().filter(|id| present(originals, id) && !present(targets, id));
    let started = targets.keys().filter(|id| present(targets, id) && !present(originals, id));
    let mut steps = vec![
        step(ActionKind::StopApplication, stopped.collect()),
        step(ActionKind::StartApplication, started.collect()),
    ];
    for layer in layers(targets)? {
        let actions = layer.into_iter().filter_map(|app| {
            let original = originals.get(&app.id).and_then(Option::as_ref);
            let changed = action(original, app);
            let resumed = || resumed.contains(&app.id).then_some(ActionKind::RestartApplication);
            Some(Action { action: changed.or_else(resumed)?, app: app.id.clone() })
        });
        steps.push(Step { actions: actions.collect() });
    }
    steps.retain(|step| !step.actions.is_empty());
    Ok(steps)
}

fn action(original: Option<&App>, target: &App) -> Option<ActionKind> {
    let Some(original) = original else { return Some(ActionKind::ScaleApplication) };
    if original.config() != target.config() && target.instances > 0 {
        return Some(ActionKind::RestartApplication);
    }
    let changed = original.instances != target.instances || original.config() != target.config();
    changed.then_some(ActionKind::ScaleApplication)
}

/// Apps by the length of the longest way down to an app without dependencies.
fn layers(targets: &BTreeMap<AppId, Option<App>>) -> Result<Vec<Vec<&App>>, Vec<AppId>> {
    let mut waiting: Vec<&App> = targets.values().flatten().collect();
    let mut done: BTreeSet<&AppId> = BTreeSet::new();
    let mut layers = Vec::new();
    while !waiting.is_empty() {
        let free = |app: &&App| {
            let others = targets.values().flatten().map(|other| &other.id);
            let mut needed = others
                .filter(|other| **other != app.id)
                .filter(|other| app.dependencies.iter().any(|path| other.is_within(path)));
            needed.all(|other| done.contains(other))
        };
        let (layer, rest): (Vec<&App>, Vec<&App>) = waiting.iter().copied().partition(free);
        if layer.is_empty() {
            return Err(rest.iter().map(|app| app.id.clone()).collect());
        }
        done.extend(layer.iter().map(|app| &app.id));
        layers.push(layer);
        waiting = rest;
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::app;
    use serde_json::json;

    type Apps = BTreeMap<AppId, Option<App>>;

    fn apps(list: &[(&str, Option<App>)]) -> Apps {
        let named = |id: &str, app: &Option<App>| {
            let id = AppId::parse(id).unwrap();
            let app = app.clone().map(|app| App { id: id.clone(), ..app });
            (id, app)
        };
        list.iter().map(|(id, app)| named(id, app)).collect()
    }

    fn words(steps: &[Step]) -> String {
        let action = |a: &Action| format!("{:?} {}", a.action, a.app);
        let step = |s: &Step| s.actions.iter().map(action).collect::<Vec<_>>().join(" + ");
        steps.iter().map(step).collect::<Vec<_>>().join("; ").replace("Application", "")
    }

    #[test]
    fn steps_from_here_to_there() {
        let plain = || Some(app(json!({})));
        let more = || Some(app(json!({"instances": 5})));
        let changed = || {
            let mut app = app(json!({}));
            app.version_info.last_config_change_at = "2024-01-01T00:00:00.000Z".parse().unwrap();
            Some(app)
        };
        let on = |path: &str| Some(app(json!({"dependencies": [path]})));
        #[rustfmt::skip]
        let table: &[(&str, Apps, Apps, &str)] = &[
            ("new",       apps(&[("/a", None)]),    apps(&[("/a", plain())]),   "Start /a; Scale /a"),
            ("scaled",    apps(&[("/a", plain())]), apps(&[("/a", more())]),    "Scale /a"),
            ("changed",   apps(&[("/a", plain())]), apps(&[("/a", changed())]), "Restart /a"),
            ("removed",   apps(&[("/a", plain())]), apps(&[("/a", None)]),      "Stop /a"),
            ("unchanged", apps(&[("/a", plain())]), apps(&[("/a", plain())]),   ""),
            ("layers",    apps(&[]), apps(&[("/a", on("/g")), ("/g/b", plain()), ("/g/c", on("/g/b"))]),
                "Start /a + Start /g/b + Start /g/c; Scale /g/b; Scale /g/c; Scale /a"),
        ];
        for (name, from, to, want) in table {
            assert_eq!(words(&steps(from, to, &BTreeSet::new()).unwrap()), *want, "{name}");
        }
        let circle = apps(&[("/a", on("/b")), ("/b", on("/a")), ("/c", plain())]);
        assert_eq!(steps(&apps(&[]), &circle, &BTreeSet::new()).unwrap_err().len(), 2);
    }

    #[test]
    fn an_app_is_held_back_until_its_turn() {
        let steps = steps(
            &apps(&[]),
            &apps(&[
                ("/a", Some(app(json!({"dependencies": ["/b"]})))),
                ("/b", Some(app(json!({})))),
            ]),
            &BTreeSet::new(),
        );
        let mut deployment = Deployment {
            id: "d".to_owned(),
            version: Version::default(),
            steps: steps.unwrap(),
            current: 1,
            originals: apps(&[("/a", None), ("/b", None)]),
        };
        let (a, b) = (AppId::parse("/a").unwrap(), AppId::parse("/b").unwrap());
        assert!(deployment.holds_back(&a) && !deployment.holds_back(&b));
        deployment.current = 2;
        assert!(!deployment.holds_back(&a));
    }
}
