//! How long a service waits before it starts the next copy after one failed.
//!
//! The delay is kept per service and forgotten when its configuration changes (the number of
//! copies is not part of it). It
//! is not written down: a scheduler that starts anew tries at once.

use crate::app::App;
use mizzen_types::time::Mono;
use std::time::Duration;

/// What a service has learned from its failures.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Backoff(Option<Delay>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Delay {
    span: Duration,
    /// The last failure, or the last sign of life of a copy since then.
    since: Mono,
}

impl Backoff {
    /// A copy failed: the first time the app's own delay, then more and more.
    pub fn raise(&mut self, app: &App, now: Mono) {
        self.expire(app, now);
        let most = app.max_launch_delay_seconds;
        let seconds = match self.0 {
            None => app.backoff_seconds,
            Some(delay) => delay.span.as_secs_f64() * app.backoff_factor,
        };
        let span = Duration::try_from_secs_f64(seconds.min(most)).unwrap_or_default();
        self.0 = Some(Delay { span, since: now });
    }

    /// A copy came further: the delay counts from here, and does not grow.
    pub fn redate(&mut self, app: &App, now: Mono) {
        self.expire(app, now);
        if let Some(delay) = &mut self.0 {
            delay.since = now;
        }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        self.0 = None;
    }

    /// When the next copy may be started; `None` is at once.
    #[must_use]
    pub fn ready_at(&self, now: Mono) -> Option<Mono> {
        self.0.map(|delay| delay.since + delay.span).filter(|ready| *ready > now)
    }

    /// After the longest delay without a failure, the past is forgotten.
    fn expire(&mut self, app: &App, now: Mono) {
        let most = Duration::try_from_secs_f64(app.max_launch_delay_seconds).unwrap_or_default();
        if self.0.is_some_and(|delay| now > delay.since + most) {
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::app;
    use serde_json::json;

    fn at(seconds: f64) -> Mono {
        Mono(0) + Duration::from_secs_f64(seconds)
    }

    fn delay(backoff: Backoff, now: Mono) -> f64 {
        backoff.ready_at(now).map_or(0.0, |ready| ready.since(now).as_secs_f64())
    }

    #[test]
    fn the_delay_grows_to_its_ceiling_and_no_further() {
        let app = app(json!({}));
        let mut backoff = Backoff::default();
        let delays: Vec<f64> = (0..60)
            .map(|_| {
                backoff.raise(&app, at(5.0));
                delay(backoff, at(5.0))
            })
            .collect();
        assert!((delays[0] - 1.0).abs() < 1e-6 && (delays[1] - 1.15).abs() < 1e-6);
        let ceiling = delays.iter().position(|delay| *delay >= 300.0);
        assert_eq!(ceiling, Some(41), "the 42nd failure in a row");
        assert!((delays[59] - 300.0).abs() < 1e-6);
    }

    #[test]
    fn what_happens_to_a_delay() {
        let app =
            app(json!({"backoffSeconds": 10, "backoffFactor": 2, "maxLaunchDelaySeconds": 60}));
        let mut backoff = Backoff::default();
        assert_eq!(backoff.ready_at(at(0.0)), None, "nothing failed yet");
        backoff.raise(&app, at(0.0));
        assert_eq!(backoff.ready_at(at(3.0)), Some(at(10.0)));
        assert_eq!(backoff.ready_at(at(10.0)), None, "it is over");
        backoff.redate(&app, at(20.0));
        assert_eq!(backoff.ready_at(at(20.0)), Some(at(30.0)), "a copy started");
        backoff.raise(&app, at(40.0));
        assert_eq!(backoff.ready_at(at(40.0)), Some(at(60.0)), "it failed too");
        backoff.raise(&app, at(101.0));
        assert_eq!(backoff.ready_at(at(101.0)), Some(at(111.0)), "the past is forgotten");
        backoff.reset();
        assert_eq!(backoff.ready_at(at(101.0)), None);
        let impatient = self::app(json!({"backoffSeconds": 0}));
        backoff.raise(&impatient, at(0.0));
        assert_eq!(backoff.ready_at(at(0.0)), None);
    }
}
