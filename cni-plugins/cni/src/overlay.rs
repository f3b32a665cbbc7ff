//! `mizzen-overlay`: connects a container to the bridge of an overlay network.
//!
//! ADD takes a lease and carries out a plan; on an error what was done is undone in
//! reverse before the answer is written. DEL needs no record of ADD: the name of the
//! host's link follows from the container's, and the lease says whose it is.

use std::net::IpAddr;
use std::path::Path;

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::check::check;
use mizzen_cni_core::config::{Ipam, OverlayConfig, TeardownConfig, valid_attachments};
use mizzen_cni_core::gc::plan_gc;
use mizzen_cni_core::invoke::Verb;
use mizzen_cni_core::plan::{Step, Undo, alias, host_link, plan_add, read_alias};
use mizzen_cni_core::request::{Attachment, Command, Request};
use mizzen_cni_core::result::CniResult;
use mizzen_cni_core::state::lease_directory;
use mizzen_netlink::{LinkChange, LinkState, Netlink};
use serde_json::Value;

use crate::error::PluginError;
use crate::kernel::Kernel;
use crate::leases::{Holder, LeaseStore};
use crate::{daemon, delegate, ipam, state};

/// Does what `request` asks of the overlay plugin.
pub(crate) fn handle(request: &Request) -> Result<Option<Value>, PluginError> {
    let teardown = TeardownConfig::read(&request.config)?;
    let directory = lease_directory(&request.config, &request.network)?;
    let (data_dir, network) = (&teardown.data_dir, &request.network);
    let overlay = || -> Result<Overlay, PluginError> {
        let store = LeaseStore::open(Holder::Overlay, data_dir, directory, network)?;
        Ok(Overlay { request, teardown: &teardown, store })
    };
    let config = || -> Result<OverlayConfig, PluginError> {
        Ok(OverlayConfig::read(&state::completed(&request.config, data_dir)?.config)?)
    };
    // What cannot be read must not make a directory.
    match &request.command {
        Command::Add(attachment) => {
            let result = state::with_addresses(&request.config, data_dir, |known| {
                let config = OverlayConfig::read(&known.config)?;
                let result = overlay()?.add(&config, attachment)?;
                known.daemon.as_deref().inspect(|socket| daemon::tell(socket));
                Ok(result)
            })?;
            Ok(Some(result.to_json(request.version)))
        }
        Command::Check(attachment) => {
            let config = config()?;
            overlay()?.check(&config, attachment).map(|()| None)
        }
        Command::Status => {
            let config = config()?;
            overlay()?.status(&config).map(|()| None)
        }
        Command::Del(attachment) => overlay()?.del(attachment).map(|()| None),
        Command::Gc => overlay()?.collect().map(|()| None),
        Command::Version => Ok(None),
    }
}

struct Overlay<'a> {
    request: &'a Request,
    teardown: &'a TeardownConfig,
    store: LeaseStore,
}

/// The group of links that somebody is about to remove: `mz` and a number.
const CONDEMNED: u32 = 0x6d7a_0001;

