//! Networks that the operator of a machine brought: CNI configurations in a directory, as
//! Mesos reads those of `--network_cni_config_dir`.

use mizzen_cni_core::list::NetworkList;
use mizzen_types::error::chain;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use tracing::warn;

/// How such files end.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// A file that is no network.
#[derive(Debug, thiserror::Error)]
enum NetworkFileError {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is no JSON")]
    Json(#[from] serde_json::Error),
    #[error("is no network")]
    List(#[from] mizzen_cni_core::list::ListError),
    #[error("its network has no `name`")]
    NoName,
}

/// The networks of `directory` by name; none if it is not there. What is no network is said
/// in the log and left out. Of two with one name the first counts, by the files' names.
pub(crate) fn read(directory: &Path) -> BTreeMap<String, Value> {
    let mut networks = BTreeMap::new();
    for path in files(directory) {
        match read_one(&path) {
            Ok((name, _)) if networks.contains_key(&name) => {
                warn!(path = %path.display(), network = name, "another file has this network");
            }
            Ok((name, configuration)) => {
                networks.insert(name, configuration);
            }
            Err(error) => {
                warn!(path = %path.display(), error = chain(&error), "a network is left out");
            }
        }
    }
    networks
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            warn!(path = %directory.display(), %error, "cannot look for networks");
            return Vec::new();
        }
    };
    let is_network = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        ENDINGS.contains(&ending)
    };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(is_network).collect();
    files.sort();
    files
}

fn read_one(path: &Path) -> Result<(String, Value), NetworkFileError> {
    let configuration: Value = serde_json::from_slice(&fs::read(path)?)?;
    let list = NetworkList::read(&configuration)?;
    match list.name() {
        "" => Err(NetworkFileError::NoName),
        name => Ok((name.to_owned(), configuration)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_from_files_and_others_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("10-web.conflist", r#"{"name":"web","plugins":[{"type":"bridge"}]}"#),
            ("20-old.conf", r#"{"name":"old","type":"macvlan"}"#),
            ("30-web.json", r#"{"name":"web","type":"other"}"#),
            ("40-broken.conf", "{"),
            ("50-empty.conflist", r#"{"name":"empty","plugins":[]}"#),
            ("60-nameless.conf", r#"{"type":"bridge"}"#),
            ("readme.txt", r#"{"name":"readme","type":"bridge"}"#),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let networks = read(directory.path());
        assert_eq!(networks.keys().collect::<Vec<_>>(), ["old", "web"]);
        assert_eq!(networks["web"]["plugins"][0]["type"], "bridge");
        assert!(read(&directory.path().join("nowhere")).is_empty());
    }
}
