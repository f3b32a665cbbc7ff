//! The engine: rules, threads and the tables between them.

mod reading;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::backend::{Backend, Limits};
use crate::channel::Channel;
use crate::choice::{Touched, Vip};
use crate::cpu::{self, Home};
use crate::error::{OpenError, QueueError};
use crate::filter::{self, Filter};
use crate::queue::{self, Worker};
use crate::routes::{self, Masquerade, Paths, Routes};
use crate::rules::{QueueBy, RulesSpec};
use crate::shared::{Shared, now};
use crate::watch::{self, Order, Watcher};
use crate::words::{Policy, Removal, Tuning, VipAddress, VipWanted};

/// Where the engine lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of its tables of nf_tables, one for each address family. They are ours alone.
    pub table: String,
    /// Queues that packets are spread over. Nobody else may listen to them.
    pub queues: RangeInclusive<u16>,
    /// Group of packets that are only shown. Nobody else may listen to it.
    pub group: u16,
    /// Networks that VIPs come from. Programs here are given a route, and packets there that are
    /// for no VIP are refused.
    pub networks: Vec<IpNet>,
    /// The node's own addresses; packets to VIPs come from them.
    pub addresses: Vec<IpAddr>,
    /// Whose addresses are not known outside.
    pub masquerade: Vec<Masquerade>,
    /// When a backend gets no connections.
    pub tuning: Tuning,
}

