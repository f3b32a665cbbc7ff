//! `mizzen cni`: our plugins and a network for other runtimes, in the usual places.

use crate::args::{CniCommand, CniInstallArgs, CniPlaces};
use crate::cli::CliError;
use mizzen_cni_core::report::PLUGINS;
use mizzen_cni_core::version::SpecVersion;
use mizzen_files::{Sync, replace};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where runtimes look first, and where Debian has its plugins.
const BIN_DIRS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// Something that could not be put in its place, or removed from it.
#[derive(Debug, thiserror::Error)]
pub enum CniInstallError {
    /// The system would not.
    #[error("cannot {request} {}", path.display())]
    File {
        /// What was asked.
        request: &'static str,
        /// Of which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The name is no file name.
    #[error(
        "`{name}` cannot be the name of a network: letters, digits, `.`, `_` and `-`, the first a letter or digit"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A network of that name is somebody else's.
    #[error("{} is not ours; choose another --name", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// Installs or removes, and says what.
pub(super) fn run(command: &CniCommand) -> Result<(), CliError> {
    let done = match command {
        CniCommand::Install(args) => install(args),
        CniCommand::Uninstall(places) => uninstall(places),
    };
    for path in done? {
        super::session::print(&format!("{}\n", path.display()))?;
    }
    Ok(())
}

fn install(args: &CniInstallArgs) -> Result<Vec<PathBuf>, CniInstallError> {
    let conflist = conflist_path(&args.places)?;
    for name in [&args.places.name, &args.overlay] {
        check_name(name)?;
    }
    if is_foreign(&conflist)? {
        return Err(CniInstallError::Foreign { path: conflist });
    }
    let from = source_directory(args)?;
    let mut written = Vec::new();
    for directory in bin_dirs(&args.places) {
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        for plugin in PLUGINS {
            let (source, target) = (from.join(plugin), directory.join(plugin));
            let bytes = fs::read(&source).map_err(failed("read", &source))?;
            put(&target, &bytes, 0o755)?;
            written.push(target);
        }
    }
    let directory = &args.places.conf_dir;
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    // A runtime's working directory is its own business.
    let leases = std::path::absolute(&args.data_dir).map_err(failed("find", &args.data_dir))?;
    put(&conflist, format!("{:#}\n", network(args, &leases)).as_bytes(), 0o644)?;
    written.push(conflist);
    Ok(written)
}

fn uninstall(places: &CniPlaces) -> Result<Vec<PathBuf>, CniInstallError> {
    let conflist = conflist_path(places)?;
    let mut removed = Vec::new();
    // The network first: a runtime must not find one without its plugins.
    if !is_foreign(&conflist)? {
        remove(conflist, &mut removed)?;
    }
    for directory in bin_dirs(places) {
        for plugin in PLUGINS {
            remove(directory.join(plugin), &mut removed)?;
        }
    }
    Ok(removed)
}

/// The network as runtimes read it: an address and a bridge, then ports.
fn network(args: &CniInstallArgs, leases: &Path) -> Value {
    let mut network = json!({
        // Runtimes of before the list take this one, others the newest of the list that they
        // know; from 1.1.0 on they call STATUS and GC.
        "cniVersion": SpecVersion::V1_0_0.as_str(),
        "cniVersions": SpecVersion::ALL.map(SpecVersion::as_str),
        "name": args.places.name,
        "plugins": [
            {
                "type": "mizzen-overlay",
                "overlay": args.overlay,
                "ipam": { "type": "mizzen-ipam", "dataDir": leases },
                "capabilities": { "ips": true, "mac": true, "bandwidth": true, "dns": true },
            },
            {
                "type": "mizzen-portmap",
                "dataDir": leases,
                "capabilities": { "portMappings": true },
            },
        ],
    });
    if args.shared {
        network["disableGC"] = json!(true);
    }
    network
}

fn bin_dirs(places: &CniPlaces) -> Vec<PathBuf> {
    if !places.bin_dir.is_empty() {
        return places.bin_dir.clone();
    }
    let [usual, debian] = BIN_DIRS.map(PathBuf::from);
    [Some(usual), Some(debian).filter(|path| path.is_dir())].into_iter().flatten().collect()
}

fn source_directory(args: &CniInstallArgs) -> Result<PathBuf, CniInstallError> {
    if let Some(from) = &args.from {
        return Ok(from.clone());
    }
    let this = std::env::current_exe().map_err(failed("find", Path::new("/proc/self/exe")))?;
    Ok(this.parent().unwrap_or(Path::new("/")).to_owned())
}

fn conflist_path(places: &CniPlaces) -> Result<PathBuf, CniInstallError> {
    check_name(&places.name)?;
    Ok(places.conf_dir.join(format!("10-{}.conflist", places.name)))
}

fn check_name(name: &str) -> Result<(), CniInstallError> {
    let good = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if good { Ok(()) } else { Err(CniInstallError::Name { name: name.to_owned() }) }
}

/// Whether the file is there and not one that [`install`] wrote.
fn is_foreign(path: &Path) -> Result<bool, CniInstallError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(!text.contains("\"mizzen-overlay\"")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// A plugin that runs meanwhile runs on.
fn put(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CniInstallError> {
    replace(path, bytes, mode, Sync::Memory).map_err(|error| failed("write", path)(error.source))
}

fn remove(path: PathBuf, removed: &mut Vec<PathBuf>) -> Result<(), CniInstallError> {
    match fs::remove_file(&path) {
        Ok(()) => removed.push(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("remove", &path)(error)),
    }
    Ok(())
}

fn failed(request: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CniInstallError + use<> {
    let path = path.to_owned();
    move |source| CniInstallError::File { request, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn args(root: &Path) -> CniInstallArgs {
        let from = root.join("from");
        fs::create_dir_all(&from).unwrap();
        for plugin in PLUGINS {
            fs::write(from.join(plugin), plugin).unwrap();
        }
        let places = CniPlaces {
            bin_dir: vec![root.join("bin"), root.join("lib")],
            conf_dir: root.join("net.d"),
            name: "mizzen".to_owned(),
        };
        let (overlay, data_dir) = ("dcos".to_owned(), root.join("leases"));
        CniInstallArgs { places, overlay, data_dir, shared: false, from: Some(from) }
    }

    /// The network of the same name as `args` have it installed.
    fn installed(args: &CniInstallArgs) -> Value {
        install(args).unwrap();
        let network = args.places.conf_dir.join(format!("10-{}.conflist", args.places.name));
        serde_json::from_str(&fs::read_to_string(network).unwrap()).unwrap()
    }

    #[test]
    fn what_is_installed_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let args = args(root.path());
        for _ in 0..2 {
            assert_eq!(install(&args).unwrap().len(), 7);
        }
        let plugin = root.path().join("lib/mizzen-ipam");
        assert_eq!(fs::metadata(&plugin).unwrap().permissions().mode() & 0o777, 0o755);
        fs::write(root.path().join("bin/bridge"), "theirs").unwrap();
        assert_eq!(installed(&args)["plugins"][0]["overlay"], "dcos");

        assert_eq!(uninstall(&args.places).unwrap().len(), 7);
        assert!(uninstall(&args.places).unwrap().is_empty());
        assert!(root.path().join("bin/bridge").exists());
    }

    #[test]
    fn old_runtimes_and_new_ones_find_the_version_that_they_speak() {
        let root = tempfile::tempdir().unwrap();
        let mut args = args(root.path());
        let network = installed(&args);
        assert_eq!(network["cniVersion"], "1.0.0");
        assert_eq!(network["cniVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        assert_eq!(network.get("disableGC"), None);
        args.shared = true;
        assert_eq!(installed(&args)["disableGC"], true);
    }

    #[test]
    fn leases_are_found_from_every_working_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut args = args(root.path());
        args.data_dir = "state/leases".into();
        let leases = installed(&args)["plugins"][0]["ipam"]["dataDir"].clone();
        let here = std::env::current_dir().unwrap();
        assert_eq!(leases, json!(here.join("state/leases")));
    }

    #[test]
    fn a_network_of_others_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let mut args = args(root.path());
        fs::create_dir_all(&args.places.conf_dir).unwrap();
        let theirs = args.places.conf_dir.join("10-mizzen.conflist");
        fs::write(&theirs, "{}").unwrap();
        assert!(matches!(install(&args), Err(CniInstallError::Foreign { .. })));
        uninstall(&args.places).unwrap();
        assert!(theirs.exists());
        args.places.name = "../x".to_owned();
        assert!(matches!(install(&args), Err(CniInstallError::Name { .. })));
    }
}
