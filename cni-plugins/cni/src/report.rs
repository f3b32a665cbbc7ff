//! Telling the daemon of a call that is over, so that it can count it. No system call of this
//! waits for anybody: a daemon that is away, or that has more to read than it can, misses it.

use std::io::Result;
use std::time::Instant;

use mizzen_cni_core::report::{Report, socket};
use mizzen_cni_core::request::Request;
use rustix::io::write;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::Plugin;

/// Tells the daemon beside whose leases the network is, if there is one.
pub(crate) fn report(plugin: Plugin, request: &Request, code: u32, began: Instant) {
    let Some(path) = socket(&request.config) else { return };
    let verb = request.command.verb();
    let report = Report { plugin: plugin.name(), verb, code, took: began.elapsed() };
    let tell = || -> Result<usize> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&stream, &SocketAddrUnix::new(&path)?)?;
        Ok(write(&stream, report.to_string().as_bytes())?)
    };
    // Nobody listens, or nobody has room.
    let _ = tell();
}
