//! Membership over real sockets with real signatures: nodes learn of each other, and a
//! member that lies is found out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use mizzen_gossip::authority::{Authority, Standing};
use mizzen_gossip::identity::{Credentials, NodeKey, Signer};
use mizzen_gossip::issued::Issued;
use mizzen_gossip::transport::{Arrival, Channel, Event, Transport};
use mizzen_membership::exchange::Fault;
use mizzen_membership::identity::Identity;
use mizzen_membership::membership::{Effect, Membership, Report, Settings};
use mizzen_membership::swim::State;
use mizzen_membership::view::View;
use mizzen_types::fact::{Fact, Key};
use mizzen_types::ids::OwnerId;
use mizzen_types::time::{Mono, Now, Wall};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

const DAY: Duration = Duration::from_secs(86_400);

fn now() -> Now {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    Now { mono: Mono(nanos), wall: Wall(nanos) }
}

struct Cluster {
    authority: Authority,
    issued: Issued,
}

impl Cluster {
    fn new() -> Self {
        let authority = Authority::generate(now().wall).unwrap();
        let epoch = authority.new_epoch(1, now().wall).unwrap();
        let issued = Issued { epochs: vec![epoch], ..Issued::default() };
        Self { authority, issued }
    }

    fn credentials(&self, node: &str) -> Credentials {
        let (node, key) = (OwnerId::from(node), NodeKey::generate().unwrap());
        let life = (now().wall, DAY);
        let certificate =
            self.authority.certify(&node, &key.public(), Standing::Member, life).unwrap();
        Credentials { node, key, certificate, root: self.authority.root().clone() }
    }

    async fn node(&self, name: &str) -> Node {
        let credentials = self.credentials(name);
        self.start(&credentials, &credentials).await
    }

    /// A node whose streams have one certificate, and whose logs are signed as by another.
    async fn start(&self, wire: &Credentials, logs: &Credentials) -> Node {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (transport, arrivals) =
            Transport::bind(listen, wire, &self.issued, now()).await.unwrap();
        let me = Identity::new(logs.node.clone(), transport.local_address(), 1);
        let settings = Settings::new(me, 7);
        let mut membership = Membership::new(settings, Box::new(Signer::new(logs)), now());
        membership.open(&logs.node, 1);
        let id = logs.node.clone();
        Node { id, transport, arrivals, membership, view: View::default(), reports: Vec::new() }
    }
}

struct Node {
    id: OwnerId,
    transport: Transport,
    arrivals: mpsc::Receiver<Arrival>,
    membership: Membership,
    view: View,
    reports: Vec<Report>,
}

impl Node {
    fn say(&mut self, name: &str, last: u8) {
        let fact = Fact::VipClaim([11, 0, 0, last].into());
        self.membership.say(&self.id, Key::VipClaim(name.to_owned()), Some(&fact), now()).unwrap();
        self.membership.publish(now());
    }

    fn call(&mut self, other: &Self) {
        self.membership.call(vec![other.transport.local_address()], now());
    }

    fn knows(&self, owner: &str, name: &str) -> bool {
        let key = Key::VipClaim(name.to_owned());
        self.view.facts().any(|(id, known, _)| id.as_str() == owner && *known == key)
    }

    fn state(&self, other: &str) -> Option<State> {
        self.membership.nodes().get(&other.into()).map(|node| node.state)
    }

