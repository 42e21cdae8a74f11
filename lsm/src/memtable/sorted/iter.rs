//! An owned cursor over a memtable.

use super::tree::Cursor;
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key::split;

/// A cursor over a memtable; it keeps the memtable's entries alive.
pub struct SortedIter {
    cursor: Cursor,
}

impl SortedIter {
    pub(super) fn new(cursor: Cursor) -> Self {
        Self { cursor }
    }
}

impl InternalIterator for SortedIter {
    fn seek_to_first(&mut self) -> Result<()> {
        self.cursor.seek_to_first();
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.cursor.seek_to_last();
        Ok(())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        let (user, trailer) = split(internal)?;
        self.cursor.seek(user, u64::from_be_bytes(trailer));
        Ok(())
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        let (user, trailer) = split(internal)?;
        self.cursor.seek_for_prev(user, u64::from_be_bytes(trailer));
        Ok(())
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        self.cursor.next();
        Ok(())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        self.cursor.prev();
        Ok(())
    }

    #[inline]
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.cursor.value()
    }
}

impl std::fmt::Debug for SortedIter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SortedIter").finish_non_exhaustive()
    }
}
