//! The attributes of an answer, decoded one by one.

use netlink_packet_core::{DecodeError, Emitable, NlaBuffer, NlasIterator};

/// The attributes that follow `header` in `payload`, without those that do not decode.
pub(crate) fn attributes_after<A>(
    header: &impl Emitable,
    payload: &[u8],
    decode: impl Fn(&NlaBuffer<&[u8]>) -> Result<A, DecodeError>,
) -> Vec<A> {
    let bytes = payload.get(header.buffer_len()..).unwrap_or_default();
    // Behind an attribute that claims more than is there nothing can be found.
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    let decoded = attributes.filter_map(|attribute| {
        let number = attribute.kind();
        let left_out = |error: &DecodeError| tracing::debug!(number, %error, "attribute left out");
        decode(&attribute).inspect_err(left_out).ok()
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::parse_u32;
    use netlink_packet_route::link::LinkHeader;

    use super::*;

    #[test]
    fn what_does_not_decode_costs_only_itself_and_lies_about_lengths_end_the_reading() {
        let header = LinkHeader::default();
        let long = [8, 0, 1, 0, 7, 0, 0, 0];
        let short = [5, 0, 2, 0, 9, 0, 0, 0];
        for (name, attributes, expected) in [
            ("a short one between two", [&long[..], &short, &long].concat(), vec![7, 7]),
            ("no length", [&long[..], &[0, 0, 1, 0], &long].concat(), vec![7]),
            ("shorter than its own header", [&long[..], &[3, 0, 1, 0], &long].concat(), vec![7]),
            ("longer than the message", [&long[..], &[200, 0, 1, 0, 1]].concat(), vec![7]),
            ("half a header", [&long[..], &[8, 0, 1]].concat(), vec![7]),
        ] {
            let payload = [&[0; 16][..], &attributes].concat();
            let found = attributes_after(&header, &payload, |nla| parse_u32(nla.value()));
            assert_eq!(found, expected, "{name}");
        }
        assert!(attributes_after(&header, &[0; 3], |nla| parse_u32(nla.value())).is_empty());
    }
}
