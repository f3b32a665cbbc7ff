//! All names: blocks, where they are, and who is above whom.

use super::arena::{Arena, Handle};
use super::claim::Claim;
use super::draft::{Draft, Rules};
use super::node::{self, NS, Node, SOA};
use super::splice::Splice;
use super::table::Table;
use crate::filling::Notes;
use crate::hash;

/// The root, as it is sent.
const ROOT: &[u8] = &[0];

/// Names by hash.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    rules: Rules,
    table: Table,
    blocks: Arena,
    draft: Draft,
    /// Scratch: a node that is written.
    written: Vec<u8>,
    /// Names where a zone starts, ends or differs in how it starts.
    starts: Vec<Vec<u8>>,
    /// The first segment whose blocks do not have their zones' numbers yet.
    unmarked: Option<usize>,
    /// Which names were looked for before they were seen to.
    notes: Notes,
}

/// One thing that an owner says about a name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Saying<'a> {
    pub(crate) kind: u16,
    pub(crate) data: &'a [u8],
    pub(crate) claim: Claim,
}

/// What an owner may have said about a name before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Former {
    Nothing,
    Something,
}

/// What a change did to a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// An answer can differ.
    pub(crate) answers: bool,
    /// How many records the owner brought for the name before, and brings now.
    pub(crate) records: (usize, usize),
}

impl Names {
    pub(crate) fn new(rules: Rules) -> Self {
        let (table, blocks, draft) = (Table::new(), Arena::new(), Draft::default());
        Self {
            rules,
            table,
            blocks,
            draft,
            written: Vec::new(),
            starts: Vec::new(),
            unmarked: None,
            notes: Notes::default(),
        }
    }

    pub(crate) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(crate) fn notes_mut(&mut self) -> &mut Notes {
        &mut self.notes
    }

    pub(crate) fn rules(&self) -> Rules {
        self.rules
    }

