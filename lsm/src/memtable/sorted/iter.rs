//! An owned cursor over a memtable.
//!
//! The skip list's own cursors borrow the list. An owned one has to find its place again, which costs a descent; so it takes a run of
//! entries at a time, a longer one each time it goes on in the same direction, and a long scan descends rarely.

use std::ops::Bound;
use std::sync::Arc;

use super::{KeyView, SortedMemtable, StoredKey, StoredValue, Target, internal_key, slice};
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::split;

/// Entries of the first run after a seek: a point lookup or a short prefix scan should not pay for a long one.
const RUN_ENTRIES_MIN: usize = 4;
/// Entries of the longest run: a descent (about 20 steps) is then a small part of it.
const RUN_ENTRIES_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// A cursor over a memtable; it keeps the memtable alive.
pub struct SortedIter {
    memtable: Arc<SortedMemtable>,
    /// Entries in the order of `direction`.
    run: Vec<(StoredKey, StoredValue)>,
    /// The current one.
    index: usize,
    direction: Direction,
    entries_next: usize,
    /// The current internal key.
    key: Vec<u8>,
}

impl SortedIter {
    pub(super) fn new(memtable: Arc<SortedMemtable>) -> Self {
        Self {
            memtable,
            run: Vec::new(),
            index: 0,
            direction: Direction::Forward,
            entries_next: RUN_ENTRIES_MIN,
            key: Vec::new(),
        }
    }

    fn settle(&mut self) {
        match self.run.get(self.index) {
            Some((key, _)) => internal_key(key, &mut self.key),
            None => self.key.clear(),
        }
    }

    /// Takes a run that starts at `bound`, in the direction given.
    fn fill(&mut self, bound: Bound<&dyn KeyView>, direction: Direction) {
        self.run.clear();
        self.index = 0;
        self.direction = direction;
        let memtable = Arc::clone(&self.memtable);
        let entries = &memtable.entries;
        let first = match direction {
            Direction::Forward => entries.lower_bound(bound),
            Direction::Backward => entries.upper_bound(bound),
        };
        if let Some(mut entry) = first {
            loop {
                self.run.push((entry.key().clone(), *entry.value()));
                if self.run.len() == self.entries_next {
                    break;
                }
                let moved = match direction {
                    Direction::Forward => entry.move_next(),
                    Direction::Backward => entry.move_prev(),
                };
                if !moved {
                    break;
                }
            }
        }
        self.settle();
    }

    fn restart(&mut self, bound: Bound<&dyn KeyView>, direction: Direction) {
        self.entries_next = RUN_ENTRIES_MIN;
        self.fill(bound, direction);
    }

    /// One step on in `direction`, from a valid place.
    fn step(&mut self, direction: Direction) {
        let Some((current, _)) = self.run.get(self.index) else {
            return;
        };
        if self.direction != direction {
            let current = current.clone();
            self.restart(Bound::Excluded(&current), direction);
        } else if self.index + 1 < self.run.len() {
            self.index += 1;
            self.settle();
        } else {
            let current = current.clone();
            self.entries_next = (self.entries_next * 2).min(RUN_ENTRIES_MAX);
            self.fill(Bound::Excluded(&current), direction);
        }
    }
}

impl InternalIterator for SortedIter {
    fn seek_to_first(&mut self) -> Result<()> {
        self.restart(Bound::Unbounded, Direction::Forward);
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.restart(Bound::Unbounded, Direction::Backward);
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        let (user, trailer) = split(internal)?;
        let target = Target::new(user, u64::from_be_bytes(trailer));
        self.restart(Bound::Included(&target), Direction::Forward);
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let (user, trailer) = split(internal)?;
        let target = Target::new(user, u64::from_be_bytes(trailer));
        self.restart(Bound::Included(&target), Direction::Backward);
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward);
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward);
        Ok(())
    }

    fn valid(&self) -> bool {
        self.index < self.run.len()
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        match self.run.get(self.index) {
            Some((key, value)) => slice(&key.batch, value.start, value.length),
            None => &[],
        }
    }
}

impl std::fmt::Debug for SortedIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortedIter").field("memtable", &self.memtable).finish_non_exhaustive()
    }
}
