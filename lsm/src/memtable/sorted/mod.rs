//! The sorted write buffer: the newest writes of one keyspace, in memory until a flush makes a table of them.
//!
//! Entries lie in a [`tree`] of its own memory, ordered as internal keys; keys and values are copied there, so that a batch need not be kept.
//!
//! Range tombstones stand beside them, searched where they are added ([`tombstones`]); and a filter, which spares most lookups of other keys the search ([`filter`]).
//!
//! One writer at a time (the commit lock) inserts; readers run beside it without locks. They see entries that are not yet
//! visible; the sequence number that they read at decides.

mod filter;
mod iter;
mod segments;
mod tombstones;
mod tree;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Supply;
use crate::batch::Operation;
use crate::error::Result;
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber, parse_trailer, trailer};
use crate::range_tombstone::{RangeTombstone, RangeTombstones};
use crate::table::Found;
use crate::value::Lent;
use filter::Filter;
use tombstones::Tombstones;
use tree::{Cursor, Tree};

pub use iter::SortedIter;
pub(crate) use segments::{SEGMENT_BYTES, Segments};
pub use tombstones::FragmentCursor;

/// The newest writes of one keyspace.
pub struct SortedMemtable {
    /// The entries, which scans keep alive.
    entries: Arc<Tree>,
    tombstones: Tombstones,
    filter: Filter,
    sequences: Sequences,
}

/// Sequence numbers of what was written: on a line of the processor's cache that no lookup reads, since each write changes it.
#[repr(align(128))]
struct Sequences {
    min: AtomicU64,
    max: AtomicU64,
    /// Of the entries alone.
    entry_max: AtomicU64,
}

impl SortedMemtable {
    /// An empty one, alone.
    pub fn new() -> Self {
        Self::charged(0, &Supply::default())
    }

    /// An empty one whose bytes are charged for as long as somebody keeps it. `entries_expected` is how many may come: a guess, for its filter.
    pub(crate) fn charged(entries_expected: usize, supply: &Supply) -> Self {
        let charge = || Arc::clone(&supply.charge);
        Self {
            entries: Arc::new(Tree::new(charge(), Arc::clone(&supply.segments))),
            filter: Filter::new(entries_expected, charge()),
            tombstones: Tombstones::new(charge()),
            sequences: Sequences {
                min: AtomicU64::new(SEQUENCE_MAX),
                max: AtomicU64::new(0),
                entry_max: AtomicU64::new(0),
            },
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entries.entry_count() == 0 && self.tombstones.is_empty()
    }

    /// Entries, range tombstones not counted.
    pub fn entry_count(&self) -> usize {
        self.entries.entry_count()
    }

    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.tombstones.memory_bytes() + self.filter.memory_bytes()
    }

