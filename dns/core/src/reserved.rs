//! Names that are the cluster's own, whatever users call their things.
//!
//! In the zone of tasks a user's names hang below the name of a framework, and anybody
//! may run a framework of any name. Two rules keep them off what is not theirs:
//!
//! * a framework that is called `leader`, `master`, `master0`, `ns1` or `slave` has no
//!   address under that name; its tasks' names, which are longer, stay;
//! * `slave.mesos` and all below it is about agents: a framework whose name ends there
//!   has no names in this zone at all.
//!
//! The zones' starts cannot be reached from below, the SRV names of leader and agents
//! have underscores, which mangled names have not, and no other zone of the resolver may
//! meet that of tasks ([`crate::Options::check`]).

/// What agents are called, and what all names about them end in.
pub(crate) const AGENTS: &str = "slave";

/// Whether names of this framework would be names of agents.
pub(crate) fn is_of_agents(framework: &str) -> bool {
    framework.rsplit('.').next() == Some(AGENTS)
}

/// Whether the framework's own name would be one of the cluster.
pub(crate) fn is_of_cluster(framework: &str) -> bool {
    let is_master = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    matches!(framework, "leader" | "ns1" | AGENTS)
        || framework.strip_prefix("master").is_some_and(is_master)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_labels_count() {
        #[rustfmt::skip]
        let table = [
            // name              cluster  agents
            ("leader",           true,    false),
            ("leader.x",         false,   false),
            ("x.leader",         false,   false),
            ("leaders",          false,   false),
            ("master",           true,    false),
            ("master0",          true,    false),
            ("master12",         true,    false),
            ("masters",          false,   false),
            ("master1a",         false,   false),
            ("ns1",              true,    false),
            ("ns2",              false,   false),
            ("slave",            true,    true),
            ("x.slave",          false,   true),
            ("slave.x",          false,   false),
            ("xslave",           false,   false),
        ];
        for (framework, cluster, agents) in table {
            assert_eq!(is_of_cluster(framework), cluster, "{framework}");
            assert_eq!(is_of_agents(framework), agents, "{framework}");
        }
    }
}
