//! What bears the node's marks, and nobody looks after.

use super::{Daemon, Observed, Told, Verdict, of_look};
use std::collections::BTreeMap;

/// What bears a mark of this project.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Objects, whosever they are.
    pub objects: Vec<Leftover>,
    /// Containers of this node that run, by the processes in their cgroups.
    pub running: usize,
    /// Whether a daemon of another node runs in this network.
    pub others_run: bool,
}

/// An object with a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// What it is: `link`, `nft table`, `route`, `rule`, `pin`, `cgroup`, `mount`, `lease`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Whether it is of this node, by its mark; else of a node of another name.
    pub is_ours: bool,
    /// What it was made for.
    pub purpose: Purpose,
}

/// Whether what an object was made for is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// As far as anybody looked, it is.
    #[default]
    There,
    /// Only somebody else knows: an address whose container has no link of ours.
    Unclear,
    /// It is gone for good: an address that was leased before the machine was started.
    Gone,
}

/// How many are named.
const NAMED: usize = 3;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    of_look(&observed.machine.leftovers, "what former nodes left", |found| {
        let mut verdicts = of_daemon(observed, found);
        verdicts.extend(orphans(observed, found));
        verdicts.extend(former_bridges(observed, found));
        verdicts.extend(unclear(observed, found));
        verdicts.extend(of_others(found));
        if verdicts.is_empty() {
            verdicts.push(Verdict::ok("nothing is left of former nodes and containers"));
        }
        verdicts
    })
}

/// A node whose daemon is away: its containers run on, or it was not torn down.
fn of_daemon(observed: &Observed, found: &Leftovers) -> Vec<Verdict> {
    if observed.daemon != Daemon::Away {
        return Vec::new();
    }
    let ours: Vec<&Leftover> = found.objects.iter().filter(|object| object.is_ours).collect();
    let why_run = "they go on, and nobody looks after their health, their names or new VIPs";
    if found.running > 0 {
        let what = format!("{} containers run, and their daemon does not", found.running);
        return vec![Verdict::warning(what).because(why_run).remedy("systemctl start mizzen")];
    }
    if ours.is_empty() {
        return Vec::new();
    }
    let what = format!("no daemon runs, and this is left of one: {}", listed(&ours));
    let why = "addresses, routes and rules of a node that does not run lead nowhere";
    vec![
        Verdict::warning(what)
            .because(why)
            .remedy("mizzen node --teardown, or start the node again"),
    ]
}

/// Objects of containers that are gone, and links with our mark that the daemon did not make.
fn orphans(observed: &Observed, found: &Leftovers) -> Option<Verdict> {
    let told = observed.told()?;
    let is_left = |object: &&Leftover| match object.kind {
        "link" => is_unknown(observed, told, object) && ports(observed, object) == 0,
        _ => object.is_ours && object.purpose == Purpose::Gone,
    };
    let all: Vec<&Leftover> = found.objects.iter().filter(is_left).collect();
    let first = all.first()?;
    let remedy = match first.kind {
        "link" => format!("ip link del {}", first.name),
        "lease" => format!("rm {}", first.name),
        _ => "systemctl restart mizzen collects what no container holds".to_owned(),
    };
    let verdict = Verdict::warning(format!(
        "this has the node's mark, and the node does not know it: {}",
        listed(&all)
    ))
    .because("it takes an address or a name that a container may be given next")
    .remedy(remedy);
    Some(verdict)
}

/// Bridges of networks that are configured no more, with containers on them: whoever removes one
/// cuts these off for good.
fn former_bridges(observed: &Observed, found: &Leftovers) -> Option<Verdict> {
    let told = observed.told()?;
    let is_held = |object: &&Leftover| {
        object.kind == "link" && is_unknown(observed, told, object) && ports(observed, object) > 0
    };
    let all: Vec<&Leftover> = found.objects.iter().filter(is_held).collect();
    if all.is_empty() {
        return None;
    }
    let links: usize = all.iter().map(|bridge| ports(observed, bridge)).sum();
    let verdict = Verdict::warning(format!(
        "containers are plugged into this ({links}), and its network is configured no more: {}",
        listed(&all)
    ))
    .because("containers with an address of it reach nobody on other nodes")
    .remedy(
        "put the network back (overlay.networks on the masters), or end the containers; the node \
         removes the bridge after the last one",
    );
    Some(verdict)
}

/// Whether the daemon knows nothing of a link with our mark.
fn is_unknown(observed: &Observed, told: &Told, link: &Leftover) -> bool {
    let wanted = &observed.wanted;
    let made = link.name == wanted.names_link
        || wanted.bridges.contains(&link.name)
        || told.links.contains(&link.name);
    link.is_ours && !made
}

fn ports(observed: &Observed, link: &Leftover) -> usize {
    let seen = observed.links().iter().find(|seen| seen.name == link.name);
    seen.map_or(0, |seen| seen.ports)
}

/// Addresses of which only their containers' runtimes know whether they are used.
fn unclear(observed: &Observed, found: &Leftovers) -> Option<Verdict> {
    observed.told()?;
    let is_unclear = |object: &&Leftover| object.is_ours && object.purpose == Purpose::Unclear;
    let all: Vec<&Leftover> = found.objects.iter().filter(is_unclear).collect();
    let first = all.first()?;
    let verdict =
        Verdict::warning(format!("no container's link is known for this: {}", listed(&all)))
            .because("if the container ended without its runtime's DEL, nobody frees the address")
            .remedy(format!(
                "check with its runtime whether the container in {} is there; if it is not, its \
                 DEL frees the address",
                first.name
            ));
    Some(verdict)
}

