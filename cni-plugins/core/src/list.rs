//! Networks of several plugins in a row (`plugins` in a `.conflist`), and of one.
//!
//! The plugins of a list run in order, each with the answer of the one before, and are
//! undone in reverse order. A configuration of one plugin is a list of one, so nobody
//! has to tell them apart.

use serde_json::{Map, Value, json};

use crate::invoke::InvokeError;
use crate::version::SpecVersion;

/// Where a list keeps its plugins.
const PLUGINS: &str = "plugins";
/// What a list says for all of its plugins.
const SHARED: [&str; 2] = ["cniVersion", "name"];
/// The key by which a list says in which other versions its plugins can be told.
const VERSIONS: &str = "cniVersions";
/// The key by which a network says that other runtimes use it as well, of whose
/// containers we know nothing.
const NO_GARBAGE: &str = "disableGC";
/// The capability, and what a runtime tells a plugin that has it.
const PORT_MAPPINGS: &str = "portMappings";

/// A network: its plugins, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkList {
    /// What the list says beside its plugins; `None` if it is a single plugin.
    head: Option<Map<String, Value>>,
    plugins: Vec<Map<String, Value>>,
}

/// Why something is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// It is no JSON object.
    #[error("its configuration is not an object")]
    NotAnObject,
    /// `plugins` is no list, or an empty one.
    #[error("`plugins` is not a list with at least one plugin")]
    NoPlugins,
    /// One of the plugins is no JSON object.
    #[error("plugin {number} of `plugins` is not an object")]
    PluginNotAnObject {
        /// Which one, counted from 1.
        number: usize,
    },
}

impl NetworkList {
    /// Reads a list of plugins or the configuration of one.
    ///
    /// # Errors
    ///
    /// [`ListError`] says what it is instead.
    pub fn read(config: &Value) -> Result<Self, ListError> {
        let config = config.as_object().ok_or(ListError::NotAnObject)?;
        let Some(plugins) = config.get(PLUGINS) else {
            return Ok(Self { head: None, plugins: vec![config.clone()] });
        };
        let plugins = plugins.as_array().filter(|plugins| !plugins.is_empty());
        let plugins = plugins.ok_or(ListError::NoPlugins)?;
        let mut head = config.clone();
        head.remove(PLUGINS);
        if let Some(newest) = newest_version(&head) {
            head.insert(SHARED[0].to_owned(), newest.as_str().into());
        }
        let plugin = |(at, plugin): (usize, &Value)| {
            let number = at + 1;
            let own = plugin.as_object().ok_or(ListError::PluginNotAnObject { number })?;
            let mut plugin = own.clone();
            for key in SHARED {
                plugin.extend(head.get(key).map(|value| (key.to_owned(), value.clone())));
            }
            Ok(plugin)
        };
        let plugins = plugins.iter().enumerate().map(plugin).collect::<Result<_, _>>()?;
        Ok(Self { head: Some(head), plugins })
    }

    /// The network's name; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.whole().and_then(|whole| whole.get("name")?.as_str()).unwrap_or_default()
    }

    /// The plugins in order, each with the whole of its configuration.
    #[must_use]
    pub fn plugins(&self) -> &[Map<String, Value>] {
        &self.plugins
    }

    /// Whether other runtimes use the network as well, so that nobody may call its
    /// attachments garbage (`disableGC`).
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.whole().is_some_and(|whole| whole.get(NO_GARBAGE) == Some(&Value::Bool(true)))
    }

    /// The network as one container is attached to it: `info`, Mesos's `NetworkInfo`,
    /// goes to every plugin under `args["org.apache.mesos"].network_info`, and its port
    /// mappings as `runtimeConfig` to those that have the capability.
    ///
    /// # Errors
    ///
    /// [`InvokeError::ArgsTaken`] if there is no room for Mesos's arguments.
    pub fn for_container(mut self, info: Option<&Value>) -> Result<Self, InvokeError> {
        let Some(info) = info else { return Ok(self) };
        let ports = port_mappings(info);
        for plugin in &mut self.plugins {
            add_mesos_arguments(plugin, info)?;
            if !ports.is_empty() && has_capability(plugin, PORT_MAPPINGS) {
                let wishes = plugin.entry("runtimeConfig").or_insert_with(|| json!({}));
                // What is no object is for the plugin to refuse.
                if let Some(wishes) = wishes.as_object_mut() {
                    wishes.insert(PORT_MAPPINGS.to_owned(), json!(ports));
                }
            }
        }
        Ok(self)
    }

    /// Whether one of the plugins was told to publish ports.
    #[must_use]
    pub fn publishes(&self) -> bool {
        let told = |plugin: &Map<String, Value>| {
            plugin.get("runtimeConfig").is_some_and(|wishes| wishes.get(PORT_MAPPINGS).is_some())
        };
        self.plugins.iter().any(told)
    }

    /// What [`NetworkList::read`] makes this list of again.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match (&self.head, self.plugins.as_slice()) {
            (None, [plugin]) => plugin.clone().into(),
            (head, plugins) => {
                let mut list = head.clone().unwrap_or_default();
                list.insert(PLUGINS.to_owned(), json!(plugins));
                list.into()
            }
        }
    }

    /// What counts for the network and not for one of several plugins.
    fn whole(&self) -> Option<&Map<String, Value>> {
        self.head.as_ref().or_else(|| self.plugins.first())
    }
}

