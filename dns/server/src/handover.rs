//! Sockets that outlive the daemon: a restart loses no question that waits in one.
//!
//! A datagram is lost with the last descriptor of its socket, and of a group that shares
//! a port each socket has datagrams of its own. So somebody keeps descriptors of the very
//! same sockets while the daemon is away:
//!
//! * systemd, which passes them to the next start ([`passed`]); the daemon stores
//!   [`crate::Sockets::descriptors`] there under [`FD_NAME`];
//! * elsewhere a [`Holder`], a process that does nothing else and outlives `kill -9` of
//!   the daemon. It listens on a unix socket, where the daemon leaves its descriptors
//!   ([`keep`]) and its successor finds them ([`take`]).

mod holder;

pub use holder::{Holder, end, keep, take};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// Under which systemd keeps the sockets.
pub const FD_NAME: &str = "mizzen-dns";
/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST: RawFd = 3;

/// The descriptors among those passed by systemd whose name is [`FD_NAME`].
///
/// * `variable` — looks up a variable of the environment: `LISTEN_PID`, `LISTEN_FDS` and
///   `LISTEN_FDNAMES`.
///
/// # Errors
///
/// That of the kernel, if a descriptor is not what systemd says. The numbers of those
/// that were taken are free afterwards.
pub fn passed(variable: impl Fn(&str) -> Option<String>) -> io::Result<Vec<OwnedFd>> {
    let number = |name| variable(name).and_then(|text| text.parse::<i32>().ok());
    let own = getpid();
    if number("LISTEN_PID") != Some(own.as_raw_nonzero().get()) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let ours = numbers(number("LISTEN_FDS").unwrap_or(0), &names);
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    // A number is no descriptor that anybody owns; a copy of what it stands for is.
    let ourselves = pidfd_open(own, PidfdFlags::empty())?;
    let mut descriptors = Vec::with_capacity(ours.len());
    for number in ours {
        descriptors.push(pidfd_getfd(&ourselves, number, PidfdGetfdFlags::empty())?);
        nix::unistd::close(number)?;
    }
    Ok(descriptors)
}

/// The numbers of the `count` passed descriptors that have our name.
fn numbers(count: i32, names: &str) -> Vec<RawFd> {
    let numbers = FIRST..FIRST.saturating_add(count.max(0));
    numbers.zip(names.split(':')).filter(|(_, name)| *name == FD_NAME).map(|(n, _)| n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_of_our_name_are_taken() {
        #[rustfmt::skip]
        let table: &[(i32, &str, &[RawFd])] = &[
            (0, "", &[]),
            (0, "mizzen-dns", &[]),
            (-1, "mizzen-dns", &[]),
            (1, "mizzen-dns", &[3]),
            (3, "http:mizzen-dns:mizzen-dns", &[4, 5]),
            (1, "http:mizzen-dns", &[]),
            (2, "mizzen-dns", &[3]),
        ];
        for (count, names, want) in table {
            assert_eq!(numbers(*count, names), *want, "{count} {names}");
        }
    }

    #[test]
    fn what_is_passed_to_somebody_else_is_left_alone() {
        let environment = |name: &str| match name {
            "LISTEN_PID" => Some("1".to_owned()),
            "LISTEN_FDS" => Some("1".to_owned()),
            _ => Some(FD_NAME.to_owned()),
        };
        assert!(passed(environment).expect("nothing is looked at").is_empty());
        assert!(passed(|_| None).expect("nothing is passed").is_empty());
    }
}
