//! DNS over TCP (RFC 7766): several questions per connection, each behind its length,
//! answered as their answers become ready.

mod connections;
mod conversation;

use crate::thread::Thread;
use connections::Connections;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::spawn_local;
use tokio::time::sleep;
use tracing::{debug, warn};

/// How long to wait when no connection can be accepted, for example for want of file
/// descriptors: they come back when others end.
const BREATH: Duration = Duration::from_millis(50);

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TcpLimits {
    /// How many at once.
    pub(crate) connections: usize,
    /// How many of one client.
    pub(crate) per_client: usize,
    /// How many questions of one connection are answered at once; more wait unread.
    pub(crate) in_flight: usize,
    /// How long a client may be silent, or leave its answers unread.
    pub(crate) idle: Duration,
    /// How long one message may take to arrive.
    pub(crate) message: Duration,
}

/// Accepts connections for ever. Runs in a [`tokio::task::LocalSet`].
pub(crate) async fn serve(listener: TcpListener, thread: Rc<Thread>, limits: TcpLimits) {
    let connections = Connections::new(limits.connections, limits.per_client);
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                thread.counters.tcp_accepted.add(1);
                let admitted = connections.admit(client.ip().into());
                thread.counters.tcp_crowded_out.add(u64::from(admitted.makes_room()));
                let Some(place) = admitted.place() else { continue };
                let thread = Rc::clone(&thread);
                spawn_local(async move {
                    let ended = conversation::hold(stream, client, &thread, limits, &place).await;
                    debug!(%client, ?ended, "connection over");
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                warn!(%error, "cannot accept a DNS connection");
                sleep(BREATH).await;
            }
        }
    }
}

/// Whether only the connection failed that would have been accepted (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::ConnectionAborted | K::ConnectionReset | K::Interrupted)
}
