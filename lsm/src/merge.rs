//! A k-way merge of sorted sources, in both directions.
//!
//! A *loser tree* (Knuth, volume 3, 5.4.1): a tournament between the sources whose inner nodes keep the losers, so that after the winner has moved
//! on, one path from its leaf to the root is played again: log₂ k comparisons for each entry, where a heap makes nearly twice as many. Each
//! comparison reads two numbers that lie beside the tree, eight bytes of key each, and asks the sources only where those are equal.

use std::cmp::Ordering;

use crate::block::prefix_number;
use crate::error::{Error, Result};
use crate::iter::InternalIterator;
use crate::key;
use crate::value::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// The merge of several iterators: all their entries in order. Of entries with equal internal keys, the one of the earlier source comes first.
pub struct MergingIterator<I = Box<dyn InternalIterator>> {
    sources: Vec<I>,
    /// Of each source a number that sorts as its current key does, as far as it goes ([`Self::number`]). A source that was alone from the beginning has neither this nor the tree.
    numbers: Vec<u64>,
    /// Inner node `n` has the children `2 n` and `2 n + 1`; the leaf of source `i` is number `k + i`. Node 0 keeps the winner.
    tree: Vec<usize>,
    direction: Direction,
    valid: bool,
    failed: Option<Error>,
}

impl<I: InternalIterator> MergingIterator<I> {
    /// The merge of `sources`, the newest first.
    pub fn new(sources: Vec<I>) -> Self {
        // One alone has no rivals.
        let rivals = if sources.len() > 1 { sources.len() } else { 0 };
        Self {
            numbers: vec![0; rivals],
            tree: vec![0; rivals],
            sources,
            direction: Direction::Forward,
            valid: false,
            failed: None,
        }
    }

    fn winner(&self) -> usize {
        self.tree.first().copied().unwrap_or(0)
    }

    /// The source of the current entry, by its place among those that are merged.
    pub fn source(&self) -> Option<(usize, &I)> {
        self.current().map(|source| (self.winner(), source))
    }

    fn current(&self) -> Option<&I> {
        if self.valid { self.sources.get(self.winner()) } else { None }
    }

    /// Where a source stands now: the first eight bytes of its key. A key that there is not comes last.
    #[inline]
    fn number(&self, source: &I) -> u64 {
        match self.direction {
            _ if source.valid() => prefix_number(source.user_key()),
            Direction::Forward => u64::MAX,
            Direction::Backward => 0,
        }
    }

    /// Takes note of where a source stands now.
    #[inline]
    fn refresh(&mut self, source: usize) {
        let number = self.sources.get(source).map(|source| self.number(source));
        if let (Some(number), Some(place)) = (number, self.numbers.get_mut(source)) {
            *place = number;
        }
    }

    /// Whether source `a` comes before source `b`: by their numbers, mostly.
    #[inline]
    fn before(&self, a: usize, b: usize) -> bool {
        let order = match (self.numbers.get(a), self.numbers.get(b)) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        match (order, self.direction) {
            (Ordering::Equal, _) => self.before_by_key(a, b),
            (order, Direction::Forward) => order == Ordering::Less,
            (order, Direction::Backward) => order == Ordering::Greater,
        }
    }

    /// Likewise, by their keys, where the numbers leave it open. A source without an entry comes after all others.
    fn before_by_key(&self, a: usize, b: usize) -> bool {
        let (Some(source_a), Some(source_b)) = (self.sources.get(a), self.sources.get(b)) else {
            return a < b;
        };
        match (source_a.valid(), source_b.valid()) {
            (true, true) => {}
            (false, false) => return a < b,
            (valid, _) => return valid,
        }
        let order = key::compare(source_a.key(), source_b.key()).then_with(|| a.cmp(&b));
        match self.direction {
            Direction::Forward => order == Ordering::Less,
            Direction::Backward => order == Ordering::Greater,
        }
    }

    /// Plays the whole tournament.
    fn rebuild(&mut self) {
        let count = self.sources.len();
        for source in 0..count {
            self.refresh(source);
        }
        let winner = if count == 0 { 0 } else { self.play(1) };
        self.set_winner(winner);
    }

