//! The unix socket and the client of the command line.

use super::{Bench, Seen, get};
use crate::client::{Client, ClientError};
use crate::core::{Addressee, Query, ServicesRequest};
use crate::server::Part;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn the_command_line_talks_over_the_socket() {
    let mut bench = Bench::start().await;
    let mode = bench.socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::new(&bench.socket);

    let version: Value = client.get_json("/v1/version").await.unwrap();
    assert_eq!(version["Service"], "mizzen");

    let path = "/v1/logs?task=web.1&stream=stderr&offset=-100&length=7";
    client.get_json::<Value>(path).await.unwrap();
    let Seen::Query(query) = bench.next().await else { panic!("no query") };
    let want = Query::Logs {
        task: "web.1".into(),
        stream: "stderr".into(),
        offset: Some(-100),
        length: Some(7),
    };
    assert_eq!(query, want);

    let body = Some(b"{}".to_vec());
    let (status, body) = client.request("PUT", "/v2/apps/a?force=true", body).await.unwrap();
    assert_eq!((status, body.as_slice()), (200, &b"PUT /v2/apps/a 2"[..]));
    let Seen::Passed(Addressee::Services, request) = bench.next().await else {
        panic!("no request")
    };
    let want = ServicesRequest {
        method: "PUT".into(),
        path: "/v2/apps/a".into(),
        query: "force=true".into(),
        accept: String::new(),
        body: b"{}".to_vec(),
    };
    assert_eq!(request, want);

    let error = client.get_json::<Value>("/v1/logs").await.expect_err("no task");
    assert_eq!(error.to_string(), "Expecting 'task=value' in the query");
    assert!(matches!(error, ClientError::Status { status: 400, .. }));
    let error = client.get_json::<u8>("/v1/version").await.expect_err("no number");
    assert_eq!(error.to_string(), "cannot understand the node's answer to /v1/version");
    assert!(client.request("GET", "no path", None).await.is_err());
}

#[tokio::test]
async fn registered_services_are_asked_for_by_name_or_address() {
    let mut bench = Bench::start().await;
    let client = Client::new(&bench.socket);
    for (path, plain) in [
        ("/v1/vip-services", "/v1/vip-services"),
        ("/v1/vip-services/demo:80/tcp", "/v1/vip-services/demo:80/tcp"),
        ("/v1/vip-services/demo%3A80%2Ftcp", "/v1/vip-services/demo:80/tcp"),
        ("/v1/vip-services/[fd00::1]:80/tcp", "/v1/vip-services/[fd00::1]:80/tcp"),
        ("/v1/vip-plan", "/v1/vip-plan"),
    ] {
        let (status, _) = client.request("PUT", path, Some(b"{}".to_vec())).await.unwrap();
        assert_eq!(status, 200, "{path}");
        let Seen::Passed(Addressee::VipServices, request) = bench.next().await else {
            panic!("no request")
        };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", plain));
    }
    // 65,536 backends with weights, as they are shown.
    let body = vec![b' '; 65_536 * 64];
    let (status, _) =
        client.request("PUT", "/v1/vip-services/demo:80/tcp", Some(body)).await.unwrap();
    assert_eq!(status, 200);
}

#[tokio::test]
async fn every_listener_says_what_there_is_and_it_is_there() {
    let bench = Bench::start().await;
    for part in
        [Part::Master, Part::Agent, Part::Services, Part::MesosDns, Part::Minuteman, Part::Node]
    {
        let answer = bench.raw(part, &get("/")).await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        let index: Value = serde_json::from_str(body).unwrap();
        assert_eq!(index["part"], part.to_string());
        let routes = index["routes"].as_array().unwrap();
        assert!(routes.len() > 2, "{index}");
        for route in routes {
            let (_, path) = route.as_str().unwrap().rsplit_once(' ').unwrap();
            let path = path.replace("{ip:port}", "1.2.3.4:5").replace('…', "apps");
            let path = path.replace(['{', '}', ' '], "");
            let answer = bench.raw(part, &get(&path)).await;
            assert!(!answer.starts_with("HTTP/1.1 404"), "{part}: {route}: {answer}");
        }
    }
}

#[tokio::test]
async fn no_node_is_said_with_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mizzen.sock");
    let want = format!("no node is running here: nobody listens on {}", path.display());
    let client = Client::new(&path);
    let error = client.get_json::<Value>("/v1/status").await.expect_err("nothing there");
    assert_eq!(error.to_string(), want);
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let error = client.get_json::<Value>("/v1/status").await.expect_err("stale");
    assert_eq!(error.to_string(), want);
}
