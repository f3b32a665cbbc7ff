//! Numbers of the kernel's netfilter interface, under the names that its headers give
//! them (`linux/netfilter/{nfnetlink,nf_tables,nf_tables_compat,nfnetlink_queue,
//! nfnetlink_log,nfnetlink_conntrack,nf_conntrack_tcp}.h`). The libc crate has few of them.

/// Message types: the subsystem's number in the upper byte.
pub(crate) mod message {
    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    /// `resource` of both.
    pub const NFTABLES: u16 = 10;

    const fn of(subsystem: u16, number: u16) -> u16 {
        subsystem << 8 | number
    }

    pub const NEW_TABLE: u16 = of(NFTABLES, 0);
    pub const DEL_TABLE: u16 = of(NFTABLES, 2);
    pub const NEW_CHAIN: u16 = of(NFTABLES, 3);
    pub const NEW_RULE: u16 = of(NFTABLES, 6);
    pub const GET_RULE: u16 = of(NFTABLES, 7);
    pub const NEW_SET: u16 = of(NFTABLES, 9);
    pub const NEW_ELEMENT: u16 = of(NFTABLES, 12);
    pub const GET_ELEMENT: u16 = of(NFTABLES, 13);
    pub const DEL_ELEMENT: u16 = of(NFTABLES, 14);

    pub const CONNTRACK_NEW: u16 = of(1, 0);
    pub const CONNTRACK_GET: u16 = of(1, 1);
    pub const CONNTRACK_DELETE: u16 = of(1, 2);

    pub const QUEUE_PACKET: u16 = of(3, 0);
    pub const QUEUE_CONFIG: u16 = of(3, 2);
    pub const QUEUE_VERDICT_BATCH: u16 = of(3, 3);

    pub const LOG_PACKET: u16 = of(4, 0);
    pub const LOG_CONFIG: u16 = of(4, 1);
}

/// Tables, chains, rules and sets.
pub(crate) mod nft {
    pub const LIST_ELEM: u16 = 1;
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_HOOKNUM: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const RULE_USERDATA: u16 = 7;
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_KEY_LEN: u16 = 5;
    pub const SET_DESC: u16 = 9;
    pub const SET_ID: u16 = 10;
    pub const DESC_SIZE: u16 = 1;
    pub const SET_TIMEOUT: u32 = 0x10;
    pub const SET_EVAL: u32 = 0x20;
    pub const ELEM_LIST_TABLE: u16 = 1;
    pub const ELEM_LIST_SET: u16 = 2;
    pub const ELEM_LIST_ELEMENTS: u16 = 3;
    pub const ELEM_KEY: u16 = 1;
    pub const ELEM_EXPIRATION: u16 = 5;
    pub const EXPR_NAME: u16 = 1;
    pub const EXPR_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
    pub const DATA_VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
}

/// Expressions of rules.
pub(crate) mod expression {
    pub const META_DREG: u16 = 1;
    pub const META_KEY: u16 = 2;
    pub const PAYLOAD_DREG: u16 = 1;
    pub const PAYLOAD_BASE: u16 = 2;
    pub const PAYLOAD_OFFSET: u16 = 3;
    pub const PAYLOAD_LEN: u16 = 4;
    pub const CMP_SREG: u16 = 1;
    pub const CMP_OP: u16 = 2;
    pub const CMP_DATA: u16 = 3;
    pub const BITWISE_SREG: u16 = 1;
    pub const BITWISE_DREG: u16 = 2;
    pub const BITWISE_LEN: u16 = 3;
    pub const BITWISE_MASK: u16 = 4;
    pub const BITWISE_XOR: u16 = 5;
    pub const CT_DREG: u16 = 1;
    pub const CT_KEY: u16 = 2;
    pub const LOOKUP_SET: u16 = 1;
    pub const LOOKUP_SREG: u16 = 2;
    pub const LOOKUP_FLAGS: u16 = 5;
    pub const DYNSET_SET_NAME: u16 = 1;
    pub const DYNSET_OP: u16 = 3;
    pub const DYNSET_SREG_KEY: u16 = 4;
    pub const DYNSET_TIMEOUT: u16 = 6;
    pub const QUEUE_NUM: u16 = 1;
    pub const QUEUE_TOTAL: u16 = 2;
    pub const QUEUE_FLAGS: u16 = 3;
    pub const TARGET_NAME: u16 = 1;
    pub const TARGET_REV: u16 = 2;
    pub const TARGET_INFO: u16 = 3;
    pub const LOG_GROUP: u16 = 1;
    pub const LOG_SNAPLEN: u16 = 3;
    pub const LOG_QTHRESHOLD: u16 = 4;
    pub const IMMEDIATE_DREG: u16 = 1;
    pub const IMMEDIATE_DATA: u16 = 2;
    pub const REJECT_TYPE: u16 = 1;
    pub const REJECT_ICMP_CODE: u16 = 2;
}

/// Packets that wait for a verdict.
pub(crate) mod queue {
    pub const CFG_CMD: u16 = 1;
    pub const CFG_PARAMS: u16 = 2;
    pub const CFG_QUEUE_MAXLEN: u16 = 3;
    pub const CFG_MASK: u16 = 4;
    pub const CFG_FLAGS: u16 = 5;
    pub const CMD_BIND: u8 = 1;
    pub const COPY_PACKET: u8 = 2;
    pub const FAIL_OPEN: u32 = 1;
    pub const GSO: u32 = 4;
    pub const PACKET_HDR: u16 = 1;
    pub const VERDICT_HDR: u16 = 2;
    pub const IFINDEX_INDEV: u16 = 5;
    pub const PAYLOAD: u16 = 10;
}

/// Packets that are only shown.
pub(crate) mod log {
    pub const CFG_CMD: u16 = 1;
    pub const CFG_MODE: u16 = 2;
    pub const CMD_BIND: u8 = 1;
    pub const COPY_PACKET: u8 = 2;
    pub const PAYLOAD: u16 = 9;
}

/// Entries of conntrack.
pub(crate) mod conntrack {
    pub const TUPLE_ORIG: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const PROTOINFO: u16 = 4;
    pub const NAT_SRC: u16 = 6;
    pub const TIMEOUT: u16 = 7;
    pub const NAT_DST: u16 = 13;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const IP_V4_SRC: u16 = 1;
    pub const IP_V4_DST: u16 = 2;
    pub const IP_V6_SRC: u16 = 3;
    pub const IP_V6_DST: u16 = 4;
    pub const PROTO_NUM: u16 = 1;
    pub const PROTO_SRC_PORT: u16 = 2;
    pub const PROTO_DST_PORT: u16 = 3;
    pub const PROTOINFO_TCP: u16 = 1;
    pub const TCP_STATE: u16 = 1;
    pub const NAT_V4_MINIP: u16 = 1;
    pub const NAT_V4_MAXIP: u16 = 2;
    pub const NAT_PROTO: u16 = 3;
    pub const NAT_V6_MINIP: u16 = 4;
    pub const NAT_V6_MAXIP: u16 = 5;
    pub const PROTONAT_PORT_MIN: u16 = 1;
    pub const PROTONAT_PORT_MAX: u16 = 2;
    /// Bit of `STATUS`: the destination is translated.
    pub const IPS_DST_NAT: u32 = 1 << 5;
    pub const TCP_SYN_SENT: u8 = 1;
    pub const TCP_SYN_RECV: u8 = 2;
    pub const TCP_ESTABLISHED: u8 = 3;
    pub const TCP_SYN_SENT2: u8 = 9;
}
