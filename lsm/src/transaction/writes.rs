//! What a transaction has written to one keyspace, and not yet committed: for each key the last word, and the ranges that it deleted before.
//!
//! A range that is deleted takes the keys in it along, and what is written afterwards stands beside it. So the order of writes is not needed any more:
//! the ranges first, then the keys, says the same.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;

use crate::batch::{Encoder, KeyspaceId};
use crate::range::KeyRange;
use crate::row::KeyspaceKind;
use crate::value::Value;

/// What a transaction wrote about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Own<'a> {
    Value(&'a Value),
    Deleted,
    Nothing,
}

/// A key, and what was written about it; `None`: deleted.
pub(super) type Written<'a> = (&'a Vec<u8>, &'a Option<Value>);

/// The keys written in a range.
pub(super) type WrittenRange<'a> = Range<'a, Vec<u8>, Option<Value>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Whether it is a keyspace with fixed widths, whose range deletes are taken apart by the commit.
    is_fixed: bool,
    /// `None`: deleted.
    keys: BTreeMap<Vec<u8>, Option<Value>>,
    deleted: Ranges,
}

impl Writes {
    pub(super) fn new(kind: KeyspaceKind) -> Self {
        Self { is_fixed: matches!(kind, KeyspaceKind::Fixed(_)), ..Self::default() }
    }

    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.keys.insert(key.to_vec(), Some(Value::from(value)));
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.keys.insert(key.to_vec(), None);
    }

    /// Deletes the keys from `start` on, up to before `end`.
    pub(super) fn delete_range(&mut self, start: Vec<u8>, end: Option<Vec<u8>>) {
        let range = KeyRange::until(start.clone(), end.clone());
        let inside: Vec<Vec<u8>> = self.range(&range).map(|(key, _)| key.clone()).collect();
        for key in inside {
            self.keys.remove(&key);
        }
        self.deleted.add(start, end);
    }

    pub(super) fn get(&self, key: &[u8]) -> Own<'_> {
        match self.keys.get(key) {
            Some(Some(value)) => Own::Value(value),
            Some(None) => Own::Deleted,
            None if self.deleted.contains(key) => Own::Deleted,
            None => Own::Nothing,
        }
    }

    /// Whether a key lies in a deleted range.
    pub(super) fn is_deleted(&self, key: &[u8]) -> bool {
        self.deleted.contains(key)
    }

    /// The keys written in a range that is not empty.
    pub(super) fn range(&self, range: &KeyRange) -> WrittenRange<'_> {
        // A map takes no range that ends before it starts.
        let lower = Bound::Included(range.lower.as_slice());
        match range.is_empty() {
            true => self.keys.range::<[u8], _>((lower, Bound::Excluded(range.lower.as_slice()))),
            false => self.keys.range::<[u8], _>((lower, range.upper())),
        }
    }

    /// The keys written.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.keys.keys()
    }

    /// The ranges deleted.
    pub(super) fn ranges(&self) -> impl Iterator<Item = KeyRange> + '_ {
        self.deleted.iter().map(|(start, end)| KeyRange::until(start.clone(), end.clone()))
    }

    /// Adds all of it to a batch.
    pub(super) fn encode(&self, keyspace: KeyspaceId, batch: &mut Encoder) {
        for range in self.ranges() {
            if self.is_fixed {
                batch.note_fixed_range();
            }
            batch.delete_range::<Vec<u8>>(keyspace, &(Bound::Included(range.lower), range.upper));
        }
        for (key, value) in &self.keys {
            match value {
                Some(value) => batch.put(keyspace, key, value),
                None => batch.delete(keyspace, key),
            }
        }
    }
}

/// Ranges of keys, each from its start to before its end (`None`: there is none), by start; no two touch.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Ranges {
    /// Adds a range that is not empty.
    fn add(&mut self, mut start: Vec<u8>, mut end: Option<Vec<u8>>) {
        let reaches =
            |end: &Option<Vec<u8>>, key: &[u8]| end.as_ref().is_none_or(|end| end.as_slice() >= key);
        if let Some((before, before_end)) =
            self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(start.as_slice()))).next_back()
            && reaches(before_end, &start)
        {
            start = before.clone();
        }
        while let Some((next, next_end)) =
            self.0.range::<[u8], _>((Bound::Included(start.as_slice()), Bound::Unbounded)).next()
            && reaches(&end, next)
        {
            let next = next.clone();
            end = match (end, next_end) {
                (Some(end), Some(next_end)) => Some(end.max(next_end.clone())),
                _ => None,
            };
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.0.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_slice()))
    }

    fn iter(&self) -> impl Iterator<Item = (&Vec<u8>, &Option<Vec<u8>>)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_that_touch_are_one() {
        let mut ranges = Ranges::default();
        let key = |key: &str| key.as_bytes().to_vec();
        ranges.add(key("m"), Some(key("n")));
        ranges.add(key("a"), Some(key("c")));
        ranges.add(key("c"), Some(key("d")));
        assert_eq!(ranges.0.len(), 2);
        ranges.add(key("b"), Some(key("m")));
        assert_eq!(ranges.0.len(), 1);
        ranges.add(key("z"), None);
        ranges.add(key("n"), None);
        assert_eq!(ranges.0.into_iter().collect::<Vec<_>>(), [(key("a"), None)]);
    }

    proptest! {
        #[test]
        fn ranges_hold_what_was_added(
            added in proptest::collection::vec((0u8..30, proptest::option::of(0u8..30)), 0..12)
        ) {
            let mut ranges = Ranges::default();
            let mut model = [false; 40];
            for (start, end) in added {
                let last = end.map_or(40, usize::from);
                if usize::from(start) < last {
                    ranges.add(vec![start], end.map(|end| vec![end]));
                    model[usize::from(start)..last].fill(true);
                }
            }
            for (key, expected) in (0u8..).zip(model) {
                prop_assert_eq!(ranges.contains(&[key]), expected, "{}", key);
            }
            let pairs: Vec<_> = ranges.iter().collect();
            for pair in pairs.windows(2) {
                prop_assert!(pair[0].1.as_ref().is_some_and(|end| end < pair[1].0));
            }
        }
    }
}
