//! A netlink socket and the three shapes of a conversation on it.

use std::io;
use std::path::Path;

use netlink_sys::{Socket, SocketAddr, protocols};

use crate::error::{NetlinkError, Refusal};
use crate::netns::in_namespace;
use crate::wire::{Answer, Answers, Attributes, HEADER, Message, text, u32_at};

/// Larger than any datagram that the kernel makes for a dump (32 KiB).
const RECEIVE_BYTES: usize = 64 * 1024;

/// How often a dump is started again when the kernel says that the set changed meanwhile.
const DUMP_ATTEMPTS: usize = 16;

const NLMSGERR_ATTR_MSG: u16 = 1;

/// A conversation with rtnetlink in one network namespace: links, addresses, routes.
///
/// It is synchronous: every call returns when the kernel has answered, usually
/// within tens of microseconds.
pub struct Netlink {
    pub(crate) connection: Connection,
}

impl Netlink {
    /// Opens a conversation in the network namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let connection = Connection::open(protocols::NETLINK_ROUTE)?;
        Ok(Self { connection })
    }

    /// Opens a conversation in the namespace at `namespace`, such as
    /// `/proc/4711/ns/net`. The calling thread stays where it is.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Namespace`] if there is no such namespace or we may not
    /// enter it; [`NetlinkError::Open`] if the kernel gives no socket.
    pub fn open_in(namespace: &Path) -> Result<Self, NetlinkError> {
        in_namespace(namespace, Self::open)?
    }
}

/// A socket of one netlink protocol.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let connect = || -> io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // Kernels before 4.12 have no explanations; an error number alone will do there.
            let _ = socket.set_ext_ack(true);
            let _ = socket.set_cap_ack(true);
            // Lets the kernel filter dumps; before 4.20 we filter what comes.
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(socket)
        };
        let socket = connect().map_err(|source| NetlinkError::Open { source })?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(RECEIVE_BYTES) })
    }

    /// Sends a change and waits for the kernel's word on it.
    pub(crate) fn change(&mut self, message: &Message) -> Result<(), Refusal> {
        let acknowledged = message.clone().with_flags(libc::NLM_F_ACK);
        let sequence = self.send(&acknowledged)?;
        self.receive(sequence, |answer| match verdict(answer) {
            Some(result) => Step::Done(result),
            None => Step::More,
        })?
    }

    /// Asks for one object.
    pub(crate) fn get<T>(
        &mut self,
        message: &Message,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let sequence = self.send(message)?;
        self.receive(sequence, |answer| match verdict(answer) {
            Some(Err(refusal)) => Step::Done(Err(refusal)),
            Some(Ok(())) => Step::Done(Ok(None)),
            None => Step::Done(Ok(parse(answer.payload))),
        })?
    }

    /// Asks for all objects. What `parse` does not understand is left out.
    ///
    /// When the set changed under the dump, the kernel says so and the dump is
    /// started again; the last attempt is returned even so, because on a machine
    /// that never rests an almost consistent view is better than none.
    pub(crate) fn dump<T>(
        &mut self,
        message: &Message,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            if let Dump::Complete = self.dump_once(message, &parse, &mut found)? {
                break;
            }
        }
        Ok(found)
    }

    /// Sends messages that the kernel applies all or none (netfilter).
    ///
    /// The first message opens the batch and the last closes it; the one before the
    /// last is acknowledged.
    pub(crate) fn batch(&mut self, messages: &[Message]) -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let mut acknowledged = first;
        for (at, message) in messages.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            if at + 2 == messages.len() {
                acknowledged = self.sequence;
                let message = message.clone().with_flags(libc::NLM_F_ACK);
                bytes.extend_from_slice(&message.finish(self.sequence));
            } else {
                bytes.extend_from_slice(&message.finish(self.sequence));
            }
        }
        self.socket.send(&bytes, 0)?;
        // Refusals come in order, one for each message that was refused; the first is
        // the reason, but the rest has to be read off the socket. A batch that was
        // refused as a whole is answered on its first message only.
        let mut outcome = Ok(());
        self.receive_from(first, |answer| {
            let Some(result) = verdict(answer) else { return Step::More };
            if outcome.is_ok() {
                outcome = result;
            }
            let last = answer.sequence == acknowledged || answer.sequence == first;
            if last { Step::Done(()) } else { Step::More }
        })?;
        outcome
    }

    fn dump_once<T>(
        &mut self,
        message: &Message,
        parse: &impl Fn(&[u8]) -> Option<T>,
        found: &mut Vec<T>,
    ) -> Result<Dump, Refusal> {
        let mut state = Dump::Complete;
        let request = message.clone().with_flags(libc::NLM_F_DUMP);
        let sequence = self.send(&request)?;
        self.receive(sequence, |answer| {
            if i32::from(answer.flags) & libc::NLM_F_DUMP_INTR != 0 {
                state = Dump::Interrupted;
            }
            match verdict(answer) {
                Some(Ok(())) => Step::Done(Ok(())),
                Some(Err(refusal)) if refusal.is(libc::EINTR) => {
                    state = Dump::Interrupted;
                    Step::Done(Ok(()))
                }
                Some(Err(refusal)) => Step::Done(Err(refusal)),
                None => {
                    found.extend(parse(answer.payload));
                    Step::More
                }
            }
        })??;
        Ok(state)
    }

    fn send(&mut self, message: &Message) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&message.finish(self.sequence), 0)?;
        Ok(self.sequence)
    }

    /// Hands the answers to `sequence` to `step` until it is done.
    fn receive<T>(
        &mut self,
        sequence: u32,
        mut step: impl FnMut(&Answer) -> Step<T>,
    ) -> io::Result<T> {
        self.receive_from(sequence, |answer| {
            if answer.sequence == sequence { step(answer) } else { Step::More }
        })
    }

    /// Hands the answers to requests since `first` to `step` until it is done; what
    /// an earlier, abandoned request left on the socket is skipped.
    fn receive_from<T>(
        &mut self,
        first: u32,
        mut step: impl FnMut(&Answer) -> Step<T>,
    ) -> io::Result<T> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for answer in Answers(&self.buffer) {
                if answer.sequence.wrapping_sub(first) > u32::MAX / 2 {
                    continue;
                }
                if let Step::Done(value) = step(&answer) {
                    return Ok(value);
                }
            }
        }
    }
}

