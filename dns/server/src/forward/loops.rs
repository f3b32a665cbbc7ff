//! Questions of ours that come back through another resolver.
//!
//! Every question goes out with capitals drawn at random, and resolvers hand names on as
//! they are. A question for a name that is under way, in the very capitals that we drew,
//! is therefore our own. Resolvers that change capitals are known by their address, unless
//! it is this machine's, where others ask from it as well. What is missed waits with the
//! flight that it came from and ends with it, so that no loop ever multiplies.

use super::flight::Details;
use mizzen_dns_core::Asker;
use parking_lot::Mutex;
use std::net::IpAddr;
use std::time::Duration;
use tracing::warn;

/// Letters of each kind that make a spelling unlike any that people or programs use.
const MIXED: usize = 3;
/// How often loops are reported.
const REPORT: Duration = Duration::from_secs(60);

/// Reports loops, not too often.
#[derive(Debug, Default)]
pub(super) struct LoopLog(Mutex<Option<Duration>>);

impl LoopLog {
    /// * `now` — time since the start.
    pub(super) fn report(&self, client: IpAddr, name: &[u8], now: Duration) {
        let mut last = self.0.lock();
        if last.is_some_and(|last| now.saturating_sub(last) < REPORT) {
            return;
        }
        *last = Some(now);
        let name = String::from_utf8_lossy(name);
        warn!(%client, ?name, "a question of this resolver came back to it: upstreams form a loop");
    }
}

/// Whether `asker` asks what this flight asks, and why that is known.
pub(super) fn found(flight: &Details, asker: &Asker<'_>, client: IpAddr) -> Option<&'static str> {
    if *asker.name == *flight.spelling && is_mixed(asker.name) {
        return Some("forwarding loop: this resolver sent this question");
    }
    let by_upstream = !client.is_loopback() && flight.asked.contains(&client);
    by_upstream.then_some("forwarding loop: an upstream asks what it is asked")
}

fn is_mixed(name: &[u8]) -> bool {
    let upper = name.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let lower = name.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    upper >= MIXED && lower >= MIXED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_as_a_loop() {
        let flight = Details {
            spelling: b"\x03wWw\x07eXaMPle\x00".as_slice().into(),
            asked: vec![[192, 0, 2, 1].into(), [127, 0, 0, 1].into()],
        };
        #[rustfmt::skip]
        let table: &[(&str, &[u8], [u8; 4], bool)] = &[
            ("our spelling, from anybody",      b"\x03wWw\x07eXaMPle\x00", [10, 0, 0, 9],  true),
            ("the name as people write it",     b"\x03www\x07example\x00", [10, 0, 0, 9],  false),
            ("another spelling",                b"\x03WWW\x07eXaMPle\x00", [10, 0, 0, 9],  false),
            ("lower case, from an upstream",    b"\x03www\x07example\x00", [192, 0, 2, 1], true),
            ("lower case, from this machine",   b"\x03www\x07example\x00", [127, 0, 0, 1], false),
        ];
        for (what, name, client, want) in table {
            let asker = Asker {
                id: 1,
                name,
                kind: 1,
                class: 1,
                recursion_desired: true,
                checking_disabled: false,
                room: 512,
                opt: None,
            };
            assert_eq!(found(&flight, &asker, (*client).into()).is_some(), *want, "{what}");
        }
        assert!(!is_mixed(b"\x02Ab\x02cD\x00"), "too short to be told from others");
    }
}
