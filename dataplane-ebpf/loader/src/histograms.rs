//! Latencies in buckets, gathered over all CPUs.
//!
//! The first few thousand backends have two histograms each. They live in a per-CPU
//! array, so that counting costs programs no atomic instruction.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use mizzen_ebpf_abi::{Histogram, NO_HISTOGRAM, maps};
use mizzen_ebpf_core::bucket::BUCKETS;
use mizzen_ebpf_core::words::Latencies;
use zerocopy::{FromZeros, IntoBytes};

use crate::extents::Extents;
use crate::object::map_pin;
use crate::{LoadError, bpf};

/// The per-CPU array, and which pairs of its elements are free.
#[derive(Debug)]
pub struct Histograms {
    map: OwnedFd,
    cpus: usize,
    free: Extents,
}

impl Histograms {
    /// Opens the pinned array.
    pub fn open(directory: &Path) -> Result<Self, LoadError> {
        let path = map_pin(directory, maps::HISTOGRAMS);
        let failed = |request: &'static str| {
            let path = path.clone();
            move |source| LoadError::Path { request, path, source }
        };
        let map = bpf::obj_get(&path).map_err(failed("open map"))?;
        let shape = bpf::map_shape(map.as_fd()).map_err(failed("look at map"))?;
        if shape.value_size as usize != size_of::<Histogram>()
            || shape.max_entries as usize != maps::HISTOGRAMS_CAPACITY
        {
            let (key, value, entries) = (shape.key_size, shape.value_size, shape.max_entries);
            return Err(LoadError::Layout { path, key, value, entries });
        }
        let cpus = bpf::possible_cpus().map_err(failed("count the CPUs of map"))?;
        Ok(Self { map, cpus, free: Extents::new(PAIRS) })
    }

    /// Takes over what a former process gave to rows: all other pairs are free.
    pub fn find_free(&mut self, used: impl Iterator<Item = u32>) {
        let used = used.filter(|first| *first != NO_HISTOGRAM).map(|first| (first / 2, 1));
        self.free = Extents::around(PAIRS, used);
        self.free.settle();
    }

    /// The first of a free pair, or [`NO_HISTOGRAM`].
    pub fn take(&mut self) -> u32 {
        self.free.take(1).map_or(NO_HISTOGRAM, |pair| 2 * pair)
    }

    /// Gives back a pair that was never counted in.
    pub fn give_back(&mut self, first: u32) {
        if first != NO_HISTOGRAM {
            self.free.give_back(first / 2, 1);
        }
    }

    /// Gives back a pair that has counted, and empties it.
    pub fn retire(&mut self, first: u32) {
        if first == NO_HISTOGRAM {
            return;
        }
        let blank = vec![Histogram::new_zeroed(); self.cpus];
        for index in [first, first + 1] {
            // SAFETY: one key of four bytes, and a value for each possible CPU.
            let written =
                unsafe { bpf::update(self.map.as_fd(), &index.to_ne_bytes(), blank.as_bytes()) };
            if let Err(error) = written {
                // Never given out again, which costs the pair and mixes up nobody's latencies.
                tracing::debug!(%error, index, "cannot empty a histogram");
                return;
            }
        }
        self.free.give_back(first / 2, 1);
    }

    /// Reads a pair: times of handshakes, lives of connections. None if there is none.
    pub fn read(&self, first: u32) -> io::Result<Option<(Latencies, Latencies)>> {
        if first == NO_HISTOGRAM {
            return Ok(None);
        }
        Ok(Some((self.read_one(first)?, self.read_one(first + 1)?)))
    }

    fn read_one(&self, index: u32) -> io::Result<Latencies> {
        let mut parts = vec![Histogram::new_zeroed(); self.cpus];
        // SAFETY: one key of four bytes, and room for a value for each possible CPU.
        unsafe { bpf::lookup(self.map.as_fd(), &index.to_ne_bytes(), parts.as_mut_bytes()) }?;
        let mut all = Latencies { buckets: vec![0; BUCKETS as usize], sum: 0 };
        for part in &parts {
            all.sum = all.sum.wrapping_add(part.sum);
            for (sum, count) in all.buckets.iter_mut().zip(part.buckets) {
                *sum += u64::from(count);
            }
        }
        Ok(all)
    }
}

const PAIRS: u32 = maps::HISTOGRAMS_CAPACITY as u32 / 2;
