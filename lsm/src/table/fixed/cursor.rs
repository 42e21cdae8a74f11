//! Moving over the rows of a table, both ways, within bounds; and the same as an iterator over internal keys.

use std::ops::Bound;
use std::sync::Arc;

use super::layout::Rows;
use super::reader::FixedTable;
use super::region::Region;
use super::resident::{BlockRef, Resident};
use crate::block::{Block, TRAILER_BYTES};
use crate::error::{Error, IoContext, Result};
use crate::iter::InternalIterator;
use crate::key::{self, Kind, SEQUENCE_MAX, SequenceNumber};
use crate::memory::Bytes;
use crate::range::KeyRange;
use crate::table::ReadMode;

/// Blocks read at once when a scan has shown itself, at most.
pub(crate) const AHEAD_BLOCKS: usize = 64;

/// Where the current rows are.
#[derive(Debug)]
enum Current {
    Nowhere,
    Resident(Arc<Region>, usize),
    Read(Block),
}

/// A row's place: its block, and its number there.
type Place = (usize, usize);

/// A cursor over rows, as [`InternalIterator`] describes it but for the keys.
#[derive(Debug)]
pub(crate) struct RowCursor {
    table: Arc<FixedTable>,
    resident: Resident,
    mode: ReadMode,
    bounds: KeyRange,
    /// The first place within the bounds, and the one behind the last; known once they are needed.
    limits: Option<(Place, Place)>,
    place: Place,
    current: Current,
    /// The block that `current` is.
    current_block: usize,
    count: usize,
    is_valid: bool,
    /// Room for blocks that are read ahead, what of it they take, and the first one's number.
    ahead: Bytes,
    ahead_bytes: usize,
    ahead_block: usize,
    /// How many are read at once.
    ahead_max: usize,
    failed: Option<Error>,
}

impl RowCursor {
    pub(crate) fn new(table: Arc<FixedTable>, resident: Resident, mode: ReadMode, bounds: KeyRange) -> Self {
        Self {
            table,
            resident,
            mode,
            bounds,
            limits: None,
            place: (0, 0),
            current: Current::Nowhere,
            current_block: usize::MAX,
            count: 0,
            is_valid: false,
            ahead: Bytes::Heap(Vec::new()),
            ahead_bytes: 0,
            ahead_block: 0,
            ahead_max: AHEAD_BLOCKS,
            failed: None,
        }
    }

    /// Has it read at most so many blocks at once: of many cursors together each takes less memory.
    pub(crate) fn with_ahead(mut self, blocks: usize) -> Self {
        self.ahead_max = blocks.clamp(1, AHEAD_BLOCKS);
        self
    }

