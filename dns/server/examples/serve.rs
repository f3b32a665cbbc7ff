//! A resolver with made-up tasks, for measurements: `serve LISTEN TASKS THREADS`.
//!
//! It has two A records and an SRV record per task, `app-N.marathon.mesos`, and stops
//! with its standard input.

#![allow(clippy::expect_used, reason = "an example ends with the first failure")]

use mizzen_dns_core::{Data, DnsName, Options, OwnerKey, Record, Zones};
use mizzen_dns_server::{Server, Settings, SharedZones};
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, listen, tasks, threads] = arguments.as_slice() else {
        eprintln!("usage: serve LISTEN TASKS THREADS");
        return;
    };
    let tasks: u32 = tasks.parse().expect("a number of tasks");
    let mut zones = Zones::new(&Options::default());
    for task in 0..tasks {
        zones.set(OwnerKey::Static(task.to_string()), records(task));
    }
    let settings = Settings {
        listen: vec![listen.parse().expect("an address")],
        threads: NonZeroUsize::new(threads.parse().expect("a number")).expect("one at least"),
        ..Settings::default()
    };
    let zones = Arc::new(SharedZones::new(zones));
    let server = Server::start(&settings, zones).expect("it starts");
    println!("READY {:?}", server.addresses());
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
    println!("{:?}", server.metrics().roads);
}

fn records(task: u32) -> Vec<Record> {
    let name = |text: String| DnsName::parse(&text).expect("a name");
    let [_, a, b, c] = task.to_be_bytes();
    let app = name(format!("app-{task}.marathon.mesos"));
    let canonical = name(format!("app-{task}-x-s0.marathon.mesos"));
    let service = name(format!("_app-{task}._tcp.marathon.mesos"));
    let srv = Data::Srv { priority: 0, weight: 1, port: 31000, target: canonical.clone() };
    vec![
        Record::new(app, 60, Data::A([10, a, b, c].into())),
        Record::new(canonical, 60, Data::A([10, a, b, c].into())),
        Record::new(service, 60, srv),
    ]
}
