//! Settings of the kernel (`sysctl`) that packets and tasks depend on.

use super::{Link, Observed, Verdict, Wanted};

const FORWARD4: &str = "net/ipv4/ip_forward";
const FORWARD6: &str = "net/ipv6/conf/all/forwarding";
const NO_IPV6: &str = "net/ipv6/conf/all/disable_ipv6";
const BRIDGE_CALLS: &str = "net/bridge/bridge-nf-call-iptables";
const LOCAL_PORTS: &str = "net/ipv4/ip_local_port_range";
const RESERVED_PORTS: &str = "net/ipv4/ip_local_reserved_ports";
const PID_MAX: &str = "kernel/pid_max";

/// Fewer process ids than this are used up by a machine full of containers.
const LEAST_PIDS: u64 = 32_768;

/// Judgments, each over some settings; nothing where the kernel has no such setting.
const JUDGMENTS: [fn(&Observed) -> Option<Verdict>; 6] =
    [forwarding, link_forwarding, forwarding6, no_ipv6, local_ports, process_ids];

/// The settings that are looked at on a machine with these links.
#[must_use]
pub fn setting_names(wanted: &Wanted, links: &[Link]) -> Vec<String> {
    let fixed = [
        FORWARD4,
        FORWARD6,
        NO_IPV6,
        BRIDGE_CALLS,
        LOCAL_PORTS,
        RESERVED_PORTS,
        PID_MAX,
        "kernel/threads-max",
        "net/netfilter/nf_conntrack_max",
        "net/netfilter/nf_conntrack_count",
    ];
    let of_links = our_links(wanted, links).map(forwarding_of);
    fixed.into_iter().map(str::to_owned).chain(of_links).collect()
}

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> =
        JUDGMENTS.iter().filter_map(|judgment| judgment(observed)).collect();
    if verdicts.is_empty() {
        let count = observed.machine.settings.len();
        verdicts.push(Verdict::ok(format!("{count} settings of the kernel are as they should be")));
    }
    verdicts
}

/// Whether frames between ports of a bridge go through the packet filter.
pub(super) fn bridges_call_filters(observed: &Observed) -> bool {
    observed.machine.settings.get(BRIDGE_CALLS).is_some_and(|value| value == "1")
}

fn forwarding(observed: &Observed) -> Option<Verdict> {
    let is_needed = observed.wanted.overlay && has_bridge(observed);
    (is_needed && is(observed, FORWARD4, "0")).then(|| {
        Verdict::error("forwarding of IPv4 packets is off (net.ipv4.ip_forward = 0)")
            .because("containers reach nothing but their own node; the daemon switches it on once a minute, so somebody switches it off")
            .remedy("sysctl -w net.ipv4.ip_forward=1, and look for it in /etc/sysctl.conf and /etc/sysctl.d")
    })
}

fn link_forwarding(observed: &Observed) -> Option<Verdict> {
    let off = |link: &&str| is(observed, &forwarding_of(link), "0");
    let general = is(observed, FORWARD4, "0");
    let link = our_links(&observed.wanted, observed.links()).find(off);
    let link = link.filter(|_| !general && observed.wanted.overlay)?;
    let verdict = Verdict::error(format!("link {link} does not forward IPv4 packets"))
        .because("packets of containers that come by it are dropped")
        .remedy(format!("sysctl -w net.ipv4.conf.{link}.forwarding=1"));
    Some(verdict)
}

fn forwarding6(observed: &Observed) -> Option<Verdict> {
    let six = observed.wanted.networks.iter().any(|network| network.addr().is_ipv6());
    let is_needed = six && observed.wanted.overlay && has_bridge(observed);
    (is_needed && is(observed, FORWARD6, "0")).then(|| {
        Verdict::error("forwarding of IPv6 packets is off (net.ipv6.conf.all.forwarding = 0)")
            .because("IPv6 packets of containers do not leave their node")
            .remedy("sysctl -w net.ipv6.conf.all.forwarding=1; links that learn their routes by router advertisements need accept_ra=2")
    })
}

fn no_ipv6(observed: &Observed) -> Option<Verdict> {
    let six = observed.wanted.networks.iter().any(|network| network.addr().is_ipv6());
    (six && observed.wanted.overlay && is(observed, NO_IPV6, "1")).then(|| {
        Verdict::error("IPv6 is switched off, and an overlay has IPv6 addresses")
            .because("bridges and tunnels cannot be given them")
            .remedy(
                "sysctl -w net.ipv6.conf.all.disable_ipv6=0, or leave IPv6 out of overlay.networks",
            )
    })
}

