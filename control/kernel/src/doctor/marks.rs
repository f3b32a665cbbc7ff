//! Everything in the kernel and on the disk that bears a mark of this project.

use super::files::read;
use crate::chain;
use crate::tunnels::PROTOCOL;
use mizzen_cni_core::ipam::LeaseRecord;
use mizzen_cni_core::plan::read_alias;
use mizzen_cni_core::portmap::DEFAULT_TABLE;
use mizzen_netlink::{Netlink, NetlinkError, Nft, Selector};
use mizzen_plan::doctor::{Leftover, Leftovers, Link, Look, Wanted};
use mizzen_types::mountinfo::{self, Mount};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// First word of marks, and of names of tables.
pub(super) const NAME: &str = "mizzen";
/// A lease is made before the link of its container; one that is older has none coming.
const SETTLED: Duration = Duration::from_secs(60);

/// Looks for all of it.
///
/// * `daemon` — process id of the node's daemon, if it runs.
pub(super) fn observe(wanted: &Wanted, daemon: Option<u32>, links: &[Link]) -> Look<Leftovers> {
    let mounts = read("/proc/self/mountinfo").map(|text| mountinfo::parse(&text))?;
    let cgroups = observe_cgroups(wanted, &mounts);
    let mut objects = of_links(wanted, links);
    objects.extend(of_routes().map_err(|error| chain(&error))?);
    // Only root may list tables.
    objects.extend(of_tables(wanted).unwrap_or_default());
    objects.extend(of_pins(wanted));
    objects.extend(of_mounts(wanted, &mounts));
    objects.extend(of_leases(wanted, links));
    let running = cgroups.iter().filter(|cgroup| is_populated(cgroup)).count();
    objects.extend(cgroups.iter().map(|path| ours("cgroup", path.display().to_string())));
    Ok(Leftovers { objects, running, others_run: others_run(daemon) })
}

fn ours(kind: &'static str, name: String) -> Leftover {
    Leftover { kind, name, is_ours: true, is_orphan: false }
}

fn of_links(wanted: &Wanted, links: &[Link]) -> Vec<Leftover> {
    let object = |link: &Link| {
        let alias = link.alias.as_deref()?;
        let is_ours = alias == wanted.mark;
        let is_node = alias.split(' ').next() == Some(NAME);
        let (kind, name) = ("link", link.name.clone());
        (is_ours || is_node).then_some(Leftover { kind, name, is_ours, is_orphan: false })
    };
    links.iter().filter_map(object).collect()
}

fn of_routes() -> Result<Vec<Leftover>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let routes = netlink.observe_routes(PROTOCOL)?;
    let rules = netlink.observe_rules(PROTOCOL)?;
    let routes = routes.iter().map(|route| ours("route", route.destination.to_string()));
    let rules = rules.iter().map(|rule| match rule.selector {
        Selector::Source(network) => ours("rule", network.to_string()),
        Selector::UdpPort { port, .. } => ours("rule", format!("udp port {port}")),
    });
    Ok(routes.chain(rules).collect())
}

fn of_tables(wanted: &Wanted) -> Result<Vec<Leftover>, NetlinkError> {
    let tables = Nft::open()?.observe_tables()?;
    let object = |name: String| {
        let is_ours = wanted.tables.contains(&name);
        // Ports that are published for containers of whomever.
        let is_shared = name == DEFAULT_TABLE;
        let is_node = name == NAME || name.starts_with("mizzen-");
        let found = is_ours || (is_node && !is_shared);
        found.then_some(Leftover { kind: "nft table", name, is_ours, is_orphan: false })
    };
    Ok(tables.into_iter().filter_map(object).collect())
}

fn of_pins(wanted: &Wanted) -> Option<Leftover> {
    let is_filled = fs::read_dir(&wanted.pin_dir).is_ok_and(|mut pins| pins.next().is_some());
    is_filled.then(|| ours("pin", wanted.pin_dir.clone()))
}

fn of_mounts(wanted: &Wanted, mounts: &[Mount]) -> Vec<Leftover> {
    let below = |mount: &&Mount| {
        mount.mount_point.starts_with(&wanted.run_dir)
            && mount.mount_point != Path::new(&wanted.run_dir)
    };
    mounts
        .iter()
        .filter(below)
        .map(|mount| ours("mount", mount.mount_point.display().to_string()))
        .collect()
}

/// Cgroups of containers, once each: all hierarchies have the same ones.
fn observe_cgroups(wanted: &Wanted, mounts: &[Mount]) -> Vec<PathBuf> {
    let hierarchies = mounts.iter().filter(|mount| mount.file_system.starts_with("cgroup"));
    let lists = hierarchies.map(|mount| {
        let root = mount.mount_point.join(&wanted.cgroup_root);
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut paths: Vec<PathBuf> = directories.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    });
    lists.max_by_key(Vec::len).unwrap_or_default()
}

