//! Work that waits is shared fairly: no client can take all the room there is.
//!
//! A client may have at once as many questions on the full road as there is room left
//! for others, and never more than a fixed bound. So the first one that floods gets half
//! of the room, the next one half of what is left, and one that asks now and then always
//! finds some. The short road needs none of this: an answer costs less than counting it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Room on one thread, and who has taken it.
#[derive(Debug)]
pub(crate) struct Room {
    limits: Limits,
    taken: Mutex<Taken>,
}

/// How much work may wait at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Of all clients.
    pub(crate) total: usize,
    /// Of one.
    pub(crate) per_client: usize,
}

/// One place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    client: ClientKey,
}

/// Who is one client: an IPv4 address, or an IPv6 network of 64 bits, in which a machine
/// can have any address it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientKey(u64);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    /// Clients with at least one place.
    by_client: HashMap<ClientKey, usize>,
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default() })
    }

    /// Takes a place for `client`; `None` if it has its share already.
    pub(crate) fn enter(self: &Arc<Self>, client: ClientKey) -> Option<Place> {
        let mut taken = self.taken.lock();
        let free = self.limits.total.saturating_sub(taken.total);
        let own = taken.by_client.get(&client).copied().unwrap_or_default();
        if free == 0 || own >= self.limits.per_client.min(free) {
            return None;
        }
        taken.total += 1;
        taken.by_client.insert(client, own + 1);
        Some(Place { room: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        taken.total = taken.total.saturating_sub(1);
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 network of a client begins with 32 zero bits.
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self(u64::try_from(v6.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn client(number: u8) -> ClientKey {
        IpAddr::from([10, 0, 0, number]).into()
    }

    fn fill(room: &Arc<Room>, client: ClientKey) -> Vec<Place> {
        std::iter::from_fn(|| room.enter(client)).collect()
    }

    #[test]
    fn floods_leave_room_for_others() {
        let room = Room::new(Limits { total: 64, per_client: 100 });
        let floods: Vec<Vec<Place>> = (0..4).map(|number| fill(&room, client(number))).collect();
        assert_eq!(floods.iter().map(Vec::len).collect::<Vec<_>>(), [32, 16, 8, 4]);
        assert!(room.enter(client(9)).is_some(), "one that asks now and then");
        drop(floods);
        assert_eq!(fill(&room, client(9)).len(), 32, "places are given back");
        assert!(room.taken.lock().by_client.is_empty(), "nobody is remembered");
    }

    #[test]
    fn one_client_has_a_bound_of_its_own() {
        let room = Room::new(Limits { total: 1000, per_client: 3 });
        assert_eq!(fill(&room, client(1)).len(), 3);
        let none = Room::new(Limits { total: 0, per_client: 3 });
        assert!(none.enter(client(1)).is_none());
    }

    #[test]
    fn a_machine_is_one_client_whatever_addresses_it_takes() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
    }

    proptest! {
        /// Whoever comes and goes: the total is kept to, and a client without a place
        /// gets one as long as any is free.
        #[test]
        fn room_is_kept_to(steps in prop::collection::vec((0..6_u8, any::<bool>()), 0..400)) {
            let limits = Limits { total: 16, per_client: 10 };
            let room = Room::new(limits);
            let mut places: Vec<(u8, Place)> = Vec::new();
            for (number, enters) in steps {
                let own = places.iter().filter(|(owner, _)| *owner == number).count();
                let free = limits.total - places.len();
                if !enters {
                    if let Some(at) = places.iter().position(|(owner, _)| *owner == number) {
                        places.swap_remove(at);
                    }
                } else if let Some(place) = room.enter(client(number)) {
                    prop_assert!(free > 0 && own < limits.per_client);
                    places.push((number, place));
                } else {
                    prop_assert!(free == 0 || own > 0);
                }
            }
        }
    }
}
