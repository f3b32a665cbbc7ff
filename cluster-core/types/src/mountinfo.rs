//! Reading of `/proc/<pid>/mountinfo`: who mounted what where.
//!
//! The launcher and the isolators both have to find cgroup hierarchies and
//! namespace files among the mounts; the format is described in proc(5).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which part of the file system is mounted; `/` is all of it.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Type of the file system: `cgroup2`, `nsfs`.
    pub file_system: String,
    /// Options of the file system itself; the controllers of a v1 hierarchy are
    /// among them.
    pub super_options: Vec<String>,
}

/// Reads all lines; one that cannot be understood is left out, because the kernel
/// may say more in a later version.
#[must_use]
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let mut file_system = file_system.split(' ');
    Some(Mount {
        root: unescape(mount.next()?),
        mount_point: unescape(mount.next()?),
        file_system: file_system.next()?.to_owned(),
        super_options: file_system.nth(1)?.split(',').map(str::to_owned).collect(),
    })
}

/// Blanks, tabs, line ends and backslashes are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut path = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                path.push(escaped);
                at += 4;
            }
            _ => {
                path.push(byte);
                at += 1;
            }
        }
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_shapes() {
        let text = "31 23 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs rw,mode=755\n\
                    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                    41 31 0:38 /a /with\\040blank rw shared:1 master:2 - cgroup2 cgroup2 rw\n\
                    nonsense\n\
                    91 31 0:4 net:[4026532287] /run/m/c/netns rw - nsfs nsfs rw\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[1].super_options, ["rw", "cpu", "cpuacct"]);
        assert_eq!(mounts[2].mount_point, PathBuf::from("/with blank"));
        assert_eq!(mounts[2].root, PathBuf::from("/a"));
        assert_eq!(mounts[3].file_system, "nsfs");
        assert_eq!(mounts[3].root, PathBuf::from("net:[4026532287]"));
    }
}
