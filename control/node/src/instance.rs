//! Which node of this kernel we are, and every name that follows from it.
//!
//! Any number of nodes can live in one kernel. What a node makes there (links,
//! filter tables, cgroups, pins) and where it keeps its files is named after its
//! instance, here and nowhere else. The instance `default` keeps the names that
//! DC/OS gave (`m-dcos`, `spartan`).

use mizzen_cni_core::portmap::DEFAULT_TABLE;
use serde::{Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest name of an instance in bytes: `m-dcos-` and the name fit a link's name.
pub const MAX_INSTANCE_BYTES: usize = 8;

/// Longest name of a link in bytes (`IFNAMSIZ` with its terminating zero).
pub const MAX_LINK_BYTES: usize = 15;

/// Name of the node's socket in its run directory.
pub const SOCKET_NAME: &str = "mizzen.sock";

/// Why a text is no instance name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// It breaks the pattern.
    #[error("an instance name of 1 to {MAX_INSTANCE_BYTES} letters a-z, digits and dashes")]
    Pattern,
    /// `lab-…` names belong to sandboxes, whose leftovers are swept away.
    #[error("an instance name that is free (those with `lab-` belong to sandboxes)")]
    Reserved,
}

/// The name of a node among those in one kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(String);

impl Instance {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the instance that has DC/OS' names.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0 == "default"
    }

    /// State directory, unless configured.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        PathBuf::from(self.named("/var/lib/mizzen", '-'))
    }

    /// Run directory, unless configured.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        PathBuf::from(self.named("/run/mizzen", '-'))
    }

    /// Cgroup of all containers, relative to a hierarchy's mount, unless configured.
    #[must_use]
    pub fn cgroup_root(&self) -> String {
        self.named("mizzen", '-')
    }

    /// Bridge of the overlay, unless configured.
    #[must_use]
    pub fn bridge(&self) -> String {
        self.named("m-dcos", '-')
    }

    /// Bridge of a further overlay.
    #[must_use]
    pub fn overlay_bridge(&self, overlay: &str) -> String {
        self.named(&format!("m-{overlay}"), '-')
    }

    /// Second bridge of an overlay, for another runtime.
    #[must_use]
    pub fn second_bridge(&self, overlay: &str) -> String {
        self.named(&format!("d-{overlay}"), '-')
    }

    /// Bridge of the network that the node alone knows, unless configured.
    #[must_use]
    pub fn node_bridge(&self) -> String {
        if self.is_default() { "ucr-br0".to_owned() } else { format!("ucr-{self}") }
    }

    /// The node's end of the tunnels with this number.
    #[must_use]
    pub fn tunnel(&self, vni: u32) -> String {
        if self.is_default() { format!("vtep{vni}") } else { format!("v{vni:06x}{self}") }
    }

    /// The link that encrypts packets of tunnels.
    #[must_use]
    pub fn encryption_link(&self) -> String {
        self.named("mz-wg0", '-')
    }

    /// Dummy link that holds the resolver's addresses.
    #[must_use]
    pub fn names_link(&self) -> String {
        if self.is_default() { "spartan".to_owned() } else { format!("m-dns-{self}") }
    }

    /// Table of packet filter rules.
    #[must_use]
    pub fn filter_table(&self) -> String {
        self.named("mizzen", '-')
    }

    /// Table of the packet filter with the ports that lead to containers. The default one is
    /// that of `mizzen-portmap`, for whichever runtime; others never look like a table above.
    #[must_use]
    pub fn port_table(&self) -> String {
        if self.is_default() { DEFAULT_TABLE.to_owned() } else { format!("mizzen_ports-{self}") }
    }

    /// Tables of packet filter rules of the queue engine of VIPs, one for each address family.
    #[must_use]
    pub fn vip_table(&self) -> String {
        self.named("mizzen-vips", '-')
    }

    /// Directory of pinned BPF programs and maps, on the BPF file system `bpffs`.
    #[must_use]
    pub fn pin_dir(&self, bpffs: &Path) -> PathBuf {
        bpffs.join(self.named("mizzen", '-'))
    }

    fn named(&self, base: &str, separator: char) -> String {
        if self.is_default() { base.to_owned() } else { format!("{base}{separator}{self}") }
    }
}

impl Default for Instance {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl FromStr for Instance {
    type Err = InstanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=MAX_INSTANCE_BYTES).contains(&text.len()) || !text.bytes().all(letter) {
            return Err(InstanceError::Pattern);
        }
        if text.starts_with("lab-") {
            return Err(InstanceError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn instance(text: &str) -> Instance {
        text.parse().unwrap()
    }

    #[test]
    fn names_that_are_taken_and_refused() {
        for good in ["default", "a", "node-1", "12345678", "-", "lab"] {
            assert!(good.parse::<Instance>().is_ok(), "{good}");
        }
        for bad in ["", "123456789", "A", "a_b", "a/b", "ä", "a.b"] {
            assert_eq!(bad.parse::<Instance>(), Err(InstanceError::Pattern), "{bad}");
        }
        assert_eq!("lab-1".parse::<Instance>(), Err(InstanceError::Reserved));
    }

    #[test]
    fn the_default_instance_has_the_names_of_dcos() {
        let default = Instance::default();
        assert_eq!(default.bridge(), "m-dcos");
        assert_eq!(default.node_bridge(), "ucr-br0");
        assert_eq!(default.names_link(), "spartan");
        assert_eq!(default.state_dir(), Path::new("/var/lib/mizzen"));
        assert_eq!(default.run_dir(), Path::new("/run/mizzen"));
        assert_eq!(default.pin_dir(Path::new("/sys/fs/bpf")), Path::new("/sys/fs/bpf/mizzen"));
    }

    /// Names that look like parts of our own names, and ones that begin each other.
    const TRICKY: &[&str] = &[
        "default", "a", "a-b", "a-", "-a", "dcos", "m-dcos", "dns", "m-dns-a", "vtep", "vtep1024",
        "1024", "400", "spartan", "mizzen", "mz", "lab", "12345678", "v", "va",
    ];

    #[test]
    fn no_two_instances_share_a_name() {
        let mut owner = BTreeMap::new();
        for name in TRICKY.iter().filter(|name| name.len() <= MAX_INSTANCE_BYTES) {
            let i = instance(name);
            for link in &[
                i.bridge(),
                i.node_bridge(),
                i.names_link(),
                i.tunnel(1024),
                i.tunnel(0x00ff_ffff),
            ] {
                assert!(link.len() <= MAX_LINK_BYTES, "{link}");
                let before = owner.insert(format!("link {link}"), *name);
                assert_eq!(before, None, "{link} is of two instances, {name} is one");
            }
            for (kind, value) in [
                ("state", i.state_dir().display().to_string()),
                ("run", i.run_dir().display().to_string()),
                ("cgroup", i.cgroup_root()),
                ("table", i.filter_table()),
                ("table", i.port_table()),
                ("pins", i.pin_dir(Path::new("/")).display().to_string()),
            ] {
                let before = owner.insert(format!("{kind} {value}"), *name);
                assert_eq!(before, None, "{kind} {value} is of two instances, {name} is one");
            }
        }
    }
}