/// The running engine. There must be one at a time, so this is not `Clone`.
pub struct Engine {
    shared: Arc<Shared>,
    filter: Arc<Mutex<Filter>>,
    routes: Routes,
    /// The VIPs in the kernel's set.
    listed: BTreeSet<VipAddress>,
    mechanism: String,
    orders: Sender<Order>,
    /// Threads that wait for the first tables.
    waiting: Vec<Worker>,
    sockets: Vec<(Arc<Channel>, u16)>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Brings the rules into the kernel, or takes over those that an earlier process left, and
    /// has first packets queued. They wait until [`Engine::serve`].
    ///
    /// # Errors
    ///
    /// [`OpenError`] with whatever is missing.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::new(Limits::from(&options.tuning)));
        let (orders, inbox) = channel();
        let numbers: Vec<u16> = options.queues.clone().collect();
        let Workers { waiting, sockets, watches } = workers(options, &numbers, &shared, &orders)?;
        let (filter, listed) = Filter::open(rules(options, &numbers))?;
        let routes = Routes::open(&options.networks, &options.addresses)?;
        let mechanism = mechanism(filter.queue_by(), &options.queues, watches);
        let filter = Arc::new(Mutex::new(filter));
        let mut engine = Self {
            shared: Arc::clone(&shared),
            filter: Arc::clone(&filter),
            routes,
            listed,
            mechanism,
            orders,
            waiting,
            sockets,
            threads: Vec::new(),
        };
        let watcher = Watcher::new(shared, filter, conntrack()?, inbox);
        engine.spawn("vip-watch", move || watcher.run())?;
        tracing::info!(mechanism = engine.mechanism, table = options.table, "VIP queues open");
        Ok(engine)
    }

    /// Lets the threads of the queues begin: the tables are complete. Again is no error.
    ///
    /// # Errors
    ///
    /// [`OpenError::Thread`] if a thread cannot be had.
    pub fn serve(&mut self) -> Result<(), OpenError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.routes.forget_others() {
            tracing::warn!(error = &error as &dyn Error, "cannot remove routes to former VIPs");
        }
        if let Err(error) = watch::adopt(&self.shared, &mut conntrack()?) {
            tracing::warn!(
                error = &error as &dyn Error,
                "connections of a former process are not counted"
            );
        }
        for worker in std::mem::take(&mut self.waiting) {
            self.spawn("vip-queue", move || worker.run())?;
        }
        Ok(())
    }

    /// How packets come to this engine on this kernel, for people.
    #[must_use]
    pub fn mechanism(&self) -> &str {
        &self.mechanism
    }

    /// Whether programs of this machine can connect to IPv6 VIPs: they need an address of their
    /// own that is valid on more than one link. What cannot be found out is no obstacle.
    #[must_use]
    pub fn has_ipv6_source(&self) -> bool {
        routes::has_ipv6_source().unwrap_or(true)
    }

    /// When a backend gets no connections.
    #[must_use]
    pub fn tuning(&self) -> Tuning {
        Tuning::from(&self.shared.tuning())
    }

    /// Judges backends by something else from the next connect on.
    pub fn tune(&mut self, tuning: &Tuning) {
        self.shared.tune(Limits::from(tuning));
    }

    /// Makes VIPs what they should be, all at once. Backends that stay keep their counts.
    ///
    /// A connect meets the old backends or the new ones, never a mixture.
    ///
    /// # Errors
    ///
    /// [`QueueError`]; none of the new VIPs then is there. Those that were there before are what
    /// they were, or, with [`QueueError::Set`], what they should be.
    pub fn set_vips(&mut self, wanted: &[VipWanted]) -> Result<(), QueueError> {
        wanted.iter().try_for_each(check)?;
        self.route_new(wanted)?;
        let mut vips = self.shared.vips.write();
        let missing = wanted.len().saturating_sub(vips.len());
        vips.reserve(missing);
        drop(vips);
        wanted.iter().for_each(|vip| self.replace(vip));
        let is_new = |vip: &VipAddress| !self.listed.contains(vip);
        let new: Vec<VipAddress> = wanted.iter().map(|vip| vip.address).filter(is_new).collect();
        if new.is_empty() {
            return Ok(());
        }
        let changed = self.filter.lock().change(&new, &[]);
        if let Err(error) = changed {
            new.iter().for_each(|vip| self.drop_vip(vip));
            return Err(error);
        }
        self.listed.extend(new);
        Ok(())
    }

    /// Makes one VIP what it should be.
    ///
    /// # Errors
    ///
    /// As for [`Engine::set_vips`].
    pub fn set_vip(&mut self, wanted: &VipWanted) -> Result<(), QueueError> {
        self.set_vips(std::slice::from_ref(wanted))
    }

    /// Makes some backends of one VIP what they are now, at the price of these alone: each by its address, without
    /// anything if it is gone. Returns whether that was all; if not, nothing is done, and the VIP has to be
    /// [set](Engine::set_vip): it is not there, is to choose otherwise, or has weights or a rule by which all
    /// backends depend on each.
    pub fn change(&mut self, vip: VipAddress, policy: Policy, touched: &Touched) -> bool {
        let is_foreign = |address: &SocketAddr| address.is_ipv4() != vip.socket.is_ipv4();
        let before = self.shared.vip(&vip).filter(|_| !touched.keys().any(is_foreign));
        let Some(before) = before else { return false };
        let Some(after) = before.changed(policy, touched, now()) else { return false };
        let after = Arc::new(after);
        self.shared.vips.write().insert(vip, Arc::clone(&after));
        let gone = touched.iter().filter(|(_, now)| now.is_none());
        let gone = gone.filter_map(|(address, _)| before.backend(*address));
        self.retire(&vip, gone, policy.removal);
        true
    }

    /// Removes VIPs; those that are not there are fine. What becomes of connections that exist
    /// is as each VIP's policy says.
    ///
    /// # Errors
    ///
    /// [`QueueError::Set`] if the kernel refuses; the VIPs then are there still.
    pub fn remove_vips(&mut self, vips: &[VipAddress]) -> Result<(), QueueError> {
        let listed = vips.iter().filter(|vip| self.listed.contains(*vip)).copied();
        let listed: Vec<VipAddress> = listed.collect();
        if !listed.is_empty() {
            self.filter.lock().change(&[], &listed)?;
        }
        for vip in &listed {
            self.listed.remove(vip);
            self.drop_vip(vip);
        }
        Ok(())
    }

    /// Removes one VIP.
    ///
    /// # Errors
    ///
    /// As for [`Engine::remove_vips`].
    pub fn remove_vip(&mut self, vip: VipAddress) -> Result<(), QueueError> {
        self.remove_vips(&[vip])
    }

    /// Makes the routes of VIPs that are new, all or none.
    fn route_new(&mut self, wanted: &[VipWanted]) -> Result<(), QueueError> {
        let new = wanted.iter().map(|vip| vip.address);
        let new: Vec<VipAddress> = new.filter(|vip| self.shared.vip(vip).is_none()).collect();
        for (index, vip) in new.iter().enumerate() {
            if let Err(source) = self.routes.add(vip.socket.ip()) {
                new[..index].iter().for_each(|made| self.unroute(made));
                return Err(QueueError::Route { vip: *vip, source });
            }
        }
        Ok(())
    }

    fn unroute(&mut self, vip: &VipAddress) {
        if let Err(error) = self.routes.remove(vip.socket.ip()) {
            tracing::warn!(%vip, error = &error as &dyn Error, "cannot remove the route");
        }
    }

    /// Puts a VIP into the tables. Cheap: one insertion, however many there are.
    fn replace(&self, wanted: &VipWanted) {
        let before = self.shared.vip(&wanted.address);
        let after = Vip::new(&wanted.backends, wanted.policy, before.as_deref(), now());
        let after = Arc::new(after);
        self.shared.vips.write().insert(wanted.address, Arc::clone(&after));
        if let Some(before) = before {
            self.retire(&wanted.address, before.without(&after), after.removal());
        }
    }

    fn drop_vip(&mut self, vip: &VipAddress) {
        let before = self.shared.vips.write().remove(vip);
        if let Some(before) = before {
            self.retire(vip, before.backends(), before.removal());
        }
        self.unroute(vip);
    }

    /// Clears up after backends that a VIP has no more.
    fn retire<'a>(
        &self,
        vip: &VipAddress,
        gone: impl Iterator<Item = &'a Arc<Backend>>,
        removal: Removal,
    ) {
        let mut backends = BTreeSet::new();
        for backend in gone {
            backend.retire();
            backends.insert(backend.address);
        }
        if !backends.is_empty() {
            self.order(Order::Left { vip: *vip, backends, removal });
        }
    }

    fn order(&self, order: Order) {
        // If the thread is gone, connections run out by themselves.
        let _ = self.orders.send(order);
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let builder = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(builder.spawn(work).map_err(OpenError::Thread)?);
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shared.stop();
        self.order(Order::End);
        for (socket, number) in &self.sockets {
            // If it cannot be woken, its socket is broken, and it has ended.
            let _ = queue::wake(socket, *number);
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the VIP queues panicked");
            }
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// Removes rules, sets and routes. Nothing there is fine; no [`Engine`] of the same table may be
/// in use.
///
/// Connections that exist end, unless rules of others need translation of addresses as well: the
/// kernel stops it where no rule does.
///
/// # Errors
///
/// [`OpenError`] with the first object that would not go.
pub fn teardown(options: &Options) -> Result<(), OpenError> {
    // Routes are marked as ours, but not as whose; they go with the tables.
    if !filter::exists(&options.table)? {
        return Ok(());
    }
    routes::remove_all()?;
    filter::remove(&options.table)?;
    tracing::info!(table = options.table, "VIP queues removed");
    Ok(())
}

/// Threads to be, and what wakes them.
struct Workers {
    waiting: Vec<Worker>,
    sockets: Vec<(Arc<Channel>, u16)>,
    /// Whether one of them is shown what becomes of connections.
    watches: bool,
}

/// Prepares threads, one for each queue that CPUs have.
fn workers(
    options: &Options,
    numbers: &[u16],
    shared: &Arc<Shared>,
    orders: &Sender<Order>,
) -> Result<Workers, OpenError> {
    let count = cpu::count().clamp(1, numbers.len().max(1));
    let mut workers = Workers { waiting: Vec::new(), sockets: Vec::new(), watches: false };
    for index in 0..count {
        let own: Vec<u16> = numbers.iter().skip(index).step_by(count).copied().collect();
        let listened = queue::listen(&own);
        let mut packets = listened.map_err(|(queue, source)| OpenError::Queue { queue, source })?;
        if index == 0 {
            let group = options.group;
            let watched = queue::watch(&mut packets, group).inspect_err(|error| {
                tracing::warn!(group, %error, "the ends of VIP connections cannot be seen");
            });
            workers.watches = watched.is_ok();
        }
        let packets = Arc::new(packets);
        workers.sockets.push((Arc::clone(&packets), own.first().copied().unwrap_or_default()));
        let paths = Paths::open(&options.masquerade)?;
        let home = Home::new(index, numbers.len());
        let (shared, orders) = (Arc::clone(shared), orders.clone());
        let worker = Worker::new(shared, packets, conntrack()?, paths, home, orders);
        workers.waiting.push(worker);
    }
    Ok(workers)
}

fn conntrack() -> Result<Channel, OpenError> {
    Channel::open().map_err(OpenError::Socket)
}

fn rules(options: &Options, numbers: &[u16]) -> RulesSpec {
    RulesSpec {
        table: options.table.clone(),
        queue_by: QueueBy::Expression,
        first_queue: numbers.first().copied().unwrap_or_default(),
        queues: numbers.len() as u16,
        group: options.group,
        networks: options.networks.clone(),
    }
}

fn mechanism(queue_by: QueueBy, queues: &RangeInclusive<u16>, watches: bool) -> String {
    let by = match queue_by {
        QueueBy::Expression => "nf_tables queue",
        QueueBy::Target => "nf_tables with the xtables target NFQUEUE",
    };
    let blind = if watches { "" } else { ", without measuring" };
    format!("{by}, queues {}-{}{blind}", queues.start(), queues.end())
}

fn check(wanted: &VipWanted) -> Result<(), QueueError> {
    let vip = wanted.address;
    let mut backends: Vec<SocketAddr> = wanted.backends.iter().map(|one| one.address).collect();
    if let Some(backend) = backends.iter().find(|one| one.is_ipv4() != vip.socket.is_ipv4()) {
        return Err(QueueError::Family { vip, backend: *backend });
    }
    backends.sort_unstable();
    match backends.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(QueueError::Duplicate { vip, backend: pair[0] }),
        None => Ok(()),
    }
}
