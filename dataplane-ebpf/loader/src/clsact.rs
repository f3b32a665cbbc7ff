//! Programs on network links as filters, for kernels before 6.6.
//!
//! Four requests of rtnetlink, written out: a queueing discipline that only holds filters, and one
//! filter for each direction. The filter's number follows from the pin directory, so instances do
//! not get in each other's way, and a new daemon's filter replaces its predecessor's at once. The
//! queueing discipline stays, as others may use it by now. Filters go with their network link, and run
//! behind the programs that are attached to it by links of the kernel's own (tcx).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// They arrive.
    In,
    /// They leave.
    Out,
}

impl Direction {
    /// What names of pins have of it.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::In => "in_",
            Self::Out => "out_",
        }
    }

    fn parent(self) -> u32 {
        match self {
            Self::In => 0xffff_fff2,
            Self::Out => 0xffff_fff3,
        }
    }
}

/// A filter of ours.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'a> {
    /// The directory of its pins, which tells instances apart.
    pub directory: &'a Path,
    /// When it runs.
    pub order: Order,
}

/// Which of our filters on one network link runs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Order {
    /// VIPs become backends, and backends VIPs.
    Vips = 0x6d7a,
    /// What then is the address of a container is gone to.
    Overlay = 0x6d7b,
    /// What goes by bridges and routes is judged.
    Policy = 0x6d7c,
}

/// Makes `program` the filter; returns whether there was none.
pub fn ensure(
    index: u32,
    direction: Direction,
    program: BorrowedFd<'_>,
    ours: Filter<'_>,
) -> io::Result<bool> {
    let socket = open()?;
    let discipline = Message::new(
        RTM_NEWQDISC,
        NLM_F_CREATE | NLM_F_EXCL,
        Tc { index, handle: 0xffff_0000, parent: 0xffff_fff1, info: 0 },
    )
    .with(TCA_KIND, b"clsact\0");
    match discipline.send(&socket) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let mut options = Vec::new();
    put(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
    put(&mut options, TCA_BPF_NAME, b"mizzen\0");
    put(&mut options, TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes());
    let filter = |flags| {
        Message::new(RTM_NEWTFILTER, NLM_F_CREATE | flags, filter(index, direction, ours))
            .with(TCA_KIND, b"bpf\0")
            .with(TCA_OPTIONS, &options)
    };
    match filter(NLM_F_EXCL).send(&socket) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
            filter(0).send(&socket).map(|()| false)
        }
        sent => sent.map(|()| true),
    }
}

/// Removes the filters of both directions.
pub fn remove(index: u32, ours: Filter<'_>) -> io::Result<()> {
    let [arriving, leaving] =
        [Direction::In, Direction::Out].map(|direction| remove_one(index, direction, ours));
    arriving.and(leaving)
}

/// Removes the filter of one direction.
pub fn remove_one(index: u32, direction: Direction, ours: Filter<'_>) -> io::Result<()> {
    let message = Message::new(RTM_DELTFILTER, 0, filter(index, direction, ours));
    message.with(TCA_KIND, b"bpf\0").send(&open()?)
}

/// Where the filter stands: all protocols, behind what others put there, by a number of our own.
fn filter(index: u32, direction: Direction, ours: Filter<'_>) -> Tc {
    let all = u32::from((libc::ETH_P_ALL as u16).to_be());
    let number = ours
        .directory
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(FNV_BASIS, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME));
    let priority = ours.order as u32;
    Tc { index, handle: number | 1, parent: direction.parent(), info: priority << 16 | all }
}

const FNV_BASIS: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;

/// The kernel's `struct tcmsg`, without its padding.
#[derive(Clone, Copy)]
struct Tc {
    index: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

/// A request, but for its length.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, tc: Tc) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        // Number of the request, and who asks: there is one request to a socket.
        bytes.extend([0; 8]);
        // The family, and padding.
        bytes.extend([0; 4]);
        for number in [tc.index, tc.handle, tc.parent, tc.info] {
            bytes.extend(number.to_ne_bytes());
        }
        Self(bytes)
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    fn send(mut self, socket: &OwnedFd) -> io::Result<()> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        let mut answer = [0_u8; 1024];
        // SAFETY: both buffers are as long as said.
        let received = unsafe {
            let sent = libc::send(socket.as_raw_fd(), self.0.as_ptr().cast(), self.0.len(), 0);
            if sent < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        let kind = u16::from_ne_bytes([answer[4], answer[5]]);
        let code = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        match (kind, code) {
            (NLMSG_ERROR, 0) => Ok(()),
            (NLMSG_ERROR, code) => Err(io::Error::from_raw_os_error(-code)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Appends an attribute; each begins at a multiple of four.
fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (2 * size_of::<u16>() + value.len()) as u16;
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn open() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointer.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
