//! What a plugin tells the daemon of a call that is over, for the daemon's metrics.
//!
//! The daemon listens beside the leases, so a plugin finds it without reading anything. It is
//! told one line and answers nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::invoke::Verb;

/// The socket's name in the directory of the leases.
pub const SOCKET: &str = "calls.sock";

/// A line is never longer.
pub const LONGEST: usize = 64;

/// Our plugins, as their executables are called.
pub const PLUGINS: [&str; 3] = ["mizzen-overlay", "mizzen-ipam", "mizzen-portmap"];

/// A call that is over. Its text is the line that the daemon is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which plugin, one of [`PLUGINS`].
    pub plugin: &'static str,
    /// What it was told to do.
    pub verb: Verb,
    /// The error's code; 0 if there was none.
    pub code: u32,
    /// How long it took, without the start of the process.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plugin, verb, code, took } = self;
        writeln!(f, "{plugin} {} {code} {}", verb.as_str(), took.as_micros())
    }
}

impl Report {
    /// Reads a line; `None` if it is not one that [`Report`] makes.
    #[must_use]
    pub fn read(line: &str) -> Option<Self> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        let plugin = words.next()?;
        let plugin = PLUGINS.into_iter().find(|known| *known == plugin)?;
        let verb = words.next()?;
        let verb = Verb::ALL.into_iter().find(|known| known.as_str() == verb)?;
        let code = words.next()?.parse().ok()?;
        let took = Duration::from_micros(words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { plugin, verb, code, took })
    }
}

/// Where a daemon listens that has to do with a network: beside its leases, which plugins
/// without an address to give are told of as well.
#[must_use]
pub fn socket(config: &Map<String, Value>) -> Option<PathBuf> {
    let ipam = config.get("ipam").and_then(|ipam| ipam.get("dataDir"));
    let directory = ipam.or_else(|| config.get("dataDir"))?.as_str()?;
    Some(Path::new(directory).join(SOCKET))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_a_call_and_nothing_else_is_read() {
        for (code, micros) in [(0, 1_620), (u32::MAX, u64::MAX / 1_000_000)] {
            let took = Duration::from_micros(micros);
            let report = Report { plugin: "mizzen-portmap", verb: Verb::Status, code, took };
            let line = report.to_string();
            assert!(line.len() <= LONGEST, "{line}");
            assert_eq!(Report::read(&line), Some(report));
        }
        for line in [
            "",
            "mizzen-ipam ADD 0 5",
            "bridge ADD 0 5\n",
            "mizzen-ipam MUL 0 5\n",
            "mizzen-ipam ADD 0\n",
            "mizzen-ipam ADD 0 -5\n",
            "mizzen-ipam ADD 0 5 6\n",
            "mizzen-ipam ADD 0 5\n\n",
        ] {
            assert_eq!(Report::read(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_daemon_listens_beside_the_leases() {
        for (config, want) in [
            (json!({ "ipam": { "type": "x", "dataDir": "/a" }, "dataDir": "/b" }), Some("/a")),
            (json!({ "ipam": {}, "dataDir": "/b" }), Some("/b")),
            (json!({ "dataDir": 5 }), None),
            (json!({}), None),
        ] {
            let want = want.map(|directory| Path::new(directory).join("calls.sock"));
            assert_eq!(socket(config.as_object().unwrap()), want, "{config}");
        }
    }
}
