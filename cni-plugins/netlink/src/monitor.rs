//! Waiting for links and their addresses to come, go or change.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols};

use crate::error::NetlinkError;

/// Tells that something happened to a link of one network namespace, or to its addresses.
pub struct LinkMonitor {
    socket: Socket,
}

impl LinkMonitor {
    /// Listens from now on, in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let listen = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocols::NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            for group in [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR] {
                socket.add_membership(group)?;
            }
            Ok(socket)
        };
        listen().map(|socket| Self { socket }).map_err(|source| NetlinkError::Open { source })
    }

    /// Blocks until something has happened since the last call.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the socket broke.
    pub fn wait(&mut self) -> Result<(), NetlinkError> {
        let mut buffer = Vec::with_capacity(RECEIVE_BYTES);
        match self.socket.recv(&mut buffer, 0) {
            Ok(_) => Ok(()),
            // More happened than the socket had room for; the caller looks at all links anyway.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(source) => Err(NetlinkError::Open { source }),
        }
    }
}

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV6_IFADDR: u32 = 9;
/// What was said does not matter, so it may be cut.
const RECEIVE_BYTES: usize = 64;
