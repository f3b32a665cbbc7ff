//! Where the programs stand.
//!
//! They are filters, behind the fast path and the programs of VIPs: they see what goes by bridges and routes, under
//! the addresses that it has there. Filters go with their link, and stay while no daemon runs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use mizzen_ebpf_abi::policy::maps::{LINKS, LINKS_CAPACITY};
use mizzen_ebpf_abi::policy::stand;

use crate::clsact::{self, Direction, Filter, Order};
use crate::differences::failed;
use crate::table::Table;
use crate::{LoadError, object};

/// The programs for network links, loaded, and where they stand.
#[derive(Debug)]
pub struct Links {
    pin_dir: PathBuf,
    sender: OwnedFd,
    receiver: OwnedFd,
    tunnel: OwnedFd,
    /// Where programs of ours stand, whichever daemon put them there.
    stands: Table<u32, u32>,
    /// Where those of this process do.
    attached: BTreeMap<u32, u32>,
}

impl Links {
    /// Loads the programs.
    pub fn load(object: &mut Ebpf, pin_dir: &Path, directory: &Path) -> Result<Self, LoadError> {
        Ok(Self {
            pin_dir: pin_dir.to_owned(),
            sender: object::load(object, "mizzen_sender")?,
            receiver: object::load(object, "mizzen_receiver")?,
            tunnel: object::load(object, "mizzen_tunnel")?,
            stands: Table::open_pinned(directory, LINKS, LINKS_CAPACITY)?,
            attached: BTreeMap::new(),
        })
    }

    /// Puts the programs where they are to stand, in the place of those that an earlier daemon left there.
    pub fn attach(
        &mut self,
        wanted: &BTreeMap<u32, u32>,
        errors: &mut Vec<(u32, io::Error)>,
    ) -> Result<(), LoadError> {
        for (link, stands) in wanted {
            let present = self.attached.get(link).copied().unwrap_or_default();
            if present & stands == *stands {
                continue;
            }
            // First, so that it is found again if this process ends in between.
            let known = self.stands.get(link).map_err(failed("read", LINKS))?.unwrap_or_default();
            self.stands.put(link, &(known | stands)).map_err(failed("write to", LINKS))?;
            match self.attach_one(*link, *stands) {
                Ok(()) => drop(self.attached.insert(*link, present | stands)),
                Err(error) => errors.push((*link, error)),
            }
        }
        Ok(())
    }

    /// Takes the programs off where they are not to stand.
    pub fn detach(&mut self, wanted: &BTreeMap<u32, u32>) -> Result<(), LoadError> {
        for (link, present) in self.stands.entries().map_err(failed("list", LINKS))? {
            let stands = wanted.get(&link).copied().unwrap_or_default();
            let unwanted = present & !stands;
            for direction in [Direction::In, Direction::Out] {
                let ours = bits(direction);
                if unwanted & ours != 0 && stands & ours == 0 {
                    // Not there if the link is gone.
                    let _ = clsact::remove_one(link, direction, filter(&self.pin_dir));
                }
            }
            if unwanted == 0 {
                continue;
            }
            let noted = match stands {
                0 => self.stands.delete(&link),
                _ => self.stands.put(&link, &stands),
            };
            noted.map_err(failed("write to", LINKS))?;
            self.attached.insert(link, stands);
        }
        self.attached.retain(|link, _| wanted.contains_key(link));
        Ok(())
    }

    /// Has the next pass put every program in its place again.
    pub fn forget(&mut self) {
        self.attached.clear();
    }

    fn attach_one(&self, link: u32, stands: u32) -> io::Result<()> {
        let programs = [
            (stand::RECEIVER, Direction::Out, &self.receiver),
            (stand::SENDER, Direction::In, &self.sender),
            (stand::TUNNEL, Direction::In, &self.tunnel),
        ];
        for (bit, direction, program) in programs {
            if stands & bit != 0 {
                clsact::ensure(link, direction, program.as_fd(), filter(&self.pin_dir))?;
            }
        }
        Ok(())
    }
}

/// Takes the programs off the links that the map in `directory` names.
pub fn teardown(pin_dir: &Path, directory: &Path) {
    let stands = Table::<u32, u32>::open_pinned(directory, LINKS, LINKS_CAPACITY);
    for (link, _) in stands.ok().and_then(|stands| stands.entries().ok()).unwrap_or_default() {
        // Not there if the link is gone.
        let _ = clsact::remove(link, filter(pin_dir));
    }
}

/// What stands in this direction.
fn bits(direction: Direction) -> u32 {
    match direction {
        Direction::In => stand::SENDER | stand::TUNNEL,
        Direction::Out => stand::RECEIVER,
    }
}

fn filter(pin_dir: &Path) -> Filter<'_> {
    Filter { directory: pin_dir, order: Order::Policy }
}
