//! Tells the service manager how the daemon is (`sd_notify`). Without one, and
//! that is everywhere but under systemd and in a lab, nothing happens.

use sd_notify::NotifyState;
use std::time::Duration;

/// What the service manager is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Every listener answers.
    Ready,
    /// The configuration is read again; [`Notice::Ready`] follows.
    Reloading,
    /// The daemon ends.
    Stopping,
    /// The main loop turns.
    Watchdog,
}

/// Says it. A service manager that does not listen is no reason to stop, so a
/// failure is a line in the log.
pub fn notify(notice: Notice) {
    let states = match notice {
        Notice::Ready => vec![NotifyState::Ready],
        Notice::Reloading => {
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now().ok());
            states
        }
        Notice::Stopping => vec![NotifyState::Stopping],
        Notice::Watchdog => vec![NotifyState::Watchdog],
    };
    if let Err(error) = sd_notify::notify(&states) {
        tracing::warn!(?notice, %error, "cannot notify the service manager");
    }
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    if let Err(error) = sd_notify::notify(&[NotifyState::Status(text)]) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

/// How often [`Notice::Watchdog`] is expected: half the service manager's patience.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}
