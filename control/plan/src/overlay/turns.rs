//! Which paths to other nodes are looked at when.
//!
//! Each minute a tenth is searched from the largest packet down, so that a path that became wider
//! is found as well. Of the others as many are checked, with one packet of the size that they
//! took, as make sixty of both a minute: all of them, in most clusters.

/// Paths that are looked at in a minute, unless a tenth is more: a packet of 1,500 bytes a second,
/// and its answer.
const A_MINUTE: usize = 60;
/// Minutes after which all paths were searched again.
const TURNS: usize = 10;

/// What is done with some paths in one minute, as places in a list of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turn {
    /// How large packets may be is found out anew.
    pub search: Vec<usize>,
    /// Whether packets may still be so large is found out.
    pub check: Vec<usize>,
}

/// What is to do in minute `turn` with so many paths.
#[must_use]
pub fn turn(paths: usize, turn: usize) -> Turn {
    let (search, rest): (Vec<usize>, Vec<usize>) =
        (0..paths).partition(|at| at % TURNS == turn % TURNS);
    let room = A_MINUTE.saturating_sub(search.len()).min(rest.len());
    let first = turn.wrapping_mul(room);
    let check = rest.iter().cycle().skip(first % rest.len().max(1)).take(room).copied().collect();
    Turn { search, check }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_has_its_turn() {
        for (paths, most, searched_in, seen_in) in [
            (0, 0, 0, 0),
            (1, 1, 10, 1),
            (7, 7, 10, 1),
            (60, 60, 10, 1),
            (150, 60, 10, 4),
            (3_000, 300, 10, 10),
        ] {
            let all: BTreeSet<usize> = (0..paths).collect();
            for start in [0, 5, 1_234_567] {
                let turns: Vec<Turn> = (start..start + 10).map(|at| turn(paths, at)).collect();
                let searched = |among: usize| -> BTreeSet<usize> {
                    turns[..among].iter().flat_map(|turn| turn.search.clone()).collect()
                };
                let seen = |among: usize| -> BTreeSet<usize> {
                    let checked = turns[..among].iter().flat_map(|turn| turn.check.clone());
                    searched(among).into_iter().chain(checked).collect()
                };
                assert_eq!((searched(searched_in), seen(seen_in)), (all.clone(), all.clone()));
                for Turn { search, check } in &turns {
                    let both: BTreeSet<&usize> = search.iter().chain(check).collect();
                    assert_eq!(both.len(), search.len() + check.len(), "{paths}: once a minute");
                    assert!(both.len() <= most, "{paths}: {}", both.len());
                }
            }
        }
    }
}
