//! Loops that Linux 6.1 refuses.
//!
//! Its verifier takes a jump backwards, and a branch that is not taken, as ways around a loop. An
//! instruction that simply goes on to the loop's first one it takes for a mistake ("back-edge"),
//! and compilers lay code out so. Kernels from 6.2 on take both.

/// An instruction that goes on to one that led to it, and how it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackEdge {
    /// The last instruction of the loop.
    pub from: usize,
    /// Its first one.
    pub to: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    /// It leads to what is looked at.
    Open,
    Done,
}

/// The first such place in a function's code.
pub fn refused(code: &[u8]) -> Option<BackEdge> {
    let instructions: Vec<&[u8; 8]> = code.chunks_exact(8).flat_map(TryFrom::try_from).collect();
    let mut seen = vec![Seen::Not; instructions.len()];
    let mut path = vec![(0, 0)];
    *seen.first_mut()? = Seen::Open;
    while let Some((at, taken)) = path.last_mut() {
        let from = *at;
        let Some((to, may_go_back)) = ways(instructions[from], from)[*taken] else {
            seen[from] = Seen::Done;
            path.pop();
            continue;
        };
        *taken += 1;
        match seen.get(to) {
            Some(Seen::Not) => {
                seen[to] = Seen::Open;
                path.push((to, 0));
            }
            Some(Seen::Open) if !may_go_back => return Some(BackEdge { from, to }),
            Some(Seen::Open | Seen::Done) | None => {}
        }
    }
    None
}

/// Where an instruction goes, and whether it may go back there; ends with none.
fn ways(instruction: &[u8; 8], at: usize) -> [Option<(usize, bool)>; 3] {
    const JUMPS: [u8; 2] = [5, 6];
    const ALWAYS: u8 = 0x00;
    const CALL: u8 = 0x80;
    const EXIT: u8 = 0x90;
    let [code, _, low, high, ..] = *instruction;
    let next = Some((at + 1, false));
    if !JUMPS.contains(&(code & 7)) {
        return [next, None, None];
    }
    let offset = isize::from(i16::from_le_bytes([low, high]));
    let target = (at + 1).checked_add_signed(offset).map(|target| (target, true));
    match code & 0xf0 {
        EXIT => [None; 3],
        CALL => [next, None, None],
        ALWAYS => [target, None, None],
        _ => [Some((at + 1, true)), target, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: [u8; 8] = [0x07, 0, 0, 0, 1, 0, 0, 0];
    const END: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    fn jump(code: u8, offset: i16) -> [u8; 8] {
        let [low, high] = offset.to_le_bytes();
        [code, 0, low, high, 0, 0, 0, 0]
    }

    #[test]
    fn loops_by_their_last_instruction() {
        let (always, equal) = (0x05, 0x15);
        #[rustfmt::skip]
        let table: &[(&str, &[[u8; 8]], _)] = &[
            ("no loop",          &[WORK, jump(equal, 1), WORK, END],                              None),
            ("a branch back",    &[WORK, jump(equal, -2), END],                                   None),
            ("a jump back",      &[jump(equal, 2), WORK, jump(always, -3), END],                  None),
            ("its end is first", &[jump(always, 1), WORK, jump(equal, 1), jump(always, -3), END], Some(BackEdge { from: 1, to: 2 })),
        ];
        for (what, code, want) in table {
            assert_eq!(refused(&code.concat()), *want, "{what}");
        }
    }

    #[test]
    fn the_committed_objects_have_none() {
        for object in &crate::ebpf::OBJECTS {
            let file = std::fs::read(object.path().expect("a repository")).expect("the object");
            let functions = crate::elf::functions(&file).expect("an ELF file");
            assert!(!functions.is_empty());
            for (name, code) in functions {
                assert_eq!(refused(code), None, "{name}");
            }
        }
    }
}
