//! Enters a lab as `nsenter` does it and becomes another program. This is the way
//! in for the lab's own nodes and command, too.

use super::cgroups;
use super::error::LabError;
use super::links::{self, Cable};
use super::sandbox::{DESCRIPTION, Description, NodeDescription};
use super::signals::Signals;
use super::sweep;
use nix::sched::{CloneFlags, setns};
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Becomes `command` beside node `node` (from 1) of the lab of process `pid`. Must
/// be called before there is a second thread.
pub(super) fn enter(pid: u32, node: usize, command: &[OsString]) -> Result<Infallible, LabError> {
    let lab = describe(pid)?;
    let nodes = lab.nodes.len();
    let place = node.checked_sub(1).and_then(|index| lab.nodes.get(index));
    let place = place.ok_or(LabError::NoNode { pid, node, nodes })?;
    move_into(pid, place)?;
    Signals::unblock_all()?;

    let (program, arguments) = command
        .split_first()
        .map_or_else(|| (shell(), &[][..]), |(program, arguments)| (program.clone(), arguments));
    // Another node's socket would lead out of the sandbox again.
    let source = Command::new(&program)
        .args(arguments)
        .envs(&place.environment)
        .env_remove("MIZZEN_SOCKET")
        .exec();
    Err(LabError::Start { program: program.to_string_lossy().into_owned(), source })
}

/// Plugs node `node` (from 1) of the lab of process `pid` in, or unplugs it.
pub(super) fn set_cable(pid: u32, node: usize, cable: Cable) -> Result<(), LabError> {
    let lab = describe(pid)?;
    let nodes = lab.nodes.len();
    if node == 0 || node > nodes {
        return Err(LabError::NoNode { pid, node, nodes });
    }
    let underlay = PathBuf::from(format!("/proc/{pid}/fd/{}", lab.underlay_fd));
    mizzen_netlink::in_namespace(&underlay, move || links::set_cable(node, cable))
        .and_then(|done| done)
        .map_err(LabError::Network)
}

fn describe(pid: u32) -> Result<Description, LabError> {
    let path = sweep::directory(&sweep::name(pid)).join(DESCRIPTION);
    let text = fs::read(&path).map_err(|_| LabError::NoLab { pid })?;
    serde_json::from_slice(&text).map_err(|source| LabError::Description { pid, source })
}

fn move_into(pid: u32, place: &NodeDescription) -> Result<(), LabError> {
    for group in &place.cgroups {
        cgroups::join(group)?;
    }
    // Both are opened first: in there `/proc` is the same, but why rely on it.
    let namespaces = [
        (open(pid, place.network_fd)?, CloneFlags::CLONE_NEWNET),
        (open(pid, place.mounts_fd)?, CloneFlags::CLONE_NEWNS),
    ];
    let directory = std::env::current_dir();
    for (file, kind) in namespaces {
        setns(file, kind).map_err(LabError::process("enter a namespace of the lab"))?;
    }
    // A new mount namespace puts us at its root.
    let directory = directory.unwrap_or_else(|_| "/".into());
    std::env::set_current_dir(&directory)
        .or_else(|_| std::env::set_current_dir("/"))
        .map_err(LabError::file("go to", &directory))
}

fn open(pid: u32, fd: i32) -> Result<File, LabError> {
    let path = format!("/proc/{pid}/fd/{fd}");
    File::open(Path::new(&path)).map_err(LabError::file("open namespace", &path))
}

fn shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or_else(|| "sh".into())
}
