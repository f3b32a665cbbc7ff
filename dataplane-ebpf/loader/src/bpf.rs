//! The bpf(2) commands that aya has no call for, and nothing else.
//!
//! Links made, updated and ended, elements in batches, and map access by plain bytes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Attach types of `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum AttachType {
    SockOps = 3,
    Connect4 = 10,
    Connect6 = 11,
    Sendmsg4 = 14,
    Sendmsg6 = 15,
    Recvmsg4 = 19,
    Recvmsg6 = 20,
    Getpeername4 = 29,
    Getpeername6 = 30,
    SockRelease = 34,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// The shape of a map as the kernel has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MapShape {
    kind: u32,
    id: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
}

const MAP_CREATE: u32 = 0;
const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const PROG_LOAD: u32 = 5;
const OBJ_PIN: u32 = 6;
const OBJ_GET: u32 = 7;
const PROG_ATTACH: u32 = 8;
const PROG_DETACH: u32 = 9;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const PROG_QUERY: u32 = 16;
const MAP_LOOKUP_BATCH: u32 = 24;
const MAP_UPDATE_BATCH: u32 = 26;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_LRU_HASH: u32 = 9;

/// Makes a one-element array map, only to learn whether the kernel lets us.
pub fn try_map_create() -> io::Result<()> {
    try_map(MAP_TYPE_ARRAY, 1)
}

/// The same with a map that pushes out what is oldest.
pub fn try_lru_map_create() -> io::Result<()> {
    // So many that each CPU's list has some.
    try_map(MAP_TYPE_LRU_HASH, 1024)
}

fn try_map(map_type: u32, max_entries: u32) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let mut attr = Attr { map_type, key_size: 4, value_size: 4, max_entries };
    // SAFETY: `Attr` is the beginning of the kernel's structure for this command.
    unsafe { new_fd(MAP_CREATE, &mut attr) }.map(drop)
}

/// Types of programs of `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramType {
    SchedCls = 3,
    CgroupSock = 9,
    SockOps = 13,
    CgroupSockAddr = 18,
}

/// Loads a program that does nothing, only to learn whether the kernel knows its kind.
pub fn try_program(kind: ProgramType, attach_type: Option<AttachType>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        index: u32,
        attach_type: u32,
    }
    // r0 = 1; exit
    const INSTRUCTIONS: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let mut attr = Attr {
        kind: kind as u32,
        count: INSTRUCTIONS.len() as u32,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        index: 0,
        attach_type: attach_type.map_or(0, |attach_type| attach_type as u32),
    };
    // SAFETY: `Attr` is the beginning of the kernel's structure for this command; the
    // instructions and the license outlive the call.
    unsafe { new_fd(PROG_LOAD, &mut attr) }.map(drop)
}

/// Asks for the programs on a network link that are attached in this way, only to learn
/// whether the kernel knows it.
pub fn try_query(index: u32, attach_type: AttachType) -> io::Result<()> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        target: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        program_attach_flags: u64,
        links: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut attr = Attr { target: index, attach_type: attach_type as u32, ..Attr::default() };
    // SAFETY: `Attr` is the kernel's structure for this command; no buffer is named.
    unsafe { bpf(PROG_QUERY, &mut attr) }.map(drop)
}

/// Opens a pinned object.
pub fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the structure is that of the command and `path` outlives the call.
    unsafe { new_fd(OBJ_GET, &mut attr) }
}

/// Pins an object.
pub fn obj_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = PinAttr { path: path.as_ptr() as u64, fd: raw(object), flags: 0 };
    // SAFETY: the structure is that of the command and `path` outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(drop)
}

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
    #[derive(Default)]
    #[repr(C)]
    struct Info {
        kind: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        cgroup_id: u64,
        attach_type: u32,
        end: u32,
    }
    let mut info = Info::default();
    // SAFETY: `Info` is plain numbers and as long as said; the kernel fills in what fits.
    unsafe { object_info(link, &mut info) }?;
    Ok(info.cgroup_id)
}

