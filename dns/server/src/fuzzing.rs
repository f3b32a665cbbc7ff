//! Where fuzz targets come in: any bytes, the way that the sockets' loops take them.

use crate::access::Access;
use crate::edns::Identity;
use crate::fair::{Limits, Room};
use crate::forward::{ForwardError, ForwardSettings, Forwarder};
use crate::handler::{Handler, Outcome};
use crate::metrics::Counters;
use crate::rules::Rules;
use crate::shared::SharedZones;
use crate::sockets::Transport;
use crate::thread::Thread;
use crate::transfer::Piece;
use hickory_server::net::xfer::Protocol;
use mizzen_dns_core::{PlainAnswer, Zones};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A resolver without sockets, to which everything is allowed.
#[derive(Debug)]
pub struct Resolver(Thread);

impl Resolver {
    /// Answers from `zones`; nobody is asked about other names.
    ///
    /// # Errors
    ///
    /// None that can happen without upstreams.
    pub fn new(zones: Zones) -> Result<Self, ForwardError> {
        let zones = Arc::new(SharedZones::new(zones));
        let forwarder = Forwarder::new(&ForwardSettings::default(), Arc::clone(&zones), &[], None)?;
        let all = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| network.parse().ok());
        let all: Vec<_> = all.collect();
        let access = Access { clients: all.clone(), transfer_to: all };
        let tcp_idle = Duration::from_secs(10);
        let identity = Identity { nsid: Some(b"node".to_vec()), cookie_secret: [1; 16], tcp_idle };
        let handler = Arc::new(Handler::new(zones, Rules { forwarder, access }, identity));
        let room = Room::new(Limits { total: 1, per_client: 1 });
        Ok(Self(Thread::new(handler, Arc::new(Counters::new()), room, 0)))
    }

    /// The reply of the short road, if it has one.
    #[must_use]
    pub fn short(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let mut question = self.0.plain(message)?;
        if transport == Transport::Tcp {
            question = question.by_tcp();
        }
        let mut reply = vec![0; usize::from(u16::MAX)];
        let mut answer = [PlainAnswer::NotPlain];
        self.0.answer_plain(&[question], transport, &mut [&mut reply[..]], &mut answer);
        let [PlainAnswer::Done { length, .. }] = answer else { return None };
        reply.truncate(length);
        Some(reply)
    }

    /// The replies of the full road: none, one, or those of a transfer.
    pub async fn full(&self, message: &[u8], transport: Transport) -> Vec<Vec<u8>> {
        let protocol = match transport {
            Transport::Udp => Protocol::Udp,
            Transport::Tcp => Protocol::Tcp,
        };
        let client = SocketAddr::from(([127, 0, 0, 1], 4000));
        match self.0.handler.take(message.to_vec(), client, protocol).await {
            Outcome::Nothing => Vec::new(),
            Outcome::Reply(bytes, _) => vec![bytes],
            Outcome::Transfer(mut transfer, _) => {
                let mut messages = Vec::new();
                loop {
                    match transfer.next_piece(&self.0.handler.zones) {
                        Piece::Message(message) => messages.push(message),
                        Piece::NotYet => {}
                        Piece::Over => return messages,
                    }
                }
            }
        }
    }
}
