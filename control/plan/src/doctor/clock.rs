//! Whether the machine's clock is right.

use super::{Observed, PeerTold, Verdict, of_look};
use std::time::Duration;

/// What the kernel knows of its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockState {
    /// Whether somebody keeps it right.
    pub synchronised: bool,
    /// By how much it may be wrong all the same.
    pub error: Duration,
}

/// Nobody notices a smaller difference.
const NOTICEABLE: f64 = 1.0;
/// Certificates and tokens are taken for expired, or for not valid yet.
const TOO_MUCH: f64 = 60.0;

pub(super) fn judge(observed: &Observed) -> Vec<Verdict> {
    let mut verdicts =
        of_look(&observed.machine.clock, "the clock", |clock| match clock.synchronised {
            true => vec![Verdict::ok("the clock is synchronised")],
            false => vec![
                Verdict::warning("the clock is not synchronised")
                    .because("times of tasks and the ends of certificates and tokens depend on it")
                    .remedy("systemctl enable --now systemd-timesyncd, or chrony"),
            ],
        });
    let peers = observed.told().map(|told| told.peers.as_slice()).unwrap_or_default();
    verdicts.extend(skew(peers));
    verdicts
}

/// How far this machine's clock is from those of most others. One that differs from all
/// others is most likely the wrong one.
fn skew(peers: &[PeerTold]) -> Option<Verdict> {
    let mut known: Vec<(f64, &str)> =
        peers.iter().filter_map(|peer| Some((peer.clock_ahead?, peer.name.as_str()))).collect();
    known.sort_by(|a, b| a.0.abs().total_cmp(&b.0.abs()));
    let (worst, name) = *known.last()?;
    let size = worst.abs();
    if size < NOTICEABLE {
        return Some(Verdict::ok(format!(
            "the clocks of {} other nodes say the same",
            known.len()
        )));
    }
    let way = if worst > 0.0 { "ahead of" } else { "behind" };
    let far = known.iter().filter(|(ahead, _)| ahead.abs() >= NOTICEABLE).count();
    let here = far * 2 > known.len();
    let what = format!("the clock of {name} is {size:.1} s {way} this machine's");
    let verdict = if size >= TOO_MUCH { Verdict::error(what) } else { Verdict::warning(what) };
    let where_to = if here { "here: most others differ as well" } else { "there" };
    Some(
        verdict
            .because("certificates and tokens are refused when clocks differ too much, and times of events cannot be compared")
            .remedy(format!("timedatectl set-ntp true ({where_to})")),
    )
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::super::testing::peer;
    use super::*;

    #[test]
    fn how_far_clocks_are_apart() {
        type Case = (&'static [f64], Option<(Grade, &'static str)>);
        #[rustfmt::skip]
        let table: [Case; 5] = [
            (&[],                None),
            (&[0.1, -0.3],       Some((Grade::Ok, "2 other nodes"))),
            (&[0.1, 2.5, 0.0],   Some((Grade::Warning, "2.5 s ahead of"))),
            (&[-90.0, 0.0, 0.1], Some((Grade::Error, "90.0 s behind"))),
            (&[61.0, 61.1],      Some((Grade::Error, "61.1 s ahead of"))),
        ];
        for (ahead, want) in table {
            let peers: Vec<PeerTold> = ahead
                .iter()
                .map(|ahead| PeerTold { clock_ahead: Some(*ahead), ..peer("beta") })
                .collect();
            let verdict = skew(&peers);
            let found = verdict.as_ref().map(|verdict| (verdict.grade, verdict.what.as_str()));
            match (found, want) {
                (None, None) => {}
                (Some((grade, what)), Some((want, words))) => {
                    assert_eq!(grade, want, "{ahead:?}");
                    assert!(what.contains(words), "{what}");
                }
                other => panic!("{ahead:?}: {other:?}"),
            }
        }
    }
}
