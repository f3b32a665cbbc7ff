//! Objects made or asked for only to learn whether the kernel lets us.

use std::io;

use super::{AttachType, bpf, new_fd};

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

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_LRU_HASH: u32 = 9;
const PROG_LOAD: u32 = 5;
const PROG_QUERY: u32 = 16;
const MAP_CREATE: u32 = 0;
