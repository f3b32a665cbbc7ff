//! Containers of other runtimes, by the plugins and the network that `mizzen cni install` writes.

use super::overlay::{await_agents, joining};
use super::{first, token};
use mizzen_tests_node::apps::PORT;
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, http, in_lab_of, kernel, lab};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// A network namespace with the server of the tests in it; ends when dropped.
struct Container {
    server: Child,
}

impl Container {
    fn start() -> Self {
        let program = lab::executable("mizzen-test-server");
        let mut command = Command::new("unshare");
        command.arg("--net").arg(program).arg(PORT.to_string());
        let mut server = command.stdout(Stdio::null()).spawn().unwrap();
        let here = kernel::namespace(std::process::id(), "net");
        eventually("it has a network of its own", SOON, || {
            assert_eq!(server.try_wait().unwrap(), None, "the server ended");
            (kernel::namespace(server.id(), "net") != here).then_some(())
        });
        Self { server }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a runtime has of the installed network.
struct Installed {
    bin_dir: PathBuf,
    network: Value,
}

impl Installed {
    fn on(node: &Node) -> Self {
        let (bin_dir, conf_dir) = (lab::scratch("cni-bin"), lab::scratch("cni-net.d"));
        let leases = lab::state_dir().join("leases");
        let path = |path: &PathBuf| path.display().to_string();
        let (bin, conf, data) = (path(&bin_dir), path(&conf_dir), path(&leases));
        let places = ["--bin-dir", &bin, "--conf-dir", &conf, "--data-dir", &data];
        let _ = node.text(&[&["cni", "install"], &places[..]].concat());
        let network = std::fs::read_to_string(conf_dir.join("10-mizzen.conflist")).unwrap();
        Self { bin_dir, network: serde_json::from_str(&network).unwrap() }
    }

    /// Calls all plugins of the list as a runtime does; the answer of the last one.
    fn call(&self, verb: &str, id: &str, container: &Container) -> Result<Value, String> {
        let mut result = Value::Null;
        let plugins = self.network["plugins"].as_array().unwrap().clone();
        for mut plugin in plugins {
            for key in ["cniVersion", "name"] {
                plugin[key] = self.network[key].clone();
            }
            if !result.is_null() {
                plugin["prevResult"] = result.clone();
            }
            let program = self.bin_dir.join(plugin["type"].as_str().unwrap());
            let mut child = Command::new(program)
                .env("CNI_COMMAND", verb)
                .env("CNI_CONTAINERID", id)
                .env("CNI_NETNS", format!("/proc/{}/ns/net", container.server.id()))
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", &self.bin_dir)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(plugin.to_string().as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() {
                return Err(text);
            }
            result = serde_json::from_str(&text).unwrap_or_default();
        }
        Ok(result)
    }
}

fn address(result: &Value) -> IpAddr {
    let text = result["ips"][0]["address"].as_str().unwrap_or_default();
    text.split('/').next().and_then(|text| text.parse().ok()).expect("an address")
}

fn await_reached(from: &Node, at: IpAddr, when: &str) {
    eventually(&format!("{at} is reached {when}"), SOON, || {
        let said = from.place().shell(&format!("curl -s -o /dev/null -m 2 http://{at}:{PORT}/"));
        (said.code == Some(0)).then_some(())
    });
}

fn leases(node: &Node) -> Value {
    node.json(&["overlay"])["overlays"][0]["leases"].clone()
}

#[test]
fn more_containers_at_once_than_the_node_has_addresses() {
    in_lab_of(1, || {
        // Five addresses in each block.
        let one = first(&["--overlay-network", "9.7.0.0/24", "--overlay-prefix", "29"]);
        await_agents(1);
        let installed = Installed::on(&one);
        let containers: Vec<Container> = (0..24).map(|_| Container::start()).collect();
        let given: BTreeSet<IpAddr> = std::thread::scope(|scope| {
            let add = |(at, container)| {
                let installed = &installed;
                scope.spawn(move || installed.call("ADD", &format!("c{at}"), container).unwrap())
            };
            let added: Vec<_> = containers.iter().enumerate().map(add).collect();
            added.into_iter().map(|added| address(&added.join().unwrap())).collect()
        });
        assert_eq!(given.len(), 24, "{given:?}");
        for (at, container) in containers.iter().enumerate() {
            installed.call("DEL", &format!("c{at}"), container).unwrap();
        }
    });
}

#[test]
fn a_container_of_another_runtime_is_one_of_the_overlay() {
    in_lab_of(2, || {
        let mut one = first(&[]);
        let two = joining(&token(&one, 1)).start();
        await_agents(2);
        let installed = Installed::on(&one);
        let container = Container::start();
        let at = address(&installed.call("ADD", "theirs", &container).unwrap());
        await_reached(&two, at, "from another node");
        assert_eq!(leases(&one), json!(1));

        // The daemon takes nothing of it when it starts again.
        one.kill();
        await_reached(&two, at, "while its daemon is away");
        let mut one = first(&[]);
        await_reached(&two, at, "when it is back");
        assert_eq!(leases(&one), json!(1));
        let refused = installed.call("ADD", "theirs", &container).unwrap_err();
        assert!(refused.contains(&at.to_string()), "{refused}");
        eventually("both calls are counted by those who heard them", SOON, || {
            let text = one.place().shell("curl -s http://127.0.0.1:62080/v1/metrics").stdout;
            let counted = |code: &str, count: u32| {
                let labels = format!(r#"plugin="mizzen-overlay",verb="ADD",code="{code}""#);
                text.contains(&format!("mizzen_cni_calls_total{{{labels}}} {count}\n"))
            };
            (counted("101", 1) && !counted("0", 1)).then_some(())
        });

        // A reboot: the files stay and are older than the machine's start, the kernel is new.
        one.kill();
        drop(container);
        eventually("its link is gone", SOON, || {
            let links = kernel::links();
            (!links.iter().any(|name| name.starts_with("mz"))).then_some(())
        });
        let lease = lab::state_dir().join("leases/dcos").join(at.to_string());
        let lease = std::fs::File::options().write(true).open(lease).unwrap();
        lease.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let one = first(&[]);
        eventually("its address is free", SOON, || (leases(&one) == json!(0)).then_some(()));
        // Under its old name it comes back.
        let container = Container::start();
        let at = address(&installed.call("ADD", "theirs", &container).unwrap());
        await_reached(&two, at, "after the reboot");
        installed.call("DEL", "theirs", &container).unwrap();
        assert_eq!(leases(&one), json!(0));
    });
}

#[test]
fn other_runtimes_do_not_run_out_of_addresses_while_there_are_blocks() {
    in_lab_of(1, || {
        // Five addresses for containers in a block.
        let one = first(&["--overlay-network", "9.7.0.0/24", "--overlay-prefix", "29"]);
        let installed = Installed::on(&one);
        let containers: Vec<Container> = (0..12).map(|_| Container::start()).collect();
        for (number, container) in containers.iter().enumerate() {
            let id = format!("theirs{number}");
            // Another block may come a moment after the last address was taken.
            eventually(&format!("{id} has an address"), SOON, || {
                installed.call("ADD", &id, container).ok()
            });
        }
        assert_eq!(leases(&one), json!(12));
        for (number, container) in containers.iter().enumerate() {
            installed.call("DEL", &format!("theirs{number}"), container).unwrap();
        }
        assert_eq!(leases(&one), json!(0));
    });
}

#[test]
fn ports_of_another_runtimes_container_come_back_until_it_goes() {
    const AT: u16 = 31_990;
    in_lab_of(1, || {
        let mut one = first(&[]);
        let mut installed = Installed::on(&one);
        installed.network["plugins"][1]["runtimeConfig"] =
            json!({ "portMappings": [{ "hostPort": AT, "containerPort": PORT }] });
        let container = Container::start();
        eventually("it is connected", SOON, || installed.call("ADD", "theirs", &container).ok());
        let flush = |node: &Node| {
            assert_eq!(node.place().shell("nft flush ruleset").code, Some(0));
        };
        let await_answer = |when: &str| {
            eventually(&format!("its port answers {when}"), SOON, || {
                http::get(lab::at(AT), "/").ok()
            });
        };
        // The look of each minute comes between two of these at most once.
        for _ in 0..2 {
            flush(&one);
            await_answer("again");
        }
        one.kill();
        flush(&one);
        let one = first(&[]);
        await_answer("after a start");
        installed.call("DEL", "theirs", &container).unwrap();
        flush(&one);
        eventually("the node's rules are back", SOON, || {
            kernel::tables().iter().any(|table| table == "mizzen").then_some(())
        });
        assert_eq!(kernel::published("theirs"), []);
    });
}
