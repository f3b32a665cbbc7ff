//! Who does not come in, and who sends what nobody should.

use super::{again, await_listed, first, id, joining, token};
use mizzen_tests_node::node::{Node, Place};
use mizzen_tests_node::{SOON, eventually, in_lab_of, lab};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a node says that must not start.
fn refused(place: &Place) -> String {
    let said = place.run(&[]);
    assert_eq!(said.code, Some(1), "it started: {}", said.stderr);
    said.stderr
}

#[test]
fn without_a_good_token_nobody_comes_in() {
    in_lab_of(2, || {
        let one = first(&[]);
        let good = token(&one, 1);
        let host = lab::address().to_string();
        let without = again(2, "two", &["--join", &host]);
        assert!(refused(&without).contains("needs a token"));
        assert!(refused(&joining(2, "two", "nonsense")).contains("no token"));
        // Another cluster's: the secret is not told here.
        let mut letters: Vec<char> = good.chars().collect();
        letters[40] = if letters[40] == 'A' { 'B' } else { 'A' };
        let foreign: String = letters.into_iter().collect();
        assert!(refused(&joining(2, "two", &foreign)).contains("cannot join"));

        let short = one.json(&["join-token", "--ttl", "1s"]);
        let end = UNIX_EPOCH + Duration::from_secs(short["expires"].as_u64().unwrap());
        eventually("it has ended", SOON, || (SystemTime::now() >= end).then_some(()));
        let short = short["token"].as_str().unwrap();
        assert!(refused(&joining(2, "two", short)).contains("the token has expired"));

        let two = joining(2, "two", &good).start();
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        let log = one.place().log();
        assert!(!log.contains(&good) && !two.place().log().contains(&good), "a secret in a log");
    });
}

#[test]
fn tokens_are_listed_without_their_secrets_and_revoked() {
    in_lab_of(3, || {
        let one = first(&[]);
        assert_eq!(one.text(&["join-token", "--list"]), "no token lets anybody in\n");
        let used = one.json(&["join-token"]);
        let unused = one.json(&["join-token", "--ttl", "2h", "--uses", "3"]);
        let secrets = [&used, &unused].map(|made| made["token"].as_str().unwrap().to_owned());
        let two = joining(2, "two", &secrets[0]).start();
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }

        let listed = one.json(&["join-token", "--list"]);
        let row = |at: usize| {
            let row = &listed[at];
            assert!(row["expires_in_seconds"].as_u64().unwrap() > 3000, "{listed}");
            (row["id"].clone(), row["open"].clone(), row["uses"].clone(), row["used_by"].clone())
        };
        let by = json!([id(&one, "two")]);
        assert_eq!(row(0), (used["id"].clone(), json!(false), json!(1), by));
        assert_eq!(row(1), (unused["id"].clone(), json!(true), json!(3), json!([])));
        let text = format!("{listed}{}", one.text(&["join-token", "--list"]));
        // All of a token but its id and its end is the authority's name and the secret.
        assert!(secrets.iter().all(|token| !text.contains(&token[16..40])), "{text}");

        let said = two.mizzen(&["join-token", "--list"]);
        assert!(said.stderr.contains("ask one"), "{}", said.stderr);
        let token = unused["id"].as_str().unwrap();
        let _ = one.text(&["join-token", "--revoke", token]);
        let said = one.mizzen(&["join-token", "--revoke", token]);
        assert_eq!(said.code, Some(1));
        assert!(said.stderr.contains("there is no token"), "{}", said.stderr);
        assert!(refused(&joining(3, "three", &secrets[1])).contains("the token is not known"));
        assert_eq!(one.json(&["join-token", "--list"]).as_array().map(Vec::len), Some(1));
        // Who came in by a token stays when it is revoked, and after a restart it is still gone.
        let _ = one.text(&["join-token", "--revoke", used["id"].as_str().unwrap()]);
        drop(one);
        let one = first(&[]);
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        assert_eq!(one.json(&["join-token", "--list"]), json!([]));
    });
}

