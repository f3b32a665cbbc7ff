//! Where containers and VIPs find their cgroups.

use super::{Engine, Observed, Verdict, of_look};

/// The machine's cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Where the v2 hierarchy is mounted.
    pub unified: Option<String>,
    /// Whether the cgroup whose processes can use VIPs is one of the v2 hierarchy.
    pub vip_cgroup_is_unified: bool,
    /// Controllers that can be used, in either hierarchy.
    pub controllers: Vec<String>,
}

/// Controllers without which containers have no limits.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    of_look(&observed.machine.cgroups, "cgroups", |cgroups| of_cgroups(observed, cgroups))
}

fn of_cgroups(observed: &Observed, cgroups: &Cgroups) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let wanted = &observed.wanted;
    if let Some(Engine::Auto | Engine::Programs) = wanted.vips
        && !cgroups.vip_cgroup_is_unified
    {
        let what = format!("vip.cgroup {} is not in a cgroup v2 hierarchy", wanted.vip_cgroup);
        let why = "VIPs by programs are attached to a cgroup of v2";
        let remedy = match &cgroups.unified {
            Some(unified) => format!("mizzen node --vip-cgroup {unified}"),
            None => "mount -t cgroup2 none /sys/fs/cgroup/unified".to_owned(),
        };
        verdicts.push(Verdict::warning(what).because(why).remedy(remedy));
    }
    let lacks = |name: &&str| !cgroups.controllers.iter().any(|found| found == name);
    let missing: Vec<&str> = CONTROLLERS.into_iter().filter(lacks).collect();
    if wanted.agent && !missing.is_empty() {
        let what = format!("no cgroup controller {}", missing.join(", "));
        let why = "limits of tasks cannot be kept, and containers are not started";
        let remedy = "enable it: `cgroup_enable=memory` on the kernel's command line, or \
                      `echo +pids > /sys/fs/cgroup/cgroup.subtree_control`";
        verdicts.push(Verdict::error(what).because(why).remedy(remedy));
    }
    if verdicts.is_empty() {
        let v2 = cgroups.unified.as_deref().map_or_else(String::new, |at| format!(", v2 at {at}"));
        let controllers = cgroups.controllers.join(", ");
        let vips = vips_for(observed, cgroups).map_or_else(String::new, |who| format!(", {who}"));
        verdicts.push(Verdict::ok(format!("controllers {controllers}{v2}{vips}")));
    }
    verdicts
}

/// Which programs of the machine's own network VIPs are for, if not for all of them.
fn vips_for(observed: &Observed, cgroups: &Cgroups) -> Option<String> {
    let wanted = &observed.wanted;
    let by_programs = matches!(wanted.vips, Some(Engine::Auto | Engine::Programs));
    let narrow = cgroups.unified.as_ref().is_some_and(|all| *all != wanted.vip_cgroup);
    let text = || format!("VIPs for programs below {} only (vip.cgroup)", wanted.vip_cgroup);
    (by_programs && narrow).then(text)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn a_controller_and_a_hierarchy_that_are_missing() {
        let mut observed = well();
        observed.machine.cgroups = Ok(Cgroups {
            unified: Some("/sys/fs/cgroup/unified".to_owned()),
            vip_cgroup_is_unified: false,
            controllers: vec!["cpu".to_owned(), "memory".to_owned()],
        });
        let verdicts = judge(&observed);
        let grades: Vec<Grade> = verdicts.iter().map(|verdict| verdict.grade).collect();
        assert_eq!(grades, [Grade::Warning, Grade::Error]);
        let remedy = verdicts[0].remedy.as_deref();
        assert_eq!(remedy, Some("mizzen node --vip-cgroup /sys/fs/cgroup/unified"));
        assert!(verdicts[1].what.ends_with("pids"), "{}", verdicts[1].what);
    }

    #[test]
    fn vips_that_are_not_for_all_programs() {
        let mut observed = well();
        assert!(!judge(&observed)[0].what.contains("VIPs"));
        observed.wanted.vip_cgroup = "/sys/fs/cgroup/apps".to_owned();
        let what = &judge(&observed)[0].what;
        assert!(
            what.ends_with("VIPs for programs below /sys/fs/cgroup/apps only (vip.cgroup)"),
            "{what}"
        );
    }
}
