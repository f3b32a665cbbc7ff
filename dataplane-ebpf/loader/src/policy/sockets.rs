//! The programs at connects, below a cgroup.
//!
//! They stand there only while somebody's connects may be refused, so others' cost nothing.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;

use crate::bpf::{self, AttachType};
use crate::{LoadError, object};

/// The programs, loaded, and the cgroup that they are for.
#[derive(Debug)]
pub struct Sockets {
    directory: PathBuf,
    /// Nothing if connects are not to be refused.
    cgroup: Option<PathBuf>,
    /// In the order of [`HOOKS`].
    programs: Vec<OwnedFd>,
    /// Whether those of this process stand there.
    are_attached: bool,
}

impl Sockets {
    /// Loads the programs.
    pub fn load(
        object: &mut Ebpf,
        directory: &Path,
        cgroup: Option<&Path>,
    ) -> Result<Self, LoadError> {
        let programs = HOOKS.iter().map(|hook| object::load(object, hook.program));
        Ok(Self {
            directory: directory.to_owned(),
            cgroup: cgroup.map(Path::to_owned),
            programs: programs.collect::<Result<_, _>>()?,
            are_attached: false,
        })
    }

    /// Attaches the programs, in the place of those that an earlier daemon left.
    ///
    /// Behind the programs of VIPs, whichever version of them came last: by new links, and then the old ones end.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let Some(cgroup) = self.cgroup.as_deref().filter(|_| !self.are_attached) else {
            return Ok(());
        };
        let target = File::open(cgroup).map_err(object::failed("open cgroup", cgroup))?;
        for (hook, program) in HOOKS.iter().zip(&self.programs) {
            let pin = hook.pin(&self.directory);
            let failed = || object::failed("attach to the cgroup and pin as", &pin);
            let link = bpf::link_create(program.as_fd(), target.as_fd(), hook.attach_type);
            let link = link.map_err(failed())?;
            hook.end(&self.directory)?;
            bpf::obj_pin(link.as_fd(), &pin).map_err(failed())?;
        }
        self.are_attached = true;
        Ok(())
    }

    /// Takes the programs off.
    pub fn detach(&mut self) -> Result<(), LoadError> {
        self.are_attached = false;
        teardown(&self.directory)
    }
}

/// Takes off what is pinned in `directory`.
pub fn teardown(directory: &Path) -> Result<(), LoadError> {
    HOOKS.iter().try_for_each(|hook| hook.end(directory))
}

/// A program at a cgroup.
struct Hook {
    program: &'static str,
    name: &'static str,
    attach_type: AttachType,
}

impl Hook {
    fn pin(&self, directory: &Path) -> PathBuf {
        directory.join(format!("{}{}", object::LINK_PREFIX, self.name))
    }

    /// Ends the pinned link. Not an error if there is none.
    fn end(&self, directory: &Path) -> Result<(), LoadError> {
        let pin = self.pin(directory);
        match bpf::obj_get(&pin) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(object::failed("open link", &pin)(error)),
            // Already over if its cgroup is gone.
            Ok(link) => drop(bpf::link_detach(link.as_fd())),
        }
        fs::remove_file(&pin).map_err(object::failed("remove", &pin))
    }
}

const HOOKS: [Hook; 2] = [
    Hook { program: "mizzen_policy_connect4", name: "connect4", attach_type: AttachType::Connect4 },
    Hook { program: "mizzen_policy_connect6", name: "connect6", attach_type: AttachType::Connect6 },
];
