//! Plugins that connected a container of another runtime and wait until its link is judged.

use super::driver::Look;
use crate::daemon::core::Core;
use crate::daemon::replies::{empty, refuse};
use mizzen_http::core::ServicesReply;
use tokio::sync::oneshot;

/// Who waits, by the number of the pass that sees the container.
#[derive(Debug, Default)]
pub(super) struct Attached {
    waiting: Vec<(u64, oneshot::Sender<ServicesReply>)>,
}

impl Attached {
    /// A pass is over. Who went away meanwhile is no concern.
    pub(super) fn answer(&mut self, number: u64, problem: Option<&str>) {
        let seen = |(waits_for, _): &mut (u64, _)| *waits_for <= number;
        for (_, reply) in self.waiting.extract_if(.., seen) {
            let _ = reply.send(match problem {
                None => empty(204),
                Some(why) => refuse(503, why).reply(),
            });
        }
    }
}

impl Core {
    /// Answers when the links of all containers that there are now are judged, at once if no
    /// policy says anything.
    pub(crate) fn judge_attached(&mut self, reply: oneshot::Sender<ServicesReply>) {
        if self.policy.planner.policies().is_empty() {
            return drop(reply.send(empty(204)));
        }
        match self.give_policy(Look::Changes) {
            Some(number) => self.policy.attached.waiting.push((number, reply)),
            None => drop(reply.send(refuse(503, "policies are not in force yet").reply())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_answered_by_the_pass_that_saw_its_container() {
        let mut attached = Attached::default();
        let (early, mut is_early) = oneshot::channel();
        let (late, mut is_late) = oneshot::channel();
        attached.waiting.extend([(3, early), (5, late)]);
        attached.answer(2, None);
        assert!(is_early.try_recv().is_err());
        attached.answer(4, None);
        assert_eq!(is_early.try_recv().unwrap().status, 204);
        assert!(is_late.try_recv().is_err());
        attached.answer(5, Some("no programs"));
        let said = is_late.try_recv().unwrap();
        assert_eq!((said.status, said.body.as_slice()), (503, &b"no programs\n"[..]));
    }
}
