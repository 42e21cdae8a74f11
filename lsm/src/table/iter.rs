//! Moving through a table, both ways: a cursor in the top index, one in the partition's index, one in the data block.

use std::ops::{Bound, Range};
use std::sync::Arc;

use crate::block::{Block, BlockIter, BlockKind};
use crate::error::{Error, Result};
use crate::iter::InternalIterator;
use crate::key::{self, TRAILER_BYTES};
use crate::range::KeyRange;
use crate::table::file::{ANYWHERE, ReadAhead};
use crate::table::index::{Handle, Partition, short_index};
use crate::table::{ReadMode, Table};
use crate::value::Value;

/// The smallest and the largest trailer: before and behind every write of a user key.
const TRAILER_FIRST: [u8; TRAILER_BYTES] = [0; TRAILER_BYTES];
const TRAILER_LAST: [u8; TRAILER_BYTES] = [0xff; TRAILER_BYTES];

/// A cursor over a table, or the part of it within bounds. It keeps the table open.
#[derive(Debug)]
pub struct TableIter {
    table: Arc<Table>,
    mode: ReadMode,
    bounds: KeyRange,
    top: BlockIter,
    index: BlockIter,
    /// Where the current index block is.
    index_at: Handle,
    data: BlockIter,
    data_at: Handle,
    /// Whether the current block may hold keys beyond the bounds.
    beyond_upper: bool,
    beyond_lower: bool,
    ahead: ReadAhead,
    failed: Option<Error>,
}

const NOWHERE: Handle = Handle { offset: 0, bytes: 0 };

/// Where in the file the data blocks lie that may hold keys within bounds, as far as an index block tells.
fn file_range(index: &Block, bounds: &KeyRange) -> Range<u64> {
    let find = |user: &[u8], trailer: [u8; TRAILER_BYTES]| {
        let mut place = 0;
        let found = index.lower_bound(user, u64::from_be_bytes(trailer), |offset, _, _| {
            place = offset;
            Ok(())
        });
        let handle =
            found.ok().flatten().and_then(|(entry, _)| Handle::from_value(index.slice(entry.value)).ok());
        handle.map(|handle| (place, handle))
    };
    let start = match find(&bounds.lower, TRAILER_FIRST) {
        // The first of the index may have others before it, of another partition.
        Some((place, handle)) if place > 0 => handle.offset,
        _ => ANYWHERE.start,
    };
    let end = match &bounds.upper {
        Bound::Included(upper) => find(upper, TRAILER_LAST),
        Bound::Excluded(upper) => find(upper, TRAILER_FIRST),
        Bound::Unbounded => None,
    };
    start..end.map_or(ANYWHERE.end, |(_, handle)| handle.end())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// How much of a block will be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Probably all. Downward each entry lies before the one at hand, and the processor foresees nothing; upward it does, late.
    All,
    /// What a search sees, for which that asks itself, and perhaps no more.
    Found,
}

impl TableIter {
    pub(super) fn new(table: Arc<Table>, mode: ReadMode, bounds: KeyRange) -> Self {
        let nothing = Block::opaque(Vec::new());
        Self {
            top: BlockIter::new(table.top.clone()),
            index: BlockIter::new(nothing.clone()),
            index_at: NOWHERE,
            data: BlockIter::new(nothing),
            data_at: NOWHERE,
            beyond_upper: true,
            beyond_lower: true,
            ahead: ReadAhead::new(mode),
            failed: None,
            table,
            mode,
            bounds,
        }
    }

    /// Keeps the first error, so that going on repeats it.
    fn settle(&mut self, result: Result<()>, offset: u64) -> Result<()> {
        result.map_err(|error| {
            let error = self.table.file.locate(error, offset);
            self.data.invalidate();
            self.failed = Some(error.clone());
            error
        })
    }

    /// An error of the current index block says so.
    fn in_index(&self, result: Result<()>) -> Result<()> {
        result.map_err(|error| self.table.file.locate(error, self.index_at.offset))
    }

