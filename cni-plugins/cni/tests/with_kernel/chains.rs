//! Our plugins among those of the CNI project, as Debian has them.

use crate::host::{DEBIAN, Host, IPAM, OVERLAY, PORTMAP, address, chained, container, ip, ip_tool};
use mizzen_tests_support::namespace::{Namespace, connect};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;

/// A host whose plugins are found by name, ours beside Debian's.
fn host() -> Host {
    let host = Host::new();
    for plugin in [IPAM, PORTMAP, OVERLAY] {
        let name = plugin.rsplit('/').next().unwrap();
        symlink(plugin, host.dir.path().join(name)).unwrap();
    }
    host
}

fn debian(name: &str) -> String {
    let path = format!("{DEBIAN}/{name}");
    assert!(std::path::Path::new(&path).exists(), "{path} is missing: packaging/setup.sh");
    path
}

fn with_previous(mut config: Value, previous: &Value) -> Value {
    config["prevResult"] = previous.clone();
    config
}

/// A server at the port that is published.
fn server(pod: &Namespace) -> TcpListener {
    pod.run(|| TcpListener::bind("0.0.0.0:80").unwrap())
}

/// Whether `client` reaches the server by another address.
fn reaches(client: &Namespace, to: &str, server: &TcpListener) {
    let to: SocketAddr = to.parse().unwrap();
    let attempt = || TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5));
    let mut stream = client.run(attempt).unwrap_or_else(|error| panic!("{to}: {error}"));
    server.accept().unwrap().0.write_all(b"mizzen").unwrap();
    let mut text = [0; 6];
    stream.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"mizzen");
}

#[test]
fn our_addresses_below_their_bridge_and_our_ports_behind_it() {
    let (host, first, second) = (host(), Namespace::new(), Namespace::new());
    let bridge = json!({ "type": "bridge", "bridge": "cni0", "isGateway": true,
                         "hairpinMode": true, "ipam": host.config["ipam"] });
    let ports = json!({ "type": "mizzen-portmap",
        "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80 }] } });
    let add = |id: &str, pod: &Namespace| {
        chained(&host, &debian("bridge"), "ADD", &container(id, pod), &bridge).result()
    };
    let (a, b) = (add("a", &first), add("b", &second));
    let (here, there) = (address(&a), address(&b));
    assert_eq!(connect(&first, &second.listen(there), there).ip(), here);

    let target = container("b", &second);
    let last = chained(&host, PORTMAP, "ADD", &target, &with_previous(ports.clone(), &b)).result();
    assert_eq!((&last["ips"], &last["interfaces"]), (&b["ips"], &b["interfaces"]));
    let server = server(&second);
    for (client, to) in
        [(&host.namespace, "127.0.0.1:8080"), (&first, "9.0.5.1:8080"), (&second, "9.0.5.1:8080")]
    {
        reaches(client, to, &server);
    }
    for (plugin, config) in [(PORTMAP.to_owned(), &ports), (debian("bridge"), &bridge)] {
        assert!(
            chained(&host, &plugin, "CHECK", &target, &with_previous(config.clone(), &b)).success
        );
        assert!(
            chained(&host, &plugin, "DEL", &target, &with_previous(config.clone(), &b)).success
        );
    }
    assert_eq!(host.leases().len(), 1);
}

#[test]
fn our_addresses_below_their_macvlan() {
    let (host, first, second) = (host(), Namespace::new(), Namespace::new());
    ip_tool(&host.namespace, "link add lower type bridge");
    ip_tool(&host.namespace, "link set lower up");
    let config = json!({ "type": "macvlan", "master": "lower", "mode": "bridge",
                         "ipam": host.config["ipam"] });
    let add = |id: &str, pod: &Namespace| {
        address(&chained(&host, &debian("macvlan"), "ADD", &container(id, pod), &config).result())
    };
    let (a, b) = (add("a", &first), add("b", &second));
    assert_eq!((a, b), (ip("9.0.5.2"), ip("9.0.5.3")));
    assert_eq!(connect(&first, &second.listen(b), b).ip(), a);
    for (id, pod) in [("a", &first), ("b", &second)] {
        assert!(chained(&host, &debian("macvlan"), "DEL", &container(id, pod), &config).success);
    }
    host.assert_nothing_left("macvlan");
}

#[test]
fn their_plugins_behind_and_below_ours() {
    let (mut host, pod) = (host(), Namespace::new());
    let dir = host.dir.path().join("theirs");
    host.config["ipam"] = json!({ "type": "host-local", "dataDir": dir,
        "ranges": [[{ "subnet": "9.0.5.0/25" }], [{ "subnet": "fd01:b::/80" }]],
        "routes": [{ "dst": "0.0.0.0/0" }] });
    let server = server(&pod);
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        host.config["cniVersion"] = json!(version);
        let target = container("c1", &pod);
        let ours = host.add("c1", &pod);
        assert_eq!(ours["ips"].as_array().unwrap().len(), 2, "{version}");
        let tuning = json!({ "type": "tuning", "mac": "02:00:00:00:00:05", "prevResult": ours });
        let tuned = chained(&host, &debian("tuning"), "ADD", &target, &tuning).result();
        assert_eq!(tuned["interfaces"][2]["mac"], "02:00:00:00:00:05", "{version}");
        let ports = json!({ "type": "portmap", "prevResult": tuned,
            "runtimeConfig": { "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] } });
        let last = chained(&host, &debian("portmap"), "ADD", &target, &ports).result();
        reaches(&host.namespace, "9.0.5.1:8080", &server);
        if version != "0.3.1" {
            assert!(host.check("c1", &pod, &last).success, "{version}");
        }
        assert!(chained(&host, &debian("portmap"), "DEL", &target, &ports).success);
        host.call("DEL", &target).result();
        assert_eq!(pod.netlink().observe_link("eth0").unwrap(), None);
        let left = std::fs::read_dir(dir.join("dcos")).unwrap();
        let left = left.filter(|file| {
            file.as_ref().unwrap().file_name().to_str().unwrap().parse::<std::net::IpAddr>().is_ok()
        });
        assert_eq!(left.count(), 0, "{version}");
    }
}
