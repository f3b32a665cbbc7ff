//! A cluster's membership in one thread.
//!
//! Every node is the value that a real node drives; the network between them is a queue
//! of events in virtual time, with latency and loss from a seed. The same seed gives the
//! same run, whatever the machine does meanwhile.
//!
//! `cargo run --release -p mizzen-tests-gossip-sim -- --nodes 1000 --loss 0.01` prints
//! what the tests assert with fewer nodes.

pub mod cluster;
pub mod joining;
pub mod keys;
pub mod measure;
pub mod network;