    /// The error that a step from nowhere repeats.
    #[cold]
    fn nowhere(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Enters the partition on which the top index stands.
    fn load_index(&mut self) -> Result<()> {
        let partition = Partition::from_value(self.top.value())?;
        if self.index_at == partition.index {
            return Ok(());
        }
        let block = match self.mode {
            ReadMode::Cached => self.table.index(partition, self.table.pinned(partition))?.into_block(),
            ReadMode::Bypass => self.table.file.block(partition.index, BlockKind::Index)?,
        };
        self.index.set_block(block);
        self.index_at = partition.index;
        Ok(())
    }

    /// Enters the data block on which the index stands.
    fn load_data(&mut self, extent: Extent) -> Result<()> {
        let handle = Handle::from_value(self.index.value());
        let handle = handle.map_err(|error| self.table.file.locate(error, self.index_at.offset))?;
        // The separator is at or above every key of the block.
        self.beyond_upper = !self.bounds.is_before_end(self.index.user_key());
        if self.data_at != handle {
            let block = match self.mode {
                ReadMode::Cached => match self.table.cached(handle) {
                    Some(block) => {
                        self.ahead.skip(handle);
                        if extent == Extent::All {
                            block.prefetch();
                        }
                        block
                    }
                    None => {
                        let block = self.read_data(handle)?;
                        if self.ahead.is_long() {
                            self.table.keep_passing(block, handle)
                        } else {
                            self.table.keep(block, handle)
                        }
                    }
                },
                ReadMode::Bypass => self.read_data(handle)?,
            };
            self.data.set_block(block);
            self.data_at = handle;
        }
        self.beyond_lower = !self.bounds.lower.is_empty()
            && key::order(self.data.block().first_user_key(), &self.bounds.lower).is_lt();
        Ok(())
    }

    fn read_data(&mut self, handle: Handle) -> Result<Block> {
        let (bounds, index) = (&self.bounds, self.index.block());
        let whole = &self.table.summary().bounds;
        let range = || if bounds.encloses(whole) { ANYWHERE } else { file_range(index, bounds) };
        self.ahead.read(&self.table.file, handle, range)
    }

    /// Moves to the first entry of the next block, or the last of the one before.
    #[cold]
    fn step_block(&mut self, direction: Direction) -> Result<()> {
        loop {
            let stepped = match direction {
                Direction::Forward => self.index.next(),
                Direction::Backward => self.index.prev(),
            };
            self.in_index(stepped)?;
            if !self.index.valid() {
                match direction {
                    Direction::Forward => self.top.next()?,
                    Direction::Backward => self.top.prev()?,
                }
                if !self.top.valid() {
                    self.data.invalidate();
                    return Ok(());
                }
                self.load_index()?;
                let entered = match direction {
                    Direction::Forward => self.index.seek_to_first(),
                    Direction::Backward => self.index.seek_to_last(),
                };
                self.in_index(entered)?;
            }
            self.load_data(Extent::All)?;
            match direction {
                Direction::Forward => self.data.seek_to_first()?,
                Direction::Backward => self.data.seek_to_last()?,
            }
            if self.data.valid() {
                return Ok(());
            }
        }
    }

    /// Enters the first block that may hold a key at or above `internal`; whether there is one. All that is below lies in it and those before.
    fn seek_block(&mut self, internal: &[u8]) -> Result<bool> {
        self.top.seek(internal)?;
        if !self.top.valid() {
            return Ok(false);
        }
        self.load_index()?;
        let sought = self.index.seek(internal);
        self.in_index(sought)?;
        if !self.index.valid() {
            return Err(self.table.file.locate(short_index(), self.index_at.offset));
        }
        self.load_data(Extent::Found)?;
        Ok(true)
    }

    fn seek_unbounded(&mut self, internal: &[u8]) -> Result<()> {
        if !self.seek_block(internal)? {
            self.data.invalidate();
            return Ok(());
        }
        self.data.seek(internal)?;
        if self.data.valid() { Ok(()) } else { self.step_block(Direction::Forward) }
    }

    fn seek_to_last_unbounded(&mut self) -> Result<()> {
        self.top.seek_to_last()?;
        if !self.top.valid() {
            self.data.invalidate();
            return Ok(());
        }
        self.load_index()?;
        self.index.seek_to_last()?;
        self.load_data(Extent::All)?;
        self.data.seek_to_last()
    }

    fn seek_for_prev_unbounded(&mut self, internal: &[u8]) -> Result<()> {
        if !self.seek_block(internal)? {
            return self.seek_to_last_unbounded();
        }
        self.data.seek_for_prev(internal)?;
        if self.data.valid() { Ok(()) } else { self.step_block(Direction::Backward) }
    }

    #[inline]
    fn clip_upper(&mut self) {
        if self.beyond_upper && self.data.valid() && !self.bounds.is_before_end(self.data.user_key()) {
            self.data.invalidate();
        }
    }

    #[inline]
    fn clip_lower(&mut self) {
        if self.beyond_lower
            && self.data.valid()
            && key::order(self.data.user_key(), &self.bounds.lower).is_lt()
        {
            self.data.invalidate();
        }
    }

    /// The largest internal key that can be within the bounds, if they end.
    fn last_key(&self) -> Option<Vec<u8>> {
        match &self.bounds.upper {
            Bound::Included(upper) => Some([upper.as_slice(), &TRAILER_LAST].concat()),
            Bound::Excluded(upper) => Some([upper.as_slice(), &TRAILER_FIRST].concat()),
            Bound::Unbounded => None,
        }
    }
}

impl InternalIterator for TableIter {
    fn seek_to_first(&mut self) -> Result<()> {
        let first = [self.bounds.lower.as_slice(), &TRAILER_FIRST].concat();
        self.seek(&first)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.failed = None;
        let result = match self.last_key() {
            Some(last) => self.seek_for_prev_unbounded(&last),
            None => self.seek_to_last_unbounded(),
        };
        self.settle(result, self.data_at.offset)?;
        self.clip_lower();
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.failed = None;
        let (user, _) = key::split(internal)?;
        let result = if user < self.bounds.lower.as_slice() {
            self.seek_unbounded(&[self.bounds.lower.as_slice(), &TRAILER_FIRST].concat())
        } else {
            self.seek_unbounded(internal)
        };
        self.settle(result, self.data_at.offset)?;
        self.clip_upper();
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let (user, _) = key::split(internal)?;
        if !self.bounds.is_before_end(user) {
            return self.seek_to_last();
        }
        self.failed = None;
        let result = self.seek_for_prev_unbounded(internal);
        self.settle(result, self.data_at.offset)?;
        self.clip_lower();
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        if !self.data.valid() {
            return self.nowhere();
        }
        let mut result = self.data.next();
        if result.is_ok() && !self.data.valid() {
            result = self.step_block(Direction::Forward);
        }
        if result.is_err() {
            return self.settle(result, self.data_at.offset);
        }
        self.clip_upper();
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        if !self.data.valid() {
            return self.nowhere();
        }
        let mut result = self.data.prev();
        if result.is_ok() && !self.data.valid() {
            result = self.step_block(Direction::Backward);
        }
        if result.is_err() {
            return self.settle(result, self.data_at.offset);
        }
        self.clip_lower();
        Ok(())
    }

    #[inline]
    fn valid(&self) -> bool {
        self.data.valid()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.data.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.data.value()
    }

    fn owned_value(&self) -> Value {
        self.data.owned_value()
    }
}
