//! Sockets of backends that left their VIP, ended beside the loop.
//!
//! One look at a time: what leaves meanwhile waits for the next one.

use super::core::Input;
use super::vip_part::VipPart;
use mizzen_kernel::endings::{Ended, Endings};
use mizzen_kernel::vips::Leaver;
use mizzen_types::error::chain;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// What waits, and what was done.
#[derive(Debug)]
pub(crate) struct Leaving {
    /// None while it is at work.
    endings: Option<Endings>,
    waiting: Vec<Leaver>,
    /// Sockets and flows ended since the start.
    pub(crate) ended: u64,
}

impl Default for Leaving {
    fn default() -> Self {
        Self { endings: Some(Endings::default()), waiting: Vec::new(), ended: 0 }
    }
}

impl VipPart {
    /// Ends the sockets of backends that have left since the last time.
    pub(crate) fn end_sockets(&mut self, inputs: &mpsc::UnboundedSender<Input>) {
        self.leaving.waiting.extend(self.balancer.take_leavers());
        if self.leaving.waiting.is_empty() {
            return;
        }
        let Some(mut endings) = self.leaving.endings.take() else { return };
        let leavers = std::mem::take(&mut self.leaving.waiting);
        let table = match self.balancer.socket_table() {
            Ok(Some(table)) => table,
            Ok(None) => return self.leaving.endings = Some(endings),
            Err(error) => {
                warn!(
                    error = chain(&error),
                    backends = leavers.len(),
                    "sockets of backends that left stay open"
                );
                return self.leaving.endings = Some(endings);
            }
        };
        let inputs = inputs.clone();
        tokio::task::spawn_blocking(move || {
            let ended = endings.end_sockets(&table, &leavers);
            // The loop has ended if nobody listens; then nobody needs the outcome.
            let _ = inputs.send(Input::SocketsEnded(endings, ended));
        });
    }

    pub(crate) fn note_ended_sockets(
        &mut self,
        endings: Endings,
        ended: &Ended,
        inputs: &mpsc::UnboundedSender<Input>,
    ) {
        self.leaving.endings = Some(endings);
        for (vip, sockets) in &ended.sockets {
            self.leaving.ended += sockets;
            info!(%vip, sockets, "ended sockets of backends that left");
        }
        for (vip, flows) in &ended.flows {
            self.leaving.ended += flows;
            info!(%vip, flows, "ended flows from elsewhere to backends that left");
        }
        for netns in &ended.lost {
            info!(
                netns,
                "sockets of backends that left stay open: nobody is in their network namespace"
            );
        }
        if let Some(error) = ended.errors.first() {
            let (error, errors) = (chain(error), ended.errors.len());
            warn!(error, errors, "sockets of backends that left stay open");
        }
        self.end_sockets(inputs);
    }
}
