//! A resolver on loopback, and packets to and from it.

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use mizzen_dns_core::{self as core, Options, OwnerKey, Zones, records_of};
use mizzen_dns_server::{ForwardSettings, Server, Settings, SharedZones};
use mizzen_types::fact::{Fact, Health, Key, PortFact, Reach, TaskFact, TaskPhase};
use mizzen_types::ids::OwnerId;
use mizzen_types::place::Places;
use mizzen_types::time::Wall;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn loopback(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

pub struct Resolver {
    pub server: Server,
    pub zones: Arc<SharedZones>,
    pub address: SocketAddr,
}

impl Resolver {
    pub fn start(settings: Settings) -> Self {
        let settings = Settings { listen: vec![loopback(0)], ..settings };
        let zones = Arc::new(SharedZones::new(Zones::new(&Options::default())));
        let server = Server::start(&settings, Arc::clone(&zones)).expect("it starts");
        let address = server.addresses()[0];
        Self { server, zones, address }
    }

    /// A resolver that forwards to `upstreams`.
    pub fn forwarding(upstreams: Vec<SocketAddr>) -> Self {
        let upstreams = upstreams.into_iter().map(core::Upstream::plain).collect();
        let forward = ForwardSettings { upstreams, ..ForwardSettings::default() };
        Self::start(Settings { forward, ..Settings::default() })
    }

    pub fn udp(&self, message: &Message) -> Message {
        let reply = self.udp_bytes(&message.to_vec().expect("it is encoded"));
        check(message, &reply)
    }

    pub fn tcp(&self, message: &Message) -> Message {
        let mut stream = connect(self.address);
        send(&mut stream, &message.to_vec().expect("it is encoded"));
        check(message, &receive(&mut stream).expect("a reply"))
    }

    pub fn udp_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = self.socket();
        socket.send(bytes).expect("it is sent");
        let mut buffer = vec![0; 65535];
        let length = socket.recv(&mut buffer).expect("a reply");
        buffer.truncate(length);
        buffer
    }

    pub fn socket(&self) -> UdpSocket {
        let socket = UdpSocket::bind(loopback(0)).expect("a socket");
        socket.connect(self.address).expect("a peer");
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        socket
    }

    /// Adds a task's records as the daemon does.
    pub fn add(&self, task: TaskFact) {
        let key = Key::Task(task.framework_id.clone(), task.task_id.clone());
        let (owner, places) = (OwnerId::from("n1"), Places::new("n1".into()));
        let fact = Fact::Task(Box::new(task));
        let records = records_of(&owner, &key, &fact, &Options::default(), &places);
        let owner = OwnerKey::Fact { owner, key };
        self.zones.update(|zones| zones.set(owner, records));
    }
}

fn check(asked: &Message, reply: &[u8]) -> Message {
    let reply = Message::from_vec(reply).expect("a message");
    assert_eq!(reply.metadata.id, asked.metadata.id);
    reply
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

pub fn send(stream: &mut TcpStream, message: &[u8]) {
    let length = u16::try_from(message.len()).expect("a short message");
    stream.write_all(&[&length.to_be_bytes(), message].concat()).expect("it is sent");
}

pub fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

pub fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// A running task with a container address and a named port.
pub fn task(id: &str, address: [u8; 4]) -> TaskFact {
    TaskFact {
        task_id: id.into(),
        framework_id: "m-0001".into(),
        framework_name: "marathon".into(),
        agent_id: "m-S3".into(),
        container_id: "c1".into(),
        name: "web".into(),
        discovery_name: Some("web".into()),
        phase: TaskPhase::Running,
        health: Health::Unchecked,
        host_address: [10, 0, 0, 2].into(),
        container_addresses: vec![address.into()],
        container_reach: Reach::Cluster,
        host_ports: vec![31042],
        ports: vec![PortFact {
            number: 80,
            host_port: Some(31042),
            name: Some("http".into()),
            protocol: "tcp".into(),
            labels: BTreeMap::new(),
        }],
        labels: BTreeMap::new(),
        launched: Wall(0),
    }
}
