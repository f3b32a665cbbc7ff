mod admission;

use super::*;
use crate::authority::{Authority, Standing};
use crate::identity::NodeKey;
use crate::issued::{Expulsions, Issued};
use crate::seal::Epoch;
use mizzen_types::time::Wall;
use std::net::Ipv4Addr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DAY: Duration = Duration::from_secs(86_400);
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { mono: Mono(wall.as_nanos() as u64), wall: Wall(wall.as_nanos() as u64) }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.unwrap() });
}

/// A cluster's authority and its first key of datagrams.
struct Cluster {
    authority: Authority,
    epoch: Epoch,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::generate(now().wall).unwrap();
        let epoch = authority.new_epoch(1, now().wall).unwrap();
        Self { authority, epoch }
    }

    fn credentials(&self, node: &str, standing: Standing) -> Credentials {
        self.credentials_of(node, standing, (now().wall, DAY))
    }

    fn credentials_of(
        &self,
        node: &str,
        standing: Standing,
        life: (Wall, Duration),
    ) -> Credentials {
        let (node, key) = (OwnerId::from(node), NodeKey::generate().unwrap());
        let certificate = self.authority.certify(&node, &key.public(), standing, life).unwrap();
        Credentials { node, key, certificate, root: self.authority.root().clone() }
    }

    async fn node(&self, name: &str) -> Node {
        self.start(&self.credentials(name, Standing::Member)).await
    }

    fn issued(&self) -> Issued {
        Issued { epochs: vec![self.epoch.clone()], ..Issued::default() }
    }

    async fn start(&self, credentials: &Credentials) -> Node {
        let issued = self.issued();
        let transport = Transport::bind(LOCAL, credentials, &issued, now());
        let (transport, arrivals) = transport.await.unwrap();
        Node { id: credentials.node.clone(), transport, arrivals }
    }
}

