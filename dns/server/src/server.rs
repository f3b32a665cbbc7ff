//! Threads that serve: each a runtime of its own, so that none waits for another.

use crate::access::Access;
use crate::edns::Identity;
use crate::fair::{Limits, Room};
use crate::forward::{ForwardError, ForwardSettings, ForwardSnapshot, Forwarder, Whom};
use crate::handler::Handler;
use crate::metrics::{Counters, Metrics, sum};
use crate::query_log::QueryLog;
use crate::rules::Rules;
use crate::shared::SharedZones;
use crate::sockets::{BindError, Sockets, ThreadSockets};
use crate::tcp::{self, TcpLimits};
use crate::thread::Thread;
use crate::udp::{self, Port};
use mizzen_dns_core::{DnsName, RecordType};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tracing::{info, warn};

/// How a server is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Addresses for UDP and TCP; port 0 draws one that is free.
    pub listen: Vec<SocketAddr>,
    /// How names that are not ours are asked for.
    pub forward: ForwardSettings,
    /// Who may ask what.
    pub access: Access,
    /// How many datagrams may be answered at once that do not take the short road, per
    /// thread; questions that wait for upstreams are among them.
    pub udp_limit: usize,
    /// How many of them may be one client's.
    pub udp_per_client: usize,
    /// How many TCP connections an address may have at once, per thread.
    pub tcp_limit: usize,
    /// How many of them may be one client's.
    pub tcp_per_client: usize,
    /// How many questions of one connection are answered at once.
    pub tcp_in_flight: usize,
    /// How long a TCP client may be silent, or leave its answers unread.
    pub tcp_idle: Duration,
    /// How long one message may take to arrive by TCP.
    pub tcp_message: Duration,
    /// What clients are told that ask who this is (RFC 5001).
    pub nsid: Option<String>,
    /// What cookies are made with (RFC 9018); drawn at each start if it is not given.
    pub cookie_secret: Option<[u8; 16]>,
    /// Questions at or below these names are logged; see [`QueryLog::set`].
    pub query_log: Vec<DnsName>,
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
    handler: Arc<Handler>,
    counters: Vec<Arc<Counters>>,
    stop: Option<watch::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            forward: ForwardSettings::default(),
            access: Access::default(),
            udp_limit: 2048,
            udp_per_client: 512,
            tcp_limit: 256,
            tcp_per_client: 64,
            tcp_in_flight: 32,
            tcp_idle: Duration::from_secs(10),
            tcp_message: Duration::from_secs(5),
            nsid: None,
            cookie_secret: None,
            query_log: Vec::new(),
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
        let forwarder = Forwarder::new(&settings.forward, Arc::clone(&zones), &addresses, None)?;
        let (access, identity) = (settings.access.clone(), identity(settings));
        let handler = Arc::new(Handler::new(zones, Rules { forwarder, access }, identity));
        handler.log.set(settings.query_log.clone());
        let (stop, stopped) = watch::channel(());
        let (counters, threads) = (Vec::new(), Vec::new());
        let mut server = Self { addresses, handler, counters, stop: Some(stop), threads };
        for (number, sockets) in sockets.into_threads().into_iter().enumerate() {
            server.start_thread(number, sockets, settings, stopped.clone())?;
        }
        info!(addresses = ?server.addresses, "resolver answers");
        Ok(server)
    }

    /// Takes over how names of others are asked for, who may ask what, and whose questions
    /// are logged; the rest of `settings` is left as it is. Questions under way are
    /// answered as they began. Answers stay in the cache, and what is known of upstreams is
    /// not forgotten, as long as the upstreams are the same.
    ///
    /// # Errors
    ///
    /// [`ForwardError`]; nothing changes then.
    pub fn reconfigure(&self, settings: &Settings) -> Result<(), ForwardError> {
        let former = &self.handler.rules.get().forwarder;
        let zones = Arc::clone(&self.handler.zones);
        let forwarder = Forwarder::new(&settings.forward, zones, &self.addresses, Some(former))?;
        self.handler.rules.set(Rules { forwarder, access: settings.access.clone() });
        self.handler.log.set(settings.query_log.clone());
        Ok(())
    }

    /// The addresses with their ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was answered since the start.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let zones = &self.handler.zones;
        let name = |zone| zones.read(|zones| zones.zone_name(zone).map(ToString::to_string));
        sum(self.counters.iter().map(|counters| &**counters), name)
    }

    /// The log of questions, to be switched.
    #[must_use]
    pub fn query_log(&self) -> &QueryLog {
        &self.handler.log
    }

    /// What forwarding did so far and how the upstreams stand.
    #[must_use]
    pub fn forwarding(&self) -> ForwardSnapshot {
        self.handler.rules.get().forwarder.snapshot()
    }

    /// What would become of a question about a name of others; nobody is asked. `None` if
    /// the name has no wire form.
    #[must_use]
    pub fn whom(&self, name: &DnsName, kind: RecordType) -> Option<Whom> {
        self.handler.rules.get().forwarder.whom(name, kind)
    }

    /// Stops: sockets are closed when this returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn start_thread(
        &mut self,
        number: usize,
        sockets: ThreadSockets,
        settings: &Settings,
        stopped: watch::Receiver<()>,
    ) -> Result<(), StartError> {
        let counters = Arc::new(Counters::new());
        self.counters.push(Arc::clone(&counters));
        let worker = Worker::new(sockets, &self.handler, counters, settings)?;
        let thread = std::thread::Builder::new()
            .name(format!("mizzen-dns-{number}"))
            .spawn(move || worker.run(stopped))
            .map_err(|source| StartError::Thread { request: "start a thread", source })?;
        self.threads.push(thread);
        Ok(())
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
    ports: Vec<Port>,
    listeners: Vec<TcpListener>,
    tcp: TcpLimits,
    handler: Arc<Handler>,
    counters: Arc<Counters>,
    udp: Limits,
}

