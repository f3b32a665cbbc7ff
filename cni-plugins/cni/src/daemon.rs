//! Telling the daemon of a container of another runtime, so that policies are about it before its
//! first packet. Whatever comes of it, the container is connected: a daemon that is away finds it
//! when it is back, and one that is late does so a moment after.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// For taking the request, and for the answer.
const PATIENCE: Duration = Duration::from_millis(50);

const REQUEST: &[u8] = b"POST /v1/cni/attached HTTP/1.1\r\nHost: localhost\r\n\
    Connection: close\r\nContent-Length: 0\r\n\r\n";

/// Tells it, and waits a little until it has seen to the container's link.
pub(crate) fn tell(socket: &Path) {
    let ask = || -> std::io::Result<usize> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(REQUEST)?;
        // It answers when it is done.
        stream.read(&mut [0; 64])
    };
    // Nobody listens, or nobody answers.
    let _ = ask();
}
