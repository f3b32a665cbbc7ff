//! The address in a socket-address context, read and written the same way for both families.
//!
//! The verifier allows whole 32-bit accesses to these fields only. Volatile ones
//! keep the compiler from merging two of them.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use aya_ebpf::programs::SockAddrContext;
use mizzen_ebpf_abi::{Be16, Ip16, VipKey};

/// Of what a backend's address may be for it to be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// IPv4 only.
    V4 = 0,
    /// IPv6 proper; the kernel takes no mapped address from `sendmsg6`.
    V6 = 1,
    /// Either; the kernel takes mapped addresses from `connect6`.
    Both = 2,
}

/// The remote end in one context.
pub trait Endpoint {
    /// Backends that a connect may be sent to.
    const CONNECTS_TO: Reach;
    /// Backends that a datagram may be sent to.
    const SENDS_TO: Reach;

    /// The kernel's view of the call.
    fn context(&self) -> &SockAddrContext;
    /// Remote address.
    fn address(&self) -> Ip16;
    /// Puts another address in its place.
    fn set_address(&self, address: Ip16);

    /// Remote port.
    #[inline(always)]
    fn port(&self) -> Be16 {
        // SAFETY: the context is valid for the whole run of the program.
        let port = unsafe { (&raw const (*self.context().sock_addr).user_port).read_volatile() };
        Be16::from_network(port as u16)
    }

    /// Puts another address and port in the place of the present ones.
    #[inline(always)]
    fn set(&self, address: Ip16, port: Be16) {
        self.set_address(address);
        let port = u32::from(port.to_network());
        // SAFETY: as in `port`; this attach type may write the field.
        unsafe { (&raw mut (*self.context().sock_addr).user_port).write_volatile(port) };
    }

    /// The VIP that this end may be.
    #[inline(always)]
    fn vip_key(&self) -> VipKey {
        VipKey {
            address: self.address(),
            port: self.port(),
            protocol: self.protocol(),
            reserved: 0,
        }
    }

    /// IP protocol number; a multipath TCP socket asks for TCP.
    #[inline(always)]
    fn protocol(&self) -> u8 {
        // SAFETY: as in `port`.
        match unsafe { (&raw const (*self.context().sock_addr).protocol).read_volatile() } {
            IPPROTO_MPTCP => IPPROTO_TCP,
            other => other as u8,
        }
    }

    /// Number of the socket that no other socket ever had since boot.
    #[inline(always)]
    fn cookie(&self) -> u64 {
        // SAFETY: the helper takes the context of this program type.
        unsafe { bpf_get_socket_cookie(self.context().as_ptr()) }
    }

    /// Number of the network namespace of the socket.
    #[inline(always)]
    fn netns(&self) -> u64 {
        // SAFETY: as in `cookie`.
        unsafe { bpf_get_netns_cookie(self.context().as_ptr()) }
    }
}

/// The end of an `AF_INET` call.
pub struct V4<'a>(pub &'a SockAddrContext);

impl Endpoint for V4<'_> {
    const CONNECTS_TO: Reach = Reach::V4;
    const SENDS_TO: Reach = Reach::V4;

    #[inline(always)]
    fn context(&self) -> &SockAddrContext {
        self.0
    }

    #[inline(always)]
    fn address(&self) -> Ip16 {
        // SAFETY: the context is valid for the whole run of the program.
        Ip16::from_v4_word(unsafe { (&raw const (*self.0.sock_addr).user_ip4).read_volatile() })
    }

    #[inline(always)]
    fn set_address(&self, address: Ip16) {
        let [_, _, _, word] = address.words();
        // SAFETY: as above; this attach type may write the field.
        unsafe { (&raw mut (*self.0.sock_addr).user_ip4).write_volatile(word) };
    }
}

/// The end of an `AF_INET6` call; its address may be an IPv4-mapped one.
pub struct V6<'a>(pub &'a SockAddrContext);

impl Endpoint for V6<'_> {
    const CONNECTS_TO: Reach = Reach::Both;
    const SENDS_TO: Reach = Reach::V6;

    #[inline(always)]
    fn context(&self) -> &SockAddrContext {
        self.0
    }

    #[inline(always)]
    fn address(&self) -> Ip16 {
        // SAFETY: the context is valid for the whole run of the program.
        unsafe {
            let words = (&raw const (*self.0.sock_addr).user_ip6).cast::<u32>();
            Ip16::from_v6_words([
                words.read_volatile(),
                words.add(1).read_volatile(),
                words.add(2).read_volatile(),
                words.add(3).read_volatile(),
            ])
        }
    }

    #[inline(always)]
    fn set_address(&self, address: Ip16) {
        let [first, second, third, fourth] = address.words();
        // SAFETY: as above; this attach type may write the field.
        unsafe {
            let words = (&raw mut (*self.0.sock_addr).user_ip6).cast::<u32>();
            words.write_volatile(first);
            words.add(1).write_volatile(second);
            words.add(2).write_volatile(third);
            words.add(3).write_volatile(fourth);
        }
    }
}

/// TCP's protocol number.
pub const IPPROTO_TCP: u8 = 6;
const IPPROTO_MPTCP: u32 = 262;