    pub(crate) fn table(&self) -> &Arc<FixedTable> {
        &self.table
    }

    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.is_valid
    }

    fn payload(&self) -> &[u8] {
        match &self.current {
            Current::Nowhere => &[],
            Current::Resident(region, block) => region
                .get(*block)
                .and_then(|bytes| bytes.get(..bytes.len() - TRAILER_BYTES))
                .unwrap_or_default(),
            Current::Read(block) => block.bytes(),
        }
    }

    #[inline]
    fn rows(&self) -> Rows<'_> {
        self.table.layout.rows(self.payload())
    }

    /// The first eight bytes of the key as a number.
    #[inline]
    pub(crate) fn prefix(&self) -> u64 {
        self.rows().prefix(self.place.1)
    }

    /// What follows the first eight bytes of the key.
    #[inline]
    pub(crate) fn tail(&self) -> &[u8] {
        self.rows().tail(self.place.1)
    }

    /// The value; of a deletion: zeros.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.rows().value(self.place.1)
    }

    /// The sequence number.
    #[inline]
    pub(crate) fn sequence(&self) -> SequenceNumber {
        self.rows().sequence(self.place.1).unwrap_or(self.table.sequence_of_all())
    }

    /// What the write did. The kinds of a block were checked when it was read.
    #[inline]
    pub(crate) fn kind(&self) -> Kind {
        self.rows().kind(self.place.1).unwrap_or(Kind::Delete)
    }

    /// Copies the key to the end of `out`.
    #[inline]
    pub(crate) fn key(&self, out: &mut Vec<u8>) {
        self.rows().key(self.place.1, out);
    }

    /// Keeps an error, so that going on repeats it.
    fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            self.is_valid = false;
            self.failed = Some(error.clone());
        })
    }

    /// The first place whose key is `user` or above; with `behind`, behind the writes of `user`.
    fn place_of(&self, user: &[u8], behind: bool) -> Result<Place> {
        let width = self.table.layout.widths.key();
        // A shorter key stands before the key that it becomes with zeros behind it, a longer one behind the key that it begins with.
        let mut exact = user.to_vec();
        exact.resize(width, 0);
        let sequence = match user.len().cmp(&width) {
            std::cmp::Ordering::Less => SEQUENCE_MAX,
            std::cmp::Ordering::Equal if !behind => SEQUENCE_MAX,
            _ => 0,
        };
        self.place_at(&exact, sequence)
    }

    fn place_at(&self, key: &[u8], sequence: SequenceNumber) -> Result<Place> {
        let (block, at, _) = self.table.lower_bound(&self.resident, key, sequence)?;
        let is_behind = at >= self.table.rows_in(block);
        Ok(if is_behind { (block + 1, 0) } else { (block, at) })
    }

    fn limits(&mut self) -> Result<(Place, Place)> {
        if let Some(limits) = self.limits {
            return Ok(limits);
        }
        let lower = match self.bounds.lower.is_empty() {
            true => (0, 0),
            false => self.place_of(&self.bounds.lower, false)?,
        };
        let upper = match &self.bounds.upper {
            Bound::Unbounded => (self.table.blocks(), 0),
            Bound::Excluded(key) => self.place_of(key, false)?,
            Bound::Included(key) => self.place_of(key, true)?,
        };
        self.limits = Some((lower, upper));
        Ok((lower, upper))
    }

    /// Makes a block the current one.
    fn enter(&mut self, block: usize) -> Result<()> {
        if self.current_block == block {
            return Ok(());
        }
        let last = std::mem::replace(&mut self.current_block, usize::MAX);
        self.current = self.fetch(block, last)?;
        self.count = self.table.rows_in(block);
        self.current_block = block;
        Ok(())
    }

    fn fetch(&mut self, block: usize, last: usize) -> Result<Current> {
        if let Some(region) = &self.resident.rows
            && region.get(block).is_some()
        {
            return Ok(Current::Resident(Arc::clone(region), block));
        }
        let is_near = last != usize::MAX && block.abs_diff(last) == 1;
        if self.mode == ReadMode::Cached && !is_near && self.buffered(block).is_none() {
            let read = self.table.rows_block(&self.resident, block)?;
            return Ok(match read {
                BlockRef::Cached(block) => Current::Read(block),
                BlockRef::Resident(_) => self
                    .resident
                    .rows
                    .clone()
                    .map_or(Current::Nowhere, |region| Current::Resident(region, block)),
            });
        }
        if self.mode == ReadMode::Cached
            && let Some(block) = self.table.cached_block(block)
        {
            return Ok(Current::Read(block));
        }
        if self.buffered(block).is_none() {
            self.read_ahead(block, last != usize::MAX && block < last)?;
        }
        let handle = self.table.layout.handle(block as u64);
        let bytes = self.buffered(block).unwrap_or_default();
        let read = self.table.rows_of(bytes, handle)?;
        if self.mode == ReadMode::Cached {
            match &self.resident.rows {
                Some(region) => region.put(block, bytes),
                None => return Ok(Current::Read(self.table.keep_block(block, read))),
            }
        }
        Ok(Current::Read(read))
    }

    fn buffered(&self, block: usize) -> Option<&[u8]> {
        let size = self.table.layout.block_bytes;
        let start = block.checked_sub(self.ahead_block)?.checked_mul(size)?;
        self.ahead.get(..self.ahead_bytes)?.get(start..start.checked_add(size)?)
    }

    fn read_ahead(&mut self, block: usize, is_backward: bool) -> Result<()> {
        let size = self.table.layout.block_bytes;
        let (first, count) = match is_backward {
            true => (block.saturating_sub(self.ahead_max - 1), (block + 1).min(self.ahead_max)),
            false => (block, self.ahead_max.min(self.table.blocks().saturating_sub(block))),
        };
        if self.ahead.len() < count * size {
            self.ahead = match self.mode {
                // Merges have many of these; a scan is short, mostly, and would wait for the system.
                ReadMode::Bypass => Bytes::scratch(count * size),
                ReadMode::Cached => Bytes::Heap(vec![0; count * size]),
            };
        }
        self.ahead_bytes = 0;
        self.ahead_block = first;
        let handle = self.table.layout.handle(first as u64);
        let file = &self.table.file;
        let mut read = |count: usize, offset: u64| {
            let place = self.ahead.get_mut(..count * size).unwrap_or_default();
            file.file.read_exact_at(place, offset).map(|()| self.ahead_bytes = place.len())
        };
        if read(count, handle.offset).is_err() {
            // A neighbour may be what cannot be read: this block alone decides.
            let handle = self.table.layout.handle(block as u64);
            read(1, handle.offset)
                .context("read rows of a table", &file.path)
                .map_err(|error| error.at_offset(handle.offset))?;
            self.ahead_block = block;
        }
        Ok(())
    }

    /// Stands at a place, or nowhere if it is beyond the limits.
    fn go_to(&mut self, place: Place) -> Result<()> {
        let (lower, upper) = self.limits()?;
        self.is_valid = false;
        if place < lower || place >= upper || place.0 >= self.table.blocks() {
            return Ok(());
        }
        self.enter(place.0)?;
        self.place = place;
        self.is_valid = place.1 < self.count;
        Ok(())
    }

    fn before(&mut self, place: Place) -> Result<()> {
        let (lower, upper) = self.limits()?;
        let place = place.min(upper);
        self.is_valid = false;
        match place {
            _ if place <= lower => Ok(()),
            (block, 0) => match block.checked_sub(1) {
                Some(block) => {
                    self.enter(block)?;
                    self.go_to((block, self.count.saturating_sub(1)))
                }
                None => Ok(()),
            },
            (block, at) => self.go_to((block, at - 1)),
        }
    }

    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.failed = None;
        let moved = self.limits().and_then(|(lower, _)| self.go_to(lower));
        self.settle(moved)
    }

    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.failed = None;
        let moved = self.limits().and_then(|(_, upper)| self.before(upper));
        self.settle(moved)
    }

    /// The place of the first row at or above an internal key (of its kind apart).
    fn place_of_internal(&self, internal: &[u8]) -> Result<Place> {
        let (user, trailer) = key::split(internal)?;
        if user.len() != self.table.layout.widths.key() {
            return self.place_of(user, false);
        }
        self.place_at(user, !u64::from_be_bytes(trailer) >> 8)
    }

    pub(crate) fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.failed = None;
        let moved = self.limits().and_then(|(lower, _)| {
            let place = self.place_of_internal(internal)?;
            self.go_to(place.max(lower))
        });
        self.settle(moved)
    }

    /// Stands at the last row before the first that is at or above `internal`.
    fn seek_before(&mut self, internal: &[u8]) -> Result<()> {
        self.failed = None;
        let moved = self.place_of_internal(internal).and_then(|place| self.before(place));
        self.settle(moved)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if !self.is_valid {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        let (block, at) = self.place;
        let next = if at + 1 < self.count { (block, at + 1) } else { (block + 1, 0) };
        if next.0 == block
            && let Some((_, upper)) = self.limits
            && next < upper
        {
            self.place = next;
            return Ok(());
        }
        let moved = self.go_to(next);
        self.settle(moved)
    }

    pub(crate) fn prev(&mut self) -> Result<()> {
        if !self.is_valid {
            return self.failed.clone().map_or(Ok(()), Err);
        }
        let moved = self.before(self.place);
        self.settle(moved)
    }
}

