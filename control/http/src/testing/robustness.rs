//! Bodies too long, clients too slow, garbage, a core that is gone.

use super::{Bench, get, post};
use crate::limits::Limits;
use crate::server::{Address, BindError, Listeners, Part, Settings};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn status(answer: &str) -> &str {
    answer.get(..12).unwrap_or(answer)
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let bench = Bench::with(Limits { call_body: 1000, ..Limits::default() }).await;
    let head = |length: usize| {
        format!(
            "POST /v2/apps HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let limit = 1 << 20;
    let fits = [head(limit).into_bytes(), vec![b' '; limit]].concat();
    assert_eq!(status(&bench.raw(Part::Services, &fits).await), "HTTP/1.1 201");
    // Refused before a byte of it was sent.
    let announced = head(limit + 1);
    assert_eq!(status(&bench.raw(Part::Services, announced.as_bytes()).await), "HTTP/1.1 413");
    let huge = head(usize::MAX);
    assert!(status(&bench.raw(Part::Services, huge.as_bytes()).await).starts_with("HTTP/1.1 4"));

    let json = "Content-Type: application/json\r\n";
    let long = post(&" ".repeat(1001), json);
    assert_eq!(status(&bench.raw(Part::Master, long.as_bytes()).await), "HTTP/1.1 413");
    // Without an announced length it is counted.
    let chunked = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: h\r\n{json}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
        " ".repeat(1001)
    );
    assert_eq!(status(&bench.raw(Part::Master, chunked.as_bytes()).await), "HTTP/1.1 413");
}

#[tokio::test]
async fn slow_clients_are_not_waited_for() {
    let limits = Limits { body_wait: Duration::from_millis(30), ..Limits::default() };
    let bench = Bench::with(limits).await;
    let half =
        "POST /v2/apps HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 10\r\n\r\n{";
    assert_eq!(status(&bench.raw(Part::Services, half.as_bytes()).await), "HTTP/1.1 408");
    // Half a head: the connection ends.
    let limits = Limits { head_wait: Duration::from_millis(30), ..Limits::default() };
    let bench = Bench::with(limits).await;
    for part in [Part::Master, Part::Node] {
        let mut client = bench.connect(part).await;
        client.write_all(b"GET /state HTTP/1.1\r\nHo").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
    }
}

#[tokio::test]
async fn garbage_is_refused_and_the_next_client_is_served() {
    let bench = Bench::start().await;
    let long_header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000));
    let inputs: &[&[u8]] = &[
        b"\r\n\r\n\r\n",
        b"\0\xff\xfe garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"POST /v2/apps HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v2/apps HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST /v2/apps HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"GET /v2/%ff%00 HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /vip/%ff HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /tasks?limit=%ff&=&&&limit=-1 HTTP/1.1\r\nConnection: close\r\n\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
    ];
    for part in [Part::Master, Part::Agent, Part::Services, Part::Minuteman, Part::Node] {
        for input in inputs {
            let mut client = bench.connect(part).await;
            let _ = client.write_all(input).await;
            let _ = client.shutdown().await;
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer).await;
            let answer = String::from_utf8_lossy(&answer);
            assert!(!answer.contains(" 500 "), "{part}: {answer}");
        }
        let path = if part == Part::Node { "/v1/status" } else { "/metrics" };
        let answer = bench.raw(part, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{part} answers after garbage: {answer}");
    }
}

#[tokio::test]
async fn a_core_that_is_gone_is_said() {
    let mut bench = Bench::start().await;
    bench.core.abort();
    assert!((&mut bench.core).await.is_err());
    let answer = bench.raw(Part::Master, &get("/state")).await;
    assert_eq!(status(&answer), "HTTP/1.1 503");
    assert!(answer.ends_with("the node is stopping\n"), "{answer}");
    assert_eq!(status(&bench.raw(Part::Master, &get("/health")).await), "HTTP/1.1 503");
    assert!(bench.seen.recv().await.is_none());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let bench = Bench::start().await;
    let port = bench.ports[&Part::Agent];
    let bind = |address: Address| {
        Listeners::bind(Settings {
            listeners: vec![(Part::Agent, address)],
            limits: Limits::default(),
        })
    };
    let error = bind(Address::Tcp(port)).await.expect_err("taken");
    assert_eq!(error.to_string(), format!("cannot listen on {port} for agent"));
    let reason = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(reason.contains("in use"), "{reason}");

    let socket = Address::Unix(bench.socket.clone());
    let error = bind(socket.clone()).await.expect_err("taken");
    assert!(matches!(error, BindError::Taken { .. }), "{error}");
    assert!(error.to_string().contains("another node is listening"), "{error}");
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mizzen.sock");
    let settings = || Settings {
        listeners: vec![(Part::Node, Address::Unix(path.clone()))],
        limits: Limits::default(),
    };
    // What a killed node leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(Listeners::bind(settings()).await.expect("replaced"));
    assert!(!path.exists());

    std::fs::write(&path, "precious").unwrap();
    let error = Listeners::bind(settings()).await.expect_err("a file");
    assert!(matches!(error, BindError::Refused { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