    /// What is charged for it: memory that waits for more entries, too.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.entries.charged_bytes() + self.tombstones.charged_bytes() + self.filter.memory_bytes()
    }

    /// The largest sequence number in it; 0 where it is empty.
    pub fn sequence_max(&self) -> SequenceNumber {
        self.sequences.max.load(Ordering::Acquire)
    }

    /// The smallest sequence number in it; [`SEQUENCE_MAX`] where it is empty.
    pub fn sequence_min(&self) -> SequenceNumber {
        self.sequences.min.load(Ordering::Acquire)
    }

    /// Adds one operation of `batch`. One caller at a time; readers may run beside it.
    pub fn apply(&self, batch: &[u8], operation: Operation, sequence: SequenceNumber) {
        let part = |range: Range<usize>| batch.get(range).unwrap_or_default();
        let is_entry = !matches!(operation, Operation::DeleteRange { .. });
        match operation {
            Operation::Put { key, value } => {
                self.filter.insert(crate::filter::hash(part(key.clone())));
                self.entries.insert(part(key), trailer(sequence, Kind::Put), part(value));
            }
            Operation::Delete { key } => {
                self.filter.insert(crate::filter::hash(part(key.clone())));
                self.entries.insert(part(key), trailer(sequence, Kind::Delete), &[]);
            }
            Operation::DeleteRange { start, end } => self.tombstones.insert(RangeTombstone {
                start: part(start).to_vec(),
                end: end.map(|end| part(end).to_vec()),
                sequence,
            }),
        }
        // One writer: nobody changes them between. They are looked at when a flush begins and at recovery.
        if sequence < self.sequence_min() {
            self.sequences.min.store(sequence, Ordering::Release);
        }
        if sequence > self.sequence_max() {
            self.sequences.max.store(sequence, Ordering::Release);
        }
        if is_entry && sequence > self.entry_sequence_max() {
            self.sequences.entry_max.store(sequence, Ordering::Release);
        }
    }

    /// The largest sequence number of an entry; 0 where there is none.
    pub fn entry_sequence_max(&self) -> SequenceNumber {
        self.sequences.entry_max.load(Ordering::Acquire)
    }

    /// The range tombstones as one set, made anew, for whoever writes them elsewhere; `None` where there are none.
    pub fn range_tombstones(&self) -> Option<Arc<RangeTombstones>> {
        (!self.tombstones.is_empty()).then(|| Arc::new(self.tombstones.to_set()))
    }

    /// The newest range tombstone over `key` that a reader at `read_sequence` sees: its sequence number, or 0 where there is none.
    #[inline]
    pub fn newest_covering(&self, key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        self.tombstones.newest_covering(key, read_sequence)
    }

    /// What a scan at `read_sequence` asks for range tombstones: the fragments, and sets; `None` where there are none.
    pub fn tombstone_cursors(
        &self,
        read_sequence: SequenceNumber,
    ) -> Option<(FragmentCursor, Arc<[Arc<RangeTombstones>]>)> {
        let cursors = || (FragmentCursor::new(&self.tombstones, read_sequence), self.tombstones.wide_sets());
        (!self.tombstones.is_empty()).then(cursors)
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Never for what [`Self::apply`] put in; the signature is the tables'.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found<'_>>> {
        self.get_hashed(user_key, crate::filter::hash(user_key), read_sequence)
    }

    /// As [`Self::get`], for a caller who has computed [`crate::filter::hash`] already.
    ///
    /// # Errors
    /// As [`Self::get`].
    #[inline]
    pub fn get_hashed(
        &self,
        user_key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
    ) -> Result<Option<Found<'_>>> {
        match self.filter.may_contain(hash) {
            true => self.search(user_key, read_sequence),
            false => Ok(None),
        }
    }

    /// Asks for the memory that [`Self::get_hashed`] looks at first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.filter.prefetch(hash);
    }

    fn search(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found<'_>>> {
        let Some((trailer, value)) = self.entries.get(user_key, !(read_sequence << 8 | 0xff)) else {
            return Ok(None);
        };
        let (sequence, kind) = parse_trailer(trailer.to_be_bytes())?;
        Ok(Some((sequence, kind, Lent::memory(value))))
    }

    /// A cursor over its entries, which it keeps alive. Entries that are inserted while it moves may or may not be seen: they are
    /// not visible to whoever reads at a sequence number that was visible when the cursor was made.
    pub fn iter(&self) -> SortedIter {
        SortedIter::new(Cursor::new(Arc::clone(&self.entries)))
    }
}

impl Default for SortedMemtable {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SortedMemtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortedMemtable")
            .field("entries", &self.entry_count())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batch::{Encoder, KeyspaceId, Operations};
    use crate::iter::InternalIterator;
    use crate::key::{seek_key, split};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::ops::Bound;

    fn fill(memtable: &SortedMemtable, first: SequenceNumber, build: impl FnOnce(&mut Encoder, KeyspaceId)) {
        let mut batch = Encoder::default();
        build(&mut batch, KeyspaceId::new(1).unwrap());
        let payload: Arc<[u8]> = batch.payload().into();
        for (index, operation) in Operations::new(&payload).enumerate() {
            memtable.apply(&payload, operation.unwrap().1, first + index as u64);
        }
    }

    #[test]
    fn a_reader_sees_what_was_newest_at_its_number() {
        let memtable = SortedMemtable::new();
        fill(&memtable, 5, |batch, keyspace| {
            batch.put(keyspace, b"k", b"one");
            batch.put(keyspace, b"k", b"two");
            batch.delete(keyspace, b"k");
        });
        let at =
            |sequence| memtable.get(b"k", sequence).unwrap().map(|(_, kind, value)| (kind, value.to_vec()));
        assert_eq!(at(4), None);
        assert_eq!(at(5), Some((Kind::Put, b"one".to_vec())));
        assert_eq!(at(6), Some((Kind::Put, b"two".to_vec())));
        assert_eq!(at(7), Some((Kind::Delete, Vec::new())));
        assert!(memtable.get(b"k\0", 9).unwrap().is_none());
        assert_eq!((memtable.sequence_min(), memtable.sequence_max()), (5, 7));
    }

