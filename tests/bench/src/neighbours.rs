//! Room for neighbours: nodes in namespaces share one kernel's table of them, which twenty
//! machines would not.

use crate::network::Namespace;
use anyhow::{Context, Result};

const LIMITS: [(&str, u32); 2] = [("gc_thresh2", 32_768), ("gc_thresh3", 65_536)];

/// The machine's limits are wide as long as this lives.
pub(crate) struct WideNeighbours {
    machine: Namespace,
    /// Settings that were narrower, and what they were.
    before: Vec<(String, String)>,
}

impl WideNeighbours {
    /// Widens what is narrower.
    pub(crate) fn make() -> Result<Self> {
        let mut wide = Self { machine: Namespace::of_machine()?, before: Vec::new() };
        for (name, least) in LIMITS {
            for family in ["ipv4", "ipv6"] {
                wide.widen(format!("/proc/sys/net/{family}/neigh/default/{name}"), least)?;
            }
        }
        Ok(wide)
    }

    fn widen(&mut self, path: String, least: u32) -> Result<()> {
        let wanted = || format!("no room for neighbours: {path}");
        let before = self.machine.within(|| Ok(std::fs::read_to_string(&path)?));
        let before = before.with_context(wanted)?;
        if before.trim().parse::<u32>().with_context(wanted)? < least {
            self.machine.within(|| Ok(std::fs::write(&path, least.to_string())?))?;
            self.before.push((path, before));
        }
        Ok(())
    }
}

impl Drop for WideNeighbours {
    fn drop(&mut self) {
        for (path, before) in &self.before {
            let _ = self.machine.within(|| Ok(std::fs::write(path, before)?));
        }
    }
}
