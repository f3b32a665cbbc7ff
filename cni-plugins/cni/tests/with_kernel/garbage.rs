//! What a reboot leaves behind, and another node on the same host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::host::{Host, OVERLAY, address, container};
use crate::support::Namespace;
use mizzen_isolators::{Containerizer, Settings};
use serde_json::json;

/// A daemon whose run directories are below `run_root`.
fn collect(host: &Host, run_root: &Path) {
    let containers = Containerizer::new(Settings {
        launcher: "/nowhere/mizzen-launch".into(),
        run_root: run_root.to_owned(),
        cgroup_root: "mizzen-test-garbage".to_owned(),
        plugin_dirs: vec![Path::new(OVERLAY).parent().unwrap().to_owned()],
        networks: BTreeMap::from([("dcos".to_owned(), host.config.clone())]),
        plugin_timeout: Duration::from_secs(20),
    });
    let containers = containers.unwrap();
    let collect = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(containers.collect_garbage()).unwrap();
    };
    // Its plugins work where its thread is.
    host.namespace.run(collect);
}

#[test]
fn leases_of_containers_that_a_reboot_ended_are_freed() {
    let (host, kept, gone) = (Host::new(), Namespace::new(), Namespace::new());
    let result = host.add("kept", &kept);
    host.add("gone", &gone);
    let before = json!({ "version": 1, "containerId": "rebooted", "ifname": "eth0" }).to_string();
    std::fs::write(host.dir.path().join("dcos/9.0.5.99"), before).unwrap();
    assert_eq!((host.leases().len(), host.pairs().len()), (3, 2));

    // The checkpoint of one that still exists.
    let run_root = tempfile::tempdir().unwrap();
    let place = run_root.path().join("kept/cni/eth0");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::write(place.join("network.conf"), host.config.to_string()).unwrap();
    collect(&host, run_root.path());
    assert_eq!(host.leases(), BTreeSet::from([address(&result)]));
    assert_eq!(host.pairs().len(), 1);
    assert!(host.check("kept", &kept, &result).success);

    // After a reboot there is nothing at all, not even the root.
    collect(&host, &run_root.path().join("not-made-yet"));
    host.assert_nothing_left("without containers");
}

#[test]
fn a_network_of_the_same_name_on_another_bridge_is_left_alone() {
    let (host, first, second) = (Host::new(), Namespace::new(), Namespace::new());
    let other = Host::new();
    let mut theirs = other.config.clone();
    theirs["bridge"] = json!("m-other");
    theirs["ipam"]["subnet"] = json!("9.0.6.0/25");
    let answer = host.call_with("ADD", &container("theirs", &first), &theirs).result();
    host.add("ours", &second);
    assert_eq!(host.pairs().len(), 2);
    let run_root = tempfile::tempdir().unwrap();
    collect(&host, run_root.path());
    let left: Vec<_> = host.pairs().into_iter().map(|link| link.alias).collect();
    assert_eq!(left, [Some("mizzen-cni dcos theirs eth0".to_owned())]);
    assert_eq!(other.leases(), BTreeSet::from([address(&answer)]));
}

#[test]
fn a_network_that_is_shared_with_other_runtimes_is_left_alone() {
    let (mut host, pod) = (Host::new(), Namespace::new());
    host.add("theirs", &pod);
    host.config["disableGC"] = json!(true);
    let run_root = tempfile::tempdir().unwrap();
    collect(&host, run_root.path());
    assert_eq!((host.leases().len(), host.pairs().len()), (1, 1));
}
