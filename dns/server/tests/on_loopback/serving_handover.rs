//! A resolver that is killed while it is asked, and its successor.
//!
//! Resolvers and the holder of their sockets are processes: this test's own program, told
//! by a variable what to be.

use crate::common::{loopback, question};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use mizzen_dns_core::{Options, Zones};
use mizzen_dns_server::handover::{self, Holder};
use mizzen_dns_server::{Server, Settings, SharedZones, Sockets};
use mizzen_tests_support::load::{Load, while_loaded};
use mizzen_tests_support::wait::eventually;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ROLE: &str = "MIZZEN_TEST_ROLE";
const PLACE: &str = "MIZZEN_TEST_PLACE";
const LISTEN: &str = "MIZZEN_TEST_LISTEN";

/// A process that ends with the test.
struct Process(Child, BufReader<std::process::ChildStdout>);

impl Process {
    fn start(role: &str, place: &Path, listen: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "serving_handover::a_process_of_the_test", "--nocapture"])
            .env(ROLE, role)
            .env(PLACE, place)
            .env(LISTEN, listen.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Self(child, output)
    }

    /// What it says when it is ready.
    fn ready(&mut self) -> String {
        let mut line = String::new();
        while self.1.read_line(&mut line).expect("its output") > 0 {
            if let Some((_, said)) = line.split_once("READY ") {
                return said.trim().to_owned();
            }
            line.clear();
        }
        panic!("it ended early");
    }

    fn kill(&mut self) {
        self.0.kill().expect("it is killed");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Not a test by itself: what the processes of the test do.
#[test]
fn a_process_of_the_test() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let place = PathBuf::from(std::env::var_os(PLACE).expect("a place"));
    if role == "holder" {
        let holder = Holder::listen(&place).expect("it listens");
        println!("READY holder");
        holder.run().expect("it ends well");
        return;
    }
    let listen: SocketAddr = std::env::var(LISTEN).expect("an address").parse().expect("one");
    let threads = NonZeroUsize::new(2).expect("two");
    let held = handover::take(&place).expect("there is a holder");
    let sockets = Sockets::take_over(held, &[listen], threads).expect("they can be had");
    handover::keep(&place, &sockets.descriptors().expect("descriptors")).expect("they are kept");
    let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
    let settings = Settings { threads, ..Settings::default() };
    let server = Server::start_on(sockets, &settings, zones).expect("it starts");
    println!("READY {}", server.addresses()[0]);
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}

/// Asks again and again until told to stop; returns how many had no answer even when
/// asked twice, and how many were asked.
fn ask_on(resolver: SocketAddr, load: &Load, asked: &AtomicUsize) -> usize {
    let mut lost = 0;
    while load.goes_on() {
        // Another port each time: the kernel spreads clients over the sockets by it.
        let socket = UdpSocket::bind(loopback(0)).expect("a socket");
        socket.connect(resolver).expect("a peer");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let message = question("ready.spartan.", RecordType::A);
        let bytes = message.to_vec().expect("it is encoded");
        let answered = (0..2).any(|_| {
            socket.send(&bytes).expect("somebody has the port");
            let mut buffer = [0; 512];
            socket.recv(&mut buffer).is_ok_and(|length| {
                let reply = Message::from_vec(&buffer[..length]).expect("a message");
                reply.metadata.id == message.metadata.id && reply.answers.len() == 1
            })
        });
        lost += usize::from(!answered);
        asked.fetch_add(1, Ordering::Relaxed);
    }
    lost
}

#[test]
fn no_question_that_is_repeated_once_is_lost_by_a_kill() {
    let file = format!("mizzen-handover-{}", std::process::id());
    let place = Place(std::env::temp_dir().join(file));
    let mut holder = Process::start("holder", &place.0, loopback(0));
    holder.ready();
    let mut resolver = Process::start("resolver", &place.0, loopback(0));
    let address: SocketAddr = resolver.ready().parse().expect("an address");
    let asked = AtomicUsize::new(0);
    let asking = |load: &Load| ask_on(address, load, &asked);
    let (lost, ()) = while_loaded([asking; 4], |_| {
        for _ in 0..3 {
            let before = asked.load(Ordering::Relaxed);
            eventually("some answers", || asked.load(Ordering::Relaxed) > before + 50);
            resolver.kill();
            // A connection is accepted by nobody yet, and waits.
            let waiting = TcpStream::connect(address).expect("the port is held");
            resolver = Process::start("resolver", &place.0, address);
            assert_eq!(resolver.ready(), address.to_string());
            drop(waiting);
        }
        let before = asked.load(Ordering::Relaxed);
        eventually("some answers", || asked.load(Ordering::Relaxed) > before + 50);
    });
    assert_eq!(lost, [0; 4], "questions without an answer");
    handover::end(&place.0).expect("the holder ends");
    resolver.kill();
    UdpSocket::bind(address).expect("the port is free");
}
