//! Who says which record, and how: eight bytes each, behind the answers of a name.
//!
//! ```text
//! owner u32 · distance, why withheld, whether it is the record's last claim, TTL (u32)
//! ```

use crate::record::Withheld;
use mizzen_types::vip::Distance;

/// Bytes of a claim.
pub(crate) const CLAIM: usize = 8;
/// In a claim's second word: the distance lies below, the reason above, then this flag,
/// then the TTL.
const REASON: u32 = 2;
const LAST: u32 = 1 << 5;
const TTL: u32 = 6;
/// More than two years, in seconds; a longer TTL is cut to it.
const LONGEST_TTL: u32 = u32::MAX >> TTL;
/// Distances by their numbers in a claim.
const DISTANCES: [Distance; 3] = [Distance::Node, Distance::Zone, Distance::Far];

/// What one owner says about a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    /// Number of the owner.
    pub(crate) owner: u32,
    /// How far away it is.
    pub(crate) distance: Distance,
    /// Why it is not answered.
    pub(crate) withheld: Option<Withheld>,
    /// In seconds.
    pub(crate) ttl: u32,
}

/// The claims up to a record's last one.
pub(crate) fn until_last<'a>(
    claims: &mut std::slice::Iter<'a, [u8; CLAIM]>,
) -> impl Iterator<Item = Claim> {
    let rest = claims.as_slice();
    let count = rest.iter().position(is_last).map_or(rest.len(), |at| at + 1);
    let (own, others) = rest.split_at(count);
    *claims = others.iter();
    own.iter().map(Claim::from_bytes)
}

/// Whether this is a record's last claim.
pub(crate) fn is_last(claim: &[u8; CLAIM]) -> bool {
    how(claim) & LAST != 0
}

/// What stands behind the owner in a claim.
fn how(claim: &[u8; CLAIM]) -> u32 {
    u32::from_le_bytes([claim[4], claim[5], claim[6], claim[7]])
}

/// Whose claim it is.
pub(crate) fn owner_of(claim: &[u8; CLAIM]) -> u32 {
    u32::from_le_bytes([claim[0], claim[1], claim[2], claim[3]])
}

impl Claim {
    pub(crate) fn from_bytes(bytes: &[u8; CLAIM]) -> Self {
        let how = how(bytes);
        let (distance, reason) = ((how & 3) as usize, ((how >> REASON) & 7) as usize);
        Self {
            owner: owner_of(bytes),
            distance: DISTANCES.get(distance).copied().unwrap_or_default(),
            withheld: reason.checked_sub(1).and_then(|at| Withheld::ALL.get(at)).copied(),
            ttl: how >> TTL,
        }
    }

    /// With a TTL that can be kept.
    pub(crate) fn bounded(self) -> Self {
        Self { ttl: self.ttl.min(LONGEST_TTL), ..self }
    }

    fn to_bytes(self, last: bool) -> [u8; CLAIM] {
        let reason = self.withheld.map_or(0, |reason| reason as u32 + 1);
        let last = if last { LAST } else { 0 };
        let ttl = self.ttl.min(LONGEST_TTL) << TTL;
        let how = self.distance as u32 | (reason << REASON) | last | ttl;
        let ([a, b, c, d], [e, f, g, h]) = (self.owner.to_le_bytes(), how.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }
}

/// Appends the claims of one record.
pub(crate) fn push_claims(out: &mut Vec<u8>, claims: impl ExactSizeIterator<Item = Claim>) {
    let last = claims.len().wrapping_sub(1);
    for (at, claim) in claims.enumerate() {
        out.extend_from_slice(&claim.to_bytes(at == last));
    }
}
