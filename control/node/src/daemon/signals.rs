//! What comes from outside as a signal, and the watchdog's beat.

use std::io;
use std::time::Duration;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Interval, MissedTickBehavior};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// End; tasks and connections go on (SIGTERM, SIGINT).
    Stop,
    /// Read the configuration again (SIGHUP).
    Reload,
    /// Tell the service manager that the loop turns.
    Watchdog,
}

/// The signals of this process.
pub(crate) struct Signals {
    term: unix::Signal,
    interrupt: unix::Signal,
    hangup: unix::Signal,
    watchdog: Option<Interval>,
}

impl Signals {
    /// Listens from now on. `watchdog` is how long the service manager waits for a
    /// sign of life.
    pub(crate) fn listen(watchdog: Option<Duration>) -> io::Result<Self> {
        let watchdog = watchdog.map(|limit| {
            let mut interval = tokio::time::interval(limit / 2);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        Ok(Self {
            term: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
            watchdog,
        })
    }

    /// Waits until the process is to end.
    pub(crate) async fn stop(&mut self) {
        while self.next().await != Signal::Stop {}
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Signal {
        let beat = async {
            match self.watchdog.as_mut() {
                Some(interval) => {
                    interval.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
            _ = self.hangup.recv() => Signal::Reload,
            () = beat => Signal::Watchdog,
        }
    }
}
