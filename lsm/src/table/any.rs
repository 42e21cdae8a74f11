//! A table of either kind, its cursor, and its writer: what the rest of the engine handles.

use std::path::Path;
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem};
use crate::iter::InternalIterator;
use crate::key::{self, Kind, SequenceNumber};
use crate::range_tombstone::RangeTombstones;
use crate::row::KeyspaceKind;
use crate::table::fixed::{FixedTable, FixedTableIter, FixedWriter};
use crate::table::header::TableKind;
use crate::table::opening::kind_of;
use crate::table::{
    CheckLevel, ExpectedTable, Table, TableCheck, TableIter, TableOrigin, TableSummary, TableWriter,
};
use crate::value::Value;

/// An open table of either kind; a clone is a handle to the same one.
#[derive(Clone, Debug)]
pub enum AnyTable {
    /// Entries of any length.
    Sorted(Arc<Table>),
    /// Rows of one width.
    Fixed(Arc<FixedTable>),
}

macro_rules! delegate {
    ($self:ident, $table:ident => $call:expr) => {
        match $self {
            Self::Sorted($table) => $call,
            Self::Fixed($table) => $call,
        }
    };
}

impl AnyTable {
    /// Opens a table of a keyspace of this kind and verifies that it is the one expected.
    ///
    /// # Errors
    /// Io; NotFound; Corruption where something differs; NewerFormat for unknown required features.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        kind: KeyspaceKind,
        expected: ExpectedTable,
        cache: &Arc<BlockCache>,
    ) -> Result<Self> {
        match kind {
            KeyspaceKind::Sorted => Table::open(fs, path, expected, cache).map(Self::Sorted),
            KeyspaceKind::Fixed(widths) => {
                let table = FixedTable::open(fs, path, Some(expected), cache)?;
                if table.widths() != widths {
                    return Err(Error::corruption(format!(
                        "the table has rows of {} + {} bytes where the keyspace has {} + {}",
                        table.widths().key(),
                        table.widths().value(),
                        widths.key(),
                        widths.value()
                    ))
                    .at(path));
                }
                Ok(Self::Fixed(table))
            }
        }
    }

    /// Opens a table of which nothing is known but its own word: for tools and repair.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_unexpected(fs: &Arc<dyn FileSystem>, path: &Path, cache: &Arc<BlockCache>) -> Result<Self> {
        match kind_of(fs, path)? {
            TableKind::Sorted => Table::open_unexpected(fs, path, cache).map(Self::Sorted),
            TableKind::Fixed => FixedTable::open(fs, path, None, cache).map(Self::Fixed),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        delegate!(self, table => table.path())
    }

    /// The open file: readable even when it has no name any more.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        delegate!(self, table => table.file())
    }

    /// The database that it was written for.
    pub fn database(&self) -> Identity {
        delegate!(self, table => table.database())
    }

    /// What it holds.
    pub fn summary(&self) -> &TableSummary {
        delegate!(self, table => table.summary())
    }

    /// What it says of its place in the database, if it does.
    pub fn origin(&self) -> Option<&TableOrigin> {
        delegate!(self, table => table.origin())
    }

    /// Its range tombstones; `None` for a table that can have none.
    pub fn range_tombstones(&self) -> Option<&Arc<RangeTombstones>> {
        match self {
            Self::Sorted(table) => Some(table.range_tombstones()),
            Self::Fixed(_) => None,
        }
    }

    /// Checks the table and gives each fault, with file and offset, to `fault`.
    pub fn check(&self, level: CheckLevel, fault: &mut dyn FnMut(Error)) -> TableCheck {
        delegate!(self, table => table.check(level, fault))
    }
}

/// A cursor over a table of either kind.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "behind a pointer every step would be slower; there are few of them"
)]
pub enum AnyTableIter {
    /// Over entries of any length.
    Sorted(TableIter),
    /// Over rows.
    Fixed(FixedTableIter),
}

