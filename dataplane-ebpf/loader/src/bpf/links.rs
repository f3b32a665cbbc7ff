//! Programs attached to cgroups and network links, and taken off.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{AttachType, bpf, new_fd, object_info, raw};

/// Attaches a program to a cgroup beside whatever is attached there.
pub fn link_create(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    link_create_at(program, raw(cgroup), attach_type)
}

/// Attaches a program to the network link with this number, behind whatever is attached there.
pub fn link_create_on(
    program: BorrowedFd<'_>,
    index: u32,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    link_create_at(program, index, attach_type)
}

/// Where a program is put among those of a network link.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Before all others.
    First,
    /// In the place of this one.
    Of(BorrowedFd<'a>),
}

/// Attaches a program to what arrives by the network link with this number, for as long as the network link lives
/// (Linux 6.6).
pub fn attach_first(program: BorrowedFd<'_>, index: u32, place: Place<'_>) -> io::Result<()> {
    const REPLACE: u32 = 1 << 2;
    const BEFORE: u32 = 1 << 3;
    let (flags, replaced) = match place {
        Place::First => (BEFORE, 0),
        Place::Of(other) => (REPLACE, raw(other)),
    };
    let mut attr = AttachAttr::new(program, index, flags, replaced);
    // SAFETY: the structure is that of the command.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Takes off what [`attach_first`] attached.
pub fn detach_first(program: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let mut attr = AttachAttr::new(program, index, 0, 0);
    // SAFETY: the structure is that of the command.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// Puts another program behind a link; no call falls between the two.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let mut attr = Attr { link: raw(link), program: raw(program), flags: 0, old_program: 0 };
    // SAFETY: `Attr` is the kernel's structure for this command.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(drop)
}

/// Ends a link at once, whoever else still holds it.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = raw(link);
    // SAFETY: the command reads one descriptor.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(drop)
}

/// Number of the cgroup that a link is attached to; zero if the cgroup is gone.
pub fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(u64::from_ne_bytes(attached_to(link)?))
}

/// Number of the network link that a link is attached to; zero if it is gone.
pub fn link_index(link: BorrowedFd<'_>) -> io::Result<u32> {
    let [a, b, c, d, ..] = attached_to(link)?;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// The first bytes of what is said of links of this kind: a number of 64 bits for cgroups, of 32 for network links.
fn attached_to(link: BorrowedFd<'_>) -> io::Result<[u8; 8]> {
    #[derive(Default)]
    #[repr(C, align(8))]
    struct Info {
        kind: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        place: [u8; 8],
        rest: [u32; 2],
    }
    let mut info = Info::default();
    // SAFETY: `Info` is plain numbers and as long as said; the kernel fills in what fits.
    unsafe { object_info(link, &mut info) }?;
    Ok(info.place)
}

fn link_create_at(
    program: BorrowedFd<'_>,
    target: u32,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let attach_type = attach_type as u32;
    let mut attr = Attr { program: raw(program), target, attach_type, flags: 0 };
    // SAFETY: `Attr` is the kernel's structure for this command.
    unsafe { new_fd(LINK_CREATE, &mut attr) }
}

#[repr(C)]
struct AttachAttr {
    index: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

impl AttachAttr {
    fn new(program: BorrowedFd<'_>, index: u32, flags: u32, replaced: u32) -> Self {
        let attach_type = AttachType::TcxIngress as u32;
        Self {
            index,
            program: raw(program),
            attach_type,
            flags,
            replaced,
            relative: 0,
            revision: 0,
        }
    }
}

const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;
