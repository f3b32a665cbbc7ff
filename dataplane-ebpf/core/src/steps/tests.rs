extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::select::{self, Load};

/// Backends of equal weight of which everything is known.
#[derive(Clone, Debug, Default)]
struct Table {
    seats: Vec<(Verdict, Load)>,
    ring: Option<u32>,
    passed_over: bool,
}

/// Winner, loser, reason, whether one was passed over.
type Settled = (u32, u32, Reason, bool);

impl Field for Table {
    type Candidate = u32;
    type End = Result<Settled, Verdict>;

    fn on_ring(&mut self) -> Option<u32> {
        self.ring
    }

    fn draw(&mut self, part: Part, bits: u64, taken: Option<u32>) -> u32 {
        assert!(part.length > 0);
        select::draw(part, bits, taken.unwrap_or(u32::MAX), |_| None)
    }

    fn at(&mut self, position: u32, _: u32) -> u32 {
        position
    }

    fn verdict(&self, candidate: u32) -> Verdict {
        self.seats[candidate as usize].0
    }

    fn second_is_better(&self, first: u32, second: u32) -> bool {
        select::second_is_better(self.seats[first as usize].1, self.seats[second as usize].1)
    }

    fn far_is_better(&self, near: u32, far: u32) -> bool {
        select::far_is_better(self.seats[near as usize].1, self.seats[far as usize].1)
    }

    fn pass_over(&mut self) {
        self.passed_over = true;
    }

    fn settle(&mut self, winner: u32, loser: u32, reason: Reason) -> Self::End {
        Ok((winner, loser, reason, self.passed_over))
    }

    fn give_up(&mut self, why: Verdict) -> Self::End {
        Err(why)
    }
}

/// What a thousand choices end with, each way once.
fn ends(table: &Table, classes: Classes, draw: Draw) -> Vec<Result<Settled, Verdict>> {
    let one = |number| {
        let terms = Terms { classes, draw, seed: mix(number) };
        choose(&mut table.clone(), &terms)
    };
    let mut ends = Vec::new();
    for end in (0..1_000).map(one) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    ends.sort_by_key(|end| end.map(|(winner, loser, why, _)| (winner, loser, why as u8)).ok());
    ends
}

const fn load(in_flight: u32) -> Load {
    Load { micros: 0, in_flight, weight: 1 }
}

/// Name, classes, what decides, verdicts, loads, what it may end with.
type Row<'a> = (&'a str, Classes, Draw, &'a [Verdict], [Load; 3], &'a [Result<Settled, Verdict>]);

#[test]
fn what_is_chosen_and_why() {
    use Reason::{Cheaper, Drawn, LastResort, Only, Probe, Spilled, Tie};
    use Verdict::{Overtaken, Shut, Unreachable, Usable, Warming};
    const TRIED: Verdict = Verdict::Probe;
    let (two, draw) = (Classes::alike(2), Draw::CheaperOfTwo);
    let (near, all) = (Classes::of(1, 2, 3), [load(0); 3]);
    #[rustfmt::skip]
    let table: &[Row<'_>] = &[
        ("one",              Classes::alike(1), draw, &[Usable],      all, &[Ok((0, 0, Only, false))]),
        ("two alike",        two, draw,        &[Usable, Usable],     all, &[Ok((0, 1, Tie, false)), Ok((1, 0, Tie, false))]),
        ("one is busy",      two, draw,        &[Usable, Usable],     [load(9), load(0), load(0)],
            &[Ok((1, 0, Cheaper, false)), Ok((1, 0, Tie, false))]),
        ("drawn",            two, Draw::First, &[Usable, Usable],     [load(9), load(0), load(0)],
            &[Ok((0, 0, Drawn, false)), Ok((1, 1, Drawn, false))]),
        ("one is shut",      two, draw,        &[Shut, Usable],       all, &[Ok((1, 0, Only, true))]),
        ("one is tried",     two, draw,        &[TRIED, Usable],      all, &[Ok((0, 0, Probe, false))]),
        ("one warms up",     two, draw,        &[Shut, Warming],      all, &[Ok((1, 1, LastResort, true))]),
        ("one is reached",   two, draw,        &[Unreachable, Shut],  all, &[Ok((1, 1, LastResort, true))]),
        ("none is reached",  two, draw,        &[Unreachable; 2],     all, &[Err(Unreachable)]),
        ("one is gone",      two, draw,        &[Unreachable, Usable], all, &[Ok((1, 0, Only, true))]),
        ("drawn, and gone",  two, Draw::First, &[Unreachable, Usable], all,
            &[Ok((1, 0, Only, true)), Ok((1, 1, Drawn, false))]),
        ("the near is gone", near, draw,       &[Unreachable, Usable, Usable], all, &[Ok((1, 0, Only, true))]),
        ("the zone is gone", near, draw,       &[Usable, Unreachable, Usable], [load(9), load(0), load(0)],
            &[Ok((2, 0, Spilled, false))]),
        ("changed",          two, draw,        &[Overtaken; 2],       all, &[Err(Overtaken)]),
        ("the near one",     near, draw,       &[Usable; 3],          all, &[Ok((0, 0, Only, false))]),
        ("the near is busy", near, draw,       &[Usable; 3],          [load(9), load(0), load(0)], &[Ok((1, 0, Spilled, false))]),
        ("both are busy",    near, draw,       &[Usable; 3],          [load(9), load(9), load(0)], &[Ok((2, 0, Spilled, false))]),
        ("not much busier",  near, draw,       &[Usable; 3],          [load(9), load(3), load(0)], &[Ok((0, 0, Only, false))]),
        ("busier and busier", near, draw,      &[Usable; 3],          [load(99), load(9), load(0)], &[Ok((2, 1, Spilled, false))]),
        ("the zone is shut", near, draw,       &[Usable, Shut, Usable], [load(9), load(0), load(0)], &[Ok((2, 0, Spilled, false))]),
        ("near is shut",     near, draw,       &[Shut, Usable, Usable], all, &[Ok((1, 0, Only, true))]),
        ("two are shut",     near, draw,       &[Shut, Shut, Usable], all, &[Ok((2, 0, Only, true))]),
    ];
    for (name, classes, draw, verdicts, loads, want) in table {
        let seats = verdicts.iter().copied().zip(*loads).collect();
        let found = ends(&Table { seats, ..Table::default() }, *classes, *draw);
        assert_eq!(&found, want, "{name}");
    }
}

