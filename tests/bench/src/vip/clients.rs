//! Clients in a closed loop that remember every connection.

use crate::generator::many::Crowd;
use crate::generator::{Draw, Seat, Targets};
use crate::sandbox;
use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// How many there are.
    pub width: usize,
    /// After which a connection is given up.
    pub patience: Duration,
    /// After which no connection is begun.
    pub time: Duration,
}

/// A connection that a client had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connection {
    /// On the machine's monotonic clock.
    pub begun: Duration,
    pub whole: Duration,
    /// The backend's number; none if it failed.
    pub backend: Option<u8>,
}

/// The clients' process; it ends when dropped.
pub(super) struct Clients {
    child: Child,
}

impl Clients {
    /// Starts them, all on one core.
    pub(super) fn start(seat: Seat<'_>, targets: &Targets, plan: Plan) -> Result<Self> {
        let mut command = Command::new(sandbox::ourselves()?);
        command.arg("clients").arg(seat.cgroup).arg(targets.to_string());
        command.arg(plan.width.to_string());
        command.args([plan.patience, plan.time].map(|time| time.as_millis().to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let child = match seat.network {
            Some(network) => network.spawn(&mut command)?,
            None => command.spawn().context("cannot start clients")?,
        };
        Ok(Self { child })
    }

    /// Waits for their end and returns what they remember.
    pub(super) fn finish(mut self) -> Result<Vec<Connection>> {
        let mut text = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut text)?;
        }
        text.lines().map(parse).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The machine's monotonic clock, the same for all processes.
pub(super) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = Duration::from_secs(time.tv_sec.unsigned_abs());
    seconds + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Is the clients: `TARGETS WIDTH PATIENCE TIME`, both in milliseconds.
pub(crate) fn run(cgroup: &Path, options: &[&str]) -> Result<()> {
    sandbox::join(cgroup)?;
    sandbox::hold_on(sandbox::core())?;
    let [targets, width, patience, time] = options[..] else { bail!("clients of what?") };
    let targets: Targets = targets.parse()?;
    let (patience, time) = (milliseconds(patience)?, milliseconds(time)?);
    let crowd = Crowd { targets: &targets, width: width.parse()?, patience };
    let (begun, clock) = (Instant::now(), now());
    let mut ends = Vec::new();
    crowd.run(&mut Draw::new(), || begun.elapsed() < time, |end| ends.push(end))?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for end in ends {
        let at = clock + end.begun.saturating_duration_since(begun);
        let backend = end.answer.map_or("-".to_owned(), |number| number.to_string());
        writeln!(out, "{} {} {backend}", at.as_nanos(), end.whole.as_nanos())?;
    }
    out.flush().context("nobody listens")
}

fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse().context("milliseconds")?))
}

fn parse(line: &str) -> Result<Connection> {
    let words: Vec<&str> = line.split(' ').collect();
    let [begun, whole, backend] = words[..] else { bail!("`{line}` is no connection") };
    Ok(Connection {
        begun: Duration::from_nanos(begun.parse()?),
        whole: Duration::from_nanos(whole.parse()?),
        backend: backend.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_remembered() {
        let good = parse("5 7 4").unwrap();
        assert_eq!((good.begun.as_nanos(), good.whole.as_nanos(), good.backend), (5, 7, Some(4)));
        assert_eq!(parse("5 7 -").unwrap().backend, None);
        assert!(parse("5 7").is_err());
    }
}
