//! The kernel's part of the balancer, with tables that a row writes itself.

use super::stage::Service;
use crate::sandbox::Sandbox;
use anyhow::{Context, Result};
use mizzen_ebpf_loader::{
    BackendWanted, Changed, Dataplane, Options, Tuning, VipAddress, VipWanted, teardown,
};
use std::path::{Path, PathBuf};

/// Programs on a cgroup of their own; all of it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Table {
    dataplane: Option<Dataplane>,
    options: Options,
}

impl Table {
    /// Loads the programs for the processes in the cgroup of `name`.
    pub(super) fn open(sandbox: &Sandbox, name: &str) -> Result<Self> {
        let options = Options {
            pin_dir: PathBuf::from("/sys/fs/bpf").join(format!("bench-{name}")),
            cgroup: sandbox.cgroup(name)?,
            tuning: Tuning::default(),
        };
        let dataplane = Dataplane::open(&options).context("cannot load the programs")?;
        Ok(Self { dataplane: Some(dataplane), options })
    }

    /// The cgroup of those that see the VIPs.
    pub(super) fn cgroup(&self) -> &Path {
        &self.options.cgroup
    }

    /// Brings the services into the kernel.
    pub(super) fn load(&mut self, services: &[Service]) -> Result<()> {
        let dataplane = self.dataplane.as_mut().context("the table is closed")?;
        let wanted = |Service { vip, backends }: &Service| {
            let backends: Vec<BackendWanted> =
                backends.iter().copied().map(BackendWanted::new).collect();
            (VipAddress::tcp(*vip), VipWanted::from(backends))
        };
        let wanted: Vec<(VipAddress, VipWanted)> = services.iter().map(wanted).collect();
        let Changed { errors, .. } = dataplane.set_vips(&wanted);
        match errors.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        drop(self.dataplane.take());
        let _ = teardown(&self.options);
    }
}
