//! Maglev tables: a consistent hash that a program looks up with one read.
//!
//! Each backend has a permutation of the table's places, made from its own hash. The
//! backends take turns, each taking the next free place of its permutation, so each
//! gets its share to within one turn. When one goes, nearly all others keep their places
//! (method: Eisenbud and others, "Maglev", NSDI 2016, section 3.4).
//!
//! Weights are turns: a backend of twice the weight takes part in twice as many.

/// Sizes of tables, all prime; the last is for the largest VIPs.
pub const SIZES: [u32; 6] = [251, 1_021, 4_093, 16_381, 65_537, 131_071];

/// Places of a table for each backend, so that the removal of one moves few of the others.
pub const PLACES_EACH: u32 = 600;

/// One backend in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// From what the backend is, never from where it stands in a list.
    pub hash: u64,
    /// Share of the table, relative to the others; zero gets no place.
    pub weight: u32,
}

/// A place that nobody has; only tables without backends keep any.
pub const EMPTY: u32 = u32::MAX;

/// The size of a table for so many backends.
#[must_use]
pub fn size(backends: usize) -> u32 {
    let wanted = (backends as u64).saturating_mul(u64::from(PLACES_EACH));
    SIZES.into_iter().find(|size| u64::from(*size) >= wanted).unwrap_or(SIZES[SIZES.len() - 2])
}

/// Fills `table` with positions in `seats`.
///
/// `next` is working memory, one element for each seat. The length of `table` is one of [`SIZES`].
pub fn fill(seats: &[Seat], next: &mut [u32], table: &mut [u32]) {
    table.fill(EMPTY);
    next.fill(0);
    let heaviest = seats.iter().map(|seat| seat.weight).max().unwrap_or(0);
    let size = table.len() as u64;
    let (mut taken, mut turn) = (0, 0_u64);
    while heaviest > 0 && taken < size {
        turn += 1;
        for (index, seat) in seats.iter().enumerate() {
            if !takes_turn(seat.weight, heaviest, turn) {
                continue;
            }
            claim(*seat, index as u32, &mut next[index], table);
            taken += 1;
            if taken == size {
                break;
            }
        }
    }
}

/// Whether a seat of `weight` takes part in `turn`, the first being 1: in `weight` of every
/// `heaviest` turns, evenly spread.
fn takes_turn(weight: u32, heaviest: u32, turn: u64) -> bool {
    let (weight, heaviest) = (u64::from(weight), u64::from(heaviest));
    turn * weight / heaviest != (turn - 1) * weight / heaviest
}

/// Takes the next free place of the seat's permutation.
fn claim(seat: Seat, index: u32, next: &mut u32, table: &mut [u32]) {
    let size = table.len() as u64;
    let offset = (seat.hash >> 32) % size;
    let skip = u64::from(seat.hash as u32) % (size - 1) + 1;
    loop {
        let place = (offset + u64::from(*next) * skip) % size;
        *next += 1;
        if let Some(free) = table.get_mut(place as usize).filter(|place| **place == EMPTY) {
            *free = index;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn seats(count: u64) -> Vec<Seat> {
        (0..count).map(|n| Seat { hash: mix(n), weight: 1 }).collect()
    }

    fn mix(n: u64) -> u64 {
        crate::select::mix(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn table(seats: &[Seat]) -> Vec<u32> {
        let mut next = vec![0; seats.len()];
        let mut table = vec![0; size(seats.len()) as usize];
        fill(seats, &mut next, &mut table);
        table
    }

    fn shares(table: &[u32], seats: usize) -> Vec<u32> {
        let mut shares = vec![0; seats];
        for seat in table {
            shares[*seat as usize] += 1;
        }
        shares
    }

    #[test]
    fn places_follow_the_weights() {
        let mut seats = seats(3);
        seats[0].weight = 2;
        let shares = shares(&table(&seats), 3);
        let places = shares.iter().sum::<u32>();
        assert!(shares[0].abs_diff(places / 2) <= 2, "{shares:?}");
        assert!(shares[1].abs_diff(shares[2]) <= 1, "{shares:?}");
    }

    #[test]
    fn a_table_without_weight_is_empty() {
        let seats = [Seat { hash: 1, weight: 0 }];
        assert!(table(&seats).iter().all(|place| *place == EMPTY));
        assert!(table(&[]).iter().all(|place| *place == EMPTY));
    }

    #[test]
    fn nearly_nobody_moves_when_one_of_a_hundred_goes() {
        let before_seats = seats(100);
        let before = table(&before_seats);
        for gone in [0_usize, 17, 50, 99] {
            let mut after_seats = before_seats.clone();
            after_seats[gone].weight = 0;
            let after = table(&after_seats);
            let others = before.iter().filter(|seat| **seat as usize != gone).count();
            let moved =
                before.iter().zip(&after).filter(|(a, b)| **a as usize != gone && a != b).count();
            assert!(moved * 100 < others, "{moved} of {others} moved");
        }
    }
}
