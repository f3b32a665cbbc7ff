//! Who comes in, and who gets another certificate.

use super::*;
use crate::join::{Admission, Contact, JoinError, Joined, join};
use crate::token::{Refusal, Token, Tokens};

/// A node that decides who joins, for as long as something else runs.
async fn desk<T>(
    cluster: &Cluster,
    desk: &mut Node,
    tokens: &mut Tokens,
    other: impl Future<Output = T>,
) -> T {
    tokio::pin!(other);
    loop {
        let event =
            tokio::select! { done = &mut other => return done, event = desk.event() => event };
        let Event::Applied { applicant, reply } = event else { continue };
        let admitted = tokens.admit(&applicant, now().wall).map(|()| {
            let key = applicant.public_key().unwrap();
            let life = (now().wall, DAY);
            Admission {
                certificate: cluster
                    .authority
                    .certify(&applicant.node, &key, Standing::Member, life)
                    .unwrap(),
                root: cluster.authority.root().der().to_vec(),
                issued: desk.transport.issued(),
                contacts: vec![Contact {
                    node: desk.id.clone(),
                    address: desk.transport.local_address(),
                }],
            }
        });
        drop(reply.send(admitted));
    }
}

#[test]
fn a_node_with_a_token_joins_by_any_node() {
    run(async {
        let cluster = Cluster::new();
        let first = cluster.credentials("a", Standing::Authority);
        let (mut a, mut b) = (cluster.start(&first).await, cluster.node("b").await);
        b.transport.set_authorities(vec![a.transport.local_address()]);
        let mut tokens = Tokens::default();
        let token = tokens.make(cluster.authority.root(), (DAY, 1), now().wall).unwrap();
        let key = NodeKey::generate().unwrap();
        let node = OwnerId::from("c");
        let hosts = [b.transport.local_address().to_string()];

        let joined = desk(&cluster, &mut a, &mut tokens, join(&hosts, &token, (&node, &key))).await;
        let Joined { credentials, issued, contacts } = joined.unwrap();
        assert_eq!((issued.epochs.len(), contacts[0].node.clone()), (1, "a".into()));
        let c = cluster.start(&credentials).await;
        assert!(gets_through(c, &mut b).await);

        // Once: the same node may come again, another one may not.
        let again = desk(&cluster, &mut a, &mut tokens, join(&hosts, &token, (&node, &key))).await;
        assert!(again.is_ok());
        let other = (&OwnerId::from("d"), &NodeKey::generate().unwrap());
        let used = desk(&cluster, &mut a, &mut tokens, join(&hosts, &token, other)).await;
        assert!(matches!(used, Err(JoinError::Refused(Refusal::Used))), "{used:?}");
    });
}

#[test]
fn a_token_is_told_to_its_own_cluster_only() {
    run(async {
        let (cluster, impostor) = (Cluster::new(), Cluster::new());
        let mut tokens = Tokens::default();
        let token: Token = tokens.make(cluster.authority.root(), (DAY, 1), now().wall).unwrap();
        let key = NodeKey::generate().unwrap();
        let who = (&OwnerId::from("c"), &key);

        let first = impostor.credentials("a", Standing::Authority);
        let mut a = impostor.start(&first).await;
        let hosts = [a.transport.local_address().to_string()];
        let joined = desk(&impostor, &mut a, &mut tokens, join(&hosts, &token, who)).await;
        assert!(matches!(joined, Err(JoinError::Unreachable { .. })), "{joined:?}");

        // A member that is not the authority hears no secret and leads nowhere.
        let mut b = cluster.node("b").await;
        let hosts = [b.transport.local_address().to_string()];
        let joined = desk(&cluster, &mut b, &mut tokens, join(&hosts, &token, who)).await;
        assert!(matches!(joined, Err(JoinError::NoAuthority)), "{joined:?}");
        assert_eq!(tokens.get(&token.id()).unwrap().used_by, Vec::<OwnerId>::new());
    });
}

#[test]
fn certificates_are_renewed_over_the_stream() {
    run(async {
        let cluster = Cluster::new();
        let first = cluster.credentials("a", Standing::Authority);
        let mut credentials = cluster.credentials("b", Standing::Member);
        let (mut a, mut b) = (cluster.start(&first).await, cluster.start(&credentials).await);
        b.knows(&a);
        b.transport.ask_renewal(&a.id, &credentials.key.public(), now().mono);
        let asked = async {
            loop {
                if let Event::RenewalAsked { peer, public_key } = a.event().await {
                    let key = public_key.as_slice().try_into().unwrap();
                    let life = (now().wall, 2 * DAY);
                    let made = cluster.authority.certify(&peer, &key, Standing::Member, life);
                    a.transport.answer_renewal(&peer, Ok(made.unwrap()), now().mono);
                }
            }
        };
        let certificate = tokio::select! {
            () = asked => panic!("asked for ever"),
            certificate = async {
                loop {
                    if let Event::Certificate(certificate) = b.event().await {
                        return certificate;
                    }
                }
            } => certificate,
        };
        assert!(certificate.until > credentials.certificate.until);
        credentials.certificate = certificate;
        b.transport.renew(&credentials).unwrap();
        let mut wrong = credentials.clone();
        wrong.key = NodeKey::generate().unwrap();
        assert!(b.transport.renew(&wrong).is_err(), "of another key");
    });
}

#[test]
fn nobody_gets_a_certificate_of_another_key_than_its_own() {
    run(async {
        let cluster = Cluster::new();
        let first = cluster.credentials("a", Standing::Authority);
        let (mut a, mut b) = (cluster.start(&first).await, cluster.node("b").await);
        b.knows(&a);
        let other = NodeKey::generate().unwrap();
        b.transport.ask_renewal(&a.id, &other.public(), now().mono);
        // What is asked for after it has arrived, and was not passed on.
        b.transport.send(&a.id, Channel::Clock, b"after it", now().mono).unwrap();
        let asked = async {
            loop {
                match a.event().await {
                    Event::RenewalAsked { .. } => return true,
                    Event::Message { .. } => return false,
                    _ => {}
                }
            }
        };
        let passed_on = tokio::select! {
            passed_on = asked => passed_on,
            () = async { loop { b.event().await; } } => unreachable!(),
        };
        assert!(!passed_on);
    });
}
