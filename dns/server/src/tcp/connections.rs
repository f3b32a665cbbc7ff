//! Which connections are open, and which one has to go when there are too many.
//!
//! A new connection is worth more than one that waits for nothing: when a client has as
//! many as it may have, its longest idle one ends; when all have, the longest idle one of
//! all. Only if none is idle, the new one is refused.

use crate::fair::ClientKey;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use tokio::sync::Notify;

/// The open connections of one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    total: usize,
    per_client: usize,
    open: RefCell<BTreeMap<u64, Open>>,
    /// Numbers connections, and the moments at which they fall idle.
    clock: Cell<u64>,
}

#[derive(Debug)]
struct Open {
    client: ClientKey,
    /// When it fell idle; `None` while it is answered.
    idle_since: Option<u64>,
    end: Rc<Notify>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    connections: Rc<Connections>,
    end: Rc<Notify>,
}

/// What becomes of a new connection.
#[derive(Debug)]
pub(crate) enum Admitted {
    /// It has a place.
    Free(Place),
    /// It has the place of another, which ends.
    Instead(Place),
    /// It has none.
    Refused,
}

impl Admitted {
    /// Whether a connection, the new one or another, has to go.
    pub(crate) fn makes_room(&self) -> bool {
        !matches!(self, Self::Free(_))
    }

    pub(crate) fn place(self) -> Option<Place> {
        match self {
            Self::Free(place) | Self::Instead(place) => Some(place),
            Self::Refused => None,
        }
    }
}

impl Connections {
    pub(crate) fn new(total: usize, per_client: usize) -> Rc<Self> {
        let (open, clock) = (RefCell::default(), Cell::new(0));
        Rc::new(Self { total, per_client, open, clock })
    }

    /// Finds a place for a connection of `client`.
    pub(crate) fn admit(self: &Rc<Self>, client: ClientKey) -> Admitted {
        let own = self.open.borrow().values().filter(|open| open.client == client).count();
        let crowded = own >= self.per_client || self.open.borrow().len() >= self.total;
        let evicted = if own >= self.per_client {
            self.evict(|open| open.client == client)
        } else {
            crowded && self.evict(|_| true)
        };
        match (crowded, evicted) {
            (false, _) => Admitted::Free(self.enter(client)),
            (true, true) => Admitted::Instead(self.enter(client)),
            (true, false) => Admitted::Refused,
        }
    }

    fn enter(self: &Rc<Self>, client: ClientKey) -> Place {
        let (number, end) = (self.tick(), Rc::new(Notify::new()));
        let open = Open { client, idle_since: Some(number), end: Rc::clone(&end) };
        self.open.borrow_mut().insert(number, open);
        Place { number, connections: Rc::clone(self), end }
    }

    /// Ends the longest idle connection among those that may go.
    fn evict(&self, may_go: impl Fn(&Open) -> bool) -> bool {
        let mut open = self.open.borrow_mut();
        let idle = open.iter().filter(|(_, open)| may_go(open));
        let idle = idle.filter_map(|(number, open)| Some((open.idle_since?, *number))).min();
        let evicted = idle.and_then(|(_, number)| open.remove(&number));
        if let Some(evicted) = &evicted {
            // `notify_one` is remembered by a connection that does not wait for it yet.
            evicted.end.notify_one();
        }
        evicted.is_some()
    }

    fn tick(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }
}

impl Place {
    /// Says whether the connection waits for nothing but its client.
    pub(crate) fn set_idle(&self, idle: bool) {
        let mut open = self.connections.open.borrow_mut();
        if let Some(open) = open.get_mut(&self.number)
            && open.idle_since.is_some() != idle
        {
            open.idle_since = idle.then(|| self.connections.tick());
        }
    }

    /// Waits until the connection has to make room.
    pub(crate) async fn has_to_go(&self) {
        self.end.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn client(number: u8) -> ClientKey {
        IpAddr::from([10, 0, 0, number]).into()
    }

    fn ended(place: &Place) -> bool {
        !place.connections.open.borrow().contains_key(&place.number)
    }

    #[test]
    fn the_longest_idle_one_makes_room() {
        let connections = Connections::new(3, 3);
        let places: Vec<Place> =
            (1..=3).filter_map(|number| connections.admit(client(number)).place()).collect();
        // The first is answered and falls idle again: now the second is longest idle.
        places[0].set_idle(false);
        places[0].set_idle(true);
        let admitted = connections.admit(client(4));
        assert!(matches!(admitted, Admitted::Instead(_)));
        assert_eq!(places.iter().map(ended).collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn nobody_who_is_answered_makes_room() {
        let connections = Connections::new(2, 2);
        let places: Vec<Place> =
            (1..=2).filter_map(|number| connections.admit(client(number)).place()).collect();
        for place in &places {
            place.set_idle(false);
        }
        assert!(matches!(connections.admit(client(3)), Admitted::Refused));
        drop(places);
        assert!(matches!(connections.admit(client(3)), Admitted::Free(_)), "places come back");
    }

    #[test]
    fn a_client_makes_room_for_itself() {
        let connections = Connections::new(10, 2);
        let other = connections.admit(client(9)).place().expect("a place");
        let first = connections.admit(client(1)).place().expect("a place");
        let second = connections.admit(client(1)).place().expect("a place");
        let third = connections.admit(client(1));
        assert!(matches!(third, Admitted::Instead(_)));
        assert!(ended(&first) && !ended(&second) && !ended(&other));
        second.set_idle(false);
        let third = third.place().expect("a place");
        third.set_idle(false);
        assert!(matches!(connections.admit(client(1)), Admitted::Refused));
    }
}
