//! What nodes say to each other, on the wire, and who may say it.
//!
//! | Module | What it does |
//! |---|---|
//! | [`authority`] | makes certificates and the keys of datagrams: the cluster's root of trust |
//! | [`certificate`] | whose a certificate is, and whether the authority made it |
//! | [`identity`] | what a node proves itself by: its key, its certificate, the cluster's keys |
//! | [`token`] | what lets a new node in, once |
//! | [`join`] | how it comes in |
//! | [`issued`] | what the authority gives every node: keys of datagrams, who was expelled |
//! | [`seal`] | datagrams that nobody else can read or write |
//! | [`transport`] | sockets: datagrams, a stream to each peer, joins |
//!
//! Nothing here decides who is alive or what is true: `mizzen-membership` does, and gets
//! bytes with the name of the node that sent them. That name is always the one in the
//! sender's certificate.

pub mod authority;
pub mod certificate;
mod frame;
pub mod identity;
pub mod issued;
pub mod join;
pub mod seal;
mod text;
mod tls;
pub mod token;
pub mod transport;

pub use certificate::TrustError;
