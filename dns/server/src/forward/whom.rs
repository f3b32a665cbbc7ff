//! What becomes of a question about a name of others, for people who want to know before
//! it is asked.

use super::lookup::Lookup;
use crate::reply::UDP_PAYLOAD;
use crate::upstream::wire_name;
use mizzen_dns_core::{Asker, CacheKey, DnsName, Freshness, Opt, RecordType, Upstream};

/// The Internet.
const CLASS_IN: u16 = 1;

/// Who answers a question about a name of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    /// The suffix of the forward zone that holds the name, if one does.
    pub zone: Option<String>,
    /// Who is asked; with nobody to ask the name is refused.
    pub upstreams: Vec<Upstream>,
    /// Whether nobody is asked, because nobody outside can know.
    pub local: bool,
    /// How long an answer has been kept that can be given, in seconds.
    pub kept: Option<u32>,
}

impl Lookup {
    pub(super) fn whom(&self, name: &DnsName, kind: RecordType) -> Option<Whom> {
        let wire = wire_name(&name.to_wire()?);
        let upstreams = self.pool.snapshot();
        let of = |number: &usize| upstreams.get(*number).map(|known| known.upstream.clone());
        let asker = Asker {
            id: 0,
            name: &wire,
            kind: kind.into(),
            class: CLASS_IN,
            recursion_desired: true,
            checking_disabled: false,
            room: usize::from(UDP_PAYLOAD),
            opt: Some(Opt { payload: UDP_PAYLOAD, dnssec_ok: false, options: &[] }),
        };
        let entry = CacheKey::new(&asker).and_then(|key| self.cache.get(&key));
        let kept = entry.and_then(|entry| match self.freshness(&entry) {
            Freshness::Fresh { age, .. } => Some(age),
            Freshness::Stale | Freshness::Gone => None,
        });
        Some(Whom {
            zone: self.table.zone_for(name).map(str::to_owned),
            upstreams: self.table.route(name).iter().filter_map(of).collect(),
            local: self.local_answer(name, &asker).is_some(),
            kept,
        })
    }
}