fn is_populated(cgroup: &Path) -> bool {
    let has_some =
        |path: PathBuf| read(path.join("cgroup.procs")).is_ok_and(|text| !text.is_empty());
    let below = fs::read_dir(cgroup).into_iter().flatten().flatten().map(|entry| entry.path());
    has_some(cgroup.to_owned()) || below.filter(|path| path.is_dir()).any(has_some)
}

/// Leases of addresses whose container has no link.
fn of_leases(wanted: &Wanted, links: &[Link]) -> Vec<Leftover> {
    let root = Path::new(&wanted.state_dir).join("leases");
    let overlays = fs::read_dir(root).into_iter().flatten().flatten();
    let files =
        overlays.flat_map(|overlay| fs::read_dir(overlay.path()).into_iter().flatten().flatten());
    let orphan = |file: fs::DirEntry| {
        let age = file.metadata().ok()?.modified().ok()?.elapsed().ok()?;
        let record: LeaseRecord = serde_json::from_str(&read(file.path()).ok()?).ok()?;
        let has_link = links
            .iter()
            .filter_map(|link| read_alias(link.alias.as_deref()?))
            .any(|(_, key)| key.container_id == record.container_id && key.ifname == record.ifname);
        let name = file.path().display().to_string();
        let is_orphan = age > SETTLED && !has_link;
        is_orphan.then_some(Leftover { kind: "lease", name, is_ours: true, is_orphan })
    };
    files.filter_map(orphan).collect()
}

/// Whether a daemon of another node runs in the network of this process.
fn others_run(daemon: Option<u32>) -> bool {
    let here = fs::read_link("/proc/self/ns/net").ok();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.any(|pid| {
        Some(pid) != daemon
            && is_daemon(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default())
            && fs::read_link(format!("/proc/{pid}/ns/net")).ok() == here
    })
}

fn is_daemon(command_line: &[u8]) -> bool {
    let mut words = command_line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let is_program = program.rsplit(|byte| *byte == b'/').next() == Some(NAME.as_bytes());
    let words: Vec<&[u8]> = words.collect();
    is_program && words.contains(&&b"node"[..]) && !words.contains(&&b"--hold-sockets"[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_links() {
        let link = |name: &str, alias: Option<&str>| Link {
            name: name.to_owned(),
            alias: alias.map(str::to_owned),
            ..Link::default()
        };
        let links = [
            link("m-dcos", Some("mizzen default")),
            link("m-dcos-b", Some("mizzen b")),
            link("c1", Some("mizzen-cni dcos c-1 eth0")),
            link("eth0", None),
            link("other", Some("mizzenmast")),
        ];
        let wanted = Wanted { mark: "mizzen default".to_owned(), ..Wanted::default() };
        let found = of_links(&wanted, &links);
        let found: Vec<(&str, bool)> = found.iter().map(|o| (o.name.as_str(), o.is_ours)).collect();
        assert_eq!(found, [("m-dcos", true), ("m-dcos-b", false)]);
    }

    #[test]
    fn command_lines_of_daemons() {
        for (line, want) in [
            (&b"/usr/lib/mizzen/mizzen\0node\0--join\0h\0"[..], true),
            (b"mizzen\0--instance\0b\0node\0", true),
            (b"mizzen\0status\0", false),
            (b"mizzen\0node\0--hold-sockets\0/run/mizzen\0", false),
            (b"vi\0mizzen\0node\0", false),
            (b"", false),
        ] {
            assert_eq!(is_daemon(line), want, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_lease_without_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let leases = temp.path().join("leases/dcos");
        fs::create_dir_all(&leases).unwrap();
        let record = r#"{"version":1,"containerId":"c-1","ifname":"eth0"}"#;
        fs::write(leases.join("9.0.0.2"), record).unwrap();
        let state_dir = temp.path().display().to_string();
        let wanted = Wanted { state_dir, ..Wanted::default() };
        assert_eq!(of_leases(&wanted, &[]), [], "its container may be on its way");
        let old = std::time::SystemTime::now() - SETTLED * 2;
        let file = fs::File::options().write(true).open(leases.join("9.0.0.2")).unwrap();
        file.set_modified(old).unwrap();
        assert_eq!(of_leases(&wanted, &[]).len(), 1);
        let alias = Some("mizzen-cni dcos c-1 eth0".to_owned());
        let link = Link { name: "x".to_owned(), alias, ..Link::default() };
        assert_eq!(of_leases(&wanted, &[link]), []);
    }
}
