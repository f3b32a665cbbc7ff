//! A daemon that is short of descriptors, and one that has many.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::Node;
use mizzen_isolators::{SignalError, limit_descriptors_of_children};
use mizzen_types::container::{CommandSpec, Exit};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// The limits are those of the whole process.
static LIMITS: Mutex<()> = Mutex::const_new(());

const TERM: i32 = 15;

/// The soft limit that tasks are to have here; no default of any system.
const OF_TASKS: u64 = 777;

/// A soft limit for as long as it lives.
struct Soft(Rlimit);

impl Soft {
    fn set(soft: u64) -> Self {
        let former = getrlimit(Resource::Nofile);
        let limit = Rlimit { current: Some(soft), ..former };
        setrlimit(Resource::Nofile, limit).unwrap();
        Self(former)
    }
}

impl Drop for Soft {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).unwrap();
    }
}

#[tokio::test]
async fn a_container_that_cannot_be_watched_has_not_ended() {
    let _limits = LIMITS.lock().await;
    let node = Node::new("emfile");
    node.containers.launch(node.request("c", "exec sleep 1000")).await.unwrap();
    // Of a daemon that has just been started: it has to open everything.
    let containers = node.restarted();
    let waiting = containers.wait("c");
    tokio::pin!(waiting);
    {
        let _none = Soft::set(0);
        let early = timeout(Duration::from_millis(200), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        let error = containers.signal("c", TERM).await.unwrap_err();
        assert!(matches!(error, SignalError::System { .. }), "{error}");
    }
    containers.signal("c", TERM).await.unwrap();
    assert_eq!(waiting.await.exit, Exit::Signal(TERM));
}

#[tokio::test]
async fn how_it_ended_is_not_lost_for_want_of_descriptors() {
    let _limits = LIMITS.lock().await;
    let node = Node::new("emfile-end");
    node.containers.launch(node.request("c", "exit 3")).await.unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(3));
    let containers = node.restarted();
    let waiting = containers.wait("c");
    tokio::pin!(waiting);
    {
        let _none = Soft::set(0);
        let early = timeout(Duration::from_millis(200), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
    }
    assert_eq!(waiting.await.exit, Exit::Code(3));
}

#[tokio::test]
async fn tasks_have_the_limit_that_the_daemon_was_started_with() {
    let _limits = LIMITS.lock().await;
    let hard = getrlimit(Resource::Nofile).maximum.unwrap();
    limit_descriptors_of_children(OF_TASKS);
    let node = Node::new("nofile");
    let shell = "ulimit -Sn; ulimit -Hn; echo done; exec sleep 1000";
    node.containers.launch(node.request("c", shell)).await.unwrap();
    node.written("c", "done").await;
    assert_eq!(node.stdout("c"), format!("{OF_TASKS}\n{hard}\ndone\n"));
    let command = CommandSpec::Shell("ulimit -Sn".to_owned());
    let outcome = node
        .containers
        .run_in("c", &command, &BTreeMap::new(), Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(outcome.stdout, format!("{OF_TASKS}\n"));
    assert_ne!(getrlimit(Resource::Nofile).current, Some(OF_TASKS), "not the daemon's own");
}
