//! What is in sets, and how flows of datagrams get out of theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use parking_lot::Mutex;

use super::{ELEMENTS, Filter, channel, dump};
use crate::channel::Channel;
use crate::packet::Flow;
use crate::rules::FLOWS;
use crate::table::{Family, octets};
use crate::uapi::{message, nft};
use crate::wire::{Attributes, Messages};

/// An element that is removed within this time by itself may be gone before we get there.
const BRIEF: Duration = Duration::from_millis(800);

/// An element of a set.
pub(super) struct Element {
    pub key: Vec<u8>,
    /// How long it stays there.
    left: Duration,
}

/// The elements of a set.
pub(super) fn elements(
    channel: &mut Channel,
    family: Family,
    (table, set): (&str, &str),
) -> io::Result<Vec<Element>> {
    let mut request = Messages::default();
    request.message(dump(message::GET_ELEMENT, family), |m| {
        m.text(nft::ELEM_LIST_TABLE, table);
        m.text(nft::ELEM_LIST_SET, set);
    });
    let mut elements = Vec::new();
    channel.dump(request.bytes(), |message| {
        for (_, element) in message.attributes().inside(nft::ELEM_LIST_ELEMENTS) {
            let element = Attributes(element);
            let left = element.find(nft::ELEM_EXPIRATION).and_then(<[u8]>::first_chunk);
            let left =
                left.map_or(Duration::MAX, |left| Duration::from_millis(u64::from_be_bytes(*left)));
            let key = element.inside(nft::ELEM_KEY).find(nft::DATA_VALUE);
            elements.extend(key.map(|key| Element { key: key.to_vec(), left }));
        }
    })?;
    Ok(elements)
}

/// Has the next datagrams of flows queued. What is about to run out by itself stays among `flows`,
/// for the next time: a transaction fails as a whole if an element is gone before.
///
/// Others can use the filter in between: a transaction that removes takes its time.
pub(crate) fn forget(filter: &Mutex<Filter>, flows: &mut BTreeSet<Flow>) -> io::Result<()> {
    let table = filter.lock().spec.table.clone();
    let mut listing = channel()?;
    for family in Family::BOTH {
        let of_family = |flow: &&Flow| Family::of(flow.destination.ip()) == family;
        let mut wanted: BTreeMap<Vec<u8>, Flow> =
            flows.iter().filter(of_family).map(|flow| (flow_key(flow), *flow)).collect();
        if wanted.is_empty() {
            continue;
        }
        let present = elements(&mut listing, family, (&table, FLOWS))?;
        let present = present.into_iter().filter(|found| wanted.contains_key(&found.key));
        let (brief, lasting): (Vec<_>, Vec<_>) = present.partition(|found| found.left < BRIEF);
        let mut kept: BTreeSet<Flow> =
            brief.iter().filter_map(|found| wanted.get(&found.key)).copied().collect();
        let lasting: Vec<Vec<u8>> = lasting.into_iter().map(|found| found.key).collect();
        for keys in lasting.chunks(ELEMENTS) {
            match filter.lock().remove_flows(family, keys) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    kept.extend(keys.iter().filter_map(|key| wanted.remove(key)));
                }
                other => other?,
            }
        }
        flows.retain(|flow| !of_family(&flow) || kept.contains(flow));
    }
    Ok(())
}

/// Both addresses and both ports.
fn flow_key(flow: &Flow) -> Vec<u8> {
    let mut key = octets(flow.source.ip());
    key.extend(octets(flow.destination.ip()));
    key.extend(flow.source.port().to_be_bytes());
    key.extend(flow.destination.port().to_be_bytes());
    key
}
