//! What plugins say to the daemon: that a container of another runtime is there, so that policies
//! are about it before its first packet, and that all addresses of the node are leased.
//!
//! Nothing depends on an answer: a daemon that is away finds the container when it is back, and
//! without further addresses ADD says that there are none.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// For a look at the container's link.
const JUDGED_WITHIN: Duration = Duration::from_millis(50);

/// For another block of addresses from the leading master. Runtimes wait for minutes.
const GIVEN_WITHIN: Duration = Duration::from_secs(5);

/// Tells it of a container, and waits a little until it has seen to its link.
pub(crate) fn tell(socket: &Path) {
    // Nobody listens, or nobody answers.
    let _ = post(socket, "/v1/cni/attached", JUDGED_WITHIN);
}

/// Asks it for more addresses, and says whether the node was given some.
pub(crate) fn gets_addresses(socket: &Path) -> bool {
    post(socket, "/v1/cni/addresses", GIVEN_WITHIN).is_ok_and(|status| status.starts_with("204"))
}

/// The answer's status, with what may stand behind it.
fn post(socket: &Path, path: &str, patience: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_read_timeout(Some(patience))?;
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    Ok(answer.strip_prefix("HTTP/1.1 ").unwrap_or_default().to_owned())
}
