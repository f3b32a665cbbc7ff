//! SUBSCRIBE: the stream, its records, its end.

use super::{Bench, Seen, heartbeat, post};
use crate::limits::Limits;
use crate::server::Part;
use mizzen_api::recordio::Decoder;
use mizzen_api::v1::scheduler::{Call, Event, call, event};
use mizzen_api::v1::{FrameworkId, FrameworkInfo};
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The head of an answer, in small letters.
async fn head(client: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    head.to_ascii_lowercase()
}

/// One chunk; empty at the end of the answer.
async fn chunk(client: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut length = String::new();
    client.read_line(&mut length).await.unwrap();
    let length = usize::from_str_radix(length.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    client.read_exact(&mut chunk).await.unwrap();
    chunk.truncate(length);
    chunk
}

#[tokio::test]
async fn a_record_is_a_chunk() {
    let mut bench = Bench::start().await;
    let (client, events) = bench.subscribe().await;
    let mut client = BufReader::new(client);
    let head = head(&mut client).await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("\r\nmesos-stream-id: stream-1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");

    let subscribed = Event {
        r#type: Some(event::Type::Subscribed as i32),
        subscribed: Some(event::Subscribed {
            framework_id: FrameworkId { value: "a\nb".into() },
            heartbeat_interval_seconds: Some(15.0),
            ..Default::default()
        }),
        ..Default::default()
    };
    events.send(subscribed).await.unwrap();
    events.send(heartbeat()).await.unwrap();
    let text = r#"{"type":"SUBSCRIBED","subscribed":{"framework_id":{"value":"a\nb"},"heartbeat_interval_seconds":15.0}}"#;
    let want = format!("{}\n{text}", text.len());
    assert_eq!(String::from_utf8(chunk(&mut client).await).unwrap(), want);
    assert_eq!(chunk(&mut client).await, b"20\n{\"type\":\"HEARTBEAT\"}");

    // The core ends the stream: the answer is complete, and the core hears of it.
    drop(events);
    assert_eq!(chunk(&mut client).await, b"");
    assert!(matches!(bench.next().await, Seen::Closed(id) if id == "stream-1"));
}

#[tokio::test]
async fn protobuf_both_ways() {
    let mut bench = Bench::start().await;
    let info = FrameworkInfo { user: "u".into(), name: "n".into(), ..Default::default() };
    let call = Call {
        r#type: Some(call::Type::Subscribe as i32),
        subscribe: Some(call::Subscribe { framework_info: info, ..Default::default() }),
        ..Default::default()
    };
    let body = call.encode_to_vec();
    let head_sent = format!(
        "POST /api/v1/scheduler HTTP/1.1\r\nHost: h\r\nContent-Type: application/x-protobuf\r\nAccept: application/x-protobuf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = bench.connect(Part::Master).await;
    client.write_all(&[head_sent.as_bytes(), &body].concat()).await.unwrap();
    let Seen::Subscribed(got, events) = bench.next().await else { panic!("no SUBSCRIBE") };
    assert_eq!(*got, call);
    let mut client = BufReader::new(client);
    let head = head(&mut client).await;
    assert!(head.contains("\r\ncontent-type: application/x-protobuf\r\n"), "{head}");
    events.send(heartbeat()).await.unwrap();
    let mut records = Decoder::new(1000);
    records.push(&chunk(&mut client).await);
    let record = records.next_record().unwrap().expect("a whole record");
    assert_eq!(Event::decode(record.as_slice()).unwrap(), heartbeat());
}

#[tokio::test]
async fn the_core_hears_of_a_client_that_goes_away() {
    let mut bench = Bench::start().await;
    let (client, events) = bench.subscribe().await;
    let mut client = BufReader::new(client);
    head(&mut client).await;
    drop(client);
    assert!(matches!(bench.next().await, Seen::Closed(id) if id == "stream-1"));
    assert!(events.is_closed());
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let limits = Limits { write_stall: Duration::from_millis(50), ..Limits::default() };
    let mut bench = Bench::with(limits).await;
    let (client, events) = bench.subscribe().await;
    let big =
        Event { error: Some(event::Error { message: "x".repeat(1 << 20) }), ..Default::default() };
    while events.send(big.clone()).await.is_ok() {}
    assert!(matches!(bench.next().await, Seen::Closed(_)));
    drop(client);
}

#[tokio::test]
async fn streams_end_when_the_node_stops() {
    let mut bench = Bench::start().await;
    let (client, _events) = bench.subscribe().await;
    let mut client = BufReader::new(client);
    head(&mut client).await;
    drop(bench.stop.take());
    assert_eq!(chunk(&mut client).await, b"");
    assert!(matches!(bench.next().await, Seen::Closed(_)));
    (&mut bench.served).await.unwrap();
    assert!(!bench.socket.exists(), "the unix socket is removed");
    assert!(TcpStream::connect(bench.ports[&Part::Master]).await.is_err());
}

#[tokio::test]
async fn calls_carry_their_stream() {
    let mut bench = Bench::start().await;
    let headers = "Content-Type: application/json\r\nMesos-Stream-Id: stream-1\r\n";
    let body = r#"{"framework_id":{"value":"known"},"type":"RECONCILE"}"#;
    let answer = bench.raw(Part::Master, post(body, headers).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    let Seen::Call(call, stream_id) = bench.next().await else { panic!("no call") };
    assert_eq!(stream_id.as_deref(), Some("stream-1"));
    assert!(call.reconcile.is_some(), "without a body everything is asked for");
}
