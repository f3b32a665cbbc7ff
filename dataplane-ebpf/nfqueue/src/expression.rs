//! Expressions of nf_tables rules: each adds itself to the rule that is being written.
//!
//! Registers hold keys of up to 64 bytes: four-byte cells from [`FIRST`] on, each field of
//! a key beginning in a cell of its own.

use crate::uapi::expression as e;
use crate::uapi::nft;
use crate::wire::Messages;

/// The first four-byte cell.
const FIRST: u32 = libc::NFT_REG32_00 as u32;

/// A part of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    /// `NFT_PAYLOAD_…_HEADER`.
    pub base: libc::c_int,
    pub offset: u32,
    pub length: u32,
}

/// A rule's list of expressions.
pub(crate) struct Rule<'a>(pub &'a mut Messages);

impl Rule<'_> {
    fn expression(&mut self, name: &str, body: impl FnOnce(&mut Messages)) -> &mut Self {
        self.0.nest(nft::LIST_ELEM, |m| {
            m.text(nft::EXPR_NAME, name);
            m.nest(nft::EXPR_DATA, body);
        });
        self
    }

    /// Goes on if the transport is this one.
    pub fn protocol(&mut self, number: u8) -> &mut Self {
        self.load_protocol(0).equals(&[number])
    }

    /// Puts the transport's number into a cell.
    pub fn load_protocol(&mut self, cell: u32) -> &mut Self {
        self.meta(libc::NFT_META_L4PROTO, cell)
    }

    /// Goes on if the packet did not come by this link.
    pub fn not_by_link(&mut self, index: u32) -> &mut Self {
        self.meta(libc::NFT_META_IIF, 0).compare(libc::NFT_CMP_NEQ, &index.to_ne_bytes())
    }

    /// Puts a part of the packet into a cell and those behind it.
    pub fn load(&mut self, field: Field, cell: u32) -> &mut Self {
        self.expression("payload", |m| {
            m.be32(e::PAYLOAD_DREG, FIRST + cell);
            m.be32(e::PAYLOAD_BASE, field.base as u32);
            m.be32(e::PAYLOAD_OFFSET, field.offset);
            m.be32(e::PAYLOAD_LEN, field.length);
        })
    }

    /// Leaves those bits of the first cells that are set in `mask`.
    pub fn mask(&mut self, mask: &[u8]) -> &mut Self {
        self.expression("bitwise", |m| {
            m.be32(e::BITWISE_SREG, FIRST);
            m.be32(e::BITWISE_DREG, FIRST);
            m.be32(e::BITWISE_LEN, mask.len() as u32);
            let data = nft::DATA_VALUE;
            m.nest(e::BITWISE_MASK, |m| m.attribute(data, mask));
            let zero = vec![0; mask.len()];
            m.nest(e::BITWISE_XOR, |m| m.attribute(data, &zero));
        })
    }

    /// Goes on if the first cells are these bytes.
    pub fn equals(&mut self, value: &[u8]) -> &mut Self {
        self.compare(libc::NFT_CMP_EQ, value)
    }

    /// Goes on if the first cells are not these bytes.
    pub fn differs_from(&mut self, value: &[u8]) -> &mut Self {
        self.compare(libc::NFT_CMP_NEQ, value)
    }

    /// Goes on if one of these bits of what conntrack knows is set.
    pub fn conntrack_has(&mut self, key: libc::c_int, bits: u32) -> &mut Self {
        self.conntrack(key).mask(&bits.to_ne_bytes()).differs_from(&[0; 4])
    }

    /// Goes on if the packet travels as the first packet of its flow did (0), or back (1).
    pub fn direction(&mut self, direction: u8) -> &mut Self {
        self.conntrack(libc::NFT_CT_DIRECTION).equals(&[direction])
    }

    /// Goes on if the key in the first cells is in a set.
    pub fn is_in(&mut self, set: &str) -> &mut Self {
        self.lookup(set, 0)
    }

    /// Goes on if the key in the first cells is not in a set.
    pub fn is_not_in(&mut self, set: &str) -> &mut Self {
        self.lookup(set, libc::NFT_LOOKUP_F_INV as u32)
    }

    /// Puts the key in the first cells into a set, or lets it stay for another `millis` there.
    pub fn keep_in(&mut self, set: &str, millis: u64) -> &mut Self {
        self.expression("dynset", |m| {
            m.text(e::DYNSET_SET_NAME, set);
            m.be32(e::DYNSET_OP, libc::NFT_DYNSET_OP_UPDATE as u32);
            m.be32(e::DYNSET_SREG_KEY, FIRST);
            m.be64(e::DYNSET_TIMEOUT, millis);
        })
    }

    /// Queues the packet to that of `total` queues which is for its CPU; it passes if nobody listens there.
    pub fn queue(&mut self, first: u16, total: u16) -> &mut Self {
        self.expression("queue", |m| {
            m.be16(e::QUEUE_NUM, first);
            m.be16(e::QUEUE_TOTAL, total);
            let flags = libc::NFT_QUEUE_FLAG_BYPASS | libc::NFT_QUEUE_FLAG_CPU_FANOUT;
            m.be16(e::QUEUE_FLAGS, flags as u16);
        })
    }

    /// The same by the target that iptables uses, for kernels where nf_tables cannot queue.
    pub fn queue_by_target(&mut self, first: u16, total: u16) -> &mut Self {
        /// Revision of `struct xt_NFQ_info_v3`: three 16 bit numbers, filled up to 8 bytes.
        const REVISION: u32 = 3;
        const BYPASS_AND_CPU_FANOUT: u16 = 3;
        let mut info = [0; 8];
        info[0..2].copy_from_slice(&first.to_ne_bytes());
        info[2..4].copy_from_slice(&total.to_ne_bytes());
        info[4..6].copy_from_slice(&BYPASS_AND_CPU_FANOUT.to_ne_bytes());
        self.expression("target", |m| {
            m.text(e::TARGET_NAME, "NFQUEUE");
            m.be32(e::TARGET_REV, REVISION);
            m.attribute(e::TARGET_INFO, &info);
        })
    }

    /// Shows the packet to whoever listens to a group.
    pub fn show(&mut self, group: u16, bytes: u32) -> &mut Self {
        self.expression("log", |m| {
            m.be16(e::LOG_GROUP, group);
            m.be32(e::LOG_SNAPLEN, bytes);
            m.be16(e::LOG_QTHRESHOLD, 1);
        })
    }

    /// Refuses a TCP packet with a reset.
    pub fn reset(&mut self) -> &mut Self {
        self.reject(libc::NFT_REJECT_TCP_RST, 0)
    }

    /// Refuses a packet with an ICMP error "unreachable" of this code.
    pub fn unreachable(&mut self, code: u8) -> &mut Self {
        self.reject(libc::NFT_REJECT_ICMP_UNREACH, code)
    }

    /// Ends the chain.
    pub fn accept(&mut self) -> &mut Self {
        self.expression("immediate", |m| {
            m.be32(e::IMMEDIATE_DREG, libc::NFT_REG_VERDICT as u32);
            m.nest(e::IMMEDIATE_DATA, |m| {
                m.nest(nft::DATA_VERDICT, |m| {
                    m.be32(nft::VERDICT_CODE, libc::NF_ACCEPT as u32);
                });
            });
        })
    }

    fn meta(&mut self, key: libc::c_int, cell: u32) -> &mut Self {
        self.expression("meta", |m| {
            m.be32(e::META_DREG, FIRST + cell);
            m.be32(e::META_KEY, key as u32);
        })
    }

    fn compare(&mut self, operator: libc::c_int, value: &[u8]) -> &mut Self {
        self.expression("cmp", |m| {
            m.be32(e::CMP_SREG, FIRST);
            m.be32(e::CMP_OP, operator as u32);
            let data = nft::DATA_VALUE;
            m.nest(e::CMP_DATA, |m| m.attribute(data, value));
        })
    }

    fn conntrack(&mut self, key: libc::c_int) -> &mut Self {
        self.expression("ct", |m| {
            m.be32(e::CT_DREG, FIRST);
            m.be32(e::CT_KEY, key as u32);
        })
    }

    fn lookup(&mut self, set: &str, flags: u32) -> &mut Self {
        self.expression("lookup", |m| {
            m.text(e::LOOKUP_SET, set);
            m.be32(e::LOOKUP_SREG, FIRST);
            m.be32(e::LOOKUP_FLAGS, flags);
        })
    }

    fn reject(&mut self, kind: libc::c_int, code: u8) -> &mut Self {
        self.expression("reject", |m| {
            m.be32(e::REJECT_TYPE, kind as u32);
            m.attribute(e::REJECT_ICMP_CODE, &[code]);
        })
    }
}