impl Overlay<'_> {
    fn add(
        &self,
        config: &OverlayConfig,
        attachment: &Attachment,
    ) -> Result<CniResult, PluginError> {
        let netns = attachment.netns()?;
        let mut kernel = Kernel::open(netns)?;
        let _lock = self.store.lock(&attachment.key)?;
        let lease = self.take_lease(&mut kernel.host, config, attachment)?;
        let mut undo = vec![Undo::ReleaseLease];
        let mac = attachment.wanted.mac;
        let steps = plan_add(&self.request.network, &attachment.key, config, mac, &lease);
        let outcome = carry_out(&mut kernel, &steps, &mut undo)
            .and_then(|()| describe(&kernel, config, netns, lease));
        outcome.inspect_err(|_| self.take_back(&mut kernel.host, attachment, undo))
    }

    /// Removes the link first: while it is there, its address must not be given away,
    /// so the lease stays if the link does.
    fn del(&self, attachment: &Attachment) -> Result<(), PluginError> {
        let _lock = self.store.lock(&attachment.key)?;
        self.remove_link(&mut Netlink::open()?, &attachment.key)?;
        self.release_lease(attachment)
    }

    fn check(&self, config: &OverlayConfig, attachment: &Attachment) -> Result<(), PluginError> {
        match &config.ipam {
            Ipam::Own(_) => ipam::check(&self.store, attachment)?,
            Ipam::Delegated { plugin } => {
                delegate::call(plugin, Verb::Check, self.request, Some(attachment))?;
            }
        }
        let key = &attachment.key;
        let host = host_link(&self.request.network, key);
        let mut kernel = Kernel::open(attachment.netns()?)?;
        let observed = kernel.observe(&config.bridge, &host, &key.ifname)?;
        Ok(check(key, config, &observed)?)
    }

    fn status(&self, config: &OverlayConfig) -> Result<(), PluginError> {
        let not_available = |error| PluginError::NotAvailable(Box::new(error));
        Netlink::open().map_err(|error| not_available(error.into()))?;
        match &config.ipam {
            Ipam::Own(config) => ipam::status(&self.store, config),
            Ipam::Delegated { plugin } if delegate::speaks(plugin, self.request)? => {
                let asked = delegate::call(plugin, Verb::Status, self.request, None);
                asked.map(drop).map_err(not_available)
            }
            // It is asked by its first ADD.
            Ipam::Delegated { .. } => Ok(()),
        }
    }

    fn collect(&self) -> Result<(), PluginError> {
        let valid = valid_attachments(&self.request.config)?;
        let mut netlink = Netlink::open()?;
        let leases: Vec<(IpAddr, AttachmentKey)> = self.store.owned()?;
        let links = self.marked_links(&mut netlink, &leases)?;
        for (key, remains) in plan_gc(&valid, &links, &leases) {
            let _lock = self.store.lock(&key)?;
            for link in remains.links {
                self.condemn(&mut netlink, &link)?;
            }
            // One whose ADD was killed before it was marked.
            self.remove_link(&mut netlink, &key)?;
            self.store.release(&key)?;
        }
        match &self.teardown.delegate {
            Some(plugin) if delegate::speaks(plugin, self.request)? => {
                delegate::call(plugin, Verb::Gc, self.request, None).map(drop)
            }
            Some(_) => Ok(()),
            None => {
                self.free_former(&mut netlink)?;
                Ok(self.store.remove_damaged()?)
            }
        }
    }

    /// Frees leases of before the machine was started, of whatever network: those of runtimes
    /// that never collect garbage as well. No container outlives the machine; one that has a
    /// link all the same got it while the clock was wrong.
    fn free_former(&self, netlink: &mut Netlink) -> Result<(), PluginError> {
        for (network, key) in self.store.of_before_boot()? {
            let store = self.store.of_network(&network);
            let _lock = store.lock(&key)?;
            let link = netlink.observe_link(&host_link(&network, &key))?;
            if link.is_none() && store.is_of_before_boot(&key)? {
                store.release(&key)?;
            }
        }
        Ok(())
    }

    /// The host's ends of this network's pairs, by their marks. Another node of this host
    /// may have a network of the same name: ours are at our bridge, or, if an ADD did not
    /// come so far, have one of our leases.
    fn marked_links(
        &self,
        netlink: &mut Netlink,
        leases: &[(IpAddr, AttachmentKey)],
    ) -> Result<Vec<(String, AttachmentKey)>, PluginError> {
        let links = netlink.observe_links()?;
        let named = state::completed(&self.request.config, &self.teardown.data_dir).ok();
        let named = named.and_then(|all| Some(all.config.get("bridge")?.as_str()?.to_owned()));
        let bridge_name = self.teardown.bridge.as_ref().or(named.as_ref());
        let bridge = links.iter().find(|link| Some(&link.name) == bridge_name);
        let bridge = bridge.map(|link| link.index);
        let ours = |link: &LinkState| {
            let (network, key) = read_alias(link.alias.as_deref()?)?;
            let attached = bridge.is_some() && link.master == bridge;
            let leased = || leases.iter().any(|(_, owner)| *owner == key);
            (network == self.request.network && (attached || leased())).then_some(key)
        };
        Ok(links.iter().filter_map(|link| Some((link.name.clone(), ours(link)?))).collect())
    }

    fn take_lease(
        &self,
        host: &mut Netlink,
        config: &OverlayConfig,
        attachment: &Attachment,
    ) -> Result<CniResult, PluginError> {
        match &config.ipam {
            Ipam::Own(ipam) => ipam::take(&self.store, ipam, attachment, Some(config.hairpin)),
            Ipam::Delegated { plugin } => {
                // What follows an ADD that fails would free the addresses that it uses.
                if self.is_attached(host, &attachment.key)? {
                    return Err(PluginError::Attached { key: attachment.key.clone() });
                }
                let attachment = Some(attachment);
                let taken = delegate::call(plugin, Verb::Add, self.request, attachment);
                taken.inspect_err(|_| {
                    // It may have failed after it made a lease.
                    let _ = delegate::call(plugin, Verb::Del, self.request, attachment);
                })
            }
        }
    }

    fn release_lease(&self, attachment: &Attachment) -> Result<(), PluginError> {
        match &self.teardown.delegate {
            None => Ok(self.store.release(&attachment.key)?),
            Some(plugin) => {
                delegate::call(plugin, Verb::Del, self.request, Some(attachment)).map(drop)
            }
        }
    }

    /// Undoes what was done, last first. An undo action that fails is told on standard
    /// error: the answer is about what went wrong first.
    fn take_back(&self, host: &mut Netlink, attachment: &Attachment, undo: Vec<Undo>) {
        for action in undo.into_iter().rev() {
            let done = match &action {
                Undo::RemoveLink { host: name } => {
                    host.remove_link(name).map(|_| ()).map_err(PluginError::from)
                }
                Undo::ReleaseLease => self.release_lease(attachment),
            };
            if let Err(error) = done {
                eprintln!("cannot undo {action:?}: {}", error.to_json(self.request.version));
            }
        }
    }

    fn is_attached(&self, host: &mut Netlink, key: &AttachmentKey) -> Result<bool, PluginError> {
        let network = &self.request.network;
        let link = host.observe_link(&host_link(network, key))?;
        Ok(link.is_some_and(|link| link.alias == Some(alias(network, key))))
    }

    /// Removes the host's end of the pair, if it is ours.
    fn remove_link(&self, netlink: &mut Netlink, key: &AttachmentKey) -> Result<(), PluginError> {
        let name = host_link(&self.request.network, key);
        let Some(link) = netlink.observe_link(&name)? else { return Ok(()) };
        let mark = alias(&self.request.network, key);
        // A plugin that was killed between making the pair and marking it left no mark.
        let ours = link.kind.as_deref() == Some("veth")
            && link.alias.as_ref().is_none_or(|found| *found == mark);
        if ours { self.condemn(netlink, &name) } else { Ok(()) }
    }

    /// Removes a link together with those that others remove at this moment.
    ///
    /// The kernel spends most of a removal waiting for whoever may still look at the link,
    /// and it can wait for many links at once. So a link is put into the group of the
    /// condemned, and whoever gets the lock removes the whole group; those who come after it
    /// find that theirs is gone.
    fn condemn(&self, netlink: &mut Netlink, name: &str) -> Result<(), PluginError> {
        match netlink.set_link(name, &LinkChange::new().group(CONDEMNED)) {
            Err(error) if error.is_absent() => return Ok(()),
            other => other?,
        }
        let _lock = self.store.lock_removal()?;
        if netlink.observe_link(name)?.is_some() {
            netlink.remove_link_group(CONDEMNED)?;
            // Somebody may have moved it out of the group meanwhile.
            netlink.remove_link(name)?;
        }
        Ok(())
    }
}

fn describe(
    kernel: &Kernel,
    config: &OverlayConfig,
    netns: &Path,
    lease: CniResult,
) -> Result<CniResult, PluginError> {
    /// Position of the container's end in the list of interfaces.
    const INSIDE: usize = 2;
    let mut result = CniResult { interfaces: kernel.interfaces(netns)?, ..lease };
    for ip in &mut result.ips {
        ip.interface = Some(INSIDE);
    }
    if config.dns != Default::default() {
        result.dns = config.dns.clone();
    }
    Ok(match &config.prev_result {
        Some(previous) => result.after(previous.clone()),
        None => result,
    })
}

fn carry_out(kernel: &mut Kernel, steps: &[Step], undo: &mut Vec<Undo>) -> Result<(), PluginError> {
    for step in steps {
        kernel.carry_out(step)?;
        undo.extend(step.undo());
    }
    Ok(())
}
