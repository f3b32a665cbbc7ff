//! The sockets: bound early, served late, drained at the end.

use crate::closing::{Closing, closing};
use crate::core::CoreHandle;
use crate::limits::Limits;
use crate::origin::no_changes_by_other_sites;
use crate::routes::{self, App};
use crate::stall::Stalling;
use axum::Router;
use axum::middleware::from_fn;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tracing::{debug, warn};

mod budget;
mod refusal;
mod socket;

use budget::{Budget, Permit, Share};
use refusal::Refusals;
use socket::{Socket, Stream};

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Which routes a listener has, see [`routes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The master's.
    Master,
    /// The agent's.
    Agent,
    /// The service scheduler's.
    Services,
    /// The resolver's, as Mesos-DNS had them.
    MesosDns,
    /// The VIP balancer's, as Minuteman had them.
    Minuteman,
    /// The node's own.
    Node,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Agent => "agent",
            Self::Services => "services",
            Self::MesosDns => "mesos-dns",
            Self::Minuteman => "minuteman",
            Self::Node => "node",
        })
    }
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A unix socket that only its owner may use.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What to listen on.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// One entry per listener; a part may have several.
    pub listeners: Vec<(Part, Address)>,
    /// What a client may take.
    pub limits: Limits,
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refused.
    #[error("cannot listen on {address} for {part}")]
    Refused {
        /// For what.
        part: Part,
        /// Where.
        address: Address,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Another process answers on the unix socket.
    #[error("cannot listen on {address} for {part}: another node is listening there")]
    Taken {
        /// For what.
        part: Part,
        /// Where.
        address: Address,
    },
}

/// Bound sockets that nobody accepts from yet.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<(Part, Socket)>,
    limits: Limits,
}

impl Listeners {
    /// Binds everything, or nothing.
    ///
    /// # Errors
    ///
    /// [`BindError`] names the first listener that cannot be had.
    pub async fn bind(settings: Settings) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for (part, address) in settings.listeners {
            sockets.push((part, Socket::bind(part, address).await?));
        }
        Ok(Self { sockets, limits: settings.limits })
    }

    /// What is listened on, with the ports that were taken for port 0.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Part, Address)> {
        self.sockets.iter().map(|(part, socket)| (*part, socket.address().clone())).collect()
    }

    /// Serves until `shutdown` completes; then ends the streams, lets open
    /// requests finish within [`Limits::drain`], and drops what is left.
    pub async fn serve(self, core: CoreHandle, shutdown: impl Future<Output = ()>) {
        let (close, closing) = closing();
        let limits = Arc::new(self.limits);
        let app = App { core, limits: Arc::clone(&limits), closing };
        let budget = Budget::new(&limits, getrlimit(Resource::Nofile).current);

        let mut loops = JoinSet::new();
        for (part, socket) in self.sockets {
            let listener = Listener {
                share: match socket.address() {
                    Address::Tcp(_) => budget.share(),
                    Address::Unix(_) => budget.admin_share(),
                },
                refusals: Refusals::default(),
                router: router(part, app.clone()),
                graceful: GracefulShutdown::new(),
                connections: JoinSet::new(),
                limits: Arc::clone(&limits),
            };
            loops.spawn(listener.run(socket, app.closing.clone()));
        }
        shutdown.await;
        close.close();
        while loops.join_next().await.is_some() {}
    }
}

pub(crate) fn router(part: Part, app: App) -> Router {
    let routes = match part {
        Part::Master => routes::master(app),
        Part::Agent => routes::agent(app),
        Part::Services => routes::services(app),
        Part::MesosDns => routes::mesos_dns(app),
        Part::Minuteman => routes::minuteman(app),
        Part::Node => routes::node(app),
    };
    routes.layer(from_fn(no_changes_by_other_sites))
}

/// One listener with its connections, which end with it.
struct Listener {
    share: Share,
    refusals: Refusals,
    router: Router,
    graceful: GracefulShutdown,
    connections: JoinSet<()>,
    limits: Arc<Limits>,
}

impl Listener {
    /// Accepts until `closing`, then lets open requests finish.
    async fn run(mut self, socket: Socket, mut closing: Closing) {
        loop {
            tokio::select! {
                () = closing.wait() => break,
                Some(_) = self.connections.join_next() => {}
                accepted = socket.accept() => match accepted {
                    Ok(stream) => match self.share.take() {
                        Some(permit) => self.serve(stream, permit),
                        None => self.refusals.refuse(stream, socket.address()),
                    },
                    Err(error) => {
                        warn!(address = %socket.address(), %error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        let address = socket.address().clone();
        drop(socket);
        if tokio::time::timeout(self.limits.drain, self.graceful.shutdown()).await.is_err() {
            debug!(%address, "requests were still open when the listener closed");
        }
    }

    fn serve(&mut self, stream: Stream, permit: Permit) {
        let origin = stream.origin();
        let stream = TokioIo::new(Stalling::new(stream, self.limits.write_stall));
        let routes = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(origin);
            routes.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_wait)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(stream, service);
        let watched = self.graceful.watch(connection);
        self.connections.spawn(async move {
            if let Err(error) = watched.await {
                debug!(%error, "a connection broke");
            }
            drop(permit);
        });
    }
}
