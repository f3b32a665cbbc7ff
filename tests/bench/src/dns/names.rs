//! The names that are asked for: tasks of one framework, two A records and one SRV
//! record each, and what other servers read of them.

use super::question::Kind;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// Seconds.
const TTL: u32 = 60;

/// The names of so many tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub tasks: u32,
}

/// A record: its name without the last dot, and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub name: String,
    pub data: Data,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Address(Ipv4Addr),
    Service { port: u16, target: String },
}

impl Names {
    /// The address of a task.
    pub(super) fn address(task: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + task)
    }

    /// The name that everybody asks for.
    pub(super) fn name(task: u32) -> String {
        format!("app-{task}.marathon.mesos")
    }

    /// The name of its service.
    pub(super) fn service(task: u32) -> String {
        format!("_app-{task}._tcp.marathon.mesos")
    }

    /// The records of one task.
    pub(super) fn of_task(task: u32) -> [Record; 3] {
        let target = format!("app-{task}-abcde-s{}.marathon.mesos", task % 100);
        let address = Data::Address(Self::address(task));
        let port = u16::try_from(1025 + task % 60_000).unwrap_or(80);
        [
            Record { name: Self::name(task), data: address.clone() },
            Record { name: target.clone(), data: address },
            Record { name: Self::service(task), data: Data::Service { port, target } },
        ]
    }

    /// All records.
    pub(super) fn records(self) -> impl Iterator<Item = Record> {
        (0..self.tasks).flat_map(Self::of_task)
    }

    /// Names to ask for, half of them services, in a random order.
    pub(super) fn questions(self, count: usize) -> Vec<(String, Kind)> {
        let mut draw = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // SplitMix64: the same questions in every run.
            draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let mut one = || {
            let drawn = next();
            let task = u32::try_from((drawn >> 32) % u64::from(self.tasks)).unwrap_or_default();
            match drawn & 1 {
                0 => (Self::name(task), Kind::A),
                _ => (Self::service(task), Kind::Srv),
            }
        };
        (0..count).map(|_| one()).collect()
    }

    /// As a zone file.
    pub(super) fn zone_file(self) -> String {
        let mut text = format!(
            "$ORIGIN .\n$TTL {TTL}\nmesos. SOA ns1.mesos. root.ns1.mesos. 1 60 600 86400 60\n\
             mesos. NS ns1.mesos.\nns1.mesos. A 127.0.0.1\n"
        );
        for record in self.records() {
            let kind = record.data.kind().word();
            // Writing to a `String` cannot fail.
            let _ = writeln!(text, "{}. {kind} {}", record.name, record.data);
        }
        text
    }

    /// As unbound's local data.
    pub(super) fn local_data(self) -> String {
        let mut text = String::new();
        for record in self.records() {
            let kind = record.data.kind().word();
            let _ =
                writeln!(text, " local-data: \"{}. {TTL} IN {kind} {}\"", record.name, record.data);
        }
        text
    }

    /// As dnsmasq's hosts file, and its options for services.
    pub(super) fn hosts_and_services(self) -> (String, String) {
        let (mut hosts, mut services) = (String::new(), String::new());
        for record in self.records() {
            let _ = match record.data {
                Data::Address(address) => writeln!(hosts, "{address} {}", record.name),
                Data::Service { port, target } => {
                    writeln!(services, "srv-host={},{target},{port}", record.name)
                }
            };
        }
        (hosts, services)
    }
}

impl Data {
    fn kind(&self) -> Kind {
        match self {
            Self::Address(_) => Kind::A,
            Self::Service { .. } => Kind::Srv,
        }
    }
}

impl std::fmt::Display for Data {
    /// As zone files write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Service { port, target } => write!(f, "0 1 {port} {target}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_has_its_record() {
        let names = Names { tasks: 3 };
        let records: Vec<Record> = names.records().collect();
        assert_eq!(records.len(), 9);
        for (name, kind) in names.questions(50) {
            assert!(records.iter().any(|record| record.name == name && record.data.kind() == kind));
        }
        assert_eq!(names.zone_file().lines().count(), 5 + 9);
        assert_eq!(names.local_data().lines().count(), 9);
        let (hosts, services) = names.hosts_and_services();
        assert_eq!((hosts.lines().count(), services.lines().count()), (6, 3));
    }
}
