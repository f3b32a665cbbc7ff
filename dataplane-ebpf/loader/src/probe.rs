//! What this machine lacks for the programs, in words.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::statfs;

use crate::{Options, bpf};

/// Why the programs cannot be loaded here.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The directory of the cgroup cannot be looked at.
    #[error("cannot look at the cgroup directory {}", path.display())]
    Cgroup {
        /// As configured.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The directory belongs to something else than cgroup v2.
    #[error(
        "{} is not in a cgroup v2 hierarchy; on a hybrid host that is usually /sys/fs/cgroup/unified",
        path.display()
    )]
    NotCgroup2 {
        /// As configured.
        path: PathBuf,
    },
    /// Neither the pin directory nor any directory above it can be looked at.
    #[error("cannot look at the pin directory {}", path.display())]
    Pins {
        /// As configured.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Pins need a BPF file system.
    #[error("{} is not on a BPF file system; mount one with: mount -t bpf bpf DIRECTORY", path.display())]
    NoBpffs {
        /// As configured.
        path: PathBuf,
    },
    /// The process may not load programs.
    #[error("this process lacks {missing}; run it as root or grant CAP_BPF and CAP_NET_ADMIN")]
    Capability {
        /// Names of the missing capabilities.
        missing: &'static str,
    },
    /// The capabilities of the process cannot be read.
    #[error("cannot read this process's capabilities from /proc/self/status")]
    Status {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel has no bpf(2), or a sandbox or lockdown keeps it from us.
    #[error("the kernel refuses to create a BPF map")]
    Refused {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Finds out whether [`Dataplane::open`](crate::Dataplane::open) has a chance.
///
/// # Errors
///
/// The first thing that is missing.
pub fn probe(options: &Options) -> Result<(), ProbeError> {
    probe_cgroup(&options.cgroup)?;
    probe_machine(&options.pin_dir)
}

/// The same for programs on network links alone.
pub fn probe_machine(pin_dir: &Path) -> Result<(), ProbeError> {
    probe_pins(pin_dir)?;
    let status =
        fs::read_to_string("/proc/self/status").map_err(|source| ProbeError::Status { source })?;
    if let Some(missing) = missing_capability(effective_capabilities(&status)) {
        return Err(ProbeError::Capability { missing });
    }
    bpf::try_map_create().map_err(|source| ProbeError::Refused { source })
}

/// Whether a directory is on a BPF file system, or would be: it may not exist yet, and then the nearest one above it counts.
///
/// # Errors
///
/// [`ProbeError::NoBpffs`], or that the directories cannot be looked at.
pub fn probe_pins(path: &Path) -> Result<(), ProbeError> {
    for directory in path.ancestors() {
        match file_system(directory) {
            Ok(BPF_FS_MAGIC) => return Ok(()),
            Ok(_) => return Err(ProbeError::NoBpffs { path: path.to_owned() }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ProbeError::Pins { path: path.to_owned(), source }),
        }
    }
    Err(ProbeError::NoBpffs { path: path.to_owned() })
}

/// Whether a program may choose the error of the call that it refuses (Linux 5.18).
pub fn programs_can_set_errors() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|text| text.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    version >= (5, 18)
}

/// `f_type` of a cgroup v2 directory.
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
/// `f_type` of a BPF file system.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

const CAP_NET_ADMIN: u64 = 1 << 12;
const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_BPF: u64 = 1 << 39;

fn probe_cgroup(path: &Path) -> Result<(), ProbeError> {
    match file_system(path) {
        Ok(CGROUP2_SUPER_MAGIC) => Ok(()),
        Ok(_) => Err(ProbeError::NotCgroup2 { path: path.to_owned() }),
        Err(source) => Err(ProbeError::Cgroup { path: path.to_owned(), source }),
    }
}

fn file_system(path: &Path) -> io::Result<u64> {
    // The field is signed and of another width on some machines; the low half says it all.
    Ok(statfs(path)?.f_type as u64 & 0xffff_ffff)
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn missing_capability(mask: u64) -> Option<&'static str> {
    let admin = mask & CAP_SYS_ADMIN != 0;
    match (admin || mask & CAP_BPF != 0, admin || mask & CAP_NET_ADMIN != 0) {
        (true, true) => None,
        (true, false) => Some("CAP_NET_ADMIN"),
        (false, true) => Some("CAP_BPF"),
        (false, false) => Some("CAP_BPF and CAP_NET_ADMIN"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_capability_is_missing() {
        #[rustfmt::skip]
        let table = [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", None),
            ("CapEff:\t0000000000200000",             None),
            ("CapEff:\t0000008000001000",             None),
            ("CapEff:\t0000008000000000",             Some("CAP_NET_ADMIN")),
            ("CapEff:\t0000000000001000",             Some("CAP_BPF")),
            ("CapEff:\t0000000000000000",             Some("CAP_BPF and CAP_NET_ADMIN")),
            ("garbage",                               Some("CAP_BPF and CAP_NET_ADMIN")),
        ];
        for (status, missing) in table {
            assert_eq!(missing_capability(effective_capabilities(status)), missing, "{status}");
        }
    }

    #[test]
    fn names_the_wrong_place() {
        let proc = Path::new("/proc");
        let error = probe_cgroup(proc).expect_err("no cgroup");
        assert!(matches!(&error, ProbeError::NotCgroup2 { .. }), "{error}");
        let error = probe_cgroup(Path::new("/nowhere/at/all")).expect_err("nothing there");
        assert!(matches!(&error, ProbeError::Cgroup { .. }), "{error}");
        let error = probe_pins(Path::new("/proc/pins/of/mine")).expect_err("no bpffs");
        assert_eq!(
            error.to_string(),
            "/proc/pins/of/mine is not on a BPF file system; mount one with: mount -t bpf bpf DIRECTORY"
        );
    }
}