#[test]
fn a_ring_decides_unless_its_place_is_shut() {
    let ring = |verdict| {
        let seats = vec![(Verdict::Usable, load(0)), (verdict, load(9))];
        let table = Table { seats, ring: Some(1), passed_over: false };
        ends(&table, Classes::alike(2), Draw::CheaperOfTwo)
    };
    assert_eq!(ring(Verdict::Usable), [Ok((1, 1, Reason::Ring, false))]);
    assert_eq!(ring(Verdict::Warming), [Ok((1, 1, Reason::Ring, false))]);
    assert_eq!(ring(Verdict::Probe), [Ok((1, 1, Reason::Probe, false))]);
    assert_eq!(ring(Verdict::Shut), [Ok((0, 1, Reason::Only, true))]);
    assert_eq!(ring(Verdict::Overtaken), [Err(Verdict::Overtaken)]);
}

#[test]
fn the_nearest_that_there_are_are_near() {
    let classes = |near, within| Classes { near, within, open: 9 };
    #[rustfmt::skip]
    let table = [
        (2, 5, classes(2, 5)),
        (2, 2, classes(2, 2)),
        (0, 5, classes(5, 5)),
        (0, 0, classes(9, 9)),
        (9, 9, classes(9, 9)),
    ];
    for (on_node, in_zone, want) in table {
        let found = Classes::of(on_node, in_zone, 9);
        assert_eq!(found, want, "{on_node} {in_zone}");
        let lengths: u32 = (0..CLASSES).map(|class| found.part(class).length).sum();
        assert_eq!(lengths, 9);
    }
}

proptest! {
    #[test]
    fn of_backends_alike_a_usable_one_of_the_nearest_class_is_taken(
        usable in prop::collection::vec(any::<bool>(), 1..=3 * LOOKS as usize),
        seed: u64,
    ) {
        let open = usable.len() as u32;
        let (on_node, in_zone) = (open.min(LOOKS), open.min(2 * LOOKS));
        let classes = Classes::of(on_node, in_zone, open);
        let verdict = |usable: &bool| if *usable { Verdict::Usable } else { Verdict::Shut };
        let seats: Vec<_> = usable.iter().map(|usable| (verdict(usable), load(0))).collect();
        let mut table = Table { seats, ..Table::default() };
        let terms = Terms { classes, draw: Draw::CheaperOfTwo, seed };
        let (winner, _, reason, _) = choose(&mut table, &terms).expect("there are some");
        let class = |position| (0..CLASSES).find(|class| {
            let part = classes.part(*class);
            (part.start..part.start + part.length).contains(&position)
        });
        match usable.iter().position(|usable| *usable) {
            Some(first) => {
                prop_assert!(usable[winner as usize]);
                prop_assert_eq!(class(winner), class(first as u32));
            }
            None => prop_assert_eq!(reason, Reason::LastResort),
        }
    }
}
