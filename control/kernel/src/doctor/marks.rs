//! Everything in the kernel and on the disk that bears a mark of this project.

use super::files::read;
use crate::leases::{observe_addresses, read_lease};
use crate::tunnels::PROTOCOL;
use mizzen_cni_core::config::OWN_IPAM;
use mizzen_cni_core::ipam::LeaseRecord;
use mizzen_cni_core::plan::read_alias;
use mizzen_cni_core::portmap::DEFAULT_TABLE;
use mizzen_netlink::{Netlink, NetlinkError, Nft, Selector, booted};
use mizzen_plan::doctor::{Leftover, Leftovers, Link, Look, Purpose, Wanted};
use mizzen_types::error::chain;
use mizzen_types::mountinfo::{self, Mount};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
    Leftover { kind, name, is_ours: true, purpose: Purpose::There }
}

fn of_links(wanted: &Wanted, links: &[Link]) -> Vec<Leftover> {
    let object = |link: &Link| {
        let alias = link.alias.as_deref()?;
        let is_ours = alias == wanted.mark;
        let is_node = alias.split(' ').next() == Some(NAME);
        let (kind, name) = ("link", link.name.clone());
        (is_ours || is_node).then_some(Leftover { kind, name, is_ours, purpose: Purpose::There })
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
        found.then_some(Leftover { kind: "nft table", name, is_ours, purpose: Purpose::There })
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

/// Leases of addresses that nobody may have any more.
fn of_leases(wanted: &Wanted, links: &[Link]) -> Vec<Leftover> {
    let root = Path::new(&wanted.state_dir).join("leases");
    let overlays = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = overlays.flat_map(|overlay| {
        let addresses = observe_addresses(&overlay).unwrap_or_default().into_iter();
        addresses.map(move |address| overlay.join(address.to_string()))
    });
    let booted = booted();
    let left = |path: PathBuf| {
        let made = fs::metadata(&path).ok()?.modified().ok()?;
        let purpose = purpose_of(&read_lease(&path)?, made, booted, links);
        let name = path.display().to_string();
        (purpose != Purpose::There).then_some(Leftover {
            kind: "lease",
            name,
            is_ours: true,
            purpose,
        })
    };
    files.filter_map(left).collect()
}

/// Whether the container of a lease is there, by the link that `mizzen-overlay` gave it.
fn purpose_of(
    record: &LeaseRecord,
    made: SystemTime,
    booted: SystemTime,
    links: &[Link],
) -> Purpose {
    let mut marks = links.iter().filter_map(|link| read_alias(link.alias.as_deref()?));
    if marks.any(|(_, key)| key == record.key()) {
        return Purpose::There;
    }
    if made < booted {
        return Purpose::Gone;
    }
    // Below other main plugins the link bears none of our marks.
    let may_be_there = record.plugin.as_deref() == Some(OWN_IPAM);
    let is_new = made.elapsed().is_ok_and(|age| age < SETTLED);
    if may_be_there || is_new { Purpose::There } else { Purpose::Unclear }
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
        let state_dir = temp.path().display().to_string();
        let wanted = Wanted { state_dir, ..Wanted::default() };
        let found = |links: &[Link]| -> Vec<Purpose> {
            of_leases(&wanted, links).iter().map(|lease| lease.purpose).collect()
        };
        let lease = |plugin: Option<&str>, made: SystemTime| {
            let record = serde_json::json!({
                "version": 1, "containerId": "c-1", "ifname": "eth0", "plugin": plugin,
            });
            // A container's list is as old as the lease, and none.
            for name in ["9.0.0.2", ".of-mz0123"] {
                fs::write(leases.join(name), record.to_string()).unwrap();
                let file = fs::File::options().write(true).open(leases.join(name)).unwrap();
                file.set_modified(made).unwrap();
            }
        };
        let now = SystemTime::now();
        let (settled, before) = (now - SETTLED * 2, booted() - SETTLED);
        for (name, plugin, made, want) in [
            ("its container may be on its way", Some("mizzen-overlay"), now, None),
            ("its link is gone", Some("mizzen-overlay"), settled, Some(Purpose::Unclear)),
            ("made before plugins said who they are", None, settled, Some(Purpose::Unclear)),
            ("its link bears no mark", Some("mizzen-ipam"), settled, None),
            ("of before the start, anybody's", Some("mizzen-ipam"), before, Some(Purpose::Gone)),
            ("of before the start", Some("mizzen-overlay"), before, Some(Purpose::Gone)),
        ] {
            lease(plugin, made);
            assert_eq!(found(&[]), want.into_iter().collect::<Vec<_>>(), "{name}");
            let alias = Some("mizzen-cni dcos c-1 eth0".to_owned());
            let link = Link { name: "x".to_owned(), alias, ..Link::default() };
            assert_eq!(found(&[link]), [], "{name}");
        }
    }
}
