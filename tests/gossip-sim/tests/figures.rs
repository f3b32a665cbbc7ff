//! What the cluster must reach, with fewer nodes than the figures are given for.

use mizzen_tests_gossip_sim::cluster::Cluster;
use mizzen_tests_gossip_sim::joining::{self, Signatures};
use mizzen_tests_gossip_sim::measure;
use mizzen_tests_gossip_sim::network::{MS, SECOND};

#[test]
fn a_death_is_known_soon_and_nobody_else_dies() {
    let mut cluster = Cluster::new(150, 0.01, 11);
    cluster.run(5 * SECOND);
    let deaths = measure::deaths(&mut cluster, 7);
    let (dead, suspect) = (deaths.dead.median(), deaths.suspect.median());
    assert_eq!((deaths.wrong, deaths.dead.incomplete), (0, 0));
    assert!(dead.half <= 2500 * MS && dead.all <= 4 * SECOND, "{dead:?}");
    assert!(suspect.half <= 1500 * MS, "no new connections: {suspect:?}");
}

#[test]
fn with_much_loss_a_death_is_known_and_nobody_else_dies() {
    let mut cluster = Cluster::new(60, 0.05, 12);
    let quiet = measure::quiet(&mut cluster, 60 * SECOND);
    assert_eq!(quiet.deaths, 0);
    let deaths = measure::deaths(&mut cluster, 5);
    assert_eq!((deaths.wrong, deaths.dead.incomplete), (0, 0));
}

#[test]
fn a_quiet_cluster_is_quiet() {
    let mut cluster = Cluster::new(100, 0.01, 13);
    measure::speak(&mut cluster, 20);
    let quiet = measure::quiet(&mut cluster, 60 * SECOND);
    assert_eq!((quiet.deaths, quiet.suspicions), (0, 0));
    assert!(quiet.bytes <= 3000.0, "{quiet:?}");
}

#[test]
fn a_change_gets_around_within_a_second() {
    let mut cluster = Cluster::new(150, 0.01, 14);
    measure::speak(&mut cluster, 20);
    let changes = measure::changes(&mut cluster, 20, 5);
    assert!(changes.worst().most <= SECOND && changes.incomplete == 0, "{changes:?}");
}

#[test]
fn a_node_joins_many_backends() {
    let join = joining::join(100, 50, Signatures::Real);
    assert_eq!(join.backends, 5000);
    assert!(join.network <= 3 * SECOND && join.bytes < 5000 * 400, "{join:?}");
}
