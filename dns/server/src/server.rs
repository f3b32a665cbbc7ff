//! Threads that serve: each a runtime of its own, so that none waits for another.

use crate::forward::{ForwardError, ForwardSettings, ForwardSnapshot, Forwarder};
use crate::handler::{Handler, Hickory};
use crate::shared::SharedZones;
use crate::sockets::{BindError, Sockets, ThreadSockets};
use crate::tcp::{self, TcpLimits};
use hickory_server::Server as HickoryServer;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tracing::{info, warn};

/// How a server is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses for UDP and TCP; port 0 draws one that is free.
    pub listen: Vec<SocketAddr>,
    /// How names that are not ours are asked for.
    pub forward: ForwardSettings,
    /// How many TCP connections an address may have at once, per thread.
    pub tcp_limit: usize,
    /// How long a TCP client may be silent.
    pub tcp_idle: Duration,
    /// How many threads share the sockets.
    pub threads: NonZeroUsize,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Forwarding cannot be set up.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No runtime or thread could be made.
    #[error("cannot {request} for the resolver")]
    Thread {
        /// What was tried, as a verb with its object.
        request: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    forwarder: Forwarder,
    stop: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            forward: ForwardSettings::default(),
            tcp_limit: 100,
            tcp_idle: Duration::from_secs(10),
            threads: NonZeroUsize::MIN,
        }
    }
}

impl Server {
    /// Binds and starts. When this returns, questions are answered.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub fn start(settings: &Settings, zones: Arc<SharedZones>) -> Result<Self, StartError> {
        let sockets = Sockets::bind(&settings.listen, settings.threads)?;
        Self::start_on(sockets, settings, zones)
    }

    /// Starts on sockets that were bound before, for example in another network
    /// namespace; `settings.listen` and `settings.threads` are those of the sockets.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing is left running.
    pub fn start_on(
        sockets: Sockets,
        settings: &Settings,
        zones: Arc<SharedZones>,
    ) -> Result<Self, StartError> {
        let addresses = sockets.addresses().to_vec();
        let forwarder = Forwarder::new(&settings.forward, Arc::clone(&zones), &addresses)?;
        let handler = Arc::new(Handler::new(zones, forwarder.clone()));
        let limits = TcpLimits { connections: settings.tcp_limit, idle: settings.tcp_idle };
        let (stop, stopped) = watch::channel(());
        let mut server = Self { addresses, forwarder, stop: Some(stop), threads: Vec::new() };
        for (number, sockets) in sockets.into_threads().into_iter().enumerate() {
            let worker = Worker::new(sockets, &handler, limits)?;
            let stopped = stopped.clone();
            let thread = thread::Builder::new()
                .name(format!("mizzen-dns-{number}"))
                .spawn(move || worker.run(stopped))
                .map_err(|source| StartError::Thread { request: "start a thread", source })?;
            server.threads.push(thread);
        }
        info!(addresses = ?server.addresses, "resolver answers");
        Ok(server)
    }

    /// The addresses with their ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What forwarding did so far and how the upstreams stand.
    #[must_use]
    pub fn forwarding(&self) -> ForwardSnapshot {
        self.forwarder.snapshot()
    }

    /// Stops: sockets are closed when this returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("a resolver thread had panicked");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// One thread's runtime with everything that runs on it.
struct Worker {
    runtime: Runtime,
    udp: HickoryServer<Hickory>,
}

impl Worker {
    fn new(
        sockets: ThreadSockets,
        handler: &Arc<Handler>,
        limits: TcpLimits,
    ) -> Result<Self, StartError> {
        let failed = |request| move |source| StartError::Thread { request, source };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(failed("make a runtime"))?;
        let mut udp = HickoryServer::new(Hickory(Arc::clone(handler)));
        {
            let _inside = runtime.enter();
            for socket in sockets.udp {
                let socket = tokio::net::UdpSocket::from_std(socket);
                udp.register_socket(socket.map_err(failed("watch a UDP socket"))?);
            }
            for listener in sockets.tcp {
                let listener = tokio::net::TcpListener::from_std(listener);
                let listener = listener.map_err(failed("watch a TCP socket"))?;
                runtime.spawn(tcp::serve(listener, Arc::clone(handler), limits));
            }
        }
        Ok(Self { runtime, udp })
    }

    /// Serves until the sender of `stopped` is gone.
    fn run(mut self, mut stopped: watch::Receiver<()>) {
        self.runtime.block_on(async {
            while stopped.changed().await.is_ok() {}
            if let Err(error) = self.udp.shutdown_gracefully().await {
                warn!(%error, "resolver did not stop cleanly");
            }
        });
    }
}
