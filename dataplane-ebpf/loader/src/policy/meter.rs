//! What the programs decided: counts, and refusals one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use mizzen_ebpf_abi::policy::maps::{COUNTS, COUNTS_CAPACITY, EVENTS, PACES};
use mizzen_ebpf_abi::policy::{Count, Event, Pace, place};
use mizzen_ebpf_abi::{Be16, Ip16};
use mizzen_ebpf_core::policy::{Verdict, number};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::differences::failed;
use crate::table::Plain;
use crate::{LoadError, bpf, object};

/// Connections and flows that one rule decided about on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyCounts {
    /// They passed.
    pub allowed: u64,
    /// They did not; each attempt is counted.
    pub refused: u64,
    /// They passed, and a policy that is being tried out would have refused them.
    pub would_refuse: u64,
}

/// Reads the counts of the programs.
#[derive(Debug)]
pub struct PolicyMeter {
    counts: OwnedFd,
    paces: OwnedFd,
    cpus: usize,
}

impl PolicyMeter {
    /// Opens the pinned maps.
    pub(super) fn open(directory: &Path) -> Result<Self, LoadError> {
        let open = |name: &str| {
            let pin = object::map_pin(directory, name);
            bpf::obj_get(&pin).map_err(object::failed("open map", &pin))
        };
        let cpus = bpf::possible_cpus().map_err(failed("count the CPUs of", COUNTS))?;
        Ok(Self { counts: open(COUNTS)?, paces: open(PACES)?, cpus })
    }

    /// What was counted under the defaults of [`number`] and these rules, since the maps were made.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if the kernel refuses.
    pub fn counts(
        &self,
        rules: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, PolicyCounts>, LoadError> {
        let all: BTreeSet<u32> = (0..number::FIRST_RULE).chain(rules).collect();
        let has_place = |rule: &u32| (*rule as usize) < COUNTS_CAPACITY;
        all.into_iter().filter(has_place).map(|rule| Ok((rule, self.count(rule)?))).collect()
    }

    /// Begins to count a rule from nothing, for a number that means another rule by now.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if the kernel refuses.
    pub fn reset(&self, rule: u32) -> Result<(), LoadError> {
        let nothing = vec![Count::default(); self.cpus];
        // SAFETY: the map's keys are numbers, and it has one value of this size for each CPU.
        unsafe { bpf::update(self.counts.as_fd(), &rule.to_ne_bytes(), nothing.as_bytes()) }
            .map_err(failed("write to", COUNTS))
    }

    /// Refusals that were not told one by one, because there were too many at once or nobody read.
    ///
    /// # Errors
    ///
    /// [`LoadError::Overlay`] if the kernel refuses.
    pub fn untold(&self) -> Result<u64, LoadError> {
        let paces: Vec<Pace> = self.values(&self.paces, 0).map_err(failed("read", PACES))?;
        Ok(paces.iter().map(|pace| pace.lost).sum())
    }

    fn count(&self, rule: u32) -> Result<PolicyCounts, LoadError> {
        let counts: Vec<Count> = self.values(&self.counts, rule).map_err(failed("read", COUNTS))?;
        Ok(PolicyCounts {
            allowed: counts.iter().map(|count| count.allowed).sum(),
            refused: counts.iter().map(|count| count.refused).sum(),
            would_refuse: counts.iter().map(|count| count.would_refuse).sum(),
        })
    }

    /// One element of a per-CPU array.
    fn values<V: Plain + FromZeros>(&self, map: &OwnedFd, index: u32) -> io::Result<Vec<V>> {
        let mut values = vec![V::new_zeroed(); self.cpus];
        let bytes = values.as_mut_slice().as_mut_bytes();
        // SAFETY: the map's keys are numbers, and its values, one for each CPU, are multiples of eight bytes long.
        unsafe { bpf::lookup(map.as_fd(), &index.to_ne_bytes(), bytes) }?;
        Ok(values)
    }
}

/// A connection or datagram that was refused, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When, since the machine was started.
    pub at: Duration,
    /// The sender; its port is zero if it has none, or none yet.
    pub from: SocketAddr,
    /// The receiver; its port is zero if it has none.
    pub to: SocketAddr,
    /// IP protocol number; ICMP's is 1 for both families.
    pub protocol: u8,
    /// Number of the sender's class.
    pub from_class: u32,
    /// Number of the receiver's class.
    pub to_class: u32,
    /// Number of the rule, or one of [`number`].
    pub rule: u32,
    /// Whether it passed nevertheless, because the policy is being tried out.
    pub verdict: Verdict,
    /// Where.
    pub place: PolicyPlace,
}

/// Where something is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyPlace {
    /// At the sender's socket, when it connected.
    Socket,
    /// At the link of the sending container.
    Sender,
    /// Where it came out of a tunnel.
    Tunnel,
    /// At the link of the receiving container.
    Receiver,
}

/// Tells of refusals. Its descriptor is readable when there are some.
pub struct Refusals(RingBuf<MapData>);

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Refusals").field(&self.as_fd()).finish()
    }
}

impl AsFd for Refusals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Refusals {
    pub(super) fn open(directory: &Path) -> Result<Self, LoadError> {
        let map = MapData::from_pin(object::map_pin(directory, EVENTS));
        let ring = map.and_then(|map| RingBuf::try_from(Map::RingBuf(map)));
        let ring = ring.map_err(io::Error::other).map_err(failed("map", EVENTS))?;
        Ok(Self(ring))
    }

    /// The next one, if there is any.
    pub fn take(&mut self) -> Option<Refusal> {
        loop {
            let item = self.0.next()?;
            if let Ok(event) = Event::read_from_bytes(&item) {
                return Some(refusal(&event));
            }
        }
    }
}

fn refusal(event: &Event) -> Refusal {
    let end = |address: Ip16, port: Be16| SocketAddr::new(IpAddr::from(address), port.get());
    Refusal {
        at: Duration::from_nanos(event.at),
        from: end(event.from, event.from_port),
        to: end(event.to, event.to_port),
        protocol: event.protocol,
        from_class: event.from_class,
        to_class: event.to_class,
        rule: event.rule,
        verdict: match event.verdict {
            Event::WOULD_REFUSE => Verdict::WouldRefuse,
            _ => Verdict::Refuse,
        },
        place: match event.place {
            place::SOCKET => PolicyPlace::Socket,
            place::SENDER => PolicyPlace::Sender,
            place::TUNNEL => PolicyPlace::Tunnel,
            _ => PolicyPlace::Receiver,
        },
    }
}

const _: () = assert!(size_of::<Count>().is_multiple_of(8) && size_of::<Pace>().is_multiple_of(8));