    /// The tournament is over.
    #[inline]
    fn set_winner(&mut self, winner: usize) {
        if let Some(root) = self.tree.first_mut() {
            *root = winner;
        }
        self.valid = self.sources.get(winner).is_some_and(InternalIterator::valid);
    }

    /// The winner below `node`; losers are left behind.
    fn play(&mut self, node: usize) -> usize {
        let count = self.sources.len();
        if node >= count {
            return node - count;
        }
        let (left, right) = (self.play(2 * node), self.play(2 * node + 1));
        let (winner, loser) = if self.before(left, right) { (left, right) } else { (right, left) };
        if let Some(slot) = self.tree.get_mut(node) {
            *slot = loser;
        }
        winner
    }

    /// The winner has moved: plays its way up again.
    #[inline]
    fn replay(&mut self) {
        let mut winner = self.winner();
        if let [only] = self.sources.as_slice() {
            self.valid = only.valid();
            return;
        }
        self.refresh(winner);
        let mut node = (self.sources.len() + winner) / 2;
        while node > 0 {
            if let Some(&rival) = self.tree.get(node)
                && self.before(rival, winner)
                && let Some(slot) = self.tree.get_mut(node)
            {
                winner = std::mem::replace(slot, winner);
            }
            node /= 2;
        }
        self.set_winner(winner);
    }

    fn fail(&mut self, error: Error) -> Error {
        self.valid = false;
        self.failed = Some(error.clone());
        error
    }

    fn all(&mut self, direction: Direction, mut position: impl FnMut(&mut I) -> Result<()>) -> Result<()> {
        self.failed = None;
        self.direction = direction;
        let moved = self.sources.iter_mut().try_for_each(&mut position);
        moved.map_err(|error| self.fail(error))?;
        self.rebuild();
        Ok(())
    }

    /// Puts every source but the current one on the near side of the current entry for a step the other way.
    fn turn(&mut self, direction: Direction) -> Result<()> {
        let at = self.winner();
        let key = self.key().to_vec();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if number == at {
                continue;
            }
            // Of equal keys, those of earlier sources come first: whether one is passed depends on which side of us it is.
            match direction {
                Direction::Forward => {
                    source.seek(&key)?;
                    if number < at && source.valid() && source.key() == key {
                        source.next()?;
                    }
                }
                Direction::Backward => {
                    source.seek_for_prev(&key)?;
                    if number > at && source.valid() && source.key() == key {
                        source.prev()?;
                    }
                }
            }
        }
        self.direction = direction;
        Ok(())
    }

    /// Leaves out the sources in which `is_needed` sees nothing to come. For a caller who goes on in this direction and never turns: what is left out
    /// is not there any more.
    pub fn retain(&mut self, is_needed: impl Fn(&I) -> bool) {
        let before = self.sources.len();
        self.sources.retain(is_needed);
        if self.sources.len() < before && self.failed.is_none() {
            self.numbers.truncate(self.sources.len());
            self.tree.truncate(self.sources.len());
            self.rebuild();
        }
    }

    /// Whether all sources are such.
    pub fn all_are(&self, is_such: impl Fn(&I) -> bool) -> bool {
        self.sources.iter().all(is_such)
    }

    /// Moves the current source alone, in the direction in which the merge goes, past entries that the caller has no use for.
    ///
    /// # Errors
    /// Those of `position`.
    pub fn move_current(&mut self, position: impl FnOnce(&mut I) -> Result<()>) -> Result<()> {
        let winner = self.winner();
        if let (true, Some(source)) = (self.valid, self.sources.get_mut(winner)) {
            position(source).map_err(|error| self.fail(error))?;
            self.replay();
        }
        Ok(())
    }

    #[inline]
    fn step(&mut self, direction: Direction) -> Result<()> {
        if let [only] = self.sources.as_mut_slice()
            && self.valid
        {
            self.direction = direction;
            let moved = match direction {
                Direction::Forward => only.next(),
                Direction::Backward => only.prev(),
            };
            self.valid = moved.is_ok() && only.valid();
            return moved.map_err(|error| self.fail(error));
        }
        self.step_of_many(direction)
    }

    fn step_of_many(&mut self, direction: Direction) -> Result<()> {
        if !self.valid {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        let turned = self.direction != direction;
        if turned {
            self.turn(direction).map_err(|error| self.fail(error))?;
        }
        let winner = self.winner();
        let moved = match (self.sources.get_mut(winner), direction) {
            (Some(source), Direction::Forward) => source.next(),
            (Some(source), Direction::Backward) => source.prev(),
            (None, _) => Ok(()),
        };
        moved.map_err(|error| self.fail(error))?;
        if turned {
            self.rebuild();
        } else {
            self.replay();
        }
        Ok(())
    }
}

