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
        let counted = |name: &str| -> f64 {
            let at = SocketAddr::from(([127, 0, 0, 1], 62080));
            let text = mizzen_tests_node::http::get(at, "/v1/metrics").unwrap().text();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.rsplit(' ').next().unwrap_or_default().parse().unwrap_or(0.0)
        };
        eventually("all of it is counted", SOON, || {
            let datagrams = counted("mizzen_cluster_datagrams_refused_total{reason=\"garbage\"}")
                + counted("mizzen_cluster_datagrams_refused_total{reason=\"unknown_key\"}");
            let streams = counted("mizzen_cluster_streams_refused_total");
            (datagrams >= 15.0 && streams >= 3.0).then_some(())
        });
        await_listed(&one, &[("one", "alive"), ("two", "alive")]);
        assert_eq!(one.problems(), [] as [&str; 0]);
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
        assert_eq!(one.problems(), [] as [&str; 0]);
    });
}

fn said_expelled(node: &Node) -> Option<()> {
    node.problems().iter().any(|problem| problem.contains("expelled")).then_some(())
}
