//! `mizzen-overlay`: connects a container to the bridge of an overlay network.
//!
//! ADD takes a lease and carries out a plan; on an error what was done is undone in
//! reverse before the answer is written. DEL needs no record of ADD: the name of the
//! host's link follows from the container's, and the lease says whose it is.

use std::net::IpAddr;
use std::path::Path;

use mizzen_cni_core::AttachmentKey;
use mizzen_cni_core::check::check;
use mizzen_cni_core::config::{ConfigError, Ipam, OverlayConfig, valid_attachments};
use mizzen_cni_core::gc::plan_gc;
use mizzen_cni_core::invoke::Verb;
use mizzen_cni_core::plan::{Step, Undo, alias, host_link, plan_add, read_alias};
use mizzen_cni_core::request::{Attachment, Command, Request};
use mizzen_cni_core::result::CniResult;
use mizzen_netlink::{LinkState, Netlink, is_own_namespace};
use serde_json::Value;

use crate::error::PluginError;
use crate::kernel::Kernel;
use crate::leases::{Holder, LeaseStore};
use crate::{delegate, ipam};

/// Does what `request` asks of the overlay plugin.
pub(crate) fn handle(request: &Request) -> Result<Option<Value>, PluginError> {
    let config = OverlayConfig::read(&request.config)?;
    let store = LeaseStore::open(&config.data_dir, &request.network)?;
    let overlay = Overlay { request, config, store };
    match &request.command {
        Command::Add(attachment) => {
            let result = overlay.add(attachment)?;
            Ok(Some(result.to_json(request.version)))
        }
        Command::Del(attachment) => overlay.del(attachment).map(|()| None),
        Command::Check(attachment) => overlay.check(attachment).map(|()| None),
        Command::Status => overlay.status().map(|()| None),
        Command::Gc => overlay.collect().map(|()| None),
        Command::Version => Ok(None),
    }
}

struct Overlay<'a> {
    request: &'a Request,
    config: OverlayConfig,
    store: LeaseStore,
}

