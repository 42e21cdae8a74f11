//! The sorted write buffer: the newest writes of one keyspace, in memory until a flush makes a table of them.
//!
//! Entries lie in a lock-free skip list ([`crossbeam_skiplist`]), ordered as internal keys. Keys and values are places in the
//! encoded batch that brought them, which all its entries share: a commit allocates once for its bytes, not twice an entry. Each key
//! carries its first eight bytes as a number, so that most comparisons on the way down touch no other memory.
//!
//! Range tombstones are few and read often: a list of what was added, from which the searchable set is built when the first reader
//! asks after a change (copy on write, then shared).
//!
//! One writer at a time (the commit lock) inserts; readers run beside it without locks. They see entries that are not yet
//! visible; the sequence number that they read at decides.

mod iter;

use std::borrow::Borrow;
use std::cmp::Ordering as KeyOrder;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_skiplist::SkipMap;
use parking_lot::Mutex;

use crate::batch::Operation;
use crate::charge::Charge;
use crate::error::Result;
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber, TRAILER_BYTES, parse_trailer, trailer};
use crate::range_tombstone::{RangeTombstone, RangeTombstones};
use crate::table::Found;
use crate::value::Value;

pub use iter::SortedIter;

/// Memory of one entry beside its bytes: the node (key 40, value 8, reference count 8, 1.33 pointers on average up to 16)
/// and the allocator's own.
const ENTRY_OVERHEAD_BYTES: usize = 88;

/// What the skip list compares: a stored key, or one that is looked for. (A trait object, because a stored key cannot be borrowed as
/// anything that a reader could make without allocating.)
trait KeyView {
    fn prefix(&self) -> u64;
    fn user(&self) -> &[u8];
    fn trailer(&self) -> u64;
}

#[inline]
fn compare(a: &(impl KeyView + ?Sized), b: &(impl KeyView + ?Sized)) -> KeyOrder {
    a.prefix()
        .cmp(&b.prefix())
        .then_with(|| a.user().cmp(b.user()))
        .then_with(|| a.trailer().cmp(&b.trailer()))
}

/// The first eight bytes as a big-endian number, zeros after the end. Where two differ they order as the keys do; where they are equal
/// the keys decide.
#[inline]
fn prefix_of(user: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let length = user.len().min(8);
    if let (Some(to), Some(from)) = (bytes.get_mut(..length), user.get(..length)) {
        to.copy_from_slice(from);
    }
    u64::from_be_bytes(bytes)
}

impl PartialEq for dyn KeyView + '_ {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other).is_eq()
    }
}

impl Eq for dyn KeyView + '_ {}

impl PartialOrd for dyn KeyView + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<KeyOrder> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn KeyView + '_ {
    fn cmp(&self, other: &Self) -> KeyOrder {
        compare(self, other)
    }
}

/// A key in the list: a place in its batch, and the trailer of internal keys, as a number.
#[derive(Clone, Debug)]
struct StoredKey {
    batch: Arc<[u8]>,
    start: u32,
    length: u32,
    prefix: u64,
    trailer: u64,
}

/// A value in the list: a place in the batch of its key.
#[derive(Clone, Copy, Debug)]
struct StoredValue {
    start: u32,
    length: u32,
}

fn slice(batch: &[u8], start: u32, length: u32) -> &[u8] {
    let start = start as usize;
    batch.get(start..start + length as usize).unwrap_or_default()
}

impl KeyView for StoredKey {
    #[inline]
    fn prefix(&self) -> u64 {
        self.prefix
    }

    #[inline]
    fn user(&self) -> &[u8] {
        slice(&self.batch, self.start, self.length)
    }

    #[inline]
    fn trailer(&self) -> u64 {
        self.trailer
    }
}

impl PartialEq for StoredKey {
    fn eq(&self, other: &Self) -> bool {
        compare(self, other).is_eq()
    }
}

impl Eq for StoredKey {}

impl PartialOrd for StoredKey {
    fn partial_cmp(&self, other: &Self) -> Option<KeyOrder> {
        Some(self.cmp(other))
    }
}

