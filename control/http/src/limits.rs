//! How much and how long a client may take.

use std::time::Duration;

/// Bytes and times that a listener grants.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest body of a framework's call, in bytes: an ACCEPT may launch many tasks.
    pub call_body: usize,
    /// Longest body of a `/v2` request, in bytes.
    pub services_body: usize,
    /// Longest body about a service that is registered by hand, in bytes: it has room for
    /// 65,536 backends.
    pub vip_services_body: usize,
    /// Until a request's head is complete; also the life of an idle connection.
    pub head_wait: Duration,
    /// Until a request's body is complete.
    pub body_wait: Duration,
    /// Without a byte taken by a client that has an answer to read.
    pub write_stall: Duration,
    /// Until the core answers; it answers in microseconds unless it is stuck.
    pub reply_wait: Duration,
    /// For open requests when the node stops.
    pub drain: Duration,
    /// Connections over TCP at a time, all listeners together. They never take more than
    /// half of the descriptors that the process may have, and one listener never more
    /// than three quarters of them all.
    pub connections: usize,
    /// Connections over each unix socket at a time, counted apart: the operator gets in
    /// when the world does not.
    pub admin_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_body: 16 << 20,
            services_body: 1 << 20,
            vip_services_body: 8 << 20,
            head_wait: Duration::from_secs(60),
            body_wait: Duration::from_secs(60),
            write_stall: Duration::from_secs(30),
            reply_wait: Duration::from_secs(30),
            drain: Duration::from_secs(3),
            connections: 4096,
            admin_connections: 64,
        }
    }
}