impl Worker {
    fn new(
        sockets: ThreadSockets,
        handler: &Arc<Handler>,
        counters: Arc<Counters>,
        settings: &Settings,
    ) -> Result<Self, StartError> {
        let failed = |request| move |source| StartError::Thread { request, source };
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(failed("make a runtime"))?;
        let (ports, listeners) = {
            let _inside = runtime.enter();
            let ports: io::Result<_> = sockets.udp.into_iter().map(Port::new).collect();
            let listeners: io::Result<_> =
                sockets.tcp.into_iter().map(TcpListener::from_std).collect();
            let watch = (failed("watch a UDP socket"), failed("watch a TCP socket"));
            (ports.map_err(watch.0)?, listeners.map_err(watch.1)?)
        };
        let tcp = TcpLimits {
            connections: settings.tcp_limit,
            per_client: settings.tcp_per_client,
            in_flight: settings.tcp_in_flight,
            idle: settings.tcp_idle,
            message: settings.tcp_message,
        };
        let udp = Limits { total: settings.udp_limit, per_client: settings.udp_per_client };
        let handler = Arc::clone(handler);
        Ok(Self { runtime, ports, listeners, tcp, handler, counters, udp })
    }

    /// Serves until the sender of `stopped` is gone.
    fn run(self, mut stopped: watch::Receiver<()>) {
        let first_turn = RandomState::new().hash_one(0);
        let room = Room::new(self.udp);
        let thread = Rc::new(Thread::new(self.handler, self.counters, room, first_turn));
        let tasks = LocalSet::new();
        for port in self.ports {
            tasks.spawn_local(udp::serve(Rc::new(port), Rc::clone(&thread)));
        }
        for listener in self.listeners {
            tasks.spawn_local(tcp::serve(listener, Rc::clone(&thread), self.tcp));
        }
        self.runtime.block_on(tasks.run_until(async { while stopped.changed().await.is_ok() {} }));
    }
}

fn identity(settings: &Settings) -> Identity {
    let draw = || {
        let random = RandomState::new();
        (u128::from(random.hash_one(0)) << 64 | u128::from(random.hash_one(1))).to_ne_bytes()
    };
    Identity {
        nsid: settings.nsid.as_ref().map(|nsid| nsid.as_bytes().to_vec()),
        cookie_secret: settings.cookie_secret.unwrap_or_else(draw),
        tcp_idle: settings.tcp_idle,
    }
}