    /// What is at a name, in lower case and as it is sent.
    pub(crate) fn find(&self, name: &[u8]) -> Option<Node<'_>> {
        self.place(name).map(|(_, handle)| self.node(handle))
    }

    /// What the first block of this hash could be, without looking at it.
    pub(crate) fn guess(&self, hash: u32) -> Option<Handle> {
        self.notes.note(hash);
        self.table.candidates(hash).next()
    }

    /// The blocks of this hash.
    pub(crate) fn candidates(&self, hash: u32) -> impl Iterator<Item = Node<'_>> {
        self.notes.note(hash);
        self.table.candidates(hash).map(|handle| self.node(handle))
    }

    /// Reads from the memory of a block so that it is near afterwards; the result only
    /// keeps the compiler from leaving that out.
    pub(crate) fn touch(&self, handle: Handle) -> u8 {
        const LINE: usize = 64;
        let bytes = self.blocks.bytes(handle);
        let at = |place: usize| bytes.get(place).copied().unwrap_or_default();
        at(0) ^ at(LINE) ^ at(2 * LINE)
    }

    pub(crate) fn node(&self, handle: Handle) -> Node<'_> {
        Node::at(self.blocks.bytes(handle))
    }

    /// The names of a segment of the table whose hashes are not below `first`, with their hashes, in order
    /// of these; a name's hash stays what it is. `None` behind the last segment.
    pub(crate) fn segment_from(&self, number: usize, first: u32) -> Option<Vec<(u32, Node<'_>)>> {
        let names = self.table.segment(number)?.filter(|(hash, _)| *hash >= first);
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by_key(|(hash, _)| *hash);
        Some(names.into_iter().map(|(hash, handle)| (hash, self.node(handle))).collect())
    }

    /// How many names there are, empty ones above others included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Replaces what `owner` says about `name`.
    ///
    /// * `former` — whether it said something about it before, as far as is known.
    /// * `zone_of` — the zone of a name that is new.
    pub(crate) fn replace<'a>(
        &mut self,
        name: &[u8],
        owner: u32,
        former: Former,
        sayings: impl Iterator<Item = Saying<'a>>,
        zone_of: &impl Fn(&[u8]) -> u16,
    ) -> Effect {
        let found = self.place(name);
        let sayings: Vec<Saying<'a>> = sayings.collect();
        if let Some(effect) = found.and_then(|place| self.splice(place, owner, former, &sayings)) {
            return effect;
        }
        self.draft.clear();
        let before = found.map_or(0, |(_, handle)| {
            self.draft.load_without(Node::at(self.blocks.bytes(handle)), owner)
        });
        let mut now = 0;
        for saying in sayings {
            self.draft.add(saying.kind, saying.data, saying.claim);
            now += 1;
        }
        let effect = match found {
            None if self.draft.is_empty() => Effect::default(),
            None => self.create(name, zone_of),
            Some((hash, handle)) => self.rewrite(hash, handle),
        };
        Effect { records: (before, now), ..effect }
    }

    /// The names where zones start, end or differ since this was asked last.
    pub(crate) fn take_starts(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.starts)
    }

    /// Gives one name its zone.
    pub(crate) fn set_zone(&mut self, name: &[u8], zone: u16) {
        if let Some((_, handle)) = self.place(name) {
            node::set_zone(self.blocks.bytes_mut(handle), zone);
        }
    }

    /// From now on blocks may have numbers of zones that they are not in, until
    /// [`Self::mark`] has been everywhere.
    pub(crate) fn unmark(&mut self) {
        self.unmarked = Some(0);
    }

    /// Whether every block has the number of its zone.
    #[inline]
    pub(crate) fn is_marked(&self) -> bool {
        self.unmarked.is_none()
    }

    /// Gives the names of so many segments the zones that they are in.
    pub(crate) fn mark(&mut self, segments: usize, zone_of: impl Fn(Node<'_>) -> u16) {
        for _ in 0..segments {
            let Some(number) = self.unmarked else { return };
            let Some(handles) = self.table.segment(number) else {
                self.unmarked = None;
                return;
            };
            for (_, handle) in handles.collect::<Vec<_>>() {
                let zone = zone_of(self.node(handle));
                node::set_zone(self.blocks.bytes_mut(handle), zone);
            }
            self.unmarked = Some(number + 1);
        }
    }

    fn place(&self, name: &[u8]) -> Option<(u32, Handle)> {
        let hash = hash::short(hash::hash(self.rules.seed, name));
        let handle = self.table.candidates(hash).find(|at| self.node(*at).name() == name)?;
        Some((hash, handle))
    }

    fn create(&mut self, name: &[u8], zone_of: &impl Fn(&[u8]) -> u16) -> Effect {
        self.insert(name, 0, zone_of(name));
        self.link(name, zone_of);
        if self.find(name).is_some_and(|node| node.set(SOA).is_some()) {
            self.starts.push(name.to_vec());
        }
        Effect { answers: true, ..Effect::default() }
    }

    /// Writes the draft as a new block.
    fn insert(&mut self, name: &[u8], children: u32, zone: u16) {
        let mut written = std::mem::take(&mut self.written);
        self.draft.write(&mut written, (name, children, zone), self.rules);
        let hash = hash::short(hash::hash(self.rules.seed, name));
        // Without room for 32 GiB of names the name stays away.
        if let Some(handle) = self.blocks.insert(&written) {
            self.table.insert(hash, handle);
        }
        self.written = written;
    }

    /// Writes the draft in the place of a block, or takes the name away.
    fn rewrite(&mut self, hash: u32, handle: Handle) -> Effect {
        let old = Node::at(self.blocks.bytes(handle));
        let (children, length) = (old.children(), old.length());
        if self.draft.is_empty() && children == 0 {
            let (name, started) = (old.name().to_vec(), old.set(SOA).is_some());
            self.delete(hash, handle);
            self.unlink(&name);
            self.starts.extend(started.then_some(name));
            return Effect { answers: true, ..Effect::default() };
        }
        let mut written = std::mem::take(&mut self.written);
        self.draft.write(&mut written, (old.name(), children, old.zone()), self.rules);
        let new = Node::at(&written);
        let answers = old.answers() != new.answers();
        if answers && start_of(old) != start_of(new) {
            self.starts.push(old.name().to_vec());
        }
        let effect = Effect { answers, ..Effect::default() };
        self.put(hash, handle, length, &written);
        self.written = written;
        effect
    }

    /// Changes the block of a name with many records where that can be done in its place.
    fn splice(
        &mut self,
        (hash, handle): (u32, Handle),
        owner: u32,
        former: Former,
        sayings: &[Saying<'_>],
    ) -> Option<Effect> {
        let node = self.node(handle);
        let before = node.length();
        if before < self.rules.splice_from {
            return None;
        }
        let rules = self.rules;
        let splice = Splice::new(node, owner, former, sayings, rules.seed)?;
        let now = splice.length(before);
        let apply = |block: &mut [u8]| splice.apply(block, before, rules);
        let answers = match self.blocks.change_large(handle, (before, now), apply) {
            Some(answers) => answers,
            None => {
                let mut written = std::mem::take(&mut self.written);
                written.clear();
                written.extend_from_slice(&self.blocks.bytes(handle)[..before]);
                written.resize(before.max(now), 0);
                let answers = splice.apply(&mut written, before, rules);
                self.put(hash, handle, before, &written[..now]);
                self.written = written;
                answers
            }
        };
        Some(Effect { answers, records: (splice.gone, sayings.len()) })
    }

    /// Puts a block in the place of another one.
    fn put(&mut self, hash: u32, handle: Handle, length: usize, block: &[u8]) {
        if let Some(moved) = self.blocks.replace(handle, length, block)
            && moved != handle
        {
            self.table.update(hash, handle, moved);
        }
    }

    fn delete(&mut self, hash: u32, handle: Handle) {
        let length = self.node(handle).length();
        self.table.remove(hash, handle);
        self.blocks.remove(handle, length);
    }

    /// Counts a new name at the one above, and makes that one if there is none.
    fn link(&mut self, name: &[u8], zone_of: &impl Fn(&[u8]) -> u16) {
        let mut above = parent(name);
        while let Some(here) = above {
            if let Some((_, handle)) = self.place(here) {
                let children = self.node(handle).children() + 1;
                node::set_children(self.blocks.bytes_mut(handle), children);
                return;
            }
            self.draft.clear();
            self.insert(here, 1, zone_of(here));
            above = parent(here);
        }
    }

    /// Takes a name that is gone off the count of the one above, and takes that one away
    /// if it holds nothing more.
    fn unlink(&mut self, name: &[u8]) {
        let mut above = parent(name);
        while let Some(here) = above {
            let Some((hash, handle)) = self.place(here) else { return };
            let node = self.node(handle);
            let children = node.children().saturating_sub(1);
            if children > 0 || !node.is_bare() {
                node::set_children(self.blocks.bytes_mut(handle), children);
                return;
            }
            self.delete(hash, handle);
            above = parent(here);
        }
    }
}

/// What makes a name the start of a zone, and of which kind.
fn start_of(node: Node<'_>) -> Option<(&[u8], bool)> {
    Some((node.set(SOA)?.records, node.set(NS).is_some()))
}

/// The name without its first label; `None` if that leaves the root.
pub(crate) fn parent(name: &[u8]) -> Option<&[u8]> {
    let (length, rest) = name.split_first()?;
    rest.get(usize::from(*length)..).filter(|above| *above != ROOT && !above.is_empty())
}
