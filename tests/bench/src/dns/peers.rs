//! Name servers that one would have otherwise, from their distribution's packages, with
//! the same names and one thread.

use super::names::Names;
use std::net::SocketAddr;
use std::path::Path;

/// A name server of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unbound,
    Bind,
    Knot,
    Nsd,
    Dnsmasq,
}

impl Kind {
    /// As it is called in figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Bind => "bind9",
            Self::Knot => "knot",
            Self::Nsd => "nsd",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    /// Its executable.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Bind => "named",
            Self::Knot => "knotd",
            Self::Nsd => "nsd",
            Self::Dnsmasq => "dnsmasq",
        }
    }

    /// Writes what it reads into `directory`, and says its arguments.
    pub(super) fn configure(
        self,
        directory: &Path,
        listen: SocketAddr,
        names: Names,
    ) -> std::io::Result<Vec<String>> {
        let write = |file: &str, text: &str| {
            let path = directory.join(file);
            std::fs::write(&path, text).map(|()| path.display().to_string())
        };
        let (place, port) = (directory.display(), listen.port());
        Ok(match self {
            Self::Unbound => {
                let data = write("data.conf", &names.local_data())?;
                let text = unbound(directory, listen, &format!(" include: \"{data}\"\n"), "");
                vec!["-d".into(), "-c".into(), write("unbound.conf", &text)?]
            }
            Self::Bind => {
                write("mesos.zone", &names.zone_file())?;
                let text = format!(
                    "options {{ directory \"{place}\"; listen-on port {port} {{ 127.0.0.1; }};\n\
                     listen-on-v6 {{ none; }}; recursion no; pid-file \"{place}/pid\";\n\
                     session-keyfile \"{place}/session.key\"; dnssec-validation no;\n\
                     managed-keys-directory \"{place}\"; allow-query {{ any; }}; notify no; }};\n\
                     controls {{ }};\n\
                     zone \"mesos\" {{ type primary; file \"mesos.zone\"; }};\n"
                );
                let words = ["-f", "-n", "1", "-c"].map(str::to_owned);
                [&words[..], &[write("named.conf", &text)?]].concat()
            }
            Self::Knot => {
                write("mesos.zone", &names.zone_file())?;
                let text = format!(
                    "server:\n    rundir: \"{place}\"\n    listen: 127.0.0.1@{port}\n    \
                     udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
                     database:\n    storage: \"{place}\"\n\
                     log:\n  - target: stderr\n    any: error\n\
                     zone:\n  - domain: mesos\n    storage: \"{place}\"\n    file: mesos.zone\n    \
                     zonefile-sync: -1\n    zonefile-load: whole\n    journal-content: none\n"
                );
                vec!["-c".into(), write("knot.conf", &text)?]
            }
            Self::Nsd => {
                write("mesos.zone", &names.zone_file())?;
                let text = format!(
                    "server:\n ip-address: 127.0.0.1@{port}\n server-count: 1\n username: \"\"\n \
                     chroot: \"\"\n zonesdir: \"{place}\"\n pidfile: \"{place}/pid\"\n \
                     logfile: \"{place}/log\"\n database: \"\"\n zonelistfile: \"{place}/list\"\n \
                     xfrdfile: \"\"\n xfrdir: \"{place}\"\n\
                     remote-control:\n control-enable: no\n\
                     zone:\n name: mesos\n zonefile: mesos.zone\n"
                );
                vec!["-d".into(), "-c".into(), write("nsd.conf", &text)?]
            }
            Self::Dnsmasq => {
                let (hosts, services) = names.hosts_and_services();
                let hosts = write("hosts", &hosts)?;
                let text = format!(
                    "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n\
                     no-poll\nuser=root\nlocal=/mesos/\naddn-hosts={hosts}\ncache-size=10000\n\
                     pid-file={place}/pid\n{services}"
                );
                vec!["-k".into(), "-C".into(), write("dnsmasq.conf", &text)?]
            }
        })
    }
}

/// unbound as a forwarder to `upstream` with a cache for everything.
pub(super) fn forwarding_unbound(
    directory: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
) -> std::io::Result<Vec<String>> {
    let zone = format!(
        "forward-zone:\n name: \".\"\n forward-addr: {}@{}\n",
        upstream.ip(),
        upstream.port()
    );
    let caches = " msg-cache-size: 64m\n rrset-cache-size: 128m\n";
    let path = directory.join("unbound.conf");
    std::fs::write(&path, unbound(directory, listen, caches, &zone))?;
    Ok(vec!["-d".into(), "-c".into(), path.display().to_string()])
}

fn unbound(directory: &Path, listen: SocketAddr, more: &str, zones: &str) -> String {
    let (place, ip, port) = (directory.display(), listen.ip(), listen.port());
    format!(
        "server:\n interface: {ip}@{port}\n num-threads: 1\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n pidfile: \"{place}/pid\"\n use-syslog: no\n logfile: \"{place}/log\"\n \
         access-control: 127.0.0.0/8 allow\n do-not-query-localhost: no\n \
         module-config: \"iterator\"\n local-zone: \"mesos.\" {}\n{more}\
         remote-control:\n control-enable: no\n{zones}",
        if zones.is_empty() { "static" } else { "transparent" }
    )
}
