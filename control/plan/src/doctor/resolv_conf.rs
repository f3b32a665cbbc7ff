//! Whether the machine's programs ask the node for names.

use super::{Daemon, Observed, Verdict, of_look};
use std::net::IpAddr;

const PATH: &str = "/etc/resolv.conf";

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    if !observed.wanted.dns {
        return vec![Verdict::ok("this node answers no names")];
    }
    of_look(&observed.machine.resolv_conf, PATH, |text| vec![of_text(observed, text)])
}

fn of_text(observed: &Observed, text: &str) -> Verdict {
    let servers = servers(text);
    let ours = |server: &IpAddr| observed.wanted.resolvers.contains(server);
    let first = observed.wanted.resolvers.first().map(ToString::to_string).unwrap_or_default();
    match servers.first() {
        Some(server) if ours(server) && observed.daemon == Daemon::Away => {
            Verdict::error(format!("{PATH} names this node's resolver ({server}), and no daemon runs"))
                .because("programs of this machine wait in vain for every name that they ask")
                .remedy("systemctl start mizzen")
        }
        Some(server) if ours(server) => {
            Verdict::ok(format!("programs ask this node for names ({server})"))
        }
        _ if servers.iter().any(ours) => {
            Verdict::warning(format!("{PATH} names another resolver before this node's"))
                .because("names of the cluster are asked there first, and it says that there are none")
                .remedy(format!("put `nameserver {first}` first"))
        }
        _ => Verdict::warning(format!("{PATH} does not name this node's resolver"))
            .because("programs of this machine do not find names of the cluster; containers do")
            .remedy(format!(
                "put `nameserver {first}` there by whatever writes that file, or let the node do it: dns.resolv_conf = \"write\""
            )),
    }
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        words.next().filter(|_| is_server)?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::well;
    use super::*;

    #[test]
    fn whom_programs_ask() {
        #[rustfmt::skip]
        let table = [
            ("nameserver 198.51.100.1\n",                         true,  Grade::Ok),
            ("nameserver 198.51.100.1\n",                         false, Grade::Error),
            ("# nameserver 198.51.100.1\nnameserver 192.0.2.1\n", true,  Grade::Warning),
            ("nameserver 192.0.2.1\nnameserver 198.51.100.1\n",   true,  Grade::Warning),
            ("",                                                  true,  Grade::Warning),
        ];
        for (text, runs, want) in table {
            let mut observed = well();
            observed.machine.resolv_conf = Ok(text.to_owned());
            if !runs {
                observed.daemon = Daemon::Away;
            }
            assert_eq!(judge(&observed)[0].grade, want, "{text}");
        }
    }
}