#[test]
fn a_node_whose_state_is_lost_is_another_node() {
    in_lab_of(2, || {
        let one = first(&[]);
        let used = token(&one, 1);
        let mut two = joining(2, "two", &used).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        let former = id(&one, "two");
        two.stop();
        let said = two.place().shell("rm -rf \"$MIZZEN_STATE_DIR\"");
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(refused(&joining(2, "two", &used)).contains("the token was used"));

        let two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive"), ("two", "dead")]);
        let nodes = two.json(&["nodes"]);
        let mine = nodes.as_array().unwrap().iter().find(|node| node["here"] == true).unwrap();
        assert_ne!(mine["id"], former.as_str());
    });
}

#[test]
fn garbage_is_counted_and_changes_nothing() {
    in_lab_of(2, || {
        let one = first(&[]);
        let two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&two, &[("one", "alive"), ("two", "alive")]);
        let cluster = SocketAddr::new(lab::address(), 62501);
        let socket = UdpSocket::bind((lab::address(), 0)).unwrap();
        for length in [1, 20, 37, 200, 1400] {
            for first in [0, 1, 0xff] {
                let mut bytes = vec![0x5a; length];
                bytes[0] = first;
                socket.send_to(&bytes, cluster).unwrap();
            }
        }
        for words in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0], b""] {
            let mut stream = TcpStream::connect(cluster).unwrap();
            stream.write_all(words).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // It is closed, with or without an alert before.
            let _ = stream.read_to_end(&mut Vec::new());
        }
        eventually("all of it is counted", SOON, || {
            let datagrams = counted("mizzen_cluster_datagrams_refused_total{reason=\"garbage\"}")
                + counted("mizzen_cluster_datagrams_refused_total{reason=\"unknown_key\"}");
            let streams = counted("mizzen_cluster_streams_refused_total");
            (datagrams >= 15.0 && streams >= 3.0).then_some(())
        });
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        one.await_well();
    });
}

#[test]
fn a_node_that_was_expelled_is_nobody_any_more() {
    in_lab_of(3, || {
        let one = first(&[]);
        let token = token(&one, 2);
        let two = joining(2, "two", &token).start();
        let mut three = joining(3, "three", &token).start();
        let all = [("one", "alive"), ("three", "alive"), ("two", "alive")];
        for node in [&one, &two, &three] {
            await_listed(node, &all);
        }
        for (node, name, why) in [
            (&two, "three", "does not have the cluster's authority; ask one"),
            (&one, "four", "there is no node `four`"),
            (&one, "one", "has the cluster's authority"),
        ] {
            let said = node.mizzen(&["expel", name]);
            assert_eq!(said.code, Some(1), "{name}: {}", said.stdout);
            assert!(said.stderr.contains(why), "{}", said.stderr);
        }

        let expelled = id(&one, "three");
        assert_eq!(one.json(&["expel", &expelled[..8]]), json!({ "expelled": expelled }));
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        eventually("it is told so", SOON, || said_expelled(&three));
        // Neither its certificate nor the key of datagrams lets it in again; others stay.
        three.kill();
        let three = again(3, "three", &[]).start();
        eventually("it is told so again", SOON, || said_expelled(&three));
        for node in [&one, &two] {
            await_listed(node, &[("one", "alive"), ("two", "alive")]);
        }
        one.await_well();
    });
}

fn said_expelled(node: &Node) -> Option<()> {
    node.problems().iter().any(|problem| problem.contains("expelled")).then_some(())
}

