//! How fast a link may send: a token bucket filter (`tbf`) as its queue.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption};

use crate::connection::Netlink;
use crate::error::NetlinkError;
use crate::link::IfIndex;

/// A rate and what may exceed it for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Bytes in a second.
    pub rate: u64,
    /// Bytes that may go at once; at least one packet.
    pub burst: u32,
}

impl Netlink {
    /// Lets the link send no faster than `limit`. What comes faster waits, for at most the
    /// time that the burst takes and 25 ms more, and is dropped beyond.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Request`] if the kernel refuses, for instance because it was built
    /// without `NET_SCH_TBF`.
    pub fn ensure_rate_limit(
        &mut self,
        link: IfIndex,
        limit: RateLimit,
    ) -> Result<(), NetlinkError> {
        let mut message = TcMessage::default();
        message.header = TcHeader {
            index: i32::try_from(link.0).unwrap_or_default(),
            parent: TcHandle::ROOT,
            handle: TcHandle { major: 1, minor: 0 },
            ..TcHeader::default()
        };
        message.attributes = vec![
            TcAttribute::Kind("tbf".to_owned()),
            TcAttribute::Options(options(limit).into_iter().map(TcOption::Other).collect()),
        ];
        let request = RouteNetlinkMessage::NewQueueDiscipline(message);
        let outcome = self.connection.change(request, NLM_F_CREATE | NLM_F_REPLACE);
        outcome
            .map_err(|refusal| refusal.to("limit the rate of", format!("link number {}", link.0)))
    }
}

/// Attributes of the kernel's `TCA_TBF_…`.
fn options(limit: RateLimit) -> Vec<DefaultNla> {
    const PARAMETERS: u16 = 1;
    const RATE: u16 = 4;
    const BURST: u16 = 6;
    /// Ethernet frames, so that no table of transmission times is wanted.
    const LINK_LAYER: u8 = 1;
    /// A part of a second that packets may wait beyond the burst.
    const PATIENCE: u64 = 40;
    let short = u32::try_from(limit.rate).unwrap_or(u32::MAX);
    let queue = u32::try_from(limit.rate / PATIENCE).unwrap_or(u32::MAX);
    let queue = queue.saturating_add(limit.burst);
    // `struct tc_tbf_qopt`: two rates of twelve bytes, bytes queued, burst, largest packet.
    let mut parameters = vec![0, LINK_LAYER, 0, 0, 0, 0, 0, 0];
    parameters.extend(short.to_ne_bytes());
    parameters.extend([0; 12]);
    for number in [queue, 0, 0] {
        parameters.extend(number.to_ne_bytes());
    }
    vec![
        DefaultNla::new(PARAMETERS, parameters),
        DefaultNla::new(RATE, limit.rate.to_ne_bytes().to_vec()),
        DefaultNla::new(BURST, limit.burst.to_ne_bytes().to_vec()),
    ]
}