struct Node {
    id: OwnerId,
    transport: Transport,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Node {
    fn knows(&mut self, other: &Node) {
        self.transport.place(&other.id, other.transport.local_address());
    }

    fn say(&mut self, to: &Node, channel: Channel, text: &str) {
        self.transport.send(&to.id, channel, text.as_bytes(), now().mono).unwrap();
    }

    /// The next event.
    async fn event(&mut self) -> Event {
        loop {
            if let Some(event) = self.transport.poll_event() {
                return event;
            }
            let wait = self.transport.poll_deadline().unwrap_or_default().since(now().mono);
            tokio::select! {
                arrival = self.arrivals.recv() => self.transport.handle(arrival.unwrap(), now()),
                () = tokio::time::sleep(wait) => self.transport.handle_timeout(now()),
            }
        }
    }

    /// The next node that is expelled, whatever else happens before.
    async fn expelled(&mut self) -> OwnerId {
        loop {
            if let Event::Expelled(node) = self.event().await {
                return node;
            }
        }
    }

    /// The next message, whatever else happens before.
    async fn message(&mut self) -> (OwnerId, Channel, String) {
        loop {
            if let Event::Message { peer, channel, bytes } = self.event().await {
                return (peer, channel, String::from_utf8(bytes).unwrap());
            }
        }
    }
}

/// Lets two nodes go on until one of them has a message.
async fn message_of(a: &mut Node, b: &mut Node) -> (OwnerId, Channel, String) {
    tokio::select! { biased; message = a.message() => message, _ = b.message() => panic!("the other") }
}

#[test]
fn messages_come_in_order_with_the_name_of_the_certificate() {
    run(async {
        let cluster = Cluster::new();
        let (mut a, mut b) = (cluster.node("a").await, cluster.node("b").await);
        a.knows(&b);
        a.say(&b, Channel::Link, "one");
        a.say(&b, Channel::Exchange, "two");
        let (first, second) = tokio::join!(async { b.message().await }, async {
            while !matches!(a.event().await, Event::Opened(peer) if peer == "b".into()) {}
        });
        assert_eq!((first, second), (("a".into(), Channel::Link, "one".to_owned()), ()));
        assert_eq!(b.message().await, ("a".into(), Channel::Exchange, "two".to_owned()));
        // The way back is the same stream; nobody told b where a is.
        let long = "x".repeat(1 << 20);
        b.say(&a, Channel::Link, &long);
        assert_eq!(message_of(&mut a, &mut b).await, ("b".into(), Channel::Link, long));
        assert_eq!(b.transport.traffic().streams, 1);

        a.transport.close(&b.id, "enough");
        while !matches!(b.event().await, Event::Closed { peer, .. } if peer == "a".into()) {}
        let sent = b.transport.send(&a.id, Channel::Link, b"late", now().mono);
        assert!(sent.is_err(), "{sent:?}");
    });
}

#[test]
fn two_that_connect_at_once_end_with_one_stream() {
    run(async {
        let cluster = Cluster::new();
        let (mut a, mut b) = (cluster.node("a").await, cluster.node("b").await);
        a.knows(&b);
        b.knows(&a);
        a.transport.hold(&b.id, now().mono);
        b.transport.hold(&a.id, now().mono);
        // Both go on until a word gets through after the last stream opened.
        let done = Instant::now() + Duration::from_secs(20);
        let (mut heard_a, mut heard_b) = (false, false);
        while !(heard_a && heard_b) && Instant::now() < done {
            tokio::select! {
                event = a.event() => match event {
                    Event::Opened(_) => a.say(&b, Channel::Link, "from a"),
                    Event::Message { .. } => heard_a = true,
                    _ => {}
                },
                event = b.event() => match event {
                    Event::Opened(_) => b.say(&a, Channel::Link, "from b"),
                    Event::Message { .. } => heard_b = true,
                    _ => {}
                },
            }
        }
        assert!(heard_a && heard_b);
        assert!(a.transport.is_open(&b.id) && b.transport.is_open(&a.id));
    });
}

#[test]
fn a_held_stream_comes_back_when_the_peer_does() {
    run(async {
        let cluster = Cluster::new();
        let credentials = cluster.credentials("b", Standing::Member);
        let (mut a, b) = (cluster.node("a").await, cluster.start(&credentials).await);
        a.knows(&b);
        a.transport.hold(&b.id, now().mono);
        let mut b = b;
        tokio::select! {
            () = async { while !matches!(a.event().await, Event::Opened(_)) {} } => {}
            _ = b.message() => {}
        }
        let address = b.transport.local_address();
        drop(b);
        while !matches!(a.event().await, Event::Closed { .. }) {}
        let (transport, arrivals) =
            Transport::bind(address, &credentials, &cluster.issued(), now()).await.unwrap();
        let mut b = Node { id: "b".into(), transport, arrivals };
        tokio::select! {
            () = async { while !matches!(a.event().await, Event::Opened(_)) {} } => {}
            _ = b.message() => {}
        }
    });
}

#[test]
fn who_was_long_away_is_reached_as_soon_as_it_is_known_to_be_back() {
    run(async {
        let cluster = Cluster::new();
        let credentials = cluster.credentials("b", Standing::Member);
        let (mut a, gone) = (cluster.node("a").await, cluster.start(&credentials).await);
        let address = gone.transport.local_address();
        a.knows(&gone);
        drop(gone);
        a.transport.hold(&"b".into(), now().mono);
        while !matches!(a.event().await, Event::Unreachable { .. }) {}

        let (transport, arrivals) =
            Transport::bind(address, &credentials, &cluster.issued(), now()).await.unwrap();
        let mut b = Node { id: "b".into(), transport, arrivals };
        a.transport.welcome(&b.id, now().mono);
        // No time passes for it: it would try again by itself.
        let opened = async {
            while !matches!(a.transport.poll_event(), Some(Event::Opened(_))) {
                let arrival = a.arrivals.recv().await.unwrap();
                a.transport.handle(arrival, now());
            }
        };
        tokio::select! { () = opened => {} _ = b.message() => {} }
    });
}

#[test]
fn who_is_not_there_is_unreachable() {
    run(async {
        let cluster = Cluster::new();
        let mut a = cluster.node("a").await;
        let nobody = OwnerId::from("b");
        let sent = a.transport.send(&nobody, Channel::Exchange, b"x", now().mono);
        assert_eq!(sent, Err(Unsent::NoAddress));
        let other = cluster.node("c").await;
        a.transport.place(&nobody, other.transport.local_address());
        a.transport.send(&nobody, Channel::Exchange, b"x", now().mono).unwrap();
        // It is another node that listens there.
        let Event::Unreachable { peer, .. } = a.event().await else { panic!("reached") };
        assert_eq!(peer, nobody);
        let sent = a.transport.send(&nobody, Channel::Exchange, b"x", now().mono);
        assert_eq!(sent, Err(Unsent::Unreachable));
    });
}

/// Whether `a` gets a word to `b`.
async fn gets_through(mut a: Node, b: &mut Node) -> bool {
    a.knows(b);
    a.say(b, Channel::Exchange, "in");
    tokio::select! {
        biased;
        _ = b.message() => true,
        () = async { while !matches!(a.event().await, Event::Unreachable { .. }) {} } => false,
    }
}

#[test]
fn without_a_certificate_of_the_cluster_nobody_speaks() {
    run(async {
        let (cluster, other) = (Cluster::new(), Cluster::new());
        let mut b = cluster.node("b").await;
        assert!(gets_through(cluster.node("a").await, &mut b).await, "a member does");
        assert!(!gets_through(other.node("a").await, &mut b).await, "another cluster");

        let past = Wall(now().wall.0 - 2 * DAY.as_nanos() as u64);
        let expired = cluster.credentials_of("a", Standing::Member, (past, DAY));
        assert!(!gets_through(cluster.start(&expired).await, &mut b).await, "expired");

        // Neither does who has none at all, whatever it says.
        let address = b.transport.local_address();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /state HTTP/1.1\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        tokio::select! {
            read = stream.read_to_end(&mut answer) => drop(read),
            event = b.event() => panic!("{event:?}"),
        }
        assert!(b.transport.traffic().refused_streams >= 2, "{:?}", b.transport.traffic());
    });
}

#[test]
fn datagrams_of_members_come_out_and_others_are_counted() {
    run(async {
        let (cluster, other) = (Cluster::new(), Cluster::new());
        let mut a = cluster.node("a").await;
        let (mut b, mut stranger) = (cluster.node("b").await, other.node("c").await);
        let to = b.transport.local_address();
        stranger.transport.send_datagram(to, b"foreign", now());
        let plain = UdpSocket::bind(LOCAL).await.unwrap();
        plain.send_to(b"garbage", to).await.unwrap();
        plain.send_to(&[1; 400], to).await.unwrap();
        a.transport.send_datagram(to, b"hello", now());
        let mut foreign = false;
        loop {
            match b.event().await {
                Event::ForeignKey { .. } => foreign = true,
                Event::Datagram { bytes, from } => {
                    assert_eq!(
                        (bytes.as_slice(), from),
                        (&b"hello"[..], a.transport.local_address())
                    );
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        let traffic = b.transport.traffic();
        assert_eq!((traffic.datagrams_in, traffic.garbage, traffic.forged), (1, 1, 1));
        assert!(foreign && traffic.foreign == 1, "what names another key");
    });
}

#[test]
fn a_new_key_of_datagrams_goes_round() {
    run(async {
        let cluster = Cluster::new();
        let (mut a, mut b) = (cluster.node("a").await, cluster.node("b").await);
        a.knows(&b);
        a.say(&b, Channel::Link, "open");
        let (_, ()) = tokio::join!(b.message(), async {
            while !matches!(a.event().await, Event::Opened(_)) {}
        });
        let next = cluster.authority.new_epoch(2, now().wall).unwrap();
        let keys = |epoch| Issued { epochs: vec![epoch], ..Issued::default() };
        a.transport.learn(&keys(next), now()).unwrap();
        tokio::select! {
            () = async { while !matches!(b.event().await, Event::Issued) {} } => {}
            _ = a.message() => {}
        }
        assert_eq!(b.transport.issued().epochs.len(), 2);
        let forged = Cluster::new().authority.new_epoch(3, now().wall).unwrap();
        assert!(b.transport.learn(&keys(forged), now()).is_err());
    });
}

#[test]
fn nobody_speaks_with_a_node_that_was_expelled() {
    run(async {
        let cluster = Cluster::new();
        let (mut a, mut b) = (cluster.node("a").await, cluster.node("b").await);
        let mut c = cluster.node("c").await;
        for node in [&b, &c] {
            a.knows(node);
        }
        a.say(&b, Channel::Link, "open");
        a.say(&c, Channel::Link, "open");
        let opened = async {
            while a.transport.open_peers().count() < 2 {
                a.event().await;
            }
        };
        tokio::join!(b.message(), c.message(), opened);
        let next = cluster.authority.new_epoch(2, now().wall).unwrap();
        let list = cluster.authority.expel(&Expulsions::default(), &c.id, 2, now().wall).unwrap();
        a.transport.learn(&Issued { epochs: vec![next], expulsions: list }, now()).unwrap();
        let (ours, theirs) = tokio::join!(b.expelled(), c.expelled());
        assert_eq!((&ours, &theirs), (&c.id, &c.id), "its peers hear of it, and so does the node");
        assert!(!a.transport.is_open(&c.id));
        assert_eq!(c.transport.issued().epochs.len(), 1, "the next key is not for it");

        // When it comes back it is told that, and nothing else.
        let mut c = cluster.node("c").await;
        c.knows(&b);
        c.say(&b, Channel::Exchange, "in");
        tokio::select! {
            biased;
            message = b.message() => panic!("{message:?}"),
            expelled = c.expelled() => assert_eq!(expelled, c.id),
        }
        assert_eq!(c.transport.issued().epochs.len(), 1);
    });
}
