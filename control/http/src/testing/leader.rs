//! Nodes that do not lead.

use super::{Bench, Seen, get};
use crate::core::{Addressee, Leading};
use crate::limits::Limits;
use crate::server::Part;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// A node that leads, and one that knows it.
async fn both() -> (Bench, Bench) {
    let leader = Bench::start().await;
    let master = leader.ports[&Part::Master];
    let services = Some(leader.ports[&Part::Services].port());
    let there = Leading::There { address: master.ip(), master: master.port(), services };
    (leader, Bench::led(Limits::default(), there).await)
}

async fn by_socket(bench: &Bench, request: &str) -> String {
    let mut stream = UnixStream::connect(&bench.socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn masters_redirect_to_the_one_that_leads() {
    let (leader, other) = both().await;
    let to = leader.ports[&Part::Master];
    for (path, rest) in [
        ("/state", "/state"),
        ("/master/slaves?slave_id=a%20b", "/master/slaves?slave_id=a%20b"),
        ("/api/v1/scheduler", "/api/v1/scheduler"),
        ("/redirect", ""),
        ("/master/redirect", ""),
    ] {
        let answer = other.raw(Part::Master, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 307 "), "{path}: {answer}");
        assert!(answer.contains(&format!("location: //{to}{rest}\r\n")), "{path}: {answer}");
    }
    // Whether it lives is its own affair.
    assert!(other.raw(Part::Master, &get("/health")).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn requests_for_services_are_passed_on() {
    let (mut leader, other) = both().await;
    let body = "x".repeat(100_000);
    let request = format!(
        "POST /v2/apps?force=true HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let by_port = other.raw(Part::Services, request.as_bytes()).await;
    let by_socket = by_socket(&other, &request).await;
    for answer in [by_port, by_socket] {
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        assert!(answer.contains("x-query: force=true\r\n"), "{answer}");
        assert!(answer.ends_with("POST /v2/apps 100000"), "{answer}");
        let Seen::Passed(Addressee::Services, seen) = leader.next().await else {
            panic!("not passed on")
        };
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v2/apps"));
    }
}

#[tokio::test]
async fn calls_to_the_master_are_passed_on_by_the_node() {
    let (mut leader, other) = both().await;
    let body = r#"{"type":"GET_AGENTS"}"#;
    let request = format!(
        "POST /api/v1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = by_socket(&other, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(matches!(leader.next().await, Seen::Operator));
}

#[tokio::test]
async fn without_a_leader_or_its_answer_that_is_said() {
    let alone = Bench::led(Limits::default(), Leading::Nowhere).await;
    for part in [Part::Master, Part::Services, Part::Node] {
        let path = if part == Part::Master { "/state" } else { "/v2/apps" };
        let answer = alone.raw(part, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("No master"), "{answer}");
    }
    // A port that is taken, so that no other test gets it, and at which nobody listens.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = taken.local_addr().unwrap();
    let there =
        Leading::There { address: gone.ip(), master: gone.port(), services: Some(gone.port()) };
    let lost = Bench::led(Limits::default(), there).await;
    let answer = lost.raw(Part::Services, &get("/v2/apps")).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("does not answer"), "{answer}");
}

#[tokio::test]
async fn a_request_does_not_go_round_in_circles() {
    let (_, first) = both().await;
    let services = first.ports[&Part::Services];
    let port = Some(services.port());
    let there = Leading::There { address: services.ip(), master: 1, services: port };
    let second = Bench::led(Limits::default(), there).await;
    let answer = second.raw(Part::Services, &get("/v2/apps")).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("another one"), "{answer}");
}
