//! Containers on networks of their own: real namespaces, plugins that are scripts.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod common;

use common::{Node, runs, until};
use mizzen_isolators::{LaunchFailure, LaunchRequest, NetworkRequest};
use mizzen_types::container::{Exit, NetworkMode};
use mizzen_types::error::chain;
use serde_json::{Value, json};
use std::fs;

/// Keeps what it was given and says that all is well.
const RECORDING: &str = r#"
exec 3>>$log/calls
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $(env | cut -d= -f1 | sort | tr '\n' ' ')" >&3
cat >$log/$CNI_COMMAND.json
stat -f -c %T "$CNI_NETNS" >>$log/filesystems
[ $CNI_COMMAND = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","ips":[{"address":"9.0.0.5/25"}],"dns":{"nameservers":["198.51.100.1"]}}'
"#;

const REFUSING: &str = r#"
echo $CNI_COMMAND >>$log/calls
[ $CNI_COMMAND = ADD ] || exit 0
echo '{"cniVersion":"1.0.0","code":100,"msg":"no address is free","details":"9.0.0.0/25 is full"}'
exit 1
"#;

const BABBLING: &str =
    "[ $CNI_COMMAND = ADD ] || exit 0\necho oops; echo something broke >&2; exit 3";

const HANGING: &str = "[ $CNI_COMMAND = ADD ] || exit 0\necho $$ >$log/pid; sleep 1000 & wait";

fn on(node: &Node, id: &str, shell: &str, networks: &[&str]) -> LaunchRequest {
    let mut request = node.request(id, shell);
    request.spec.network = NetworkMode::Container;
    request.networks = networks.iter().map(|name| NetworkRequest::from(*name)).collect();
    request
}

fn read(node: &Node, name: &str) -> String {
    fs::read_to_string(node.directory.join(name)).unwrap_or_default()
}

#[tokio::test]
async fn a_plugin_gets_a_namespace_and_the_container_its_address() {
    let node = Node::with_networks("cni", &[("dcos", RECORDING)]);
    let shell = "echo $MESOS_CONTAINER_IP; cat /etc/hosts /etc/resolv.conf; readlink /proc/self/ns/net; \
                 cat /proc/net/dev | grep -c :; cat < /dev/null > /dev/udp/127.0.0.1/9; exec sleep 1000";
    let mut request = on(&node, "c", shell, &["dcos"]);
    request.networks[0].info = Some(json!({ "name": "dcos", "labels": {} }));
    request.resolv_conf = Some("nameserver 127.0.0.1\n".to_owned());
    let launched = node.containers.launch(request).await.unwrap();
    assert_eq!(launched.addresses(), ["9.0.0.5".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(launched.networks[0].interface, "eth0");
    node.written("c", "net:[").await;

    let text = node.stdout("c");
    assert!(text.starts_with("9.0.0.5\n127.0.0.1\tlocalhost\n::1\tlocalhost\n9.0.0.5\tbox\n"));
    assert!(text.contains("nameserver 198.51.100.1\n"), "{text}");
    let host = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!text.contains(&*host.to_string_lossy()), "{text}");
    assert!(read(&node, "calls").starts_with(
        "ADD c eth0 CNI_COMMAND CNI_CONTAINERID CNI_IFNAME CNI_NETNS CNI_PATH PATH PWD "
    ));
    let input: Value = serde_json::from_str(&read(&node, "ADD.json")).unwrap();
    assert_eq!(input["args"]["org.apache.mesos"]["network_info"]["name"], "dcos");

    // A former process's configuration is used again; this one knows no networks.
    node.restarted().destroy("c").await.unwrap();
    let input: Value = serde_json::from_str(&read(&node, "DEL.json")).unwrap();
    assert_eq!(input["prevResult"]["ips"][0]["address"], "9.0.0.5/25");
    assert_eq!(input["args"]["org.apache.mesos"]["network_info"]["name"], "dcos");
    assert_eq!(read(&node, "filesystems"), "nsfs\nnsfs\n", "both had a namespace to work in");
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn networks_are_left_in_reverse_order() {
    let node = Node::with_networks("order", &[("one", RECORDING), ("two", RECORDING)]);
    let launched = node.containers.launch(on(&node, "c", "true", &["two", "one"])).await.unwrap();
    assert_eq!(launched.addresses().len(), 2);
    assert_eq!(node.containers.wait("c").await.exit, Exit::Code(0));
    node.containers.destroy("c").await.unwrap();
    let calls = read(&node, "calls");
    let calls: Vec<&str> = calls.lines().map(|line| &line[..10]).collect();
    assert_eq!(calls, ["ADD c eth0", "ADD c eth1", "DEL c eth1", "DEL c eth0"]);
}

#[tokio::test]
async fn a_plugin_that_fails_fails_the_launch_and_leaves_nothing() {
    let plugins =
        [("good", RECORDING), ("full", REFUSING), ("broken", BABBLING), ("hung", HANGING)];
    let node = Node::with_networks("failing", &plugins);
    for (network, want) in [
        ("full", "code 100: no address is free (9.0.0.0/25 is full)"),
        ("broken", "(exit code 3): oops something broke"),
        ("hung", "did not finish ADD within 10000 ms"),
        ("nowhere", "there is no network `nowhere`"),
    ] {
        let request = on(&node, network, "touch ran", &["good", network]);
        let error = node.containers.launch(request).await.unwrap_err();
        assert!(matches!(error.failure, LaunchFailure::Network(_)));
        assert!(chain(&error).contains(want), "{}", chain(&error));
        assert!(error.leftovers.is_empty(), "{:?}", error.leftovers);
        assert_eq!(node.traces(network), Vec::<String>::new());
        assert!(!node.sandbox(network).join("ran").exists());
    }
    let calls = read(&node, "calls");
    let count = |word: &str| calls.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(count("DEL"), 5, "four of `good`, one of `full`: {calls}");
    let hung: u32 = read(&node, "pid").trim().parse().unwrap();
    until(|| !runs(hung)).await;
}

#[tokio::test]
async fn a_plugin_that_is_not_there_is_named() {
    let node = Node::with_networks("absent", &[("gone", "exit 0")]);
    fs::remove_file(node.directory.join("plugins/gone")).unwrap();
    let error = node.containers.launch(on(&node, "c", "true", &["gone"])).await.unwrap_err();
    assert!(chain(&error).contains("plugin `gone` is in none of"), "{}", chain(&error));
}

#[tokio::test]
async fn a_failed_del_is_reported_and_tried_again() {
    let script = "[ $CNI_COMMAND = ADD ] && { echo '{\"ips\":[]}'; exit 0; }\n\
                  [ -e $log/mended ] && exit 0\necho locked >&2; exit 1";
    let node = Node::with_networks("retry", &[("flaky", script)]);
    node.containers.launch(on(&node, "c", "exec sleep 1000", &["flaky"])).await.unwrap();
    let errors = node.containers.destroy("c").await.unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(chain(&errors[0]).contains("locked"), "{}", chain(&errors[0]));
    // All else is gone; the run directory says what is left to do.
    assert_eq!(node.traces("c"), [node.run_dir("c").display().to_string()]);
    fs::write(node.directory.join("mended"), "").unwrap();
    node.restarted().destroy("c").await.unwrap();
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_running_container_does_not_hold_the_namespace_of_another() {
    let node = Node::with_networks("leak", &[("dcos", RECORDING)]);
    node.containers.launch(on(&node, "first", "exec sleep 1000", &["dcos"])).await.unwrap();
    let shell = "grep -c nsfs /proc/self/mounts; exec sleep 1000";
    node.containers.launch(on(&node, "second", shell, &["dcos"])).await.unwrap();
    node.written("second", "\n").await;
    assert_eq!(node.stdout("second"), "0\n");
    node.containers.destroy("first").await.unwrap();
    assert_eq!(node.traces("first"), Vec::<String>::new());
}

#[tokio::test]
async fn a_signal_during_a_launch_reaches_the_task() {
    let script = "[ $CNI_COMMAND = ADD ] || exit 0\n\
                  touch $log/started; while [ ! -e $log/go ]; do sleep 0.01; done\n\
                  echo '{\"ips\":[]}'";
    let node = Node::with_networks("early", &[("slow", script)]);
    let launching = tokio::spawn({
        let (containers, request) =
            (node.containers.clone(), on(&node, "c", "exec sleep 1000", &["slow"]));
        async move { containers.launch(request).await }
    });
    until(|| node.directory.join("started").exists()).await;
    // The signal comes first, in this order.
    let go = async { fs::write(node.directory.join("go"), "").unwrap() };
    let (signalled, ()) = tokio::join!(node.containers.signal("c", 15), go);
    signalled.unwrap();
    launching.await.unwrap().unwrap();
    assert_eq!(node.containers.wait("c").await.exit, Exit::Signal(15));
}

/// Speaks the newest version, and keeps what GC was given.
const COLLECTING: &str = r#"
cat >$log/$CNI_COMMAND-input.json
echo "$CNI_COMMAND $CNI_CONTAINERID" >>$log/calls
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}' ;;
ADD) echo '{"ips":[]}' ;;
esac
"#;

#[tokio::test]
async fn plugins_are_told_which_containers_there_are() {
    let old = "echo $CNI_COMMAND >>$log/old-calls\n[ $CNI_COMMAND = VERSION ] && exit 1\necho '{\"ips\":[]}'";
    let node = Node::with_networks("garbage", &[("new", COLLECTING), ("old", old)]);
    let sleep = "exec sleep 1000";
    node.containers.launch(on(&node, "both", sleep, &["old", "new"])).await.unwrap();
    node.containers.launch(on(&node, "other", sleep, &["old"])).await.unwrap();
    node.containers.launch(on(&node, "ended", "true", &["new"])).await.unwrap();
    node.containers.wait("ended").await;
    node.containers.launch(node.request("host", sleep)).await.unwrap();
    node.containers.collect_garbage().await.unwrap();

    let input: Value = serde_json::from_str(&read(&node, "GC-input.json")).unwrap();
    assert_eq!((&input["cniVersion"], &input["name"]), (&json!("1.1.0"), &json!("new")));
    let both = json!({ "containerID": "both", "ifname": "eth1" });
    let ended = json!({ "containerID": "ended", "ifname": "eth0" });
    assert_eq!(input["cni.dev/valid-attachments"], json!([both, ended]));
    assert!(!read(&node, "old-calls").contains("GC"));

    // What cannot be understood any more belongs to somebody all the same.
    let checkpoint = node.run_dir("other").join("cni/eth0/network.conf");
    let saved = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, "{").unwrap();
    node.containers.collect_garbage().await.unwrap();
    let input: Value = serde_json::from_str(&read(&node, "GC-input.json")).unwrap();
    assert_eq!(input["cni.dev/valid-attachments"].as_array().unwrap().len(), 3, "{input}");
    fs::write(&checkpoint, saved).unwrap();
}

#[tokio::test]
async fn garbage_is_not_collected_during_an_attachment() {
    let script = r#"
case $CNI_COMMAND in
VERSION) echo '{"supportedVersions":["1.1.0"]}' ;;
ADD) touch $log/started; while [ ! -e $log/go ]; do sleep 0.01; done; echo ADD >>$log/calls; echo '{"ips":[]}' ;;
GC) echo GC >>$log/calls ;;
esac
"#;
    let node = Node::with_networks("quiet", &[("slow", script)]);
    let launching = tokio::spawn({
        let (containers, request) = (node.containers.clone(), on(&node, "c", "true", &["slow"]));
        async move { containers.launch(request).await }
    });
    until(|| node.directory.join("started").exists()).await;
    let go = async { fs::write(node.directory.join("go"), "").unwrap() };
    let (collected, ()) = tokio::join!(node.containers.collect_garbage(), go);
    collected.unwrap();
    launching.await.unwrap().unwrap();
    assert_eq!(read(&node, "calls"), "ADD\nGC\n");
}

