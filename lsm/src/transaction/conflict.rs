//! Whether anything that a transaction read or writes was written since some moment.
//!
//! Each memtable and each table tells its largest sequence number, so that in the usual case one comparison rules out all but the active memtable, and that too
//! where nothing was committed meanwhile. What is newer is looked up like a reader would, but for its number alone: the newest entry of a key, the
//! newest range tombstone over it, and for a range whether any entry or tombstone in it is newer.
//!
//! Nothing is missed: while the transaction runs its snapshot is registered, so that a flush or a merge keeps what the state at the snapshot needs, and
//! with it whatever hides that from later readers. What it may drop is a write that a later one took back, where there was nothing before either: the state
//! is what it was then, and the transaction may go on.

use super::reads::Reads;
use super::writes::Writes;
use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::filter;
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, SequenceNumber, parse_trailer, seek_key, split};
use crate::levels::{KeyspaceView, OpenTable, View};
use crate::memtable::Memtable;
use crate::ordered::OrderedMap;
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::row::KeyspaceKind;
use crate::table::{AnyTable, ReadMode};

/// All that a transaction touched, by keyspace.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    keyspaces: OrderedMap<KeyspaceId, Touched>,
}

#[derive(Debug, Default)]
struct Touched {
    /// Ascending.
    keys: Vec<Vec<u8>>,
    ranges: Vec<KeyRange>,
}

impl Footprint {
    pub(super) fn new(reads: Reads, writes: &OrderedMap<KeyspaceId, Writes>) -> Self {
        let mut keyspaces: OrderedMap<KeyspaceId, Touched> = OrderedMap::new();
        for (id, read) in reads.into_keyspaces() {
            let touched = keyspaces.get_or_insert_with(id, Touched::default);
            touched.ranges.extend(read.ranges().cloned());
            touched.keys.extend(read.keys);
        }
        for (id, written) in writes {
            let touched = keyspaces.get_or_insert_with(*id, Touched::default);
            touched.ranges.extend(written.ranges());
            touched.keys.extend(written.keys().cloned());
            touched.keys.sort_unstable();
            touched.keys.dedup();
        }
        Self { keyspaces }
    }
}

/// Succeeds if nothing that was touched was written with a sequence number above `since`, nor loaded since there were `loads`.
///
/// # Errors
/// Conflict; Dropped; those of reading.
pub(super) fn check(
    view: &View,
    footprint: &Footprint,
    (since, loads): (SequenceNumber, u64),
    engine: &Engine,
) -> Result<()> {
    for (id, touched) in &footprint.keyspaces {
        let Some(keyspace) = view.keyspaces.get(id) else { return Err(engine.dropped(*id)) };
        if engine.is_being_dropped(*id) {
            return Err(Error::dropped(&*keyspace.name));
        }
        // What is loaded has the number of when that began.
        let changed = match engine.was_loaded_since(*id, loads) {
            true => Some("what was loaded".to_owned()),
            false => touched.changed(keyspace, since)?,
        };
        if let Some(what) = changed {
            engine.counters.conflicted();
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{what} in keyspace {:?} was written by somebody else since the transaction began: nothing of it is applied. Begin it again",
                    keyspace.name
                ),
            ));
        }
    }
    Ok(())
}

impl Touched {
    /// The first thing found that was written above `since`, for the message.
    fn changed(&self, view: &KeyspaceView, since: SequenceNumber) -> Result<Option<String>> {
        let key_changed = |key: &[u8]| Ok(Some(format!("key {}", key.escape_ascii())));
        let range_changed = |range: &KeyRange| {
            Ok(Some(format!("something between {} and {:?}", range.lower.escape_ascii(), range.upper)))
        };
        for memtable in view.memtables().filter(|memtable| memtable.sequence_max() > since) {
            let tombstones = memtable.range_tombstones();
            for key in &self.keys {
                let newest = match view.kind {
                    // No key of another width is there, nor could be.
                    KeyspaceKind::Fixed(widths) if key.len() != widths.key() => 0,
                    _ => memtable.get(key, SEQUENCE_MAX)?.map_or(0, |(sequence, ..)| sequence),
                };
                if newest > since || covers(tombstones.as_deref(), key, since) {
                    return key_changed(key);
                }
            }
            for range in &self.ranges {
                let is_newer = match memtable {
                    Memtable::Sorted(memtable) => holds_newer(memtable.iter(), range, since)?,
                    Memtable::Fixed(memtable) => {
                        let mut runs = memtable.iters().into_iter();
                        runs.try_fold(false, |found, run| Ok(found || holds_newer(run, range, since)?))?
                    }
                };
                if is_newer || overlaps(tombstones.as_deref(), range, since) {
                    return range_changed(range);
                }
            }
        }
        for open in view.tables.tables().filter(|open| open.reference.sequence_max > since) {
            let bounds = &open.reference.bounds;
            let tombstones = open.tombstones.as_deref();
            let first = self.keys.partition_point(|key| *key < bounds.lower);
            for key in self.keys.iter().skip(first).take_while(|key| bounds.is_before_end(key)) {
                if newest(open, key)? > since || covers(tombstones, key, since) {
                    return key_changed(key);
                }
            }
            for range in &self.ranges {
                if overlaps(tombstones, range, since) {
                    return range_changed(range);
                }
                if let Some(entries) = open.iter(ReadMode::Cached, range)
                    && holds_newer(entries, range, since)?
                {
                    return range_changed(range);
                }
            }
        }
        Ok(None)
    }
}

/// The sequence number of the newest entry of `key` in a table, 0 if there is none. (Rows may have no numbers of their own, where no reader stood between
/// them when they were written: then all have the largest, and if that is newer, so were they all for whoever reads now.)
fn newest(open: &OpenTable, key: &[u8]) -> Result<SequenceNumber> {
    let hash = filter::hash(key);
    Ok(match &open.table {
        AnyTable::Sorted(table) => {
            table.get_hashed(key, hash, SEQUENCE_MAX)?.map_or(0, |(sequence, ..)| sequence)
        }
        AnyTable::Fixed(table)
            if key.len() == table.widths().key() && table.may_contain(&open.resident, hash)? =>
        {
            table.find(&open.resident, key, SEQUENCE_MAX, |sequence, _, _| sequence)?.unwrap_or(0)
        }
        AnyTable::Fixed(_) => 0,
    })
}

/// Whether a range tombstone over `key` is newer.
fn covers(tombstones: Option<&RangeTombstones>, key: &[u8], since: SequenceNumber) -> bool {
    tombstones.is_some_and(|set| set.sequence_max() > since && set.newest_covering(key, SEQUENCE_MAX) > since)
}

/// Whether a range tombstone that reaches into `range` is newer.
fn overlaps(tombstones: Option<&RangeTombstones>, range: &KeyRange, since: SequenceNumber) -> bool {
    tombstones.is_some_and(|set| {
        set.sequence_max() > since
            && set.iter().filter(|tombstone| tombstone.sequence > since).any(|tombstone| {
                tombstone.end.is_none_or(|end| end > range.lower.as_slice())
                    && range.is_before_end(tombstone.start)
            })
    })
}

/// Whether an entry in `range` is newer.
fn holds_newer(mut entries: impl InternalIterator, range: &KeyRange, since: SequenceNumber) -> Result<bool> {
    entries.seek(&seek_key(&range.lower, SEQUENCE_MAX))?;
    while entries.valid() {
        let (user, trailer) = split(entries.key())?;
        if !range.is_before_end(user) {
            return Ok(false);
        }
        if parse_trailer(trailer)?.0 > since {
            return Ok(true);
        }
        entries.next()?;
    }
    Ok(false)
}
