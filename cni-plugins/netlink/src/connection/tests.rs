//! What the kernel says, and what nobody should.

use netlink_packet_core::DefaultNla;

use super::*;

const FLAGS: u16 = NLM_F_ACK_TLVS | NLM_F_CAPPED;

/// A message as the kernel would send it.
fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.length = (header.buffer_len() + payload.len()) as u32;
    header.message_type = kind;
    header.flags = flags;
    let mut bytes = vec![0; header.buffer_len()];
    header.emit(&mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

fn said(text: &str) -> Vec<u8> {
    let attribute = DefaultNla::new(NLMSGERR_ATTR_MSG, text.as_bytes().to_vec());
    let mut bytes = vec![0; attribute.buffer_len()];
    attribute.emit(&mut bytes);
    bytes
}

fn judged(bytes: &[u8]) -> Refusal {
    let answer = Answers(bytes).next().unwrap();
    verdict(&answer).unwrap().unwrap_err()
}

#[test]
fn a_refusal_carries_number_and_explanation() {
    let number = (-libc::EINVAL).to_ne_bytes();
    let to_change = [&number[..], &[0; 16], &said("no such mode\0")].concat();
    let to_dump = [&number[..], &said("no such mode\0")].concat();
    for (kind, payload) in [(NLMSG_ERROR, to_change), (NLMSG_DONE, to_dump)] {
        let refusal = judged(&message(kind, FLAGS, &payload));
        assert!(refusal.is(libc::EINVAL));
        assert_eq!(refusal.detail.as_deref(), Some("no such mode"));
        let error = refusal.to("set", "link `x`");
        assert_eq!(error.to_string(), "cannot set link `x` (no such mode)");
    }
}

#[test]
fn a_truncated_refusal_is_no_panic_and_no_consent() {
    for length in 0..8 {
        let payload = vec![0xff; length];
        judged(&message(NLMSG_ERROR, FLAGS, &payload));
    }
}

#[test]
fn lies_about_lengths_end_the_reading() {
    let good = message(NLMSG_DONE, 0, &[0; 4]);
    assert_eq!(Answers(&[&good[..], &good].concat()).count(), 2);
    for cut in 0..good.len() {
        assert_eq!(Answers(&good[..cut]).count(), 0, "cut at {cut}");
    }
    assert_eq!(Answers(&[0; 64]).count(), 0);
}
