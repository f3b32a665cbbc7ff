//! A log of questions below chosen names, switched while the server runs.
//!
//! While it is off, it costs the look at one flag. While it is on, questions that it
//! wants take the full road, where there is time to write.

use mizzen_dns_core::{DnsName, RecordType};
use parking_lot::RwLock;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tracing::info;

/// Which questions are written down.
#[derive(Debug, Default)]
pub struct QueryLog {
    on: AtomicBool,
    suffixes: RwLock<Vec<DnsName>>,
}

/// A question with its answer, for people.
#[derive(Debug)]
pub(crate) struct Logged<'a> {
    pub(crate) client: SocketAddr,
    pub(crate) transport: &'static str,
    pub(crate) name: &'a DnsName,
    pub(crate) kind: RecordType,
    /// As RFC 1035 numbers it.
    pub(crate) code: u16,
    pub(crate) took: Duration,
}

impl QueryLog {
    /// From now on, questions about names at or below these are logged, to the target
    /// `dns_query`; none switches the log off, the root logs all.
    pub fn set(&self, suffixes: Vec<DnsName>) {
        let on = !suffixes.is_empty();
        *self.suffixes.write() = suffixes;
        self.on.store(on, Ordering::Release);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    pub(crate) fn wants(&self, name: &DnsName) -> bool {
        self.is_on() && self.suffixes.read().iter().any(|suffix| name.before(suffix).is_some())
    }

    /// Writes a question down. Names are escaped: their bytes are the client's.
    pub(crate) fn write(&self, logged: &Logged<'_>) {
        info!(
            target: "dns_query",
            client = %logged.client,
            transport = logged.transport,
            name = %logged.name,
            r#type = %logged.kind,
            code = logged.code,
            took_us = u64::try_from(logged.took.as_micros()).unwrap_or(u64::MAX),
            "answered",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_below_a_suffix_are_wanted_while_it_is_set() {
        let name = |text: &str| DnsName::parse(text).expect("a name");
        let log = QueryLog::default();
        assert!(!log.is_on() && !log.wants(&name("web.mesos")));
        log.set(vec![name("marathon.mesos"), name("example.com")]);
        #[rustfmt::skip]
        let table = [
            ("web.marathon.mesos", true), ("marathon.mesos", true), ("xmarathon.mesos", false),
            ("mesos", false), ("a.b.example.com", true), ("com", false),
        ];
        for (text, want) in table {
            assert_eq!(log.wants(&name(text)), want, "{text}");
        }
        log.set(vec![DnsName::root()]);
        assert!(log.wants(&name("anything")) && log.wants(&DnsName::root()));
        log.set(Vec::new());
        assert!(!log.is_on());
    }
}
