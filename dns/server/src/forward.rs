//! Names that are somebody else's: from the cache, or asked of upstreams.
//!
//! ```text
//! cached()  ─▶ cache ── hit ─▶ bytes                         on the short road
//! relay()   ─▶ local names ─▶ cache ─▶ flight ─▶ upstreams   on the full road
//!                                        │ same question at the same time: one flight
//!                                        ▼
//!                                     cache (fresh, or stale if nobody answers)
//! ```
//!
//! A question is written anew instead of relayed: our own id, a port of our own that only
//! the upstream can answer to, our own capitals and OPT record. An answer is relayed in
//! the bytes it came in. Whom to ask, what an answer is worth and which names need nobody
//! is decided in `mizzen-dns-core`.

mod cache;
mod counters;
mod flight;
mod lookup;
mod loops;
mod rounds;
mod settings;
mod whom;

pub use counters::{CacheSnapshot, ForwardSnapshot};
pub use settings::{ForwardError, ForwardSettings};
pub use whom::Whom;

use crate::shared::SharedZones;
use lookup::Lookup;
use mizzen_dns_core::{Asker, DnsName, PlainQuestion, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Asks upstreams, and remembers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Forwarder(Arc<Lookup>);

/// A reply from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedReply {
    /// Its bytes in the buffer.
    pub(crate) length: usize,
    /// Its response code.
    pub(crate) code: u16,
}

impl Forwarder {
    /// * `listen` — the resolver's own addresses: one that asks itself asks for ever.
    /// * `former` — whose place it takes: its counts go on, and so do its cache and what it
    ///   knows of upstreams, as far as they are the same.
    pub(crate) fn new(
        settings: &ForwardSettings,
        zones: Arc<SharedZones>,
        listen: &[SocketAddr],
        former: Option<&Self>,
    ) -> Result<Self, ForwardError> {
        let former = former.map(|former| &*former.0);
        Ok(Self(Arc::new(Lookup::new(settings, zones, listen, former)?)))
    }

    /// Whether there is nobody to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is nobody to ask for `name`.
    pub(crate) fn has_nobody_for(&self, name: &DnsName) -> bool {
        self.0.table.route(name).is_empty()
    }

    /// The reply to a plain question, written into `out`, if it can be given at once.
    /// Everything else takes the full road. Must be called inside a runtime: it may
    /// begin to ask anew for what is popular and about to end.
    pub(crate) fn cached(
        &self,
        question: &PlainQuestion<'_>,
        out: &mut [u8],
    ) -> Option<CachedReply> {
        if !question.recursion_desired() {
            return None;
        }
        let asker = Asker::from(question);
        let found = self.0.fresh(&asker)?;
        let length = found.write(&asker, out)?;
        Some(CachedReply { length, code: found.code() })
    }

    /// The reply to a question about a name that is not ours. REFUSED if there is nobody
    /// to ask, SERVFAIL if nobody answers or too many questions wait already; empty if
    /// the name is none.
    ///
    /// * `client` — who asks, to find questions of ours that come back.
    pub(crate) async fn relay(&self, asker: &Asker<'_>, client: IpAddr) -> Vec<u8> {
        let Some(found) = self.0.find(asker, client).await else { return Vec::new() };
        // Room is taken only now: many may have waited.
        let mut out = vec![0; found.room_for(asker)];
        let length = found.write(asker, &mut out);
        out.truncate(length.unwrap_or(0));
        out
    }

    /// What would become of a question; nobody is asked. `None` if the name has no wire
    /// form.
    pub(crate) fn whom(&self, name: &DnsName, kind: RecordType) -> Option<Whom> {
        self.0.whom(name, kind)
    }

    /// What happened so far and how the upstreams stand.
    pub(crate) fn snapshot(&self) -> ForwardSnapshot {
        self.0.snapshot()
    }
}