/// Passes on what it was given, with an address if it is the first.
const LINK: &str = r#"
input=$(cat)
echo "$(basename $0) $CNI_COMMAND" >>$log/calls
echo "$input" >$log/$(basename $0)-$CNI_COMMAND.json
case $CNI_COMMAND in
VERSION) echo '{"supportedVersions":["1.1.0"]}' ;;
ADD) [ -e $log/refuse-$(basename $0) ] && { echo '{"code":101,"msg":"taken"}'; exit 1; }
     echo "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"9.0.0.7/25\"}],\"dns\":{\"nameservers\":[\"192.0.2.$(basename $0 | wc -c)\"]}}" ;;
DEL) [ -e $log/locked-$(basename $0) ] && exit 1; exit 0 ;;
esac
"#;

/// A network of the three plugins in a row; the second one publishes ports.
fn chain_of_three(node: &Node) {
    let ports = json!({ "type": "ports", "capabilities": { "portMappings": true } });
    let list = json!({ "cniVersion": "1.0.0", "name": "web",
                       "plugins": [{ "type": "main" }, ports, { "type": "tuning" }] });
    node.containers.set_networks([("web".to_owned(), list)].into());
}

fn on_chain(node: &Node, id: &str) -> LaunchRequest {
    let mut request = on(node, id, "exec sleep 1000", &["web"]);
    request.networks[0].info = Some(json!({ "name": "web", "port_mappings": [
        { "host_port": 31_000, "container_port": 80, "protocol": "tcp" } ] }));
    request
}

