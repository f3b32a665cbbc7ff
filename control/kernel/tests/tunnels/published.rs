//! Ports of the host that somebody removes, with what the port plugin leaves of them.

use super::*;
use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::portmap::{
    PortRecord, RECORD_LOCK, plan_ports, record_directory, record_name,
};
use mizzen_kernel::network::Report;
use mizzen_kernel::published::published_monitors;
use mizzen_netlink::{Nft, PortTableSpec, PublishedPort, namespace_name, observe_sysctl};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;

impl Node {
    fn nft(&self, words: &str) {
        let run = || Command::new("nft").arg(words).status().unwrap();
        assert!(self.namespace.run(run).success(), "{words}");
    }

    fn look(&self) -> Report {
        self.namespace.run(|| ensure_network(&self.spec))
    }

    fn ports(&self) -> Vec<PublishedPort> {
        let table = &self.spec.port_table;
        let mut ports = self.namespace.run(|| Nft::open().unwrap().observe_ports(table).unwrap());
        ports.sort();
        ports
    }

    fn records(&self) -> PathBuf {
        let place = self.namespace.run(|| namespace_name().unwrap());
        record_directory(&self.spec.leases, &place, &self.spec.port_table)
    }

    /// Publishes a port of a container with this number as the plugin does.
    fn publish(&self, number: u8, host_port: u16) -> AttachmentKey {
        let key = AttachmentKey { container_id: format!("c{number}"), ifname: "eth0".into() };
        let record = self.record(&key, number, host_port);
        let (config, mark) = (record.config().unwrap(), record.mark());
        let entries = plan_ports(&config).unwrap();
        let spec = PortTableSpec { table: config.table, except: config.except };
        self.namespace.run(|| {
            let mut nft = Nft::open().unwrap();
            nft.ensure_port_table(&spec).unwrap();
            nft.add_ports(&spec.table, &entries, &mark).unwrap();
        });
        self.write(&key, &record);
        key
    }

    fn record(&self, key: &AttachmentKey, number: u8, host_port: u16) -> PortRecord {
        let config = json!({
            "table": self.spec.port_table,
            "runtimeConfig": { "portMappings": [{ "hostPort": host_port, "containerPort": 80 }] },
            "prevResult": {
                "interfaces": [{ "name": "m-dcos" }, { "name": format!("h{number}") },
                               { "name": "eth0", "sandbox": "/n" }],
                "ips": [{ "interface": 2, "address": format!("9.0.1.{number}/24") }],
            },
        });
        PortRecord::new("dcos", key, config.as_object().unwrap())
    }

    fn write(&self, key: &AttachmentKey, record: &PortRecord) {
        let records = self.records();
        fs::create_dir_all(&records).unwrap();
        File::create(records.join(RECORD_LOCK)).unwrap();
        fs::write(records.join(record_name("dcos", key)), json!(record).to_string()).unwrap();
    }
}

#[test]
fn published_ports_come_back_as_long_as_their_container_is_there() {
    let node = Node::new(1, USUAL);
    assert!(node.look().errors.is_empty());
    for number in 2..5 {
        node.ip(&format!("link add h{number} type bridge"));
        node.publish(number, 8000 + u16::from(number));
    }
    let before = node.ports();
    assert_eq!(before.len(), 3 * 4, "a port, itself, and hairpin of two links");
    assert!(node.look().changed > 0, "packets from 127.0.0.1 may leave by the links");
    let table = &node.spec.port_table;
    for (harm, published) in [
        ("flush ruleset".to_owned(), 3),
        (format!("delete table inet {table}"), 3),
        (format!("flush map inet {table} any4"), 3),
        (format!("delete element inet {table} any4 {{ tcp . 8003 }}"), 1),
        // The rest still has the elements.
        (format!("flush table inet {table}"), 0),
        (format!("flush chain inet {table} local"), 0),
        (format!("add rule inet {table} arriving drop"), 0),
    ] {
        node.nft(&harm);
        let report = node.look();
        assert_eq!((report.published, report.errors.len()), (published, 0), "{harm}: {report:?}");
        assert!(report.changed > 0, "{harm}");
        assert_eq!(node.ports(), before, "{harm}");
        assert_eq!(node.look().changed, 0, "{harm}");
    }

    node.ip("link del m-dcos");
    assert_eq!(node.look().published, 0);
    let setting = || observe_sysctl("net/ipv4/conf/m-dcos/route_localnet").unwrap();
    assert_eq!(node.namespace.run(setting), "1", "also for a bridge that was made again");

    // Of a container that went without a word, nothing is put back.
    node.ip("link del h4");
    node.nft("flush ruleset");
    let report = node.look();
    assert_eq!((report.published, report.errors.len()), (2, 0), "{report:?}");
    assert!(node.ports().iter().all(|port| port.mark != "dcos c4 eth0"));
}

#[test]
fn a_port_that_is_somebody_elses_by_now_is_told_and_left() {
    let node = Node::new(1, USUAL);
    assert!(node.look().errors.is_empty());
    node.ip("link add h2 type bridge");
    node.ip("link add h3 type bridge");
    node.publish(2, 8000);
    node.look();
    let late = AttachmentKey { container_id: "late".into(), ifname: "eth0".into() };
    node.write(&late, &node.record(&late, 3, 8000));
    let before = node.ports();
    let report = node.look();
    let told: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("`late`"), "{told:?}");
    assert_eq!((report.published, node.ports()), (0, before));

    // What is under way is not missing.
    fs::remove_file(node.records().join(record_name("dcos", &late))).unwrap();
    let lock = File::open(node.records().join(RECORD_LOCK)).unwrap();
    lock.lock().unwrap();
    node.nft("flush ruleset");
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| tell.send(node.look()).unwrap());
        // The plugin that takes the ports back: its record first, then what is in the kernel.
        let gone = AttachmentKey { container_id: "c2".into(), ifname: "eth0".into() };
        fs::remove_file(node.records().join(record_name("dcos", &gone))).unwrap();
        drop(lock);
    });
    let report = told.recv().unwrap();
    assert_eq!((report.published, report.errors.len()), (0, 0), "{report:?}");
    assert_eq!(node.ports(), []);
}

#[test]
fn removals_of_published_ports_are_told_of_unless_they_are_the_plugins() {
    let node = Node::new(1, USUAL);
    node.look();
    node.ip("link add h2 type bridge");
    node.ip("link add h3 type bridge");
    let (_, gone) = (node.publish(2, 8002), node.publish(3, 8003));
    let table = &node.spec.port_table;
    let (tell, told) = mpsc::channel();
    let open = || published_monitors(&node.spec.leases, table).unwrap();
    for mut monitor in node.namespace.run(open) {
        let tell = tell.clone();
        std::thread::spawn(move || while monitor.wait().is_ok() && tell.send(()).is_ok() {});
    }
    fs::remove_file(node.records().join(record_name("dcos", &gone))).unwrap();
    node.nft(&format!("delete element inet {table} any4 {{ tcp . 8003 }}"));
    let quiet = Duration::from_millis(200);
    assert!(told.recv_timeout(quiet).is_err(), "its container is no more");
    for harm in [
        format!("delete element inet {table} any4 {{ tcp . 8002 }}"),
        format!("flush table inet {table}"),
        format!("delete map inet {table} any4"),
        "flush ruleset".to_owned(),
    ] {
        node.nft(&harm);
        told.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|_| panic!("{harm}"));
        while told.recv_timeout(Duration::from_millis(20)).is_ok() {}
    }
}
