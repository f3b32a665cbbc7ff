//! Sockets that connect.
//!
//! Only for containers whose sockets speak from one address of a family: that of others shows in their
//! packets. Programs of VIPs run before, so this is about the backend.

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockAddrContext;
use mizzen_ebpf_abi::{Be16, Ip16};

use crate::headers::{IPPROTO_TCP, IPPROTO_UDP};
use crate::judging::connects;
use crate::judging::maps::{POLICY_SPEAKERS, switch};

/// An `AF_INET` connect.
#[inline(always)]
pub fn connect_v4(ctx: &SockAddrContext) -> i32 {
    // SAFETY: the context is valid for the whole run of the program.
    let to = Ip16::from_v4_word(unsafe { (&raw const (*ctx.sock_addr).user_ip4).read_volatile() });
    verdict(ctx.sock_addr, to)
}

/// An `AF_INET6` connect.
#[inline(always)]
pub fn connect_v6(ctx: &SockAddrContext) -> i32 {
    // SAFETY: as above; words are read one by one, as the kernel wants them read.
    let to = unsafe {
        let words = (&raw const (*ctx.sock_addr).user_ip6).cast::<u32>();
        Ip16::from_v6_words([
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
        ])
    };
    verdict(ctx.sock_addr, to)
}

#[inline(always)]
fn verdict(context: *mut bpf_sock_addr, to: Ip16) -> i32 {
    match may_connect(context, to) {
        Some(false) => REFUSE,
        _ => ALLOW,
    }
}

#[inline(always)]
fn may_connect(context: *mut bpf_sock_addr, to: Ip16) -> Option<bool> {
    switch()?;
    // SAFETY: the helper takes the context of this program type.
    let namespace = unsafe { bpf_get_netns_cookie(context.cast()) };
    // SAFETY: plain numbers, read at once.
    let speaker = unsafe { POLICY_SPEAKERS.get(namespace) }?;
    let from = if to.is_v4() { speaker.v4 } else { speaker.v6 };
    if from == Ip16::UNSPECIFIED || to == from || is_loopback(to) {
        return None;
    }
    // SAFETY: the context is valid for the whole run of the program.
    let (protocol, port) = unsafe {
        let context = &raw const *context;
        (
            (&raw const (*context).protocol).read_volatile(),
            (&raw const (*context).user_port).read_volatile(),
        )
    };
    let protocol = match protocol {
        IPPROTO_MPTCP => IPPROTO_TCP,
        other => other as u8,
    };
    // A connect of another kind of socket sends nothing.
    if protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return None;
    }
    Some(connects(from, to, protocol, Be16::from_network(port as u16)))
}

/// Whether the caller means its own network namespace.
#[inline(always)]
fn is_loopback(to: Ip16) -> bool {
    if let Some(word) = to.v4_word() {
        let [first, ..] = word.to_ne_bytes();
        return first == 127 || word == 0;
    }
    let [a, b, c, d] = to.words();
    a | b | c == 0 && (d == 0 || d == 1_u32.to_be())
}

const IPPROTO_MPTCP: u32 = 262;
/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails with `EPERM`.
const REFUSE: i32 = 0;