impl Overlay<'_> {
    fn add(&self, attachment: &Attachment) -> Result<CniResult, PluginError> {
        let netns = attachment.netns()?;
        if is_own_namespace(netns)
            .map_err(|source| PluginError::NoNamespace { netns: netns.clone(), source })?
        {
            return Err(PluginError::HostNamespace { netns: netns.clone() });
        }
        let _lock = self.store.lock(Holder::Overlay, &attachment.key)?;
        let mut kernel = Kernel::open(netns)?;
        let lease = self.take_lease(attachment)?;
        let mut undo = vec![Undo::ReleaseLease];
        let steps = plan_add(&self.request.network, &attachment.key, &self.config, &lease);
        let outcome = carry_out(&mut kernel, &steps, &mut undo)
            .and_then(|()| self.describe(&mut kernel, attachment, netns, lease));
        outcome.inspect_err(|_| self.take_back(&mut kernel.host, attachment, undo))
    }

    /// Removes the link first: while it is there, its address must not be given away,
    /// so the lease stays if the link does.
    fn del(&self, attachment: &Attachment) -> Result<(), PluginError> {
        let _lock = self.store.lock(Holder::Overlay, &attachment.key)?;
        self.remove_link(&mut Netlink::open()?, &attachment.key)?;
        self.release_lease(attachment)
    }

    fn check(&self, attachment: &Attachment) -> Result<(), PluginError> {
        match &self.config.ipam {
            Ipam::Own(_) => ipam::check(&self.store, attachment)?,
            Ipam::Delegated { plugin } => {
                delegate::call(plugin, Verb::Check, self.request, attachment)?;
            }
        }
        let key = &attachment.key;
        let host = host_link(&self.request.network, key);
        let mut kernel = Kernel::open(attachment.netns()?)?;
        let observed = kernel.observe(&self.config.bridge, &host, &key.ifname)?;
        Ok(check(key, &self.config, &observed)?)
    }

    fn status(&self) -> Result<(), PluginError> {
        let usable = Netlink::open().map(|_| ()).map_err(PluginError::from);
        usable.map_err(|error| PluginError::NotAvailable(Box::new(error)))?;
        match &self.config.ipam {
            Ipam::Own(config) => ipam::status(&self.store, config),
            // Other address plugins are asked by their first ADD.
            Ipam::Delegated { .. } => Ok(()),
        }
    }

    fn collect(&self) -> Result<(), PluginError> {
        if let Ipam::Delegated { .. } = self.config.ipam {
            let who = "the other address plugin";
            return Err(ConfigError::NotOurs { key: "ipam.type", who }.into());
        }
        let valid = valid_attachments(&self.request.config)?;
        let mut netlink = Netlink::open()?;
        let leases: Vec<(IpAddr, AttachmentKey)> = ipam::owned(&self.store)?;
        let links = self.marked_links(&mut netlink, &leases)?;
        for (key, remains) in plan_gc(&valid, &links, &leases) {
            let _lock = self.store.lock(Holder::Overlay, &key)?;
            for link in remains.links {
                netlink.remove_link(&link)?;
            }
            self.store.release(&key)?;
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
        let bridge = links.iter().find(|link| link.name == self.config.bridge);
        let bridge = bridge.map(|link| link.index);
        let ours = |link: &LinkState| {
            let (network, key) = read_alias(link.alias.as_deref()?)?;
            let attached = bridge.is_some() && link.master == bridge;
            let leased = || leases.iter().any(|(_, owner)| *owner == key);
            (network == self.request.network && (attached || leased())).then_some(key)
        };
        Ok(links.iter().filter_map(|link| Some((link.name.clone(), ours(link)?))).collect())
    }

    fn take_lease(&self, attachment: &Attachment) -> Result<CniResult, PluginError> {
        match &self.config.ipam {
            Ipam::Own(config) => ipam::take(&self.store, config, attachment),
            Ipam::Delegated { plugin } => {
                let taken = delegate::call(plugin, Verb::Add, self.request, attachment);
                taken.inspect_err(|_| {
                    // It may have failed after it made a lease.
                    let _ = delegate::call(plugin, Verb::Del, self.request, attachment);
                })
            }
        }
    }

    fn release_lease(&self, attachment: &Attachment) -> Result<(), PluginError> {
        match &self.config.ipam {
            Ipam::Own(_) => Ok(self.store.release(&attachment.key)?),
            Ipam::Delegated { plugin } => {
                delegate::call(plugin, Verb::Del, self.request, attachment).map(|_| ())
            }
        }
    }

    fn describe(
        &self,
        kernel: &mut Kernel,
        attachment: &Attachment,
        netns: &Path,
        lease: CniResult,
    ) -> Result<CniResult, PluginError> {
        /// Position of the container's end in the list of interfaces.
        const INSIDE: usize = 2;
        let key = &attachment.key;
        let host = host_link(&self.request.network, key);
        let bridge = &self.config.bridge;
        let interfaces = kernel.interfaces(bridge, &host, &key.ifname, netns)?;
        let mut result = CniResult { interfaces, ..lease };
        for ip in &mut result.ips {
            ip.interface = Some(INSIDE);
        }
        if self.config.dns != Default::default() {
            result.dns = self.config.dns.clone();
        }
        Ok(result)
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

    /// Removes the host's end of the pair, if it is ours.
    fn remove_link(&self, netlink: &mut Netlink, key: &AttachmentKey) -> Result<(), PluginError> {
        let name = host_link(&self.request.network, key);
        let Some(link) = netlink.observe_link(&name)? else { return Ok(()) };
        let mark = alias(&self.request.network, key);
        // A plugin that was killed between making the pair and marking it left no mark.
        let ours = link.kind.as_deref() == Some("veth")
            && link.alias.as_ref().is_none_or(|found| *found == mark);
        if ours {
            netlink.remove_link(&name)?;
        }
        Ok(())
    }
}

fn carry_out(kernel: &mut Kernel, steps: &[Step], undo: &mut Vec<Undo>) -> Result<(), PluginError> {
    for step in steps {
        kernel.carry_out(step)?;
        undo.extend(step.undo());
    }
    Ok(())
}
