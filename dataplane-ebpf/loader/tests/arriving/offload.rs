//! Checksum and segmentation offload of links.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use mizzen_tests_support::namespace::Namespace;

/// Who works out checksums and cuts segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offload {
    /// The link.
    On,
    /// The sender's kernel.
    Off,
}

/// Switches checksum and segmentation offload of a link on or off.
pub fn set_offload(namespace: &Namespace, link: &str, offload: Offload) {
    const SET: [u32; 4] = [0x17, 0x1f, 0x24, 0x2c];
    let on = u32::from(offload == Offload::On);
    // The checksums first when on, last when off: segments need them.
    let mut commands = SET;
    if offload == Offload::Off {
        commands.reverse();
    }
    namespace.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for command in commands {
            let mut value = [command, on];
            // SAFETY: all zeroes is a valid `ifreq`.
            let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
            for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
            // SAFETY: the request reads an `ifreq` with the address of two numbers.
            let result =
                unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw const request) };
            assert_eq!(result, 0, "{command:x} of {link}: {}", io::Error::last_os_error());
        }
    });
}
