//! What a reader at one sequence number sees in a keyspace's view: lookups, and cursors in both directions.
//!
//! The sources of a view are ordered: the active memtable, the frozen ones, level 0 from its newest table, the levels below. For
//! one key, what a source holds is newer than what any later source does, and that goes for range tombstones over the key too. So a lookup
//! asks the sources in order and ends at the first that knows the key or deletes it; a scan merges them all, takes the newest
//! visible entry of each key, and asks the range tombstones of all.

use std::sync::Arc;

use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::{Kind, SequenceNumber, TRAILER_BYTES, parse_trailer, seek_key, split};
use crate::levels::{KeyspaceView, OpenTable, OpenTree, RunIter};
use crate::memtable::{FixedIter, Memtable, SortedIter};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::range_tombstone::{RangeTombstones, TombstoneCursor};
use crate::table::{AnyTable, AnyTableIter, Found, Lookup, ReadMode};
use crate::value::Value;

/// Older versions of a key that are stepped over before the cursor seeks past the rest.
const STEPS_BEFORE_SEEK: usize = 8;

fn live((sequence, kind, value): Found, covered: SequenceNumber) -> Option<Value> {
    (kind == Kind::Put && sequence > covered).then_some(value)
}

fn newest_covering(
    tombstones: Option<&Arc<RangeTombstones>>,
    key: &[u8],
    read_sequence: SequenceNumber,
) -> SequenceNumber {
    tombstones.map_or(0, |tombstones| tombstones.newest_covering(key, read_sequence))
}

