//! The write buffer of a keyspace with fixed widths: rows in the order they came, found by a hash.
//!
//! The hash is keyed by a number drawn for each process, so that nobody outside can choose keys that collide. Rows lie in *parts*
//! ([`part`]), each with a capacity that is fixed when it is made: nothing is ever moved. The first part is as large as the buffer before this one
//! grew; if that was too small (a first buffer, a large batch, a replay), further parts follow, each four times as large (small ones sixteen times).
//!
//! Nobody pays for order but who asks for it: an iterator sorts the rows that were added since the last one ([`runs`]), a flush all.

mod iter;
mod part;
mod pool;
mod runs;
pub(crate) mod sort;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use crate::sync::Mutex;

use crate::batch::Operation;
use crate::charge::Charge;
use crate::error::Result;
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber};
use crate::row::Widths;
use crate::table::Found;
use crate::value::Value;

pub use iter::FixedIter;
use part::{Layout, Part, Row};
pub(crate) use pool::Pool;
use runs::Runs;

/// Rows of the first part, at least: a keyspace that gets a few is to take little.
const ROWS_MIN: usize = 16;

/// How many times larger each part is than the one before, and than a small one.
const GROWTH: usize = 4;
const GROWTH_SMALL: usize = 16;

/// Parts of fewer rows are small.
const ROWS_SMALL: usize = 1 << 16;

/// More parts than fit into memory: the last are of 2^24 rows, two gigabytes at least.
const PARTS_MAX: usize = 255;

static SEED: LazyLock<u64> = LazyLock::new(|| {
    let mut seed = [0; 8];
    match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_le_bytes(seed),
        // Without randomness the addresses of this process must do: it is about speed alone.
        Err(_) => std::ptr::from_ref(&ROWS_MIN).addr() as u64,
    }
});

/// The hash of a key by which rows are found, in this process.
#[inline]
pub(crate) fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, *SEED)
}

/// A row by its part (the upper eight bits) and its number there; in the order of writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct RowId(u32);

impl RowId {
    fn new(part: usize, number: u32) -> Self {
        Self(u32::try_from(part).unwrap_or(u32::MAX) << 24 | number)
    }

    fn part(self) -> usize {
        (self.0 >> 24) as usize
    }

    fn number(self) -> u32 {
        self.0 & 0x00ff_ffff
    }
}

/// See the module.
pub struct FixedMemtable {
    layout: Layout,
    widths: Widths,
    rows_first: usize,
    parts: [OnceLock<Part>; PARTS_MAX],
    part_count: AtomicUsize,
    entry_count: AtomicUsize,
    deletion_count: AtomicUsize,
    memory_bytes: AtomicUsize,
    charge: Arc<Charge>,
    /// Where parts come from and go to.
    pool: Arc<Pool>,
    sequence_min: AtomicU64,
    sequence_max: AtomicU64,
    runs: Mutex<Runs>,
    /// Held by the one that writes.
    writing: Mutex<()>,
}

impl FixedMemtable {
    /// An empty one for entries of these widths, alone.
    pub fn new(widths: Widths) -> Self {
        let charge = Arc::<Charge>::default();
        Self::charged(widths, 0, Arc::clone(&charge), Arc::new(Pool::charged(charge, usize::MAX)))
    }