/// Names of the VIPs that a node knows.
fn vips(node: &Node) -> Vec<String> {
    let rows = node.json(&["vips"]);
    let names = rows.as_array().cloned().unwrap_or_default();
    let mut names: Vec<String> =
        names.iter().map(|row| row["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort();
    names
}

/// What the lab's first node counted so far.
fn counted(name: &str) -> f64 {
    let at = SocketAddr::from(([127, 0, 0, 1], 62080));
    let text = mizzen_tests_node::http::get(at, "/v1/metrics").unwrap().text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().parse().unwrap_or(0.0)
}

fn set(node: &Node, name: &str) {
    let said = node.mizzen(&["vip", "set", &format!("{name}:80"), "--backend", "192.0.2.9:80"]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

fn await_vips(node: &Node, names: &[&str]) {
    let name = |name: &&str| format!("{name}.static.l4lb.thisdcos.directory");
    let want: Vec<String> = names.iter().map(name).collect();
    eventually(&format!("the VIPs are {names:?}"), SOON, || (vips(node) == want).then_some(()));
}

pub(super) fn shell(place: &Place, command: &str) {
    let said = place.shell(command);
    assert_eq!(said.code, Some(0), "{command}: {}", said.stderr);
}

#[test]
fn a_node_that_comes_back_with_an_old_log_is_believed_again() {
    in_lab_of(2, || {
        let one = first(&[]);
        let mut two = joining(2, "two", &token(&one, 1)).start();
        set(&two, "early");
        await_vips(&one, &["early"]);
        let known = id(&one, "two");
        two.stop();
        // A backup of the machine.
        shell(&two.place(), "cp -a \"$MIZZEN_STATE_DIR\" \"$MIZZEN_STATE_DIR.old\"");
        for _ in 0..2 {
            two = again(2, "two", &[]).start();
            set(&two, "late");
            await_vips(&one, &["early", "late"]);
            two.kill();
        }
        let restore =
            "rm -r \"$MIZZEN_STATE_DIR\" && mv \"$MIZZEN_STATE_DIR.old\" \"$MIZZEN_STATE_DIR\"";
        shell(&two.place(), restore);

        let mut two = again(2, "two", &[]).start();
        await_vips(&one, &["early"]);
        set(&two, "later");
        await_vips(&one, &["early", "later"]);
        await_vips(&two, &["early", "later"]);
        assert_eq!(id(&one, "two"), known);

        // Until then it says that its state is an old one.
        two.stop();
        let two = again(2, "two", &[]).start();
        await_vips(&two, &["early", "later"]);
        [&one, &two].into_iter().for_each(Node::await_well);
    });
}

#[test]
fn joining_twice_is_joining_once() {
    in_lab_of(3, || {
        let one = first(&[]);
        let used = token(&one, 1);
        // Two at once with what lets one in.
        let places = [joining(2, "other", &used), joining(3, "other", &used)];
        let mut both = places.each_ref().map(Place::spawn);
        let late = eventually("one of them is refused", SOON, || {
            both.iter_mut().position(|node| !node.runs())
        });
        let (refused, came) = (&places[late], 1 - late);
        assert!(refused.log().contains("the token was used"), "{}", refused.log());
        await_listed(&one, &[("one", "alive"), ("other", "alive")]);
        let known = id(&one, "other");

        // The one that is in is told to join once more, as a service manager would.
        let [a, b] = both;
        let mut inside = if came == 0 { a } else { b };
        inside.wait_ready();
        inside.kill();
        let inside = places[came].start();
        for node in [&one, &inside] {
            await_listed(node, &[("one", "alive"), ("other", "alive")]);
        }
        assert_eq!(id(&one, "other"), known);
    });
}

#[test]
fn a_node_whose_certificate_has_ended_is_heard_by_nobody_until_it_joins_again() {
    in_lab_of(2, || {
        let one = first(&["--cluster-certificate-life", "8s"]);
        let mut two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        let known = id(&one, "two");
        // A certificate that is renewed at this moment lasts as long from now.
        let end = SystemTime::now() + Duration::from_secs(9);
        two.kill();
        eventually("its certificate has ended", SOON, || (SystemTime::now() >= end).then_some(()));
        await_listed(&one, &[("one", "alive"), ("two", "dead")]);

        let refused = "mizzen_cluster_streams_refused_total";
        let before = counted(refused);
        let mut two = again(2, "two", &[]).start();
        eventually("it says so", SOON, || {
            two.problems().iter().any(|text| text.contains("certificate has ended")).then_some(())
        });
        // It answers datagrams, whose key it has until that is changed, and nobody listens to it.
        set(&two, "unheard");
        eventually("it is refused", SOON, || (counted(refused) > before).then_some(()));
        assert_eq!(vips(&one), [] as [&str; 0]);

        two.stop();
        let two = joining(2, "two", &token(&one, 1)).start();
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        await_vips(&one, &["unheard"]);
        assert_eq!(id(&one, "two"), known, "it keeps its name");
        two.await_well();
    });
}
