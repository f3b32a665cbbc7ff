//! What is limited, and how much of it is in use.

use super::settings::number;
use super::{Observed, Verdict};

/// What is in use of what is limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Open files of all processes, and how many there may be.
    pub files: Option<(u64, u64)>,
    /// Descriptors that the daemon may have, or would have if it were started now.
    pub descriptors: Option<u64>,
    /// Processes and threads of the machine.
    pub threads: Option<u64>,
}

/// Each container and each connection takes some descriptors.
const LEAST_DESCRIPTORS: u64 = 65_536;
/// From this part on it is nearly used up.
const NEARLY: f64 = 0.9;
/// Tracked connections of a machine that passes packets on.
const LEAST_CONNECTIONS: u64 = 32_768;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let all = [
        connections(observed),
        few_connections(observed),
        files(observed),
        threads(observed),
        descriptors(observed),
    ];
    let mut verdicts: Vec<Verdict> = all.into_iter().flatten().collect();
    if verdicts.is_empty() {
        verdicts
            .push(Verdict::ok("tracked connections, files and threads are far from their limits"));
    }
    verdicts
}

fn connections(observed: &Observed) -> Option<Verdict> {
    let used = number(observed, "net/netfilter/nf_conntrack_count")?;
    let most = number(observed, "net/netfilter/nf_conntrack_max")?;
    let verdict = nearly_used("tracked connections", used, most)?;
    Some(
        verdict
            .because("packets of new connections are dropped when the table is full")
            .remedy(format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(4))),
    )
}

fn few_connections(observed: &Observed) -> Option<Verdict> {
    let most = number(observed, "net/netfilter/nf_conntrack_max")?;
    let is_few = most < LEAST_CONNECTIONS && observed.wanted.overlay;
    is_few.then(|| {
        Verdict::warning(format!("no more than {most} connections are tracked"))
            .because("those of all containers to the outside go through that table")
            .remedy("sysctl -w net.netfilter.nf_conntrack_max=262144")
    })
}

fn files(observed: &Observed) -> Option<Verdict> {
    let (used, most) = observed.machine.usage.files?;
    let verdict = nearly_used("open files", used, most)?;
    Some(
        verdict
            .because("neither the node nor its tasks can open files or connections then")
            .remedy(format!("sysctl -w fs.file-max={}", most.saturating_mul(2))),
    )
}

fn threads(observed: &Observed) -> Option<Verdict> {
    let used = observed.machine.usage.threads?;
    let ids = number(observed, "kernel/pid_max");
    let threads = number(observed, "kernel/threads-max");
    let most = [ids, threads].into_iter().flatten().min()?;
    let verdict = nearly_used("threads", used, most)?;
    Some(
        verdict
            .because("tasks cannot be started when they are used up")
            .remedy("sysctl -w kernel.pid_max=4194304 kernel.threads-max=1000000"),
    )
}

fn descriptors(observed: &Observed) -> Option<Verdict> {
    let most = observed.machine.usage.descriptors.filter(|most| *most < LEAST_DESCRIPTORS)?;
    let verdict = Verdict::warning(format!("the daemon may have no more than {most} descriptors"))
        .because("each container and each connection takes some")
        .remedy("LimitNOFILE=1048576 in the service, or `ulimit -Hn 1048576` before the start");
    Some(verdict)
}

fn nearly_used(what: &str, used: u64, most: u64) -> Option<Verdict> {
    let part = used as f64 / most.max(1) as f64;
    let text = format!("{used} of {most} {what} are in use");
    match part {
        part if part >= 1.0 => Some(Verdict::error(text)),
        part if part >= NEARLY => Some(Verdict::warning(text)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn what_is_nearly_used_up() {
        #[rustfmt::skip]
        let table = [
            (1_000,   262_144, vec![Grade::Ok]),
            (240_000, 262_144, vec![Grade::Warning]),
            (262_144, 262_144, vec![Grade::Error]),
            (10,      1_024,   vec![Grade::Warning]),
        ];
        for (used, most, want) in table {
            let mut observed = well();
            let settings = &mut observed.machine.settings;
            settings.insert("net/netfilter/nf_conntrack_count".into(), u64::to_string(&used));
            settings.insert("net/netfilter/nf_conntrack_max".into(), u64::to_string(&most));
            let grades: Vec<Grade> = judge(&observed).iter().map(|v| v.grade).collect();
            assert_eq!(grades, want, "{used} of {most}");
        }
    }

    #[test]
    fn few_descriptors_and_many_files() {
        let mut observed = well();
        observed.machine.usage =
            Usage { files: Some((95, 100)), descriptors: Some(1024), threads: None };
        let grades: Vec<Grade> = judge(&observed).iter().map(|v| v.grade).collect();
        assert_eq!(grades, [Grade::Warning, Grade::Warning]);
    }
}