/// The value of `key` that a reader at `read_sequence` sees.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub fn get(view: &KeyspaceView, key: &[u8], read_sequence: SequenceNumber) -> Result<Option<Value>> {
    for memtable in view.memtables() {
        let covered = newest_covering(memtable.range_tombstones().as_ref(), key, read_sequence);
        if let Some(found) = memtable.get(key, read_sequence)? {
            return Ok(live(found, covered));
        }
        if covered > 0 {
            return Ok(None);
        }
    }
    let hash = crate::filter::hash(key);
    let [newest, runs @ ..] = view.tables.levels();
    let newest = newest.iter().filter(|open| open.reference.bounds.contains(key));
    for open in newest.chain(runs.iter().filter_map(|level| OpenTree::find(level, key))) {
        let covered = newest_covering(open.tombstones.as_ref(), key, read_sequence);
        let AnyTable::Sorted(table) = &open.table else { continue };
        if let Some(found) = table.get_hashed(key, hash, read_sequence)? {
            return Ok(live(found, covered));
        }
        if covered > 0 {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The values of many keys, in their order. Each table is asked once for all keys that may be in it.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub fn multi_get<K: AsRef<[u8]>>(
    view: &KeyspaceView,
    keys: &[K],
    read_sequence: SequenceNumber,
) -> Result<Vec<Option<Value>>> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    let key_at = |index: usize| keys.get(index).map_or(&[][..], AsRef::as_ref);
    order.sort_unstable_by(|a, b| key_at(*a).cmp(key_at(*b)));
    let mut lookups: Vec<Lookup<'_>> =
        order.iter().map(|index| Lookup { user_key: key_at(*index), hash: 0, found: None }).collect();
    let mut missing = lookups.len();
    for memtable in view.memtables() {
        if memtable.is_empty() {
            continue;
        }
        let tombstones = memtable.range_tombstones();
        for lookup in lookups.iter_mut().filter(|lookup| lookup.found.is_none()) {
            let covered = newest_covering(tombstones.as_ref(), lookup.user_key, read_sequence);
            let found = memtable.get(lookup.user_key, read_sequence)?;
            lookup.found = settled(found, covered);
            missing -= usize::from(lookup.found.is_some());
        }
    }
    let [newest, runs @ ..] = view.tables.levels();
    if missing > 0 && view.tables.tables().next().is_some() {
        for lookup in lookups.iter_mut().filter(|lookup| lookup.found.is_none()) {
            lookup.hash = crate::filter::hash(lookup.user_key);
        }
        for open in newest.iter().chain(runs.iter().flat_map(|level| level.iter())) {
            if missing == 0 {
                break;
            }
            missing -= multi_get_table(open, &mut lookups, read_sequence)?;
        }
    }
    let mut values: Vec<Option<Value>> = vec![None; keys.len()];
    for (index, lookup) in order.into_iter().zip(lookups) {
        if let (Some(slot), Some(found)) = (values.get_mut(index), lookup.found) {
            *slot = live(found, 0);
        }
    }
    Ok(values)
}

/// What a source's answer means: a range tombstone over what was found (or over nothing) is a deletion.
fn settled(found: Option<Found>, covered: SequenceNumber) -> Option<Found> {
    match found {
        Some(found) if found.0 > covered => Some(found),
        _ if covered > 0 => Some((covered, Kind::Delete, Value::new())),
        found => found,
    }
}

/// Asks one table; returns how many lookups it settled.
fn multi_get_table(
    open: &OpenTable,
    lookups: &mut [Lookup<'_>],
    read_sequence: SequenceNumber,
) -> Result<usize> {
    let bounds = &open.reference.bounds;
    let start = lookups.partition_point(|lookup| lookup.user_key < bounds.lower.as_slice());
    let end = lookups.partition_point(|lookup| bounds.is_before_end(lookup.user_key));
    let Some(inside) = lookups.get_mut(start..end) else { return Ok(0) };
    let pending: Vec<bool> = inside.iter().map(|lookup| lookup.found.is_none()).collect();
    if !pending.contains(&true) {
        return Ok(0);
    }
    if let AnyTable::Sorted(table) = &open.table {
        table.multi_get(inside, read_sequence)?;
    }
    let mut settled_count = 0;
    for (lookup, was_pending) in inside.iter_mut().zip(pending) {
        if was_pending {
            let covered = newest_covering(open.tombstones.as_ref(), lookup.user_key, read_sequence);
            lookup.found = settled(lookup.found.take(), covered);
            settled_count += usize::from(lookup.found.is_some());
        }
    }
    Ok(settled_count)
}

/// Any source of entries. An enum, so that the merge calls none through a pointer.
#[derive(Debug)]
pub enum Source {
    /// A memtable.
    Memtable(SortedIter),
    /// Rows of a memtable.
    Rows(FixedIter),
    /// A table.
    Table(AnyTableIter),
    /// A run of tables.
    Run(RunIter),
}

macro_rules! delegate {
    ($self:ident, $source:ident => $call:expr) => {
        match $self {
            Source::Memtable($source) => $call,
            Source::Rows($source) => $call,
            Source::Table($source) => $call,
            Source::Run($source) => $call,
        }
    };
}

impl InternalIterator for Source {
    fn seek_to_first(&mut self) -> Result<()> {
        delegate!(self, source => source.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        delegate!(self, source => source.seek_to_last())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, source => source.seek(internal))
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, source => source.seek_for_prev(internal))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        delegate!(self, source => source.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        delegate!(self, source => source.prev())
    }

    #[inline]
    fn valid(&self) -> bool {
        delegate!(self, source => source.valid())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        delegate!(self, source => source.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        delegate!(self, source => source.value())
    }

    fn owned_value(&self) -> Value {
        delegate!(self, source => source.owned_value())
    }
}

/// The sources of a view that may say something about `range`, merged; and their range tombstones.
fn sources(
    view: &KeyspaceView,
    range: &KeyRange,
    read_sequence: SequenceNumber,
) -> (MergingIterator<Source>, Vec<TombstoneCursor>) {
    let mut sources = Vec::new();
    let mut tombstones = Vec::new();
    let mut keep = |set: &Arc<RangeTombstones>| {
        if set.bounds().is_some_and(|bounds| bounds.overlaps(range)) {
            tombstones.push(TombstoneCursor::new(Arc::clone(set), read_sequence));
        }
    };
    for memtable in view.memtables() {
        if memtable.entry_count() > 0 {
            match memtable {
                Memtable::Sorted(memtable) => sources.push(Source::Memtable(memtable.iter())),
                Memtable::Fixed(memtable) => sources.extend(memtable.iters().into_iter().map(Source::Rows)),
            }
        }
        if let Some(set) = memtable.range_tombstones() {
            keep(&set);
        }
    }
    let [newest, runs @ ..] = view.tables.levels();
    for open in newest.iter() {
        sources.extend(open.iter(ReadMode::Cached, range).map(Source::Table));
    }
    for level in runs {
        let mut overlapping = level.iter().filter(|open| open.reference.bounds.overlaps(range));
        match (overlapping.next(), overlapping.next()) {
            (None, _) => {}
            (Some(only), None) => sources.extend(only.iter(ReadMode::Cached, range).map(Source::Table)),
            _ => sources.push(Source::Run(RunIter::new(Arc::clone(level), ReadMode::Cached, range.clone()))),
        }
    }
    for set in view.tables.tables().filter_map(|open| open.tombstones.as_ref()) {
        keep(set);
    }
    (MergingIterator::new(sources), tombstones)
}

fn covered(tombstones: &mut [TombstoneCursor], key: &[u8]) -> SequenceNumber {
    tombstones.iter_mut().map(|set| set.newest_covering(key)).max().unwrap_or(0)
}

/// The trailer behind which no entry of a key stands.
const LAST_TRAILER: [u8; TRAILER_BYTES] = [0xff; TRAILER_BYTES];

/// Walks upward over what a reader sees.
#[derive(Debug)]
pub struct Forward {
    merge: MergingIterator<Source>,
    tombstones: Vec<TombstoneCursor>,
    range: KeyRange,
    read_sequence: SequenceNumber,
    started: bool,
    /// The last user key that was answered for, whatever the answer.
    last: Option<Vec<u8>>,
}

impl Forward {
    /// Stands before the first key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, tombstones) = sources(view, &range, read_sequence);
        Self { merge, tombstones, range, read_sequence, started: false, last: None }
    }

    /// The next visible key, with its value.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn step(&mut self) -> Result<Option<(Value, Value)>> {
        if self.started {
            self.merge.next()?;
        } else {
            self.merge.seek(&seek_key(&self.range.lower, crate::key::SEQUENCE_MAX))?;
            self.started = true;
        }
        let mut steps = 0;
        while self.merge.valid() {
            let (user, trailer) = split(self.merge.key())?;
            if !self.range.is_before_end(user) {
                return Ok(None);
            }
            let is_older = self.last.as_deref() == Some(user);
            let (sequence, kind) = parse_trailer(trailer)?;
            if is_older || sequence > self.read_sequence {
                steps += 1;
                if steps > STEPS_BEFORE_SEEK {
                    steps = 0;
                    let target = match is_older {
                        true => [user, &LAST_TRAILER].concat(),
                        false => seek_key(user, self.read_sequence),
                    };
                    self.merge.seek(&target)?;
                } else {
                    self.merge.next()?;
                }
                continue;
            }
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(user);
            if kind == Kind::Put && sequence > covered(&mut self.tombstones, user) {
                return Ok(Some((Value::from(user), self.merge.owned_value())));
            }
            steps = 0;
            self.merge.next()?;
        }
        Ok(None)
    }
}

/// Walks downward over what a reader sees.
#[derive(Debug)]
pub struct Backward {
    merge: MergingIterator<Source>,
    tombstones: Vec<TombstoneCursor>,
    range: KeyRange,
    read_sequence: SequenceNumber,
    started: bool,
    user: Vec<u8>,
}

impl Backward {
    /// Stands behind the last key of `range`.
    pub fn new(view: &KeyspaceView, range: KeyRange, read_sequence: SequenceNumber) -> Self {
        let (merge, tombstones) = sources(view, &range, read_sequence);
        Self { merge, tombstones, range, read_sequence, started: false, user: Vec::new() }
    }

    fn start(&mut self) -> Result<()> {
        self.started = true;
        match &self.range.upper {
            std::ops::Bound::Unbounded => self.merge.seek_to_last(),
            std::ops::Bound::Included(key) => self.merge.seek_for_prev(&[key, &LAST_TRAILER[..]].concat()),
            // Nothing stands at this internal key itself: no entry has its kind.
            std::ops::Bound::Excluded(key) => {
                self.merge.seek_for_prev(&seek_key(key, crate::key::SEQUENCE_MAX))
            }
        }
    }

    /// The next visible key downward, with its value.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset.
    pub fn step(&mut self) -> Result<Option<(Value, Value)>> {
        if !self.started {
            self.start()?;
        }
        // The merge stands on the oldest entry of a key that was not answered for.
        while self.merge.valid() {
            let (user, _) = split(self.merge.key())?;
            if user < self.range.lower.as_slice() {
                return Ok(None);
            }
            self.user.clear();
            self.user.extend_from_slice(user);
            let mut newest: Option<Found> = None;
            while self.merge.valid() {
                let (user, trailer) = split(self.merge.key())?;
                if user != self.user {
                    break;
                }
                let (sequence, kind) = parse_trailer(trailer)?;
                if sequence <= self.read_sequence {
                    newest = Some((sequence, kind, self.merge.owned_value()));
                }
                self.merge.prev()?;
            }
            if let Some(found) = newest
                && found.1 == Kind::Put
                && let Some(value) = live(found, covered(&mut self.tombstones, &self.user))
            {
                return Ok(Some((Value::from(self.user.as_slice()), value)));
            }
        }
        Ok(None)
    }
}