/// The newest version of those that a list names which we speak as well; `None` if it has no
/// list of versions, or none in it that we know.
fn newest_version(head: &Map<String, Value>) -> Option<SpecVersion> {
    let named = head.get(VERSIONS)?.as_array()?.iter().chain(head.get(SHARED[0]));
    named.filter_map(|version| version.as_str()?.parse().ok()).max()
}

/// The ports that a `NetworkInfo` asks for, in the words of CNI.
fn port_mappings(info: &Value) -> Vec<Value> {
    let mappings = info.get("port_mappings").and_then(Value::as_array);
    let entry = |mapping: &Value| {
        let protocol = mapping["protocol"].as_str().unwrap_or("tcp").to_ascii_lowercase();
        let (host, container) = (&mapping["host_port"], &mapping["container_port"]);
        json!({ "hostPort": host, "containerPort": container, "protocol": protocol })
    };
    mappings.into_iter().flatten().map(entry).collect()
}

fn has_capability(plugin: &Map<String, Value>, name: &str) -> bool {
    plugin.get("capabilities").is_some_and(|all| all.get(name) == Some(&Value::Bool(true)))
}

fn add_mesos_arguments(config: &mut Map<String, Value>, info: &Value) -> Result<(), InvokeError> {
    const KEY: &str = "org.apache.mesos";
    let args = config.entry("args").or_insert_with(|| json!({}));
    let args = args.as_object_mut().ok_or(InvokeError::ArgsTaken)?;
    if args.contains_key(KEY) {
        return Err(InvokeError::ArgsTaken);
    }
    args.insert(KEY.into(), json!({ "network_info": info }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "web", "disableGC": true,
            "plugins": [
                { "type": "main", "capabilities": { "ips": true, "portMappings": false } },
                { "type": "ports", "name": "other", "capabilities": { "portMappings": true } },
            ],
        })
    }

    #[test]
    fn plugins_are_of_the_list_and_come_back_from_a_file() {
        let list = NetworkList::read(&chain()).unwrap();
        assert_eq!((list.name(), list.is_shared()), ("web", true));
        for plugin in list.plugins() {
            assert_eq!((&plugin["name"], &plugin["cniVersion"]), (&json!("web"), &json!("1.0.0")));
        }
        assert_eq!(NetworkList::read(&list.to_json()), Ok(list));

        let single = json!({ "cniVersion": "0.4.0", "name": "dcos", "type": "main" });
        let list = NetworkList::read(&single).unwrap();
        assert_eq!((list.name(), list.is_shared(), list.plugins().len()), ("dcos", false, 1));
        assert_eq!(list.to_json(), single);
    }

    #[test]
    fn of_several_versions_plugins_are_told_the_newest_that_we_speak() {
        for (version, versions, want) in [
            (json!("1.0.0"), json!(["0.4.0", "1.0.0", "1.1.0"]), json!("1.1.0")),
            (json!(null), json!(["1.0.0", "0.3.1", "9.0.0"]), json!("1.0.0")),
            (json!("1.0.0"), json!(["0.4.0"]), json!("1.0.0")),
            (json!("0.4.0"), json!([]), json!("0.4.0")),
            (json!("0.4.0"), json!("1.1.0"), json!("0.4.0")),
        ] {
            let mut config = chain();
            (config["cniVersion"], config["cniVersions"]) = (version, versions);
            let list = NetworkList::read(&config).unwrap();
            assert_eq!(list.plugins()[0]["cniVersion"], want, "{config}");
            assert_eq!(NetworkList::read(&list.to_json()), Ok(list));
        }
    }

    #[test]
    fn what_is_no_network_is_named() {
        for (config, want) in [
            (json!("x"), ListError::NotAnObject),
            (json!({ "plugins": {} }), ListError::NoPlugins),
            (json!({ "plugins": [] }), ListError::NoPlugins),
            (json!({ "plugins": [{}, 5] }), ListError::PluginNotAnObject { number: 2 }),
        ] {
            assert_eq!(NetworkList::read(&config), Err(want), "{config}");
        }
    }

    #[test]
    fn ports_go_to_plugins_that_know_what_to_do_with_them() {
        let info = json!({ "name": "web", "port_mappings": [
            { "host_port": 31_000, "container_port": 80 },
            { "host_port": 31_001, "container_port": 53, "protocol": "UDP" } ] });
        let list = NetworkList::read(&chain()).unwrap().for_container(Some(&info)).unwrap();
        let [main, ports] = list.plugins() else { panic!("two plugins") };
        assert_eq!(main.get("runtimeConfig"), None);
        let want = json!([{ "hostPort": 31_000, "containerPort": 80, "protocol": "tcp" },
                          { "hostPort": 31_001, "containerPort": 53, "protocol": "udp" }]);
        assert_eq!(ports["runtimeConfig"]["portMappings"], want);
        assert!(list.publishes());
        for plugin in list.plugins() {
            assert_eq!(plugin["args"]["org.apache.mesos"]["network_info"], info);
        }
        let none = NetworkList::read(&chain()).unwrap().for_container(Some(&json!({}))).unwrap();
        assert_eq!(none.plugins()[1].get("runtimeConfig"), None);
        assert!(!none.publishes());
    }

    #[test]
    fn mesos_arguments_are_merged_and_never_overwritten() {
        let info = json!({ "name": "dcos" });
        let config = json!({ "name": "dcos", "args": { "cni": { "ips": [] } } });
        let list = NetworkList::read(&config).unwrap().for_container(Some(&info)).unwrap();
        assert!(list.plugins()[0]["args"]["cni"].is_object());
        assert!(matches!(list.for_container(Some(&info)), Err(InvokeError::ArgsTaken)));
    }
}
