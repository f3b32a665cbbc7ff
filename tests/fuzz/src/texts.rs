//! Texts that people and tools write.

use mizzen::config::{Config, ConfigFile, Problem, Sources};
use mizzen::fuzzing;
use mizzen_cni_core::config::{IpamConfig, OverlayConfig};
use mizzen_cni_core::ipam::Pool;
use mizzen_cni_core::request;
use mizzen_dns_core::Upstream;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Upstreams as they are configured.
///
/// # Panics
///
/// If one that was read is written as something else.
pub fn upstreams(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for word in text.split([',', '\n']) {
        let Ok(upstream) = word.parse::<Upstream>() else { continue };
        let again = upstream.to_string().parse::<Upstream>();
        assert_eq!(again.ok().as_ref(), Some(&upstream), "{word:?} reads as itself");
    }
}

/// A configuration file of Mesos-DNS.
///
/// # Panics
///
/// If it becomes something that is no TOML.
pub fn import_config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(toml) = fuzzing::import_config(text) else {
        let _ = load(text);
        return;
    };
    if let Err(errors) = load(&toml) {
        let strange = errors
            .iter()
            .find(|error| matches!(error.problem, Problem::Syntax(_) | Problem::Unknown { .. }));
        assert!(strange.is_none(), "{strange:?} in\n{toml}");
    }
}

fn load(text: &str) -> Result<Config, Vec<mizzen::config::ConfigError>> {
    let file = ConfigFile { path: "m.toml".into(), text: text.to_owned() };
    Config::load(&Sources { file: Some(file), ..Sources::default() })
}

/// What a CNI plugin is given: variables, an empty line, and the configuration.
///
/// # Panics
///
/// If something that is read brings the plugin down.
pub fn cni_config(data: &[u8]) {
    let at = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, stdin) = (&data[..at], data.get(at + 2..).unwrap_or_default());
    let head = String::from_utf8_lossy(head);
    let variables = head.lines().filter_map(|line| line.split_once('='));
    let environment: BTreeMap<String, String> =
        variables.map(|(name, value)| (format!("CNI_{name}"), value.to_owned())).collect();
    let _ = request::answer_version(stdin);
    let _ = request::parse(&environment, stdin);
    let Ok(config) = serde_json::from_slice::<Map<String, Value>>(stdin) else { return };
    let _ = OverlayConfig::read(&config);
    if let Ok(ipam) = IpamConfig::read(&config) {
        for ranges in &ipam.sets {
            let pool = Pool::new(ranges);
            if let Ok(address) = pool.choose(&[], None, &BTreeSet::new()) {
                assert!(pool.gives(address), "{address} is not one of {ranges:?}");
                let _ = pool.configuration(address);
            }
        }
    }
    let _ = mizzen_cni_core::config::valid_attachments(&config);
}
