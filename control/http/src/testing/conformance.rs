//! Runs the request and answer files of `tests/conformance/http`.
//!
//! An exchange is a title (`# …`), a request without `Host`, `Connection` and
//! `Content-Length`, a line `=>`, and the answer: its status, headers that must
//! be there (`!name` must not), an empty line, and texts that the body contains
//! (`(empty)`: it has none).

use super::Bench;
use crate::server::Part;
use std::path::Path;

#[tokio::test]
async fn scheduler_gate() {
    run(Part::Master, "scheduler-gate.txt").await;
}

#[tokio::test]
async fn master() {
    run(Part::Master, "master.txt").await;
}

#[tokio::test]
async fn operator() {
    run(Part::Master, "operator.txt").await;
}

#[tokio::test]
async fn agent() {
    run(Part::Agent, "agent.txt").await;
}

#[tokio::test]
async fn services() {
    run(Part::Services, "services.txt").await;
}

#[tokio::test]
async fn mesos_dns() {
    run(Part::MesosDns, "mesos-dns.txt").await;
}

#[tokio::test]
async fn minuteman() {
    run(Part::Minuteman, "minuteman.txt").await;
}

#[tokio::test]
async fn node() {
    run(Part::Node, "node.txt").await;
}

async fn run(part: Part, file: &str) {
    // Cargo runs tests in the directory of their package.
    let path = Path::new("../../tests/conformance/http").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let bench = Bench::start().await;
    let mut count = 0;
    for exchange in text.split("\n# ").skip(1) {
        let (title, rest) = exchange.split_once('\n').expect("a title");
        let (request, want) = rest.split_once("\n=>\n").expect(title);
        let answer = bench.raw(part, &complete(request)).await;
        check(&format!("{file}: {title}"), &answer, want);
        count += 1;
    }
    assert!(count > 3, "{file} has exchanges");
}

fn complete(request: &str) -> Vec<u8> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut out = format!("{line}\r\nHost: master:5050\r\nConnection: close\r\n");
    for header in headers.lines() {
        out.push_str(header);
        out.push_str("\r\n");
    }
    out.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    out.into_bytes()
}

fn check(title: &str, answer: &str, want: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let (want_head, want_body) = want.split_once("\n\n").unwrap_or((want, ""));
    let mut lines = want_head.lines();
    let status = lines.next().expect(title);
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{title}: want {status}:\n{answer}");
    let headers: Vec<&str> = head.lines().skip(1).collect();
    for line in lines {
        match line.strip_prefix('!') {
            Some(name) => {
                let there = headers.iter().any(|h| h.starts_with(&format!("{name}:")));
                assert!(!there, "{title}: unwanted {name}:\n{answer}");
            }
            None => assert!(headers.contains(&line), "{title}: no '{line}':\n{answer}"),
        }
    }
    for text in want_body.lines().filter(|line| !line.is_empty()) {
        match text {
            "(empty)" => assert_eq!(body, "", "{title}"),
            text => assert!(body.contains(text), "{title}: no '{text}':\n{answer}"),
        }
    }
}