fn json_of(node: &Node, name: &str) -> Value {
    serde_json::from_str(&read(node, name)).unwrap()
}

#[tokio::test]
async fn plugins_of_a_list_run_in_order_and_are_undone_in_reverse() {
    let node = Node::with_networks("list", &[("main", LINK), ("ports", LINK), ("tuning", LINK)]);
    chain_of_three(&node);
    let launched = node.containers.launch(on_chain(&node, "c")).await.unwrap();
    assert_eq!(launched.addresses(), ["9.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(launched.publishing(), ["web"]);
    assert_eq!(read(&node, "calls"), "main ADD\nports ADD\ntuning ADD\n");
    let (main, ports) = (json_of(&node, "main-ADD.json"), json_of(&node, "ports-ADD.json"));
    assert_eq!((main.get("prevResult"), main.get("runtimeConfig")), (None, None));
    assert_eq!((&ports["name"], &ports["cniVersion"]), (&json!("web"), &json!("1.0.0")));
    assert_eq!(ports["prevResult"]["dns"]["nameservers"][0], "192.0.2.5", "of `main`");
    let mapping = json!([{ "hostPort": 31_000, "containerPort": 80, "protocol": "tcp" }]);
    assert_eq!(ports["runtimeConfig"]["portMappings"], mapping);

    // What a new process finds is enough.
    let restarted = node.restarted();
    assert_eq!(restarted.recover().unwrap()[0].launched.as_ref().unwrap().publishing(), ["web"]);
    restarted.destroy("c").await.unwrap();
    assert!(read(&node, "calls").ends_with("tuning DEL\nports DEL\nmain DEL\n"));
    let ports = json_of(&node, "ports-DEL.json");
    assert_eq!(ports["runtimeConfig"]["portMappings"], mapping);
    assert_eq!(ports["prevResult"]["dns"]["nameservers"][0], "192.0.2.7", "of `tuning`");
    assert_eq!(node.traces("c"), Vec::<String>::new());
}

#[tokio::test]
async fn a_list_that_fails_in_the_middle_is_undone() {
    let node = Node::with_networks("middle", &[("main", LINK), ("ports", LINK), ("tuning", LINK)]);
    chain_of_three(&node);
    fs::write(node.directory.join("refuse-ports"), "").unwrap();
    let error = node.containers.launch(on_chain(&node, "c")).await.unwrap_err();
    assert!(chain(&error).contains("`ports` refused ADD with code 101"), "{}", chain(&error));
    assert!(error.leftovers.is_empty(), "{:?}", error.leftovers);
    let want = "main ADD\nports ADD\ntuning DEL\nports DEL\nmain DEL\n";
    assert_eq!(read(&node, "calls"), want);
    assert_eq!(json_of(&node, "main-DEL.json").get("prevResult"), None, "there was no answer");
    assert_eq!(node.traces("c"), Vec::<String>::new());

    // One that is not there is missed before the first one has begun.
    fs::remove_file(node.directory.join("plugins/tuning")).unwrap();
    let error = node.containers.launch(on_chain(&node, "d")).await.unwrap_err();
    assert!(chain(&error).contains("plugin `tuning` is in none of"), "{}", chain(&error));
    assert_eq!((read(&node, "calls"), error.leftovers.len()), (want.to_owned(), 0));
    assert_eq!(node.traces("d"), Vec::<String>::new());
}

#[tokio::test]
async fn an_address_is_kept_while_something_leads_to_it() {
    let node = Node::with_networks("kept", &[("main", LINK), ("ports", LINK), ("tuning", LINK)]);
    chain_of_three(&node);
    node.containers.launch(on_chain(&node, "c")).await.unwrap();
    fs::write(node.directory.join("locked-ports"), "").unwrap();
    assert_eq!(node.containers.destroy("c").await.unwrap_err().len(), 1);
    assert!(!read(&node, "calls").contains("main DEL"));
    fs::remove_file(node.directory.join("locked-ports")).unwrap();
    node.containers.destroy("c").await.unwrap();
    assert!(read(&node, "calls").ends_with("ports DEL\nmain DEL\n"));

    // GC goes through the list as well, ports first.
    node.containers.collect_garbage().await.unwrap();
    let calls = read(&node, "calls");
    let collected: Vec<&str> = calls.lines().filter(|line| line.ends_with(" GC")).collect();
    assert_eq!(collected, ["tuning GC", "ports GC", "main GC"]);
    let input = json_of(&node, "ports-GC.json");
    assert_eq!((&input["name"], &input["cniVersion"]), (&json!("web"), &json!("1.1.0")));
}

#[tokio::test]
async fn a_checkpoint_of_a_single_plugin_is_understood_though_the_network_is_a_list_now() {
    let node = Node::with_networks("older", &[("main", LINK), ("ports", LINK), ("tuning", LINK)]);
    chain_of_three(&node);
    node.containers.launch(on_chain(&node, "c")).await.unwrap();
    let checkpoint = node.run_dir("c").join("cni/eth0/network.conf");
    let old = json!({ "cniVersion": "1.0.0", "name": "web", "type": "main" });
    fs::write(&checkpoint, old.to_string()).unwrap();
    node.containers.destroy("c").await.unwrap();
    assert!(read(&node, "calls").ends_with("tuning ADD\nmain DEL\n"));
}
