//! A CNI plugin that does not do its work.

use mizzen_tests_node::apps::{self, await_app, await_tasks, deploy, post, web};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, http, in_lab, kernel, lab, until_none};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const PLUGIN: &str = "mizzen-overlay";

/// A directory with everything that a node calls, of which the overlay's plugin is
/// this script instead. In it, `$REAL` is the real one.
fn helpers(script: &str) -> PathBuf {
    let directory = lab::scratch("libexec");
    fs::create_dir(&directory).unwrap();
    for name in ["mizzen-launch", "mizzen-ipam", "mizzen-portmap"] {
        symlink(lab::executable(name), directory.join(name)).unwrap();
    }
    let plugin = directory.join(PLUGIN);
    let real = lab::executable(PLUGIN);
    fs::write(&plugin, format!("#!/bin/sh\nREAL={}\n{script}\n", real.display())).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Puts the real plugin back.
fn mend(libexec: &Path) {
    let plugin = libexec.join(PLUGIN);
    fs::remove_file(&plugin).unwrap();
    symlink(lab::executable(PLUGIN), &plugin).unwrap();
}

/// A node with these helpers; a plugin that takes longer than `limit` is given up.
fn place(libexec: &Path, limit: &str) -> Place {
    let libexec = libexec.display().to_string();
    Place::new(&["--libexec-dir", &libexec, "--agent-plugin-timeout", limit])
}

/// Runs [`web`] with a plugin that does this at ADD; its failure must be told with
/// `words`, nothing may be left behind, and with the plugin mended the app runs.
fn add_fails(script: &str, words: &[&str]) {
    add_fails_within("1m", script, words);
}

fn add_fails_within(limit: &str, script: &str, words: &[&str]) {
    let others = "[ \"$CNI_COMMAND\" = ADD ] || exec \"$REAL\"";
    let libexec = helpers(&format!("{others}\n{script}"));
    let node = place(&libexec, limit).start();
    let links = kernel::links();
    let message = failure();
    for word in ["network", PLUGIN].iter().chain(words) {
        assert!(message.contains(word), "`{word}` in {message}");
    }
    scale(0);
    await_tasks(&node, "/web", 0);
    until_none("things of a container", SOON, || leftovers(&node, &links));

    mend(&libexec);
    scale(1);
    apps::await_server(&await_tasks(&node, "/web", 1)[0]);
}

/// Posts [`web`] and returns why its task failed.
fn failure() -> String {
    assert_eq!(post(&web(1)).status, 201);
    let app = await_app("/web", "tells its last failure", SOON, |app| {
        app["lastTaskFailure"]["message"].is_string()
    });
    assert_eq!(app["lastTaskFailure"]["state"], "TASK_FAILED", "{app:#}");
    app["lastTaskFailure"]["message"].as_str().unwrap().to_owned()
}

fn scale(instances: u32) {
    let body = json!({ "instances": instances });
    let answer = http::send_json(apps::api(), "PUT", "/v2/apps/web?force=true", &body).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Cgroups, processes, links and run directories of containers.
fn leftovers(node: &Node, links: &BTreeSet<String>) -> Vec<String> {
    let root = lab::variable("MIZZEN_CGROUP_ROOT");
    let of_root = |group: &PathBuf| group.parent().is_some_and(|parent| parent.ends_with(&root));
    let containers = kernel::cgroups(&root).into_iter().filter(of_root);
    let run_dirs = Path::new(&lab::variable("MIZZEN_RUN_DIR")).join("containers");
    let paths = containers.chain(kernel::entries(&run_dirs)).map(|path| path.display().to_string());
    let processes = kernel::others().into_iter().filter(|pid| *pid != node.pid());
    let links = kernel::links().difference(links).cloned().collect::<Vec<_>>();
    paths.chain(processes.map(kernel::command_line)).chain(links).collect()
}

#[test]
fn a_plugin_that_fails_is_quoted() {
    in_lab(|| {
        let error = r#"{"cniVersion":"1.0.0","code":11,"msg":"no wind","details":"at all"}"#;
        add_fails(&format!("echo '{error}'; exit 1"), &["no wind", "at all"]);
    });
}

#[test]
fn a_plugin_that_dies_without_a_word_is_told_of() {
    in_lab(|| add_fails("echo 'mast broken' >&2; exit 3", &["mast broken"]));
}

#[test]
fn a_plugin_that_prints_garbage_is_told_of() {
    in_lab(|| add_fails("echo ahoy", &["ahoy"]));
}

#[test]
fn a_plugin_that_hangs_is_ended_with_all_that_it_started() {
    in_lab(|| add_fails_within("3s", "sleep 1000; true", &["3000 ms"]));
}

#[test]
fn a_plugin_that_did_its_work_and_then_failed_is_undone() {
    in_lab(|| add_fails("\"$REAL\" >&2; exit 1", &[]));
}

#[test]
fn what_a_broken_plugin_left_is_cleared_away_once_it_is_mended() {
    in_lab(|| {
        let libexec = helpers("exit 1");
        let place = place(&libexec, "1m");
        let node = place.start();
        let links = kernel::links();
        assert!(failure().contains(PLUGIN));
        scale(0);
        mend(&libexec);
        drop(node);
        let node = place.start();
        until_none("things of a container", SOON, || leftovers(&node, &links));
        scale(1);
        apps::await_server(&await_tasks(&node, "/web", 1)[0]);
    });
}

#[test]
fn plugins_of_many_containers_take_turns() {
    in_lab(|| {
        let (running, seen) = (lab::scratch("running"), lab::scratch("seen"));
        fs::create_dir(&running).unwrap();
        let (at, log) = (running.display(), seen.display());
        let counted = format!(
            "mkdir {at}/$$; ls {at} | wc -l >> {log}\n\"$REAL\"; code=$?\nrmdir {at}/$$; exit $code"
        );
        let node = place(&helpers(&counted), "1m").start();
        let mut many = web(100);
        many["cmd"] = "exec sleep 1000".into();
        many["cpus"] = 0.01.into();
        deploy(&node, &many);
        let counts = fs::read_to_string(&seen).unwrap();
        let most = counts.lines().map(|count| count.trim().parse::<u32>().unwrap()).max();
        assert!(most <= Some(16), "{most:?} at one time");
    });
}