impl InternalIterator for AnyTableIter {
    fn seek_to_first(&mut self) -> Result<()> {
        delegate!(self, iter => iter.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        delegate!(self, iter => iter.seek_to_last())
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, iter => iter.seek(internal))
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        delegate!(self, iter => iter.seek_for_prev(internal))
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        delegate!(self, iter => iter.next())
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        delegate!(self, iter => iter.prev())
    }

    #[inline]
    fn valid(&self) -> bool {
        delegate!(self, iter => iter.valid())
    }

    #[inline]
    fn key(&self) -> &[u8] {
        delegate!(self, iter => iter.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        delegate!(self, iter => iter.value())
    }

    fn owned_value(&self) -> Value {
        delegate!(self, iter => iter.owned_value())
    }
}

/// A table of either kind that is being written.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one or two at a time")]
pub(crate) enum AnyTableWriter {
    Sorted(TableWriter),
    Fixed(FixedWriter),
}

impl AnyTableWriter {
    /// Adds an entry, above the one before it.
    ///
    /// # Errors
    /// Io if it cannot be written; InvalidArgument for what is above a limit.
    pub(crate) fn add(&mut self, internal_key: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Sorted(writer) => writer.add(internal_key, value),
            Self::Fixed(writer) => {
                let (user, trailer) = key::split(internal_key)?;
                let (sequence, kind) = key::parse_trailer(trailer)?;
                writer.add(user, value, sequence, kind)
            }
        }
    }

    /// Adds a range tombstone.
    ///
    /// # Errors
    /// InvalidArgument for a table that can have none.
    pub(crate) fn add_range_tombstone(
        &mut self,
        start: &[u8],
        end: Option<&[u8]>,
        sequence: SequenceNumber,
    ) -> Result<()> {
        match self {
            Self::Sorted(writer) => writer.add_range_tombstone(start, end, sequence),
            Self::Fixed(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    "a table of rows has no range tombstones",
                ));
            }
        }
        Ok(())
    }

    /// Says whether somebody waits for the table, so that time is dearer than space. Rows are written one way only.
    pub(crate) fn hurry(&mut self, is_hurried: bool) {
        if let Self::Sorted(writer) = self {
            writer.hurry(is_hurried);
        }
    }

    /// Whether the last entry has the user key of this one.
    pub(crate) fn ends_with(&self, internal_key: &[u8]) -> bool {
        match self {
            Self::Sorted(_) => false,
            Self::Fixed(_) => key::split(internal_key).is_ok_and(|(user, _)| self.ends_with_key(user)),
        }
    }

    /// Whether the last row has this key.
    #[inline]
    pub(crate) fn ends_with_key(&self, key: &[u8]) -> bool {
        match self {
            Self::Sorted(_) => false,
            Self::Fixed(writer) => writer.last_key() == key,
        }
    }

    /// Adds a row, above the one before it.
    ///
    /// # Errors
    /// Io if it cannot be written; InvalidArgument for a table of another kind.
    #[inline]
    pub(crate) fn add_row(
        &mut self,
        key: &[u8],
        value: &[u8],
        sequence: SequenceNumber,
        kind: Kind,
    ) -> Result<()> {
        match self {
            Self::Fixed(writer) => writer.add(key, value, sequence, kind),
            Self::Sorted(_) => Err(Error::new(ErrorKind::InvalidArgument, "a sorted table has no rows")),
        }
    }

    /// How many entries were added, range tombstones not counted.
    pub(crate) fn entries(&self) -> u64 {
        delegate!(self, writer => writer.entries())
    }

    /// About how long the file would be if it ended here.
    pub(crate) fn estimated_bytes(&self) -> u64 {
        delegate!(self, writer => writer.estimated_bytes())
    }

    /// Writes what is left and makes the file's contents durable.
    ///
    /// # Errors
    /// Io; InvalidArgument if nothing was added.
    pub(crate) fn finish(self) -> Result<TableSummary> {
        delegate!(self, writer => writer.finish())
    }

    /// As [`Self::finish`], for a table that no edit will name: rows need not be durable then.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn finish_temporary(self) -> Result<TableSummary> {
        match self {
            Self::Sorted(writer) => writer.finish(),
            Self::Fixed(writer) => writer.finish_temporary(),
        }
    }
}