    #[test]
    fn keys_with_equal_prefixes_and_zeros_are_told_apart() {
        let memtable = Arc::new(SortedMemtable::new());
        let keys: [&[u8]; 6] =
            [b"", b"\0", b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0\0", b"abcdefgh", b"abcdefghi"];
        fill(&memtable, 1, |batch, keyspace| keys.iter().rev().for_each(|key| batch.put(keyspace, key, key)));
        let mut iter = memtable.iter();
        iter.seek_to_first().unwrap();
        for key in keys {
            assert_eq!(&*memtable.get(key, 99).unwrap().unwrap().2, key);
            assert_eq!(split(iter.key()).unwrap().0, key);
            iter.next().unwrap();
        }
        assert!(!iter.valid());
    }

    #[test]
    fn range_tombstones_are_seen_at_once() {
        let memtable = SortedMemtable::new();
        assert!(memtable.range_tombstones().is_none() && memtable.tombstone_cursors(9).is_none());
        fill(&memtable, 1, |batch, keyspace| batch.delete_prefix(keyspace, b"a"));
        assert!(!memtable.is_empty());
        assert_eq!(memtable.newest_covering(b"ab", 9), 1);
        fill(&memtable, 2, |batch, keyspace| batch.delete_prefix(keyspace, b"ab"));
        assert_eq!((memtable.newest_covering(b"ab", 9), memtable.newest_covering(b"ab", 1)), (2, 1));
        assert_eq!(memtable.range_tombstones().unwrap().len(), 2);
        assert_eq!((memtable.sequence_max(), memtable.entry_sequence_max()), (2, 0));
    }

    #[test]
    fn readers_beside_the_writer_find_whatever_was_published() {
        const ENTRIES: u64 = 20_000;
        let key = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8).to_be_bytes();
        let (memtable, published) = (SortedMemtable::new(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut through = 0;
                    while through < ENTRIES {
                        through = published.load(Ordering::Acquire);
                        for number in (1..=through).rev().take(30).chain((1..=through).step_by(701)) {
                            let found = memtable.get(&key(number), through).unwrap().unwrap();
                            assert_eq!((found.0, &*found.2), (number, &key(number)[..]));
                        }
                        assert!(memtable.get(b"another", through).unwrap().is_none());
                    }
                });
            }
            for number in 1..=ENTRIES {
                fill(&memtable, number, |batch, keyspace| {
                    batch.put(keyspace, &key(number), &key(number));
                });
                published.store(number, Ordering::Release);
            }
        });
    }

    #[derive(Clone, Debug)]
    enum Move {
        First,
        Last,
        Next,
        Prev,
        Seek(Vec<u8>),
        SeekForPrev(Vec<u8>),
    }

    proptest! {
        #[test]
        fn a_cursor_moves_as_over_a_sorted_map(
            entries in proptest::collection::vec(("[ab]{0,2}", any::<bool>()), 0..300),
            moves in proptest::collection::vec(prop_oneof![
                Just(Move::First), Just(Move::Last), Just(Move::Next), Just(Move::Next), Just(Move::Prev), Just(Move::Prev),
                "[ab]{0,3}".prop_map(|key| Move::Seek(key.into_bytes())),
                "[ab]{0,3}".prop_map(|key| Move::SeekForPrev(key.into_bytes())),
            ], 0..60),
        ) {
            let memtable = Arc::new(SortedMemtable::new());
            let mut model = BTreeMap::new();
            for (index, (key, put)) in entries.iter().enumerate() {
                let sequence = index as u64 + 1;
                let (kind, value) = if *put { (Kind::Put, key.as_bytes()) } else { (Kind::Delete, &b""[..]) };
                fill(&memtable, sequence, |batch, keyspace| match kind {
                    Kind::Put => batch.put(keyspace, key.as_bytes(), value),
                    Kind::Delete => batch.delete(keyspace, key.as_bytes()),
                });
                let trailer = u64::from_be_bytes(trailer(sequence, kind));
                model.insert((key.clone().into_bytes(), trailer), value.to_vec());
            }
            let mut iter = memtable.iter();
            let mut place: Option<(Vec<u8>, u64)> = None;
            for step in moves {
                let target = |key: &Vec<u8>| (key.clone(), u64::from_be_bytes(*seek_key(key, 40).last_chunk().unwrap()));
                match &step {
                    Move::First => { iter.seek_to_first().unwrap(); place = model.keys().next().cloned(); }
                    Move::Last => { iter.seek_to_last().unwrap(); place = model.keys().next_back().cloned(); }
                    Move::Next => {
                        iter.next().unwrap();
                        place = place.and_then(|at| model.range((Bound::Excluded(at), Bound::Unbounded)).next().map(|(key, _)| key.clone()));
                    }
                    Move::Prev => {
                        iter.prev().unwrap();
                        place = place.and_then(|at| model.range(..at).next_back().map(|(key, _)| key.clone()));
                    }
                    Move::Seek(key) => {
                        iter.seek(&seek_key(key, 40)).unwrap();
                        place = model.range(target(key)..).next().map(|(key, _)| key.clone());
                    }
                    Move::SeekForPrev(key) => {
                        iter.seek_for_prev(&seek_key(key, 40)).unwrap();
                        place = model.range(..=target(key)).next_back().map(|(key, _)| key.clone());
                    }
                }
                prop_assert_eq!(iter.valid(), place.is_some(), "after {:?}", step);
                if let Some(at) = &place {
                    let (user, trailer) = split(iter.key()).unwrap();
                    prop_assert_eq!((user, u64::from_be_bytes(trailer)), (&at.0[..], at.1), "after {:?}", step);
                    prop_assert_eq!(iter.value(), &model[at][..]);
                }
            }
        }
    }
}