/// A cursor over a table of rows as internal keys and values.
#[derive(Debug)]
pub struct FixedTableIter {
    rows: RowCursor,
    key: Vec<u8>,
}

impl FixedTableIter {
    pub(crate) fn new(rows: RowCursor) -> Self {
        Self { rows, key: Vec::new() }
    }

    fn show(&mut self) {
        self.key.clear();
        if self.rows.valid() {
            self.rows.key(&mut self.key);
            self.key.extend_from_slice(&key::trailer(self.rows.sequence(), self.rows.kind()));
        }
    }

    fn shown(&mut self, moved: Result<()>) -> Result<()> {
        self.show();
        moved
    }
}

impl InternalIterator for FixedTableIter {
    fn seek_to_first(&mut self) -> Result<()> {
        let moved = self.rows.seek_to_first();
        self.shown(moved)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let moved = self.rows.seek_to_last();
        self.shown(moved)
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        let moved = self.rows.seek(internal);
        self.shown(moved)?;
        if self.valid() && key::compare(&self.key, internal).is_lt() {
            // The same number, another kind.
            self.next()?;
        }
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let moved = self.rows.seek(internal);
        self.shown(moved)?;
        if self.valid() && key::compare(&self.key, internal).is_le() {
            return Ok(());
        }
        let moved = self.rows.seek_before(internal);
        self.shown(moved)
    }

    fn next(&mut self) -> Result<()> {
        let moved = self.rows.next();
        self.shown(moved)
    }

    fn prev(&mut self) -> Result<()> {
        let moved = self.rows.prev();
        self.shown(moved)
    }

    fn valid(&self) -> bool {
        self.rows.valid()
    }

    fn key(&self) -> &[u8] {
        &self.key
    }

    fn value(&self) -> &[u8] {
        match self.rows.valid() && self.rows.kind() == Kind::Put {
            true => self.rows.value(),
            false => &[],
        }
    }
}