/// A program that connects to somewhere may be given a port that a task was promised.
fn local_ports(observed: &Observed) -> Option<Verdict> {
    let range = observed.machine.settings.get(LOCAL_PORTS)?;
    let mut bounds = range.split_whitespace().map_while(|bound| bound.parse::<u16>().ok());
    let (low, high) = (bounds.next()?, bounds.next()?);
    let reserved = ranges(observed.machine.settings.get(RESERVED_PORTS).map_or("", String::as_str));
    let is_free = |port: u16| {
        (low..=high).contains(&port) && !reserved.iter().any(|(a, b)| (*a..=*b).contains(&port))
    };
    let tasks = observed.wanted.task_ports.iter().filter(|_| observed.wanted.agent);
    let (first, last) = tasks.copied().find(|(first, last)| (*first..=*last).any(is_free))?;
    let verdict = Verdict::warning(format!(
        "ports {first}-{last}, which tasks are offered, are also given to outgoing connections ({low}-{high})"
    ))
    .because("now and then a task finds its port taken")
    .remedy(format!("sysctl -w net.ipv4.ip_local_reserved_ports={first}-{last}"));
    Some(verdict)
}

fn process_ids(observed: &Observed) -> Option<Verdict> {
    let most = number(observed, PID_MAX).filter(|most| *most < LEAST_PIDS)?;
    let verdict = Verdict::warning(format!("there are {most} process ids only (kernel.pid_max)"))
        .because("tasks cannot start threads when they are used up")
        .remedy("sysctl -w kernel.pid_max=4194304");
    Some(verdict)
}

fn forwarding_of(link: &str) -> String {
    format!("net/ipv4/conf/{link}/forwarding")
}

/// Bridges of the overlays and ends of tunnels that are there.
fn our_links<'a>(wanted: &'a Wanted, links: &'a [Link]) -> impl Iterator<Item = &'a str> {
    let ours = |link: &&Link| {
        link.alias.as_deref() == Some(&wanted.mark) && link.name != wanted.names_link
    };
    links.iter().filter(ours).map(|link| link.name.as_str())
}

fn has_bridge(observed: &Observed) -> bool {
    our_links(&observed.wanted, observed.links()).next().is_some()
}

fn is(observed: &Observed, name: &str, value: &str) -> bool {
    observed.machine.settings.get(name).is_some_and(|found| found == value)
}

pub(super) fn number(observed: &Observed, name: &str) -> Option<u64> {
    observed.machine.settings.get(name)?.trim().parse().ok()
}

/// `8080,9000-9010`.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    text.split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn one_setting_that_is_wrong() {
        #[rustfmt::skip]
        let table: [(&str, &str, Option<Grade>); 8] = [
            (FORWARD4,                          "0",           Some(Grade::Error)),
            ("net/ipv4/conf/m-dcos/forwarding", "0",           Some(Grade::Error)),
            (FORWARD6,                          "0",           None),
            (NO_IPV6,                           "1",           None),
            (LOCAL_PORTS,                       "1024\t65535", Some(Grade::Warning)),
            (LOCAL_PORTS,                       "32768 60999", None),
            (PID_MAX,                           "4096",        Some(Grade::Warning)),
            (PID_MAX,                           "nonsense",    None),
        ];
        for (name, value, want) in table {
            let mut observed = well();
            observed.machine.settings.insert(name.to_owned(), value.to_owned());
            let verdicts = judge(&observed);
            let grade = verdicts[0].grade;
            assert_eq!(Some(grade).filter(|grade| *grade != Grade::Ok), want, "{name} = {value}");
            assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        }
    }

    #[test]
    fn what_other_settings_excuse() {
        let mut observed = well();
        let mut set = |name: &str, value: &str| {
            observed.machine.settings.insert(name.to_owned(), value.to_owned());
        };
        set(LOCAL_PORTS, "1024 65535");
        set(RESERVED_PORTS, "80,31000-32000");
        assert_eq!(judge(&observed)[0].grade, Grade::Ok);
        // Before the first start nobody has switched it on.
        observed.machine.settings.insert(FORWARD4.to_owned(), "0".to_owned());
        observed.machine.links = Ok(Vec::new());
        assert_eq!(judge(&observed)[0].grade, Grade::Ok);
    }
}
