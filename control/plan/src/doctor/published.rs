//! Whether ports of this machine lead to the containers that were promised them.

use super::{Observed, Verdict, of_look};

/// How many are named.
const NAMED: usize = 3;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    of_look(&observed.machine.unpublished, "published ports", |missing| {
        let Some(first) = missing.first() else {
            return vec![Verdict::ok("every port that was published for a container leads to it")];
        };
        let what = match missing.len() {
            1 => format!("a published port is gone: {first}"),
            count => {
                let named: Vec<&str> = missing.iter().take(NAMED).map(String::as_str).collect();
                let more = if count > NAMED { ", …" } else { "" };
                format!("{count} published ports are gone: {}{more}", named.join(", "))
            }
        };
        let remedy = match observed.runs() {
            true => "`mizzen status` says what keeps the daemon from publishing them again",
            false => "start the daemon (mizzen node): it publishes them again",
        };
        vec![
            Verdict::error(what)
                .because("somebody removed them (`nft flush ruleset` does); nobody reaches the containers by them")
                .remedy(remedy),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::well;
    use super::super::{Daemon, Grade};
    use super::*;

    #[test]
    fn ports_that_are_gone_are_named() {
        let word = |port: u16| format!("tcp {port} of container c1");
        for (missing, want) in [
            (vec![word(80)], "a published port is gone: tcp 80 of container c1"),
            (
                (80..84).map(word).collect(),
                "4 published ports are gone: tcp 80 of container c1, tcp 81 of container c1, tcp 82 of container c1, …",
            ),
        ] {
            for (daemon, remedy) in [(None, "mizzen status"), (Some(Daemon::Away), "mizzen node")] {
                let mut observed = well();
                observed.machine.unpublished = Ok(missing.clone());
                observed.daemon = daemon.unwrap_or(observed.daemon);
                let [verdict] = &judge(&observed)[..] else { panic!("one verdict") };
                assert_eq!((verdict.grade, &*verdict.what), (Grade::Error, want));
                assert!(verdict.remedy.as_ref().is_some_and(|said| said.contains(remedy)));
            }
        }
    }
}
