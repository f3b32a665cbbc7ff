//! Upstreams that do whatever a test tells them to, on real sockets.

use crate::common::{loopback, question, send};
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A question that arrived by UDP.
pub struct Datagram<'a> {
    pub asked: Message,
    pub bytes: &'a [u8],
    pub client: SocketAddr,
    pub socket: &'a UdpSocket,
}

impl Datagram<'_> {
    pub fn say(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.client).expect("it is sent");
    }

    pub fn reply(&self, message: &Message) {
        self.say(&message.to_vec().expect("it is encoded"));
    }
}

/// What an upstream sends for a question: any number of datagrams, and by TCP the last.
pub type Script = fn(&Message) -> Vec<Vec<u8>>;

/// An upstream that runs until it is dropped.
pub struct Fake {
    pub address: SocketAddr,
    /// Questions that came by UDP and by TCP.
    pub by_udp: Arc<AtomicUsize>,
    pub by_tcp: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Fake {
    /// An upstream that follows these two.
    pub fn start(
        udp: impl Fn(&Datagram<'_>) + Send + 'static,
        tcp: impl Fn(&Message, &mut TcpStream) + Send + 'static,
    ) -> Self {
        let (datagrams, listener) = pair();
        let address = datagrams.local_addr().expect("its address");
        let stop = Arc::new(AtomicBool::new(false));
        let (by_udp, by_tcp) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (over, count) = (Arc::clone(&stop), Arc::clone(&by_udp));
        let mut threads = vec![std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, client)) = datagrams.recv_from(&mut buffer) {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let bytes = &buffer[..length];
                let asked = Message::from_vec(bytes).expect("a question");
                udp(&Datagram { asked, bytes, client, socket: &datagrams });
            }
        })];
        let (over, count) = (Arc::clone(&stop), Arc::clone(&by_tcp));
        threads.push(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.expect("a connection");
                let mut length = [0; 2];
                if stream.read_exact(&mut length).is_err() {
                    continue;
                }
                let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut message).expect("a question");
                count.fetch_add(1, Ordering::SeqCst);
                tcp(&Message::from_vec(&message).expect("a question"), &mut stream);
            }
        }));
        Self { address, by_udp, by_tcp, stop, threads }
    }

    /// An upstream that follows these two scripts.
    pub fn scripted(udp: Script, tcp: Script) -> Self {
        let by_udp = move |datagram: &Datagram<'_>| {
            udp(&datagram.asked).iter().for_each(|reply| datagram.say(reply));
        };
        Self::start(by_udp, move |asked, stream| {
            if let Some(reply) = tcp(asked).last() {
                send(stream, reply);
            }
        })
    }

    /// An upstream that is never asked by TCP.
    pub fn udp(udp: impl Fn(&Datagram<'_>) + Send + 'static) -> Self {
        Self::start(udp, |_, _| ())
    }

    /// One that gives every name one address for so many seconds.
    pub fn good(ttl: u32) -> Self {
        Self::udp(move |datagram| datagram.reply(&answer(&datagram.asked, ttl)))
    }

    pub fn asked(&self) -> usize {
        self.by_udp.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Each thread waits for input, so it gets some.
        let waker = UdpSocket::bind(loopback(0)).expect("a socket");
        waker.send_to(b"stop", self.address).expect("it is sent");
        drop(TcpStream::connect(self.address));
        for thread in self.threads.drain(..) {
            thread.join().expect("it ends");
        }
    }
}

/// Sends a whole message by TCP.
pub fn framed(stream: &mut TcpStream, message: &Message) {
    send(stream, &message.to_vec().expect("it is encoded"));
}

/// An empty answer with an OPT record, as resolvers send it.
pub fn empty(asked: &Message) -> Message {
    let mut reply = Message::response(asked.metadata.id, asked.metadata.op_code);
    reply.add_queries(asked.queries.clone());
    reply.set_edns(Edns::new());
    reply
}

pub fn address(asked: &Message, ttl: u32, last: u8) -> Record {
    let name = asked.queries[0].name().clone();
    Record::from_rdata(name, ttl, RData::A(A([192, 0, 2, last].into())))
}

/// The answer 192.0.2.1.
pub fn answer(asked: &Message, ttl: u32) -> Message {
    let mut reply = empty(asked);
    reply.add_answer(address(asked, ttl, 1));
    reply
}

pub fn failure(asked: &Message, code: ResponseCode) -> Message {
    let mut reply = empty(asked);
    reply.metadata.response_code = code;
    reply
}

/// The name does not exist, says the zone `example.`.
pub fn nothing(asked: &Message, ttl: u32) -> Message {
    let mut reply = failure(asked, ResponseCode::NXDomain);
    let name = |text| Name::from_ascii(text).expect("a name");
    let soa = SOA::new(name("ns.example."), name("who.example."), 1, 2, 3, 4, ttl);
    reply.add_authority(Record::from_rdata(name("example."), 900, RData::SOA(soa)));
    reply
}

pub fn truncated(asked: &Message) -> Message {
    let mut reply = empty(asked);
    reply.metadata.truncation = true;
    reply
}

/// A question for addresses with an OPT record, so that errors come with reasons.
pub fn ask(name: &str) -> Message {
    let mut asked = question(name, RecordType::A);
    asked.set_edns(Edns::new());
    asked
}

/// Response code and answers.
pub fn outcome(reply: &Message) -> (ResponseCode, Vec<String>) {
    let answers = reply.answers.iter().map(|record| record.data.to_string()).collect();
    (reply.metadata.response_code, answers)
}

/// The numbers of its extended errors (RFC 8914).
pub fn notices(reply: &Message) -> Vec<u16> {
    use hickory_proto::rr::rdata::opt::EdnsOption;
    let options = reply.edns.iter().flat_map(|edns| edns.options().as_ref());
    let codes = options.filter_map(|(_, option)| match option {
        EdnsOption::Unknown(15, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    });
    codes.collect()
}

fn pair() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind(loopback(0)).expect("a port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("its address")) {
            return (udp, tcp);
        }
    }
}
