//! The inputs of a merge as one sorted stream, and what is asked of each entry before it is believed.
//!
//! A good checksum says that a block is what was written, not that what was written is right: memory fails too, and a table may come from
//! anywhere. Whatever the writer of the output or the manifest takes for granted is therefore checked here, where an error names the table and costs
//! one merge.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::compaction::covered::Reach;
use crate::error::{Error, Result};
use crate::iter::InternalIterator;
use crate::key::{self, KEY_BYTES_MAX, Kind, SEQUENCE_MAX, VALUE_BYTES_MAX, parse_trailer, seek_key, split};
use crate::levels::{OpenTable, RunIter};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstone;
use crate::table::ReadMode;

/// See the module.
#[derive(Debug)]
pub(super) struct Input {
    merge: MergingIterator<RunIter>,
    /// The internal key before the current one; empty at the first.
    before: Vec<u8>,
}

impl Input {
    /// A stream over runs, the newest first; it stands on its first entry.
    ///
    /// # Errors
    /// Io or Corruption, naming the table.
    pub(super) fn new(runs: Vec<Arc<[OpenTable]>>) -> Result<Self> {
        let sources = runs.into_iter().map(|run| RunIter::new(run, ReadMode::Bypass, KeyRange::all()));
        let mut merge = MergingIterator::new(sources.collect());
        merge.seek_to_first()?;
        let input = Self { merge, before: Vec::new() };
        input.check()?;
        Ok(input)
    }

    pub(super) fn valid(&self) -> bool {
        self.merge.valid()
    }

    pub(super) fn key(&self) -> &[u8] {
        self.merge.key()
    }

    pub(super) fn value(&self) -> &[u8] {
        self.merge.value()
    }

    /// Moves on.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn next(&mut self) -> Result<()> {
        self.before.clear();
        self.before.extend_from_slice(self.merge.key());
        self.merge.next()?;
        self.check()
    }

    /// The table of the current entry.
    pub(super) fn table(&self) -> Option<&OpenTable> {
        self.merge.source().and_then(|(_, run)| run.table())
    }

    /// Leaves out what stands in the table of the current entry, and up to where.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn skip(&mut self, reach: &Reach) -> Result<()> {
        self.before.clear();
        self.before.extend_from_slice(self.merge.key());
        self.merge.move_current(|run| match reach {
            Reach::Key(end) => run.seek(&seek_key(end, SEQUENCE_MAX)),
            Reach::EndOfTable => run.next_table(),
        })?;
        self.check()
    }

    fn check(&self) -> Result<()> {
        // Only the source that moved last can have brought the order into disorder, and then it is the current one.
        let Some(open) = self.merge.source().and_then(|(_, run)| run.table()) else { return Ok(()) };
        let checked = check_entry(open, self.merge.key(), self.merge.value());
        let checked = checked.and_then(|()| {
            match !self.before.is_empty() && key::compare(&self.before, self.merge.key()) == Ordering::Greater
            {
                true => Err(Error::corruption(format!(
                    "its entries are out of order, behind {}",
                    self.before.escape_ascii()
                ))),
                false => Ok(()),
            }
        });
        checked.map_err(|error| error.at(open.table.path()))
    }
}

/// Whether an entry can lie in the table.
fn check_entry(open: &OpenTable, internal: &[u8], value: &[u8]) -> Result<()> {
    let (user, trailer) = split(internal)?;
    let (sequence, kind) = parse_trailer(trailer)?;
    let reference = &open.reference;
    let fault = if user.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
        "is longer than any entry"
    } else if kind == Kind::Delete && !value.is_empty() {
        "is a deletion with a value"
    } else if !reference.bounds.contains(user) {
        "lies outside the table's bounds"
    } else if !(reference.sequence_min..=reference.sequence_max).contains(&sequence) {
        "has a sequence number that the manifest does not expect"
    } else {
        return Ok(());
    };
    Err(Error::corruption(format!("an entry {fault}: {}", internal.escape_ascii())))
}

