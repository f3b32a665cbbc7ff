//! A disk without space.

use mizzen_tests_node::apps::{self, command, deploy, post};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, http, in_lab, kernel, lab};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn a_full_disk_loses_nothing_and_is_told_of_in_words() {
    in_lab(|| {
        let disk = small_disk();
        let state = disk.join("state").display().to_string();
        let place = Place::new(&["--state-dir", &state]);
        let mut node = place.start();
        let before = deploy(&node, &command("/old", "exec sleep 1000"));

        let filler = disk.join("filler");
        fill(&filler);
        let answer = post(&command("/new", "exec sleep 1000"));
        match answer.status {
            201 => {}
            status => {
                assert!((500..600).contains(&status), "{status}: {}", answer.text());
                let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
                assert!(message.contains("o space left"), "{message}");
            }
        }
        let problem = eventually("the node says what is wrong", SOON, || {
            node.problems().into_iter().find(|problem| problem.contains("o space left"))
        });
        assert!(node.text(&["status"]).contains(&problem));
        assert_eq!(apps::tasks(&node, "/old"), before, "what runs goes on");
        assert!(kernel::runs(before[0].pid));
        assert_eq!(dns::addresses(By::Udp, "leader.mesos"), [lab::address()]);
        assert_eq!(http::get(apps::api(), "/v2/apps/old").unwrap().status, 200);

        fs::remove_file(&filler).unwrap();
        await_room_for_a_new_app();
        let new = apps::await_tasks(&node, "/new", 1);
        node.await_well();

        node.kill();
        let node = place.start();
        assert_eq!(apps::await_tasks(&node, "/old", 1), before);
        assert_eq!(apps::await_tasks(&node, "/new", 1), new);
    });
}

#[test]
fn a_state_directory_that_is_removed_under_a_daemon_is_told_of() {
    in_lab(|| {
        let node = Node::start(&[]);
        let before = deploy(&node, &command("/old", "exec sleep 1000"));
        let (state, aside) = (lab::state_dir(), lab::scratch("aside"));
        fs::rename(&state, &aside).unwrap();
        let problem = eventually("the node says so", SOON, || {
            node.problems().into_iter().find(|problem| problem.contains("was removed"))
        });
        assert!(problem.contains(&state.display().to_string()), "{problem}");
        assert!(kernel::runs(before[0].pid));
        // The daemon may have begun another one by now.
        eventually("it is put back", SOON, || {
            let _ = fs::remove_dir_all(&state);
            fs::rename(&aside, &state).ok()
        });
        node.await_well();
    });
}

#[test]
fn a_daemon_that_is_killed_on_a_full_disk_keeps_its_tasks() {
    in_lab(|| {
        let disk = small_disk();
        let state = disk.join("state").display().to_string();
        let place = Place::new(&["--state-dir", &state]);
        let mut node = place.start();
        let before = deploy(&node, &command("/old", "exec sleep 1000"));
        let filler = disk.join("filler");
        fill(&filler);
        let _ = post(&command("/new", "exec sleep 1000"));
        node.kill();

        // It starts, or says in words why it cannot; and no task is lost by that.
        let mut attempt = place.spawn();
        eventually("it answers or ends", SOON, || {
            let ended = !attempt.runs();
            (ended || place.try_json(&["status"]).is_some()).then_some(())
        });
        if !attempt.runs() {
            assert!(place.log().contains("o space left"), "{}", place.log());
        }
        drop(attempt);
        assert!(kernel::runs(before[0].pid));

        fs::remove_file(&filler).unwrap();
        let node = place.start();
        assert_eq!(apps::await_tasks(&node, "/old", 1), before);
        await_room_for_a_new_app();
        apps::await_tasks(&node, "/new", 1);
    });
}

#[test]
fn a_service_that_the_disk_refused_is_not_registered_either() {
    in_lab(|| {
        let disk = small_disk();
        let state = disk.join("state").display().to_string();
        let place = Place::new(&["--roles", "vip", "--state-dir", &state]);
        let mut node = place.start();
        let many: Vec<String> =
            (0..60_000).map(|n| format!("10.{}.{}.1:80", n / 250, n % 250)).collect();
        let set = |name: &str, backends: &[String]| {
            let path = format!("/v1/vip-services/{name}:80/tcp");
            let body = serde_json::json!({ "backends": backends });
            http::send_json("127.0.0.1:62080".parse().unwrap(), "PUT", &path, &body).unwrap()
        };
        assert_eq!(set("small", &many[..1]).status, 201);
        let filler = disk.join("filler");
        fill(&filler);
        let refused = set("small", &many);
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains("o space left"), "{}", refused.text());
        eventually("it is a problem", SOON, || (!node.problems().is_empty()).then_some(()));
        let registered = node.json(&["vip", "ls"]);
        assert_eq!(registered[0]["backends"].as_array().map(Vec::len), Some(1));

        fs::remove_file(&filler).unwrap();
        node.await_well();
        node.kill();
        let node = place.start();
        assert_eq!(node.json(&["vip", "ls"]), registered);
    });
}

/// A disk that is soon full.
fn small_disk() -> PathBuf {
    let disk = lab::scratch("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16m,mode=755", "small"])
        .arg(&disk)
        .status();
    assert!(mount.unwrap().success());
    disk
}

fn await_room_for_a_new_app() {
    eventually("a new app is taken again", SOON, || {
        let status = post(&command("/new", "exec sleep 1000")).status;
        matches!(status, 201 | 409).then_some(())
    });
}

/// Takes all of the space that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let block = vec![0; 4096];
    let error = loop {
        if let Err(error) = file.write_all(&block) {
            break error;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
}
