//! Calls of the CNI plugins, as they tell of them when they are over: how many, how they ended and
//! how long they took. Whoever started a plugin, it finds this node by the leases that it uses.

use crate::config::{Config, Role};
use crate::daemon::build::leases;
use crate::daemon::core::Core;
use crate::daemon::vip_views::exposition::{Family, Gone, Writer, counter, histogram};
use mizzen_cni_core::report::{LONGEST, Report, SOCKET};
use mizzen_ebpf_core::bucket::{BUCKETS, bucket};
use mizzen_ebpf_core::words::Latencies;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// A plugin says what it has to say at once; one that was killed before says nothing.
const PATIENCE: Duration = Duration::from_millis(100);

const CALLS: Family = counter(
    "mizzen_cni_calls_total",
    "Calls of the CNI plugins that are over, by plugin, verb and the error's code (0: none).",
);
const DURATION: Family = histogram(
    "mizzen_cni_call_duration_seconds",
    "How long calls of the CNI plugins took, without the start of their process.",
);

/// What the plugins told, shared with the task that listens.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    /// By plugin, verb and code.
    ended: BTreeMap<(&'static str, &'static str, u32), u64>,
    /// By plugin and verb.
    took: BTreeMap<(&'static str, &'static str), Latencies>,
}

impl Calls {
    /// Counts one.
    fn add(&self, report: &Report) {
        let Report { plugin, verb, code, took } = *report;
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.ended.entry((plugin, verb.as_str(), code)).or_default() += 1;
        let none = || Latencies { buckets: vec![0; BUCKETS as usize], sum: 0 };
        let took = counted.took.entry((plugin, verb.as_str())).or_insert_with(none);
        took.sum += u64::from(micros);
        if let Some(bucket) = took.buckets.get_mut(bucket(micros) as usize) {
            *bucket += 1;
        }
    }

    /// Writes what was counted.
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Gone> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writer.family(CALLS, |series| {
            counted.ended.iter().try_for_each(|((plugin, verb, code), count)| {
                let code = code.to_string();
                series.number(&[("plugin", plugin), ("verb", verb), ("code", &code)], *count as f64)
            })
        })?;
        writer.family(DURATION, |series| {
            counted.took.iter().try_for_each(|((plugin, verb), took)| {
                series.latencies(&[("plugin", plugin), ("verb", verb)], took)
            })
        })
    }
}

impl Core {
    /// Listens for what the plugins tell, beside the leases.
    pub(crate) fn count_calls(&self) {
        if !self.config.has(Role::Overlay) && !self.config.has(Role::Agent) {
            return;
        }
        match bind(&leases(&self.config)) {
            Ok(listener) => drop(tokio::spawn(listen(listener, self.overlay.calls.clone()))),
            Err(error) => warn!(%error, "calls of the CNI plugins are not counted"),
        }
    }
}

/// Removes what the daemon listened at.
pub(crate) fn teardown_calls(config: &Config) -> Option<String> {
    let path = leases(config).join(SOCKET);
    remove(&path).err().map(|error| format!("cannot remove {}: {error}", path.display()))
}

/// The state directory is locked, so a socket that is there is nobody's.
fn bind(leases: &Path) -> io::Result<UnixListener> {
    let path = leases.join(SOCKET);
    std::fs::create_dir_all(leases)?;
    remove(&path)?;
    UnixListener::bind(&path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

async fn listen(listener: UnixListener, calls: Calls) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some(report) = read(stream).await {
                    calls.add(&report);
                }
            }
            // Out of descriptors, most likely: they come back.
            Err(_) => sleep(PATIENCE).await,
        }
    }
}

async fn read(stream: UnixStream) -> Option<Report> {
    let mut line = String::new();
    let mut stream = stream.take(LONGEST as u64);
    timeout(PATIENCE, stream.read_to_string(&mut line)).await.ok()?.ok()?;
    Report::read(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mizzen_http::core::MetricsEncoding;
    use std::io::Write;

    fn exposed(calls: &Calls) -> String {
        let mut text = Vec::new();
        let mut put = |piece: Vec<u8>| {
            text.extend(piece);
            Ok(())
        };
        calls.write(&mut Writer::new(MetricsEncoding::Text, &mut put)).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn what_plugins_tell_is_counted_and_nothing_else() {
        let leases = tempfile::tempdir().unwrap();
        let calls = Calls::default();
        // A former process left its socket.
        drop(bind(leases.path()).unwrap());
        tokio::spawn(listen(bind(leases.path()).unwrap(), calls.clone()));
        let tell = async |line: &str| {
            let path = leases.path().join(SOCKET);
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
        };
        for line in [
            "mizzen-overlay ADD 0 1500\n",
            "garbage",
            "mizzen-overlay ADD 100 500\n",
            "",
            "mizzen-overlay ADD 0 2000\n",
            "mizzen-portmap DEL 0 99000000\n",
        ] {
            tell(line).await;
        }
        let last = r#"mizzen_cni_calls_total{plugin="mizzen-portmap",verb="DEL",code="0"} 1"#;
        while !exposed(&calls).contains(last) {
            tokio::task::yield_now().await;
        }
        let text = exposed(&calls);
        for line in [
            r#"mizzen_cni_calls_total{plugin="mizzen-overlay",verb="ADD",code="0"} 2"#,
            r#"mizzen_cni_calls_total{plugin="mizzen-overlay",verb="ADD",code="100"} 1"#,
            r#"mizzen_cni_call_duration_seconds_sum{plugin="mizzen-overlay",verb="ADD"} 0.004"#,
            r#"mizzen_cni_call_duration_seconds_count{plugin="mizzen-overlay",verb="ADD"} 3"#,
            r#"mizzen_cni_call_duration_seconds_sum{plugin="mizzen-portmap",verb="DEL"} 99"#,
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
        assert!(!text.contains("garbage"), "{text}");
    }
}
