//! One listening socket, TCP or unix.

use super::{Address, BindError, Part};
use crate::origin::Origin;
use std::fs::Permissions;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Only the owner may connect.
const MODE: u32 = 0o600;

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    address: Address,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

impl Socket {
    /// Binds; a unix socket that nobody listens on any more is replaced.
    pub async fn bind(part: Part, address: Address) -> Result<Self, BindError> {
        let bound = match &address {
            Address::Tcp(at) => match TcpListener::bind(at).await {
                Ok(listener) => {
                    listener.local_addr().map(|at| (Address::Tcp(at), Listener::Tcp(listener)))
                }
                Err(error) => Err(error),
            },
            Address::Unix(path) => {
                if is_answered(path).await {
                    return Err(BindError::Taken { part, address });
                }
                bind_unix(path).map(|(listener, file)| {
                    (address.clone(), Listener::Unix { listener, _file: file })
                })
            }
        };
        match bound {
            Ok((address, listener)) => Ok(Self { address, listener }),
            Err(source) => Err(BindError::Refused { part, address, source }),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Waits for a client.
    pub async fn accept(&self) -> io::Result<Stream> {
        match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream, origin(peer.ip())))
            }
            Listener::Unix { listener, .. } => {
                listener.accept().await.map(|(stream, _)| Stream::Unix(stream))
            }
        }
    }
}

fn origin(peer: IpAddr) -> Origin {
    match peer.to_canonical().is_loopback() {
        true => Origin::Loopback,
        false => Origin::Network,
    }
}

/// Whether somebody listens; a full queue is somebody's, too.
async fn is_answered(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Binds under another name and renames, so that nobody ever sees the socket
/// with more than its mode, and a stale one is replaced in one step.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    if path.symlink_metadata().is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket exists",
        ));
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    if let Err(error) = std::fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&temporary)?;
    let file = SocketFile(temporary.clone());
    std::fs::set_permissions(&temporary, Permissions::from_mode(MODE))?;
    std::fs::rename(&temporary, path)?;
    std::mem::forget(file);
    Ok((listener, SocketFile(path.to_owned())))
}

/// Removes the file of a socket with the socket.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever comes next replaces what could not be removed.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An accepted connection.
pub enum Stream {
    Tcp(TcpStream, Origin),
    Unix(UnixStream),
}

impl Stream {
    /// Where its client is.
    pub fn origin(&self) -> Origin {
        match self {
            Self::Tcp(_, origin) => *origin,
            Self::Unix(_) => Origin::Socket,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream, _) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_the_machine_itself() {
        #[rustfmt::skip]
        let table = [
            ("127.0.0.1",          Origin::Loopback),
            ("127.8.9.1",          Origin::Loopback),
            ("::1",                Origin::Loopback),
            ("::ffff:127.0.0.1",   Origin::Loopback),
            ("192.0.2.1",          Origin::Network),
            ("::ffff:192.0.2.1",   Origin::Network),
            ("fe80::1",            Origin::Network),
            ("0.0.0.0",            Origin::Network),
        ];
        for (peer, want) in table {
            assert_eq!(origin(peer.parse().unwrap()), want, "{peer}");
        }
    }
}