    /// Waits for the next thing to happen, and does what follows from it.
    async fn step(&mut self) {
        self.settle();
        let parts = [self.membership.poll_deadline(), self.transport.poll_deadline()];
        let wait = parts.into_iter().flatten().min().unwrap_or_default().since(now().mono);
        tokio::select! {
            Some(found) = self.arrivals.recv() => self.transport.handle(found, now()),
            () = tokio::time::sleep(wait) => {
                self.membership.handle_timeout(now());
                self.transport.handle_timeout(now());
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let now = now();
            if let Some(event) = self.transport.poll_event() {
                match event {
                    Event::Datagram { from, bytes } => {
                        self.membership.handle_datagram(from, &bytes, now);
                    }
                    Event::Message { peer, channel: Channel::Exchange, bytes } => {
                        self.membership.handle_message(&peer, &bytes, now);
                    }
                    Event::Unreachable { peer, .. } => {
                        self.membership.handle_unreachable(&peer, now);
                    }
                    _ => {}
                }
            } else if let Some(effect) = self.membership.poll_effect() {
                self.carry_out(effect, now);
            } else {
                return;
            }
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Now) {
        match effect {
            Effect::Datagram { to, bytes } => self.transport.send_datagram(to, &bytes, now),
            Effect::Message { to, bytes } => {
                if let Some(node) = self.membership.nodes().get(&to) {
                    self.transport.place(&to, node.identity.address);
                }
                // What is not sent now is found by comparing.
                let _ = self.transport.send(&to, Channel::Exchange, &bytes, now.mono);
            }
            Effect::Learned(learned) => drop(self.view.learn(learned, now)),
            Effect::Report(report) => self.reports.push(report),
            _ => {}
        }
    }
}

/// Lets all nodes go on until something holds.
async fn until(nodes: &mut [Node], what: &str, holds: impl Fn(&[Node]) -> bool) {
    let reached = async {
        while !holds(nodes) {
            let steps: Vec<_> = nodes.iter_mut().map(|node| Box::pin(node.step())).collect();
            first_of(steps).await;
        }
    };
    let limit = Duration::from_secs(30);
    assert!(tokio::time::timeout(limit, reached).await.is_ok(), "in vain until {what}");
}

/// Waits for whichever comes first.
async fn first_of<F: Future<Output = ()> + Unpin>(mut all: Vec<F>) {
    std::future::poll_fn(|context| {
        let ready = |future: &mut F| std::pin::Pin::new(future).poll(context).is_ready();
        match all.iter_mut().any(ready) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn three_nodes_learn_of_each_other_and_of_what_each_says() {
    run(async {
        let cluster = Cluster::new();
        let mut nodes =
            vec![cluster.node("a").await, cluster.node("b").await, cluster.node("c").await];
        for (index, name) in ["of-a", "of-b", "of-c"].into_iter().enumerate() {
            nodes[index].say(name, index as u8);
        }
        let [a, b, c] = nodes.as_mut_slice() else { panic!("three") };
        b.call(a);
        c.call(b);
        until(&mut nodes, "all know all", |nodes| {
            let knows_all = |node: &Node| {
                [("a", "of-a"), ("b", "of-b"), ("c", "of-c")].into_iter().all(|(owner, name)| {
                    node.id.as_str() == owner
                        || (node.knows(owner, name) && node.state(owner) == Some(State::Alive))
                })
            };
            nodes.iter().all(knows_all)
        })
        .await;
        until(&mut nodes, "each has answered each", |nodes| {
            let measured = |node: &Node| {
                let others = node.membership.nodes().iter();
                let mut others = others.filter(|other| *other.identity.node() != node.id);
                others.all(|other| other.round_trip.is_some_and(|span| !span.is_zero()))
            };
            nodes.iter().all(measured)
        })
        .await;
        assert!(nodes.iter().all(|node| node.reports.is_empty()));
    });
}

#[test]
fn a_member_that_speaks_for_another_one_is_found_out() {
    run(async {
        let cluster = Cluster::new();
        // It is a member, and signs the log of `b` with its own key and certificate.
        let wire = cluster.credentials("liar");
        let logs = Credentials { node: "b".into(), ..wire.clone() };
        let mut nodes = vec![cluster.node("a").await, cluster.start(&wire, &logs).await];
        nodes[0].say("of-a", 1);
        nodes[1].say("lie", 2);
        let (address, message) = {
            let [a, liar] = nodes.as_mut_slice() else { panic!("two") };
            liar.call(a);
            (a.transport.local_address(), a.id.clone())
        };
        nodes[1].transport.place(&message, address);
        until(&mut nodes, "it is found out", |nodes| {
            nodes[0].reports.iter().any(|report| {
                matches!(report, Report::Peer(peer, Fault::Forged) if peer.as_str() == "liar")
            })
        })
        .await;
        assert!(!nodes[0].knows("b", "lie"), "nothing of it was taken");
    });
}
