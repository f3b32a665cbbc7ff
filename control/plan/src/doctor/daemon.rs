//! What the node's daemon says itself.

use super::{Observed, Verdict};
use ipnet::IpNet;

/// The node's daemon.
#[derive(Debug, Clone, PartialEq)]
pub enum Daemon {
    /// It runs and answers.
    Running(Told),
    /// It does not run.
    Away,
    /// A process has the state directory, and does not answer; why not.
    Silent(String),
    /// Its socket may not be used by who asks.
    Hidden(String),
}

/// What a running daemon says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Told {
    /// Its process id.
    pub pid: u32,
    /// What is wrong, in its words.
    pub problems: Vec<String>,
    /// Links that it has made: bridges, ends of tunnels.
    pub links: Vec<String>,
    /// Networks of the overlays, as the master has them.
    pub networks: Vec<IpNet>,
    /// The other nodes.
    pub peers: Vec<PeerTold>,
}

/// Another node, as the daemon sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerTold {
    /// Its host name.
    pub name: String,
    /// Largest packet on the way to it, in bytes, if that is known.
    pub path_mtu: Option<u32>,
    /// By how many seconds its clock is ahead of this machine's, if that is known.
    pub clock_ahead: Option<f64>,
}

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    match &observed.daemon {
        Daemon::Running(told) if told.problems.is_empty() => {
            vec![Verdict::ok(format!(
                "the daemon runs (process {}) and complains of nothing",
                told.pid
            ))]
        }
        Daemon::Running(told) => told.problems.iter().map(|text| complaint(text)).collect(),
        Daemon::Away => {
            vec![Verdict::skipped("no daemon runs here; its part is judged by its configuration")]
        }
        Daemon::Hidden(why) => vec![Verdict::skipped(format!("the daemon cannot be asked: {why}"))],
        Daemon::Silent(why) => vec![
            Verdict::error(format!("the daemon runs and does not answer: {why}"))
                .because("nothing of the node can be asked or changed")
                .remedy("journalctl -u mizzen -n 50; systemctl restart mizzen (tasks run on)"),
        ],
    }
}

fn complaint(text: &str) -> Verdict {
    Verdict::warning(format!("the daemon complains: {text}"))
        .because("it goes on and tries again; what it names does not work meanwhile")
        .remedy("journalctl -u mizzen -n 50; `mizzen status` says when it is well again")
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn how_a_daemon_can_be() {
        let ill = Told { problems: vec!["vip: no room".to_owned(); 2], ..Told::default() };
        let table = [
            (Daemon::Running(Told::default()), vec![Grade::Ok]),
            (Daemon::Running(ill), vec![Grade::Warning, Grade::Warning]),
            (Daemon::Away, vec![Grade::Skipped]),
            (Daemon::Hidden("not allowed".to_owned()), vec![Grade::Skipped]),
            (Daemon::Silent("no answer in 45 s".to_owned()), vec![Grade::Error]),
        ];
        for (daemon, want) in table {
            let observed = Observed { daemon, ..well() };
            let grades: Vec<Grade> = judge(&observed).iter().map(|verdict| verdict.grade).collect();
            assert_eq!(grades, want, "{:?}", observed.daemon);
        }
    }
}