/// Of nodes of other names, of which none runs here.
fn of_others(found: &Leftovers) -> Option<Verdict> {
    let theirs: Vec<&Leftover> =
        found.objects.iter().filter(|object| !object.is_ours && !found.others_run).collect();
    if theirs.is_empty() {
        return None;
    }
    let verdict = Verdict::warning(format!(
        "this is left of nodes of other names, and none of them runs: {}",
        listed(&theirs)
    ))
    .because("it may have addresses, routes or ports that this node wants")
    .remedy("mizzen --instance NAME node --teardown with the name in the mark: ip -d link show");
    Some(verdict)
}

/// `2 links (m-dcos, vtep1024), nft table (mizzen)`.
fn listed(objects: &[&Leftover]) -> String {
    let mut by_kind: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for object in objects {
        by_kind.entry(object.kind).or_default().push(&object.name);
    }
    let texts: Vec<String> = by_kind.iter().map(|(kind, names)| of_kind(kind, names)).collect();
    texts.join(", ")
}

fn of_kind(kind: &str, names: &[&str]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).copied().collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    match names.len() {
        1 => format!("{kind} {}", shown.join(", ")),
        count => format!("{count} {kind}s ({}{more})", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::well;
    use super::super::{Grade, Link};
    use super::*;

    fn object(kind: &'static str, name: &str, is_ours: bool) -> Leftover {
        Leftover { kind, name: name.into(), is_ours, purpose: Purpose::There }
    }

    fn lease(name: &str, purpose: Purpose) -> Leftover {
        Leftover { kind: "lease", name: name.into(), is_ours: true, purpose }
    }

    #[test]
    fn what_is_left_of_whom() {
        let bridge = || object("link", "m-dcos", true);
        /// What is left, how many containers run, whether the daemon does, what is said.
        type Case = (&'static str, Vec<Leftover>, usize, bool, Option<&'static str>);
        #[rustfmt::skip]
        let table: [Case; 9] = [
            ("all is the daemon's",      vec![bridge()],                                 0, true,  None),
            ("an unknown link",          vec![object("link", "m-old", true)],     0, true,  Some("link m-old")),
            ("a lease of nobody",        vec![lease("9.0.0.9", Purpose::Gone)],   0, true,  Some("lease 9.0.0.9")),
            ("not torn down",            vec![bridge(), object("nft table", "mizzen", true)], 0, false, Some("link m-dcos, nft table mizzen")),
            ("containers run on",        vec![bridge()],                                 3, false, Some("3 containers run")),
            ("of another one",           vec![object("link", "m-dcos-b", false)], 0, true,  Some("link m-dcos-b")),
            ("four of them",             (1..5).map(|n| object("route", &format!("r{n}"), true)).collect(), 0, false, Some("4 routes (r1, r2, r3, …)")),
            ("nothing",                  vec![],                                         0, false, None),
            ("routes of the daemon",     vec![object("route", "9.0.1.0/24", true)], 0, true, None),
        ];
        for (name, objects, running, runs, want) in table {
            let mut observed = well();
            if !runs {
                observed.daemon = Daemon::Away;
            }
            observed.machine.leftovers = Ok(Leftovers { objects, running, others_run: false });
            let verdicts = judge(&observed);
            match want {
                None => assert_eq!(verdicts[0].grade, Grade::Ok, "{name}: {verdicts:?}"),
                Some(words) => {
                    assert_eq!(verdicts[0].grade, Grade::Warning, "{name}");
                    assert!(verdicts[0].what.contains(words), "{name}: {}", verdicts[0].what);
                }
            }
        }
    }

    #[test]
    fn an_address_is_freed_by_hand_only_if_nobody_can_have_it() {
        for (purpose, want) in [(Purpose::Gone, "rm 9.0.0.9"), (Purpose::Unclear, "check with")] {
            let mut observed = well();
            let objects = vec![lease("9.0.0.9", purpose)];
            observed.machine.leftovers = Ok(Leftovers { objects, running: 0, others_run: false });
            let verdicts = judge(&observed);
            assert_eq!(verdicts.len(), 1, "{verdicts:?}");
            let remedy = verdicts[0].remedy.as_deref().unwrap_or_default();
            assert!(remedy.starts_with(want), "{remedy}");
            assert_eq!(verdicts[0].grade, Grade::Warning);
        }
    }

    #[test]
    fn a_bridge_that_containers_are_plugged_into_is_not_to_be_removed() {
        for (ports, want) in [(0, "ip link del m-web"), (2, "put the network back")] {
            let mut observed = well();
            let objects = vec![object("link", "m-web", true)];
            observed.machine.leftovers = Ok(Leftovers { objects, running: 2, others_run: false });
            let bridge = Link { name: "m-web".into(), ports, ..Link::default() };
            observed.machine.links.as_mut().unwrap().push(bridge);
            let verdicts = judge(&observed);
            assert_eq!(verdicts.len(), 1, "{verdicts:?}");
            assert_eq!(verdicts[0].grade, Grade::Warning);
            let remedy = verdicts[0].remedy.as_deref().unwrap_or_default();
            assert!(remedy.starts_with(want), "{remedy}");
        }
    }

    #[test]
    fn what_others_have_is_theirs_while_they_run() {
        let mut observed = well();
        let objects = vec![object("link", "m-dcos-b", false)];
        observed.machine.leftovers = Ok(Leftovers { objects, running: 0, others_run: true });
        assert_eq!(judge(&observed)[0].grade, Grade::Ok);
    }
}