/// The range tombstones of a table, within the bounds of the reference to it.
///
/// # Errors
/// Corruption, naming the table, if one cannot lie there.
pub(super) fn tombstones(open: &OpenTable) -> Result<Vec<RangeTombstone>> {
    let Some(set) = &open.tombstones else { return Ok(Vec::new()) };
    let reference = &open.reference;
    let expected = reference.sequence_min..=reference.sequence_max;
    let all: Vec<RangeTombstone> = set.iter().map(|tombstone| tombstone.to_owned()).collect();
    match all.iter().find(|tombstone| !expected.contains(&tombstone.sequence)) {
        None => Ok(all),
        Some(tombstone) => Err(Error::corruption(format!(
            "a range tombstone has sequence number {}, which the manifest does not expect",
            tombstone.sequence
        ))
        .at(open.table.path())),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;
    use std::path::Path;

    use super::*;
    use crate::ErrorKind;
    use crate::cache::BlockCache;
    use crate::checksum::Identity;
    use crate::fs::{FileSystem, MemFs};
    use crate::key::trailer;
    use crate::levels::TableReference;
    use crate::table::{AnyTable, ExpectedTable, Table, TableOptions, TableWriter};

    /// A table of `a` (5), `c` (6) and a range tombstone (7), and a reference to it that is changed.
    fn table(change: impl FnOnce(&mut TableReference)) -> OpenTable {
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let path = Path::new("/1.table");
        let identity = Identity::from_bytes([1; 16]);
        let mut writer = TableWriter::create(&fs, path, identity, identity, TableOptions::default()).unwrap();
        writer.add(&[&b"a"[..], &trailer(5, Kind::Put)].concat(), b"v").unwrap();
        writer.add(&[&b"c"[..], &trailer(6, Kind::Delete)].concat(), b"").unwrap();
        writer.add_range_tombstone(b"b", Some(b"c"), 7);
        let summary = writer.finish().unwrap();
        let expected = ExpectedTable { identity, database: identity, file_bytes: summary.file_bytes };
        let table = Table::open(&fs, path, expected, &Arc::new(BlockCache::new(0))).unwrap();
        let mut reference = TableReference::whole(1, &summary, 1);
        change(&mut reference);
        OpenTable::new(Arc::new(reference), AnyTable::Sorted(table))
    }

    /// How many entries there are, and how many range tombstones.
    fn read(open: OpenTable) -> Result<(usize, usize)> {
        let tombstones = tombstones(&open)?.len();
        let mut input = Input::new(vec![Arc::from([open])])?;
        let mut entries = 0;
        while input.valid() {
            entries += 1;
            input.next()?;
        }
        Ok((entries, tombstones))
    }

    #[test]
    fn what_fits_is_believed() {
        assert_eq!(read(table(|_| {})).unwrap(), (2, 1));
        assert_eq!(
            read(table(|reference| reference.bounds.upper = Bound::Excluded(b"c".to_vec()))).unwrap(),
            (1, 1)
        );
    }

    #[test]
    fn sequence_numbers_that_the_manifest_does_not_expect_are_corruption() {
        let changes: [fn(&mut TableReference); 3] = [
            |reference| reference.sequence_min = 6,
            |reference| reference.sequence_max = 6,
            |reference| reference.sequence_max = 5,
        ];
        for change in changes {
            let error = read(table(change)).unwrap_err();
            assert_eq!(
                (error.kind(), error.path()),
                (ErrorKind::Corruption, Some(Path::new("/1.table"))),
                "{error}"
            );
        }
    }

    #[test]
    fn an_entry_that_cannot_be_is_corruption() {
        let open = table(|_| {});
        let check = |user: &[u8], sequence, kind, value: &[u8]| {
            check_entry(&open, &[user, &trailer(sequence, kind)].concat(), value)
        };
        check(b"b", 5, Kind::Put, b"v").unwrap();
        assert!(check(b"d", 5, Kind::Put, b"v").unwrap_err().to_string().contains("bounds"));
        assert!(check(b"b", 5, Kind::Delete, b"v").unwrap_err().to_string().contains("deletion"));
        assert!(
            check(&vec![b'b'; KEY_BYTES_MAX + 1], 5, Kind::Put, b"")
                .unwrap_err()
                .to_string()
                .contains("longer")
        );
        assert!(check(b"b", 9, Kind::Put, b"").unwrap_err().to_string().contains("sequence"));
    }
}