impl Ord for StoredKey {
    #[inline]
    fn cmp(&self, other: &Self) -> KeyOrder {
        compare(self, other)
    }
}

impl<'a> Borrow<dyn KeyView + 'a> for StoredKey {
    fn borrow(&self) -> &(dyn KeyView + 'a) {
        self
    }
}

/// A key that is looked for.
struct Target<'a> {
    prefix: u64,
    user: &'a [u8],
    trailer: u64,
}

impl<'a> Target<'a> {
    fn new(user: &'a [u8], trailer: u64) -> Self {
        Self { prefix: prefix_of(user), user, trailer }
    }
}

impl KeyView for Target<'_> {
    #[inline]
    fn prefix(&self) -> u64 {
        self.prefix
    }

    #[inline]
    fn user(&self) -> &[u8] {
        self.user
    }

    #[inline]
    fn trailer(&self) -> u64 {
        self.trailer
    }
}

#[derive(Debug, Default)]
struct Tombstones {
    added: Vec<RangeTombstone>,
    built: Option<Arc<RangeTombstones>>,
}

/// The newest writes of one keyspace.
pub struct SortedMemtable {
    entries: SkipMap<StoredKey, StoredValue>,
    tombstones: Mutex<Tombstones>,
    /// So that a reader of a memtable without range tombstones takes no lock.
    tombstone_count: AtomicUsize,
    entry_count: AtomicUsize,
    memory_bytes: AtomicUsize,
    /// What all memtables of the database take.
    charge: Arc<Charge>,
    sequence_min: AtomicU64,
    sequence_max: AtomicU64,
}

impl SortedMemtable {
    /// An empty one, alone.
    pub fn new() -> Self {
        Self::charged(Arc::default())
    }

    /// An empty one whose bytes are charged for as long as somebody keeps it.
    pub(crate) fn charged(charge: Arc<Charge>) -> Self {
        Self {
            charge,
            entries: SkipMap::new(),
            tombstones: Mutex::new(Tombstones::default()),
            tombstone_count: AtomicUsize::new(0),
            entry_count: AtomicUsize::new(0),
            memory_bytes: AtomicUsize::new(0),
            sequence_min: AtomicU64::new(SEQUENCE_MAX),
            sequence_max: AtomicU64::new(0),
        }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entry_count.load(Ordering::Acquire) == 0 && self.tombstone_count.load(Ordering::Acquire) == 0
    }

    /// Entries, range tombstones not counted.
    pub fn entry_count(&self) -> usize {
        self.entry_count.load(Ordering::Relaxed)
    }

    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// The largest sequence number in it; 0 where it is empty.
    pub fn sequence_max(&self) -> SequenceNumber {
        self.sequence_max.load(Ordering::Acquire)
    }

    /// The smallest sequence number in it; [`SEQUENCE_MAX`] where it is empty.
    pub fn sequence_min(&self) -> SequenceNumber {
        self.sequence_min.load(Ordering::Acquire)
    }

    /// Adds one operation of `batch`. One caller at a time; readers may run beside it.
    pub fn apply(&self, batch: &Arc<[u8]>, operation: Operation, sequence: SequenceNumber) {
        let bytes = match operation {
            Operation::Put { key, value } => self.insert(batch, key, value, sequence, Kind::Put),
            Operation::Delete { key } => self.insert(batch, key, 0..0, sequence, Kind::Delete),
            Operation::DeleteRange { start, end } => self.insert_tombstone(batch, start, end, sequence),
        };
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.charge.add(bytes);
        self.sequence_min.fetch_min(sequence, Ordering::AcqRel);
        self.sequence_max.fetch_max(sequence, Ordering::AcqRel);
    }

    fn insert(
        &self,
        batch: &Arc<[u8]>,
        key: Range<usize>,
        value: Range<usize>,
        sequence: SequenceNumber,
        kind: Kind,
    ) -> usize {
        let bytes = key.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        let place = |range: &Range<usize>| (narrow(range.start), narrow(range.len()));
        let (start, length) = place(&key);
        let key = StoredKey {
            batch: Arc::clone(batch),
            start,
            length,
            prefix: prefix_of(slice(batch, start, length)),
            trailer: u64::from_be_bytes(trailer(sequence, kind)),
        };
        let (start, length) = place(&value);
        self.entries.insert(key, StoredValue { start, length });
        self.entry_count.fetch_add(1, Ordering::AcqRel);
        bytes
    }