impl<I> std::fmt::Debug for MergingIterator<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergingIterator").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl<I: InternalIterator> InternalIterator for MergingIterator<I> {
    fn seek_to_first(&mut self) -> Result<()> {
        self.all(Direction::Forward, InternalIterator::seek_to_first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.all(Direction::Backward, InternalIterator::seek_to_last)
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.all(Direction::Forward, |source| source.seek(internal))
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        self.all(Direction::Backward, |source| source.seek_for_prev(internal))
    }

    fn next(&mut self) -> Result<()> {
        self.step(Direction::Forward)
    }

    fn prev(&mut self) -> Result<()> {
        self.step(Direction::Backward)
    }

    fn valid(&self) -> bool {
        self.valid
    }

    fn key(&self) -> &[u8] {
        self.current().map_or(&[], InternalIterator::key)
    }

    fn value(&self) -> &[u8] {
        self.current().map_or(&[], InternalIterator::value)
    }

    fn owned_value(&self) -> Value {
        self.current().map_or_else(Value::new, InternalIterator::owned_value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, BlockBuilder, BlockIter, BlockKind, stamp_of_rank};
    use crate::error::ErrorKind;
    use crate::model::{Model, Step, some_entries, some_walk, take};
    use proptest::prelude::*;

    fn source(entries: &[(Vec<u8>, Vec<u8>)]) -> Box<dyn InternalIterator> {
        if entries.is_empty() {
            return Box::new(BlockIter::new(Block::opaque(Vec::new())));
        }
        let mut builder = BlockBuilder::new(4);
        for (key, value) in entries {
            let (user, trailer) = key::split(key).unwrap();
            builder.add(user, stamp_of_rank(u64::from_be_bytes(trailer)), value);
        }
        Box::new(BlockIter::new(Block::sorted(builder.finish(), BlockKind::Data).unwrap()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_merge_is_a_sorted_map(model in some_entries(0..60), sources in 1usize..9, deal in any::<u64>(), walk in some_walk()) {
            let mut parts = vec![Vec::new(); sources];
            for (number, entry) in model.entries().iter().enumerate() {
                let mixed = (deal ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                parts[usize::try_from(mixed).unwrap() % sources].push(entry.clone());
            }
            let mut merged = MergingIterator::new(parts.iter().map(|part| source(part)).collect());
            model.compare(&mut merged, &walk)?;
        }

        #[test]
        fn what_has_nothing_to_come_may_be_left_out(model in some_entries(1..60), sources in 1usize..9, from in 0usize..60) {
            let from = from % model.entries().len();
            let parts = model.entries().chunks(model.entries().len().div_ceil(sources));
            let mut merged = MergingIterator::new(parts.map(source).collect());
            let (key, _) = &model.entries()[from];
            merged.seek(key).unwrap();
            merged.retain(|source| source.valid());
            for (key, value) in &model.entries()[from..] {
                prop_assert_eq!((merged.key(), merged.value()), (&key[..], &value[..]));
                merged.next().unwrap();
            }
            prop_assert!(!merged.valid());
            merged.seek(key).unwrap();
            prop_assert_eq!((merged.key(), merged.sources.is_empty()), (&key[..], false));
        }

        #[test]
        fn equal_keys_come_from_the_earlier_source_first(model in some_entries(1..20), walk in some_walk()) {
            // The same keys in three sources, told apart by their values: the merge is a list in which each stands three times.
            let parts: Vec<Vec<(Vec<u8>, Vec<u8>)>> = (0..3u8)
                .map(|part| model.entries().iter().map(|(key, _)| (key.clone(), vec![part])).collect())
                .collect();
            let mut merged = MergingIterator::new(parts.iter().map(|part| source(part)).collect());
            let mut list = Vec::new();
            for (key, _) in model.entries() {
                list.extend((0..3u8).map(|part| (key.clone(), vec![part])));
            }
            let mut place: Option<usize> = None;
            for step in &walk {
                take(&mut merged, step).unwrap();
                place = match step {
                    Step::First => Some(0),
                    Step::Last => Some(list.len() - 1),
                    Step::Seek(key) => Some(list.partition_point(|(found, _)| key::compare(found, key).is_lt())),
                    Step::SeekForPrev(key) => {
                        list.partition_point(|(found, _)| key::compare(found, key).is_le()).checked_sub(1)
                    }
                    Step::Next => place.map(|place| place + 1),
                    Step::Prev => place.and_then(|place| place.checked_sub(1)),
                }
                .filter(|place| *place < list.len());
                let found = merged.valid().then(|| (merged.key().to_vec(), merged.value().to_vec()));
                prop_assert_eq!(found.as_ref(), place.map(|place| &list[place]));
            }
        }
    }

    #[test]
    fn nothing_merged_is_nothing() {
        let mut merged = MergingIterator::<Box<dyn InternalIterator>>::new(Vec::new());
        merged.seek_to_first().unwrap();
        assert!(!merged.valid());
        merged.next().unwrap();
        merged.seek_to_last().unwrap();
        assert!(!merged.valid() && merged.key().is_empty());
    }

    /// A source that fails when it is moved.
    struct Failing(Box<dyn InternalIterator>, bool);

    impl InternalIterator for Failing {
        fn seek_to_first(&mut self) -> Result<()> {
            self.0.seek_to_first()
        }
        fn seek_to_last(&mut self) -> Result<()> {
            self.0.seek_to_last()
        }
        fn seek(&mut self, internal: &[u8]) -> Result<()> {
            self.0.seek(internal)
        }
        fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
            self.0.seek_for_prev(internal)
        }
        fn next(&mut self) -> Result<()> {
            if self.1 { Err(Error::new(ErrorKind::Io, "a bad sector")) } else { self.0.next() }
        }
        fn prev(&mut self) -> Result<()> {
            self.0.prev()
        }
        fn valid(&self) -> bool {
            self.0.valid()
        }
        fn key(&self) -> &[u8] {
            self.0.key()
        }
        fn value(&self) -> &[u8] {
            self.0.value()
        }
    }

    #[test]
    fn an_error_of_one_source_is_an_error_of_the_merge_until_it_seeks() {
        let entry = |user: &[u8]| (crate::model::internal(user, 1, key::Kind::Put), Vec::new());
        let good = source(&[entry(b"a"), entry(b"c"), entry(b"e")]);
        let bad = source(&[entry(b"b"), entry(b"d")]);
        let mut merged = MergingIterator::new(vec![Failing(good, false), Failing(bad, true)]);
        merged.seek_to_first().unwrap();
        merged.next().unwrap();
        assert!(merged.valid());
        for _ in 0..3 {
            assert_eq!(merged.next().unwrap_err().kind(), ErrorKind::Io);
            assert!(!merged.valid());
        }
        merged.seek(&entry(b"e").0).unwrap();
        assert!(merged.valid());
    }

    #[test]
    fn a_source_alone_repeats_its_error_and_turns_as_it_does() {
        let entry = |user: &[u8]| (crate::model::internal(user, 1, key::Kind::Put), Vec::new());
        let entries = [entry(b"a"), entry(b"b"), entry(b"c")];
        let mut alone = MergingIterator::new(vec![Failing(source(&entries), true)]);
        alone.seek(&entries[1].0).unwrap();
        for _ in 0..3 {
            assert_eq!(alone.next().unwrap_err().kind(), ErrorKind::Io);
            assert!(!alone.valid());
        }
        assert_eq!(alone.prev().unwrap_err().kind(), ErrorKind::Io);
        alone.seek(&entries[2].0).unwrap();
        alone.prev().unwrap();
        assert_eq!(alone.key(), entries[1].0);
    }

    #[test]
    fn models_are_walked_over() {
        // The model itself, once, by hand.
        let model = Model::new(vec![(crate::model::internal(b"a", 1, key::Kind::Put), b"x".to_vec())]);
        model
            .compare(&mut *source(model.entries()), &[Step::Last, Step::Next, Step::First, Step::Prev])
            .unwrap();
    }
}
