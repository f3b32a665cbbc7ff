//! A netlink socket and the three shapes of a conversation on it.

use std::io;
use std::path::Path;

use netlink_packet_core::{
    DecodeError, DoneBuffer, Emitable, ErrorBuffer, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS,
    NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    NlasIterator, Parseable, parse_string,
};
use netlink_sys::{Socket, SocketAddr, protocols};

use crate::error::{NetlinkError, Refusal};
use crate::netns::in_namespace;

/// Larger than any datagram that the kernel makes for a dump (32 KiB).
const RECEIVE_BYTES: usize = 64 * 1024;

/// The longest message that we send. The length of an attribute is a 16 bit number,
/// and the library does not look whether it fits; in a message that is no longer than
/// this, every one does.
const LONGEST_MESSAGE: usize = u16::MAX as usize;

/// How often a dump is started again when the kernel says that the set changed meanwhile.
const DUMP_ATTEMPTS: usize = 16;

/// Changes that travel together. If all of them are refused, the answers must fit the socket.
const MANY: usize = 64;

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

/// A request with its flags; NLM_F_REQUEST is added.
pub(crate) fn request<I>(message: I, flags: u16) -> NetlinkMessage<I> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message))
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
    pub(crate) fn change<I: NetlinkSerializable>(
        &mut self,
        message: I,
        flags: u16,
    ) -> Result<(), Refusal> {
        let sequence = self.send(&mut request(message, flags | NLM_F_ACK))?;
        self.receive(sequence, |answer| match verdict(answer) {
            Some(result) => Step::Done(result),
            None => Step::More,
        })?
    }

    /// As [`Connection::change`], and returns what the kernel says of the object afterwards, if it
    /// does: of links, since Linux 6.2.
    pub(crate) fn change_echoed<I: NetlinkSerializable, T>(
        &mut self,
        message: I,
        flags: u16,
        read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, Refusal> {
        let sequence = self.send(&mut request(message, flags | NLM_F_ACK | NLM_F_ECHO))?;
        let mut echo = None;
        self.receive(sequence, |answer| match verdict(answer) {
            Some(result) => Step::Done(result),
            None => {
                echo = read(answer.payload()).ok();
                Step::More
            }
        })??;
        Ok(echo)
    }

    /// Sends changes that stand for themselves, many to a datagram, and returns those that the
    /// kernel refused by their place.
    pub(crate) fn change_many<I: NetlinkSerializable>(
        &mut self,
        mut requests: Vec<NetlinkMessage<I>>,
    ) -> io::Result<Vec<(usize, Refusal)>> {
        let mut refused = Vec::new();
        for (part, requests) in requests.chunks_mut(MANY).enumerate() {
            let mut bytes = Vec::new();
            let first = self.sequence.wrapping_add(1);
            let mut last = first;
            let count = requests.len();
            for (at, request) in requests.iter_mut().enumerate() {
                // Refusals come anyway; consent only of the last one, so that there is an end.
                if at + 1 == count {
                    request.header.flags |= NLM_F_ACK;
                }
                last = self.write(request, &mut bytes)?;
            }
            self.socket.send(&bytes, 0)?;
            self.receive_from(first, |answer| {
                let Some(result) = verdict(answer) else { return Step::More };
                let number = answer.sequence_number();
                if let Err(refusal) = result {
                    let at = number.wrapping_sub(first) as usize;
                    refused.push((part * MANY + at, refusal));
                }
                if number == last { Step::Done(()) } else { Step::More }
            })?;
        }
        Ok(refused)
    }

    /// Asks for one object.
    pub(crate) fn get<I: NetlinkSerializable, T>(
        &mut self,
        message: I,
        read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, Refusal> {
        let sequence = self.send(&mut request(message, 0))?;
        self.receive(sequence, |answer| match verdict(answer) {
            Some(result) => Step::Done(result.map(|()| None)),
            None => Step::Done(read(answer.payload()).map(Some).map_err(Refusal::from)),
        })?
    }

    /// Asks for all objects. What `read` refuses is left out.
    ///
    /// When the set changed under the dump, the kernel says so and the dump is
    /// started again; the last attempt is returned even so, because on a machine
    /// that never rests an almost consistent view is better than none.
    pub(crate) fn dump<I: NetlinkSerializable, T>(
        &mut self,
        message: I,
        read: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Refusal> {
        let mut request = request(message, NLM_F_DUMP);
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            if let Dump::Complete = self.dump_once(&mut request, &read, &mut found)? {
                break;
            }
        }
        Ok(found)
    }

    /// Sends requests that the kernel carries out all or none (netfilter).
    ///
    /// The first opens the batch and the last closes it; the one before the last is
    /// acknowledged.
    pub(crate) fn batch<I: NetlinkSerializable>(
        &mut self,
        mut requests: Vec<NetlinkMessage<I>>,
    ) -> Result<(), Refusal> {
        let mut bytes = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let mut acknowledged = first;
        let count = requests.len();
        for (at, request) in requests.iter_mut().enumerate() {
            if at + 2 == count {
                request.header.flags |= NLM_F_ACK;
                acknowledged = self.write(request, &mut bytes)?;
            } else {
                self.write(request, &mut bytes)?;
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
            let number = answer.sequence_number();
            if number == acknowledged || number == first { Step::Done(()) } else { Step::More }
        })?;
        outcome
    }

    fn dump_once<I: NetlinkSerializable, T>(
        &mut self,
        request: &mut NetlinkMessage<I>,
        read: &impl Fn(&[u8]) -> Result<T, DecodeError>,
        found: &mut Vec<T>,
    ) -> Result<Dump, Refusal> {
        let mut state = Dump::Complete;
        let sequence = self.send(request)?;
        self.receive(sequence, |answer| {
            if answer.flags() & NLM_F_DUMP_INTR != 0 {
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
                    let left_out = |error: &DecodeError| {
                        tracing::debug!(kind = answer.message_type(), %error, "message left out");
                    };
                    found.extend(read(answer.payload()).inspect_err(left_out));
                    Step::More
                }
            }
        })??;
        Ok(state)
    }

    /// Sends one request and returns its number.
    fn send<I: NetlinkSerializable>(&mut self, request: &mut NetlinkMessage<I>) -> io::Result<u32> {
        let mut bytes = Vec::new();
        let sequence = self.write(request, &mut bytes)?;
        self.socket.send(&bytes, 0)?;
        Ok(sequence)
    }

    /// Gives a request its number and length and adds it to `bytes`.
    fn write<I: NetlinkSerializable>(
        &mut self,
        request: &mut NetlinkMessage<I>,
        bytes: &mut Vec<u8>,
    ) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        request.header.sequence_number = self.sequence;
        request.finalize();
        let length = request.buffer_len();
        if length > LONGEST_MESSAGE {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let start = bytes.len();
        bytes.resize(start + length, 0);
        request.serialize(&mut bytes[start..]);
        Ok(self.sequence)
    }

    /// Hands the answers to `sequence` to `step` until it is done.
    fn receive<T>(
        &mut self,
        sequence: u32,
        mut step: impl FnMut(&Answer) -> Step<T>,
    ) -> io::Result<T> {
        self.receive_from(sequence, |answer| {
            if answer.sequence_number() == sequence { step(answer) } else { Step::More }
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
                if answer.sequence_number().wrapping_sub(first) > u32::MAX / 2 {
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

/// One message of an answer; its length has been checked.
type Answer<'a> = NetlinkBuffer<&'a [u8]>;

/// The messages of a datagram; ends at the first that claims more than is there.
struct Answers<'a>(&'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let answer = NetlinkBuffer::new_checked(self.0).ok()?;
        let length = (answer.length() as usize).next_multiple_of(4);
        self.0 = self.0.get(length..).unwrap_or_default();
        Some(answer)
    }
}

/// What the kernel says about a request as a whole; `None` is a part of the answer.
fn verdict(answer: &Answer) -> Option<Result<(), Refusal>> {
    match answer.message_type() {
        NLMSG_ERROR => Some(acknowledgement(answer)),
        NLMSG_DONE => Some(end_of_dump(answer)),
        _ => None,
    }
}

fn acknowledgement(answer: &Answer) -> Result<(), Refusal> {
    let error = ErrorMessage::parse(&ErrorBuffer::new_checked(&answer.payload())?)?;
    if error.code.is_none() {
        return Ok(());
    }
    // The kernel echoes the header of the request alone, as we asked it to.
    let echoed = NetlinkHeader::default().buffer_len();
    let capped = answer.flags() & NLM_F_CAPPED != 0;
    let attributes = error.header.get(echoed..).filter(|_| capped).unwrap_or_default();
    Err(Refusal { source: error.to_io(), detail: explanation(answer, attributes) })
}

fn end_of_dump(answer: &Answer) -> Result<(), Refusal> {
    // Old kernels end a dump without a word.
    let Ok(done) = DoneBuffer::new_checked(answer.payload()) else { return Ok(()) };
    if done.code() == 0 {
        return Ok(());
    }
    let source = io::Error::from_raw_os_error(done.code().saturating_neg());
    Err(Refusal { source, detail: explanation(answer, done.extended_ack()) })
}

/// What the kernel says about a refusal in words, if it does.
fn explanation(answer: &Answer, attributes: &[u8]) -> Option<String> {
    if answer.flags() & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let said = attributes.find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    parse_string(said.value()).ok()
}

#[cfg(test)]
mod tests;