    fn insert_tombstone(
        &self,
        batch: &[u8],
        start: Range<usize>,
        end: Option<Range<usize>>,
        sequence: SequenceNumber,
    ) -> usize {
        let owned = |range: Range<usize>| batch.get(range).unwrap_or_default().to_vec();
        let tombstone = RangeTombstone { start: owned(start), end: end.map(owned), sequence };
        let bytes = 2 * (tombstone.start.len() + tombstone.end.as_ref().map_or(0, Vec::len) + 64);
        let mut tombstones = self.tombstones.lock();
        tombstones.added.push(tombstone);
        tombstones.built = None;
        self.tombstone_count.store(tombstones.added.len(), Ordering::Release);
        bytes
    }

    /// The range tombstones, those not yet visible included; `None` where there are none.
    pub fn range_tombstones(&self) -> Option<Arc<RangeTombstones>> {
        if self.tombstone_count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut tombstones = self.tombstones.lock();
        let Tombstones { added, built } = &mut *tombstones;
        Some(Arc::clone(built.get_or_insert_with(|| Arc::new(RangeTombstones::new(added.iter().cloned())))))
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees. Range tombstones are not looked at.
    ///
    /// # Errors
    /// Never for what [`Self::apply`] put in; the signature is the tables'.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found>> {
        let target = Target::new(user_key, !(read_sequence << 8 | 0xff));
        let Some(entry) = self.entries.lower_bound(Bound::Included(&target as &dyn KeyView)) else {
            return Ok(None);
        };
        let key = entry.key();
        if key.user() != user_key {
            return Ok(None);
        }
        let (sequence, kind) = parse_trailer(key.trailer.to_be_bytes())?;
        let value = entry.value();
        Ok(Some((sequence, kind, Value::from(slice(&key.batch, value.start, value.length)))))
    }

    /// A cursor over its entries, which it keeps alive. Entries that are inserted while it moves may or may not be seen: they are
    /// not visible to whoever reads at a sequence number that was visible when the cursor was made.
    pub fn iter(self: &Arc<Self>) -> SortedIter {
        SortedIter::new(Arc::clone(self))
    }
}

/// A place in a batch as 32 bits.
fn narrow(place: usize) -> u32 {
    const _: () = assert!(crate::batch::BATCH_BYTES_MAX <= u32::MAX as usize);
    debug_assert!(
        place <= crate::batch::BATCH_BYTES_MAX,
        "batches are bounded where they are built and read"
    );
    u32::try_from(place).unwrap_or(u32::MAX)
}

impl Drop for SortedMemtable {
    fn drop(&mut self) {
        self.charge.subtract(self.memory_bytes());
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

/// Writes the internal key of a stored one to `out`.
fn internal_key(key: &StoredKey, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key.user());
    out.extend_from_slice(&key.trailer.to_be_bytes());
    debug_assert_eq!(out.len(), key.user().len() + TRAILER_BYTES);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batch::{Encoder, KeyspaceId, Operations};
    use crate::iter::InternalIterator;
    use crate::key::{seek_key, split};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
        assert_eq!(memtable.get(b"k\0", 9).unwrap(), None);
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
    fn range_tombstones_are_rebuilt_after_a_change() {
        let memtable = SortedMemtable::new();
        assert!(memtable.range_tombstones().is_none());
        fill(&memtable, 1, |batch, keyspace| batch.delete_prefix(keyspace, b"a"));
        assert!(!memtable.is_empty());
        let first = memtable.range_tombstones().unwrap();
        assert!(Arc::ptr_eq(&first, &memtable.range_tombstones().unwrap()));
        fill(&memtable, 2, |batch, keyspace| batch.delete_prefix(keyspace, b"b"));
        assert!(!Arc::ptr_eq(&first, &memtable.range_tombstones().unwrap()));
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