    /// An empty one that expects so many rows; its bytes are charged for as long as somebody keeps it. It takes none before the first row.
    pub(crate) fn charged(
        widths: Widths,
        rows_expected: usize,
        charge: Arc<Charge>,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            layout: Layout::new(widths),
            widths,
            rows_first: rows_expected.clamp(ROWS_MIN, part::ROWS_MAX),
            parts: [const { OnceLock::new() }; PARTS_MAX],
            part_count: AtomicUsize::new(0),
            entry_count: AtomicUsize::new(0),
            deletion_count: AtomicUsize::new(0),
            memory_bytes: AtomicUsize::new(0),
            charge,
            pool,
            sequence_min: AtomicU64::new(SEQUENCE_MAX),
            sequence_max: AtomicU64::new(0),
            runs: Mutex::default(),
            writing: Mutex::new(()),
        }
    }

    /// The widths of its entries.
    pub fn widths(&self) -> Widths {
        self.widths
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.entry_count() == 0
    }

    /// Entries, older ones of a key and deletions included.
    pub fn entry_count(&self) -> usize {
        self.entry_count.load(Ordering::Acquire)
    }

    /// Those of them that are deletions.
    pub(crate) fn deletion_count(&self) -> usize {
        self.deletion_count.load(Ordering::Acquire)
    }

    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Those of its slots: they are there from the first row of a part on.
    pub(crate) fn slot_bytes(&self) -> usize {
        self.parts().map(Part::slot_bytes).sum()
    }

    /// What is charged for it: memory that was used before, or is ready, is there without rows too.
    pub(crate) fn charged_bytes(&self) -> usize {
        self.parts().map(Part::memory_bytes).sum()
    }

    /// The largest sequence number in it; 0 where it is empty.
    pub fn sequence_max(&self) -> SequenceNumber {
        self.sequence_max.load(Ordering::Acquire)
    }

    /// The smallest sequence number in it; [`SEQUENCE_MAX`] where it is empty.
    pub fn sequence_min(&self) -> SequenceNumber {
        self.sequence_min.load(Ordering::Acquire)
    }

    fn parts(&self) -> impl DoubleEndedIterator<Item = &Part> {
        let count = self.part_count.load(Ordering::Acquire);
        self.parts.iter().take(count).filter_map(OnceLock::get)
    }

    /// Has a row fetched.
    #[inline]
    fn prefetch_row(&self, id: RowId) {
        if let Some(part) = self.parts.get(id.part()).and_then(OnceLock::get) {
            part.prefetch_row(id.number());
        }
    }

    fn row(&self, id: RowId) -> Option<Row<'_>> {
        Some(self.parts.get(id.part())?.get()?.row(id.number()))
    }

    /// Adds one operation of `batch`, which has the widths of this keyspace (`Encoder` and replay see to that). Range deletes come as deletions of the keys
    /// that were there.
    pub fn apply(&self, batch: &[u8], operation: Operation, sequence: SequenceNumber) {
        let slice = |range| batch.get(range).unwrap_or_default();
        match operation {
            Operation::Put { key, value } => self.add(slice(key), slice(value), sequence, Kind::Put),
            Operation::Delete { key } => self.add(slice(key), &[], sequence, Kind::Delete),
            Operation::DeleteRange { .. } => {
                debug_assert!(
                    false,
                    "range deletes of fixed keyspaces are taken apart before they are logged"
                );
            }
        }
    }

    fn add(&self, key: &[u8], value: &[u8], sequence: SequenceNumber, kind: Kind) {
        let _alone = self.writing.lock();
        let hash = hash(key);
        let mut part_bytes = 0;
        let ready_bytes = loop {
            match self.parts().next_back().and_then(|part| part.add(key, value, hash, sequence, kind)) {
                Some(ready_bytes) => break ready_bytes,
                None => part_bytes += self.add_part(),
            }
        };
        self.memory_bytes.fetch_add(self.layout.row_bytes() + part_bytes, Ordering::Relaxed);
        if ready_bytes > 0 {
            self.charge.add(ready_bytes);
        }
        self.deletion_count.fetch_add(usize::from(kind == Kind::Delete), Ordering::AcqRel);
        self.sequence_min.fetch_min(sequence, Ordering::AcqRel);
        self.sequence_max.fetch_max(sequence, Ordering::AcqRel);
        self.entry_count.fetch_add(1, Ordering::AcqRel);
    }

    /// Makes room, and charges what it takes at once; returns the bytes of its slots.
    fn add_part(&self) -> usize {
        let count = self.part_count.load(Ordering::Relaxed);
        let rows = self.parts().next_back().map_or(self.rows_first, Self::rows_behind);
        let slot = self
            .parts
            .get(count)
            .expect("255 parts, nearly all of 2^24 rows, are more than a terabyte of memory");
        let part = slot.get_or_init(|| self.pool.take(self.layout, rows));
        self.charge.add(part.memory_bytes());
        self.part_count.store(count + 1, Ordering::Release);
        part.slot_bytes()
    }

    /// How many rows the next part has room for.
    fn rows_behind(last: &Part) -> usize {
        match last.capacity() {
            small @ 0..ROWS_SMALL => small * GROWTH_SMALL,
            large => large * GROWTH,
        }
    }

    /// How many rows a memtable should expect that takes the place of one into which so many entries came.
    pub(crate) fn rows_expected(entries_before: usize) -> usize {
        entries_before / 4 * 5
    }

    /// Has the system give memory before a writer waits for it: that of the next rows, so many bytes; and that of the next part, of this memtable if more rows are to come into it
    /// (about `to_come`) than there is room for, or of the one that takes its place.
    pub(crate) fn make_ready(&self, ahead_bytes: usize, to_come: usize) {
        let Some(last) = self.parts().next_back() else { return };
        let row_bytes = self.layout.row_bytes();
        let rows_ahead = ahead_bytes / row_bytes;
        let next = last.rows_not_ready(rows_ahead.min(to_come));
        if self.pool.has_room(next.len() * row_bytes) {
            // Counted before it is there: others give up theirs for it.
            self.charge.add(last.rows_are_ready(next.end));
            last.make_rows_ready(next);
        }
        let room = last.capacity().saturating_sub(last.count() as usize);
        if room < to_come {
            self.pool.make_ready(self.layout, Self::rows_behind(last), rows_ahead);
        } else if self.entry_count() >= to_come {
            // Not before it is half full: mostly the one before it is flushed by then, and leaves its own.
            let rows = Self::rows_expected(self.entry_count().saturating_add(to_come));
            self.pool.make_ready(self.layout, rows, rows_ahead);
        }
    }

    /// Has the place fetched where the newest write of a key stands, or will.
    #[inline]
    pub(crate) fn expect_key(&self, key: &[u8]) {
        if let Some(part) = self.parts().next_back() {
            part.prefetch(hash(key));
        }
    }

    /// Has what a lookup of this key needs first fetched.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        self.parts().for_each(|part| part.prefetch(hash));
    }

    #[inline]
    fn find(&self, key: &[u8], hash: u64, read_sequence: SequenceNumber) -> Option<Row<'_>> {
        self.parts().rev().find_map(|part| part.get(key, hash, read_sequence))
    }

    /// Cursors over its entries, which they keep alive; together they have all. Entries that are added while one moves are not in it.
    pub fn iters(self: &Arc<Self>) -> Vec<FixedIter> {
        let runs = self.runs.lock().catch_up(self);
        runs.into_iter().map(|run| FixedIter::new(Arc::clone(self), run)).collect()
    }

    /// One cursor over all entries, without leaving anything behind for others: for a flush.
    pub(crate) fn sorted_iter(self: &Arc<Self>) -> FixedIter {
        FixedIter::new(Arc::clone(self), Arc::new(runs::sorted(self, RowId::default()).0))
    }

    /// What the newest entry of `key` is that a reader at `read_sequence` sees; the value of a put goes to `value`, which is as long as values are.
    #[inline]
    pub(crate) fn get_into(
        &self,
        key: &[u8],
        hash: u64,
        read_sequence: SequenceNumber,
        value: &mut [u8],
    ) -> Option<Kind> {
        let row = self.find(key, hash, read_sequence)?;
        let kind = row.kind();
        if kind == Kind::Put {
            row.value(value);
        }
        Some(kind)
    }

    /// The newest entry of `user_key` that a reader at `read_sequence` sees.
    ///
    /// # Errors
    /// Never; the signature is that of all sources.
    pub fn get(&self, user_key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Found<'_>>> {
        if user_key.len() != self.widths.key() {
            return Ok(None);
        }
        Ok(self
            .find(user_key, hash(user_key), read_sequence)
            .map(|row| (row.sequence(), row.kind(), self.value_of(row).into())))
    }

    fn value_of(&self, row: Row<'_>) -> Value {
        if row.kind() == Kind::Delete {
            return Value::new();
        }
        let mut value = vec![0; self.widths.value()];
        row.value(&mut value);
        Value::from(value)
    }
}

impl Drop for FixedMemtable {
    fn drop(&mut self) {
        // The largest is the last: the next memtable begins with one of that size.
        let last = self.parts.iter_mut().rev().find_map(OnceLock::take);
        // All of it is counted until it is gone: whoever is told that there is room takes it at once.
        for part in self.parts.iter_mut().filter_map(OnceLock::take) {
            let bytes = part.memory_bytes();
            drop(part);
            self.charge.subtract(bytes);
        }
        if let Some(last) = last {
            self.pool.give(last);
        }
    }
}

impl std::fmt::Debug for FixedMemtable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixedMemtable")
            .field("entries", &self.entry_count())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}
