//! Bytes that mean nothing, on every port.

use hickory_proto::rr::RecordType;
use mizzen_tests_node::apps::{WEB_VIP, deploy_web, vip_address};
use mizzen_tests_node::dns::{self, By};
use mizzen_tests_node::http::{drain, get};
use mizzen_tests_node::node::Node;
use mizzen_tests_node::{SOON, eventually, in_lab, lab};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Numbers from a seed, the same in each run (xorshift).
struct Dice(u64);

impl Dice {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.draw() % most;
        (0..length).map(|_| self.draw().to_le_bytes()[0]).collect()
    }
}

#[test]
fn the_resolver_answers_after_packets_of_garbage() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let mut dice = Dice(0x5eed);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(dns::resolver()).unwrap();
        let question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06leader\x05mesos\x00\x00\x01\x00\x01";
        for round in 0..3_000 {
            let packet = match round % 4 {
                0 => dice.bytes(600),
                // A header that promises everything.
                1 => [&question[..4], &[0xff; 8], &dice.bytes(60)[..]].concat(),
                // A name that points at itself.
                2 => [&question[..12], b"\xc0\x0c\x00\x01\x00\x01"].concat(),
                _ => {
                    let mut packet = question.to_vec();
                    let at = usize::try_from(dice.draw()).unwrap_or(0) % packet.len();
                    packet[at] = dice.draw().to_le_bytes()[0];
                    packet.truncate(at + usize::from(dice.draw().to_le_bytes()[0] % 30));
                    packet
                }
            };
            // A full queue is the sender's loss.
            let _ = socket.send(&packet);
        }
        for round in 0..50 {
            let mut stream = TcpStream::connect(dns::resolver()).unwrap();
            let bytes = match round % 3 {
                0 => dice.bytes(3_000),
                1 => b"\xff\xff".to_vec(),
                _ => [&b"\x00\x03"[..], &dice.bytes(40)[..]].concat(),
            };
            let _ = stream.write_all(&bytes);
        }
        for by in [By::Udp, By::Tcp] {
            // Questions may drown in what is still queued at one of its sockets, of which
            // another port of ours would meet the other; clients repeat them.
            let ask = || dns::ask(by, dns::resolver(), "leader.mesos", RecordType::A).ok();
            let answer = eventually("the resolver answers", SOON, ask);
            assert_eq!(dns::addresses_of(&answer), [lab::address()], "{by:?}");
        }
        assert!(node.runs() && !node.place().log().contains("panicked"));
    });
}

#[test]
fn every_http_port_answers_after_garbage() {
    in_lab(|| {
        let mut node = Node::start(&[]);
        let task = deploy_web(&node, 1).remove(0);
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let doors = [
            (lab::at(5050), "/health"),
            (lab::at(5051), "/health"),
            (lab::at(8080), "/ping"),
            (local(61421), "/vips"),
            (local(62080), "/v1/status"),
        ];
        let mut dice = Dice(0xa40e);
        for (at, path) in doors {
            for garbage in garbage(&mut dice) {
                let stream = TcpStream::connect(at).unwrap();
                offend(stream, &garbage);
            }
            assert_eq!(get(at, path).unwrap().status, 200, "{at}{path}");
            let long = format!("/{}", "x".repeat(100_000));
            let answer = get(at, &long);
            assert!(answer.is_err() || answer.is_ok_and(|a| a.status >= 400), "a path of 100 kB");
            let odd = get(at, "/%ff%00/../..//v2/%zz?&&==%").unwrap();
            assert!((400..500).contains(&odd.status), "{at}: {}", odd.status);
        }
        for garbage in garbage(&mut dice) {
            let path = format!("{}/mizzen.sock", lab::variable("MIZZEN_RUN_DIR"));
            offend(UnixStream::connect(path).unwrap(), &garbage);
        }
        assert_eq!(node.json(&["status"])["pid"], node.pid());
        let vip = vip_address(&node, WEB_VIP);
        assert_eq!(get(vip, "/").unwrap().text(), task.id);
        assert!(node.runs() && !node.place().log().contains("panicked"));
    });
}

fn garbage(dice: &mut Dice) -> Vec<Vec<u8>> {
    let head = "POST /v2/apps HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let mut all: Vec<Vec<u8>> = vec![
        b"GET".to_vec(),
        b"\r\n\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        format!("{head}Content-Length: -1\r\n\r\n{{}}").into_bytes(),
        format!("{head}Content-Length: 99999999999999999999\r\n\r\n{{}}").into_bytes(),
        format!("{head}Content-Length: 1000000000000\r\n\r\n").into_bytes(),
        format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}").into_bytes(),
        format!("{chunked}zz\r\n").into_bytes(),
        format!("{chunked}ffffffffffffffffff\r\nx").into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(5_000)).into_bytes(),
        format!("{head}Content-Length: 100000\r\n\r\n{}", "[".repeat(100_000)).into_bytes(),
    ];
    all.extend((0..10).map(|_| dice.bytes(4_000)));
    all
}

/// Sends bytes, closes that direction, and hears what the server says to it.
fn offend(mut stream: impl Read + Write + Shut, bytes: &[u8]) {
    stream.shut_after(bytes);
    let answer = drain(&mut stream, Duration::from_secs(5));
    let text = String::from_utf8_lossy(&answer);
    let refused =
        text.is_empty() || text.starts_with("HTTP/1.1 4") || text.starts_with("HTTP/1.1 5");
    assert!(refused, "{:?} was answered with {text}", String::from_utf8_lossy(bytes));
}

trait Shut {
    fn shut_after(&mut self, bytes: &[u8]);
}

impl Shut for TcpStream {
    fn shut_after(&mut self, bytes: &[u8]) {
        self.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = self.write_all(bytes);
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

impl Shut for UnixStream {
    fn shut_after(&mut self, bytes: &[u8]) {
        self.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = self.write_all(bytes);
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}
