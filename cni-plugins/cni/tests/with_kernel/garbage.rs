//! What a reboot leaves behind, and another node on the same host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::host::{Host, IPAM, OVERLAY, address, container};
use mizzen_isolators::{Containerizer, Settings};
use mizzen_tests_support::namespace::Namespace;
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
fn leases_of_other_runtimes_of_before_the_boot_are_freed() {
    let mut host = Host::new();
    let state = json!({ "version": 1, "overlays": { "dcos": {
        "bridge": "m-dcos", "mtu": 1420, "blocks": [{ "subnet": "9.0.5.0/25" }] } } });
    std::fs::write(host.dir.path().join("overlays.json"), state.to_string()).unwrap();
    host.config = json!({ "cniVersion": "1.0.0", "name": "dcos", "type": "mizzen-overlay",
        "overlay": "dcos", "ipam": { "type": "mizzen-ipam", "dataDir": host.dir.path() } });
    let theirs = |plugin: &str, id: &str, pod: &Namespace| {
        let mut config = host.config.clone();
        config["name"] = json!("pods");
        let input = config.to_string();
        let answer =
            host.finish(host.command(plugin, "ADD", &container(id, pod)), input.as_bytes());
        address(&answer.result())
    };
    let pods: [Namespace; 4] = std::array::from_fn(|_| Namespace::new());
    let gone = theirs(OVERLAY, "gone", &pods[0]);
    let there = theirs(OVERLAY, "there", &pods[1]);
    let new = theirs(OVERLAY, "new", &pods[2]);
    let elsewhere = theirs(IPAM, "below-macvlan", &pods[3]);
    for (address, id) in [(gone, "gone"), (new, "new")] {
        let alias = format!("mizzen-cni pods {id} eth0");
        let pair = host.pairs().into_iter().find(|link| link.alias.as_ref() == Some(&alias));
        host.namespace.netlink().remove_link(&pair.unwrap().name).unwrap();
        assert!(host.leases().contains(&address));
    }
    // Also one whose link is there is older than the boot, if its clock was wrong at first.
    for address in [gone, there, elsewhere] {
        let file = host.dir.path().join("dcos").join(address.to_string());
        let file = std::fs::File::options().write(true).open(file).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    }
    let run_root = tempfile::tempdir().unwrap();
    collect(&host, run_root.path());
    assert_eq!(host.leases(), BTreeSet::from([there, new, elsewhere]));
    let lists = std::fs::read_dir(host.dir.path().join("dcos")).unwrap();
    let lists = lists
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(".of-"));
    assert_eq!(lists.count(), 3);
    // A runtime that starts the container again after the reboot gets an address.
    theirs(OVERLAY, "gone", &pods[0]);
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