/// Number of the network link that a link is attached to; zero if it is gone.
pub fn link_index(link: BorrowedFd<'_>) -> io::Result<u32> {
    #[derive(Default)]
    #[repr(C)]
    struct Info {
        kind: u32,
        id: u32,
        program_id: u32,
        padding: u32,
        index: u32,
        attach_type: u32,
    }
    let mut info = Info::default();
    // SAFETY: `Info` is plain numbers and as long as said; the kernel fills in what fits.
    unsafe { object_info(link, &mut info) }?;
    Ok(info.index)
}

/// Sizes of a map.
pub fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let mut shape = MapShape::default();
    // SAFETY: `MapShape` is plain numbers, the first five of the kernel's structure.
    unsafe { object_info(map, &mut shape) }?;
    Ok(shape)
}

/// Reads one element; false if there is none.
///
/// # Safety
///
/// `key` and `value` are as long as the map's keys and values.
pub unsafe fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key, value.as_mut_ptr() as u64);
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { found(bpf(MAP_LOOKUP_ELEM, &mut attr)) }
}

/// Writes one element, whether or not it exists.
///
/// # Safety
///
/// As for [`lookup`].
pub unsafe fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr::new(map, key, value.as_ptr() as u64);
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Removes one element; false if there was none.
///
/// # Safety
///
/// `key` is as long as the map's keys.
pub unsafe fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key, 0);
    // SAFETY: the structure is that of the command; the buffer is long enough (caller).
    unsafe { found(bpf(MAP_DELETE_ELEM, &mut attr)) }
}

/// Writes `count` elements.
///
/// # Safety
///
/// `keys` and `values` hold `count` keys and values of the map's sizes.
pub unsafe fn update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> io::Result<()> {
    let mut attr = BatchAttr {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map: raw(map),
        ..BatchAttr::default()
    };
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }.map(drop)
}

/// What one [`lookup_batch`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// So many elements, and there may be more.
    Some(u32),
    /// So many elements, and these were the last.
    Last(u32),
}

/// Reads up to `count` elements after `after` (from the beginning if there is none) and leaves in
/// `next` where to go on: the last key of an array, a position of the kernel's own in a hash.
///
/// # Safety
///
/// `keys` and `values` have room for `count` keys and values of the map's sizes, `after` and
/// `next` for one key and at least four bytes.
pub unsafe fn lookup_batch(
    map: BorrowedFd<'_>,
    after: Option<&[u8]>,
    next: &mut [u8],
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<Batch> {
    let mut attr = BatchAttr {
        in_batch: after.map_or(0, |after| after.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: raw(map),
        ..BatchAttr::default()
    };
    // SAFETY: the structure is that of the command; the buffers are long enough (caller).
    match unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) } {
        Ok(_) => Ok(Batch::Some(attr.count)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch::Last(attr.count)),
        Err(error) => Err(error),
    }
}

/// CPUs that the kernel keeps a value for in a per-CPU map, from a text such as `0-3,8`.
pub fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Waits until every program that now runs has ended (an RCU grace period).
pub fn wait_for_running_programs() -> io::Result<()> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the system call takes no pointer.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
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

#[repr(C)]
struct PinAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttr {
    fn new(map: BorrowedFd<'_>, key: &[u8], value: u64) -> Self {
        Self { map: raw(map), padding: 0, key: key.as_ptr() as u64, value, flags: 0 }
    }
}

#[derive(Default)]
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// # Safety
///
/// `T` is plain numbers, and a beginning of the kernel's description of this kind of object.
unsafe fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut attr = Attr {
        fd: raw(object),
        length: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the structure is that of the command; `info` is as long as `length` says.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(drop)
}

/// # Safety
///
/// As for [`bpf`], and the command returns a new descriptor.
unsafe fn new_fd<T>(command: u32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// # Safety
///
/// `T` is the kernel's structure for `command` or a beginning of it, and every address in it is
/// that of a buffer as long as the command requires.
unsafe fn bpf<T>(command: u32, attr: &mut T) -> io::Result<libc::c_long> {
    let attr = std::ptr::from_mut(attr);
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn found(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd() as u32
}