enum Step<T> {
    More,
    Done(T),
}

enum Dump {
    Complete,
    Interrupted,
}

/// What the kernel says about a request as a whole; `None` is a part of the answer.
fn verdict(answer: &Answer) -> Option<Result<(), Refusal>> {
    match i32::from(answer.kind) {
        libc::NLMSG_ERROR => Some(acknowledgement(answer)),
        // The end of a dump carries an error number as well, if the kernel has one.
        libc::NLMSG_DONE => Some(outcome(answer.payload, None)),
        _ => None,
    }
}

fn acknowledgement(answer: &Answer) -> Result<(), Refusal> {
    let flags = i32::from(answer.flags);
    if flags & libc::NLM_F_ACK_TLVS == 0 {
        return outcome(answer.payload, None);
    }
    let echoed = if flags & libc::NLM_F_CAPPED == 0 {
        u32_at(answer.payload, 4).map_or(HEADER, |length| length as usize)
    } else {
        HEADER
    };
    let attributes = Attributes::after(answer.payload, 4 + echoed.next_multiple_of(4));
    outcome(answer.payload, attributes.find(NLMSGERR_ATTR_MSG).map(text))
}

fn outcome(payload: &[u8], detail: Option<String>) -> Result<(), Refusal> {
    match u32_at(payload, 0).map(u32::cast_signed) {
        None | Some(0) => Ok(()),
        Some(number) => {
            Err(Refusal { source: io::Error::from_raw_os_error(number.saturating_neg()), detail })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: i32, payload: &[u8]) -> Answer<'_> {
        Answer { kind: libc::NLMSG_ERROR as u16, flags: flags as u16, sequence: 1, payload }
    }

    #[test]
    fn a_refusal_carries_number_and_explanation() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        let said = Message::new(0, 0, &[]).attr_str(NLMSGERR_ATTR_MSG, "no such mode").finish(0);
        payload.extend_from_slice(&said[HEADER..]);

        let flags = libc::NLM_F_ACK_TLVS | libc::NLM_F_CAPPED;
        let refusal = acknowledgement(&answer(flags, &payload)).unwrap_err();
        assert!(refusal.is(libc::EINVAL));
        assert_eq!(refusal.detail.as_deref(), Some("no such mode"));

        let error = refusal.to("set", "link `x`");
        assert_eq!(error.to_string(), "cannot set link `x` (no such mode)");
    }

    #[test]
    fn a_truncated_refusal_is_no_panic() {
        for length in 0..8 {
            let payload = vec![0xff; length];
            let _ = acknowledgement(&answer(libc::NLM_F_ACK_TLVS, &payload));
        }
    }
}
