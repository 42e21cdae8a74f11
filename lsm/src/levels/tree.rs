//! One keyspace's tables by level, and the order that they must keep.

use std::sync::Arc;

use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::filename::{FileName, FileNumber};
use crate::key::{SEQUENCE_MAX, SequenceNumber};
use crate::range::{KeyRange, compare_upper};
use crate::table::TableSummary;

/// Levels of a tree: with ten times the size from each to the next, seven hold a thousand times more than anyone has.
pub const LEVEL_COUNT: usize = 7;

/// What the manifest knows of a table, or of a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReference {
    /// The number in the file's name.
    pub file: FileNumber,
    /// The identity in the file's header.
    pub identity: Identity,
    /// The file's length.
    pub file_bytes: u64,
    /// The user keys that it answers for; keys of the file beyond them are not there.
    pub bounds: KeyRange,
    /// The smallest sequence number in the file.
    pub sequence_min: SequenceNumber,
    /// The largest.
    pub sequence_max: SequenceNumber,
    /// When the newest of its data was flushed: grows with each flush, a merge takes the largest of what it merges.
    pub epoch: u64,
    /// Entries in the file, deletions included, range tombstones not.
    pub entries: u64,
    /// Deletions in the file, range tombstones included.
    pub deletions: u64,
}

impl TableReference {
    /// The reference to a whole table that was just written.
    pub fn whole(file: FileNumber, summary: &TableSummary, epoch: u64) -> Self {
        Self {
            file,
            identity: summary.identity,
            file_bytes: summary.file_bytes,
            bounds: summary.bounds.clone(),
            sequence_min: summary.sequence_min,
            sequence_max: summary.sequence_max,
            epoch,
            entries: summary.entries,
            deletions: summary.deletions + summary.range_tombstones,
        }
    }

    fn check(&self) -> Result<()> {
        if self.file == 0 {
            return Err(Error::corruption("a table of number 0"));
        }
        if self.bounds.is_empty() {
            return Err(self.fault("its bounds hold no key"));
        }
        if self.sequence_min > self.sequence_max || self.sequence_max > SEQUENCE_MAX || self.sequence_min == 0
        {
            return Err(self
                .fault(format!("its sequence numbers are {} to {}", self.sequence_min, self.sequence_max)));
        }
        Ok(())
    }

    fn fault(&self, fault: impl std::fmt::Display) -> Error {
        Error::corruption(format!("the reference to {}: {fault}", FileName::Table(self.file)))
    }
}

/// One keyspace's tables. Immutable; a change makes a new one that shares the references.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Level 0: newest first, those of one epoch by key. The others: by key.
    levels: [Vec<Arc<TableReference>>; LEVEL_COUNT],
}

impl Tree {
    /// The tables of each level, from the top. Level 0 is ordered newest first, the others by key.
    pub fn levels(&self) -> &[Vec<Arc<TableReference>>; LEVEL_COUNT] {
        &self.levels
    }

    /// The tables of one level; none where there is no such level.
    pub fn level(&self, level: usize) -> &[Arc<TableReference>] {
        self.levels.get(level).map_or(&[], Vec::as_slice)
    }

    /// Every table, from the newest to the oldest level.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Arc<TableReference>)> {
        self.levels
            .iter()
            .enumerate()
            .flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    /// The tables of a level that overlap `range`, in their order.
    pub fn overlapping<'a>(
        &'a self,
        level: usize,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = &'a Arc<TableReference>> {
        self.level(level).iter().filter(|table| table.bounds.overlaps(range))
    }

    /// Bytes of the files of a level.
    pub fn level_bytes(&self, level: usize) -> u64 {
        self.level(level).iter().map(|table| table.file_bytes).sum()
    }

    /// The deepest level that holds a table.
    pub fn deepest(&self) -> Option<usize> {
        self.levels.iter().rposition(|tables| !tables.is_empty())
    }

    /// Takes a reference out.
    ///
    /// # Errors
    /// Corruption if it is not there.
    pub(super) fn remove(&mut self, level: usize, file: FileNumber, lower: &[u8]) -> Result<()> {
        let tables = self.levels.get_mut(level).ok_or_else(|| no_level(level))?;
        let position = tables.iter().position(|table| table.file == file && table.bounds.lower == lower);
        match position {
            Some(position) => {
                tables.remove(position);
                Ok(())
            }
            None => Err(Error::corruption(format!(
                "{} is taken from level {level}, where it is not",
                FileName::Table(file)
            ))),
        }
    }

    /// Adds a reference at its place. The order is checked by [`Self::check`], after all changes of an edit.
    pub(super) fn add(&mut self, level: usize, table: Arc<TableReference>) -> Result<()> {
        table.check()?;
        let tables = self.levels.get_mut(level).ok_or_else(|| no_level(level))?;
        let position = if level == 0 {
            tables.partition_point(|other| {
                (other.epoch > table.epoch)
                    || (other.epoch == table.epoch && other.bounds.lower < table.bounds.lower)
            })
        } else {
            tables.partition_point(|other| other.bounds.lower < table.bounds.lower)
        };
        tables.insert(position, table);
        Ok(())
    }

    /// Whether the order holds that every reader builds on. Run on every install: an engine that once moved a newer table behind
    /// an older one (its "optimize_runs") answered with old values for a year.
    ///
    /// # Errors
    /// Corruption, naming the two tables.
    pub fn check(&self) -> Result<()> {
        // The smallest sequence number of the runs above.
        let mut oldest_above = SEQUENCE_MAX + 1;
        for run in self.level(0).chunk_by(|a, b| a.epoch == b.epoch) {
            check_disjoint(0, run)?;
            if let Some(table) = run.iter().find(|table| table.sequence_max >= oldest_above) {
                return Err(Error::corruption(format!(
                    "{} in level 0 is newer (sequence number {}) than what lies above it ({oldest_above})",
                    FileName::Table(table.file),
                    table.sequence_max
                )));
            }
            oldest_above = run.iter().map(|table| table.sequence_min).min().unwrap_or(oldest_above);
        }
        for (level, tables) in self.levels.iter().enumerate().skip(1) {
            check_disjoint(level, tables)?;
            // Level 0 leaves from its old end only: whatever is below is older than whatever is left.
            if let Some(table) = tables.iter().find(|table| table.sequence_max >= oldest_above) {
                return Err(Error::corruption(format!(
                    "{} in level {level} is newer (sequence number {}) than the oldest of level 0 ({oldest_above})",
                    FileName::Table(table.file),
                    table.sequence_max
                )));
            }
        }
        Ok(())
    }
}

/// Whether tables follow each other by key.
fn check_disjoint(level: usize, tables: &[Arc<TableReference>]) -> Result<()> {
    for (left, right) in tables.iter().zip(tables.iter().skip(1)) {
        if left.bounds.overlaps(&right.bounds)
            || left.bounds.lower >= right.bounds.lower
            || compare_upper(left.bounds.upper(), right.bounds.upper()).is_ge()
        {
            return Err(order_fault(level, left, right, "overlap"));
        }
    }
    Ok(())
}

fn no_level(level: usize) -> Error {
    Error::corruption(format!("level {level}: there are {LEVEL_COUNT}"))
}

fn order_fault(level: usize, a: &TableReference, b: &TableReference, fault: &str) -> Error {
    Error::corruption(format!(
        "{} and {} in level {level} {fault}",
        FileName::Table(a.file),
        FileName::Table(b.file)
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A reference to a table that nobody opens.
    pub(crate) fn table(
        file: FileNumber,
        lower: &str,
        upper: &str,
        min: u64,
        max: u64,
    ) -> Arc<TableReference> {
        Arc::new(TableReference {
            file,
            identity: Identity::from_bytes([1; 16]),
            file_bytes: 1000,
            bounds: KeyRange::inclusive(lower, upper),
            sequence_min: min,
            sequence_max: max,
            epoch: max,
            entries: 10,
            deletions: 0,
        })
    }

    pub(crate) fn tree(tables: &[(usize, Arc<TableReference>)]) -> Tree {
        let mut tree = Tree::default();
        for (level, table) in tables {
            tree.add(*level, Arc::clone(table)).unwrap();
        }
        tree
    }

    #[test]
    fn tables_find_their_place() {
        let tree = tree(&[
            (0, table(1, "a", "z", 1, 5)),
            (0, table(2, "a", "z", 6, 9)),
            (1, table(4, "m", "p", 1, 1)),
            (1, table(3, "a", "c", 1, 1)),
        ]);
        let files = |level| tree.level(level).iter().map(|table| table.file).collect::<Vec<_>>();
        assert_eq!((files(0), files(1)), (vec![2, 1], vec![3, 4]));
        assert_eq!(tree.deepest(), Some(1));
        assert_eq!(tree.overlapping(1, &KeyRange::inclusive("b", "d")).count(), 1);
    }

    #[test]
    fn what_is_out_of_order_is_refused() {
        let bad = |tables: &[(usize, Arc<TableReference>)]| tree(tables).check().unwrap_err().to_string();
        assert!(bad(&[(1, table(1, "a", "c", 1, 1)), (1, table(2, "c", "d", 1, 1))]).contains("overlap"));
        assert!(bad(&[(0, table(1, "a", "c", 1, 5)), (0, table(2, "c", "d", 5, 6))]).contains("newer"));
        assert!(bad(&[(0, table(1, "a", "c", 4, 5)), (2, table(2, "c", "d", 1, 4))]).contains("newer"));
        tree(&[(0, table(1, "a", "c", 4, 5)), (2, table(2, "c", "d", 1, 3))]).check().unwrap();
    }

    #[test]
    fn what_is_not_there_cannot_be_taken_out() {
        let mut tree = tree(&[(1, table(1, "a", "c", 1, 1))]);
        assert!(tree.remove(1, 1, b"b").is_err());
        assert!(tree.remove(2, 1, b"a").is_err());
        assert!(tree.remove(9, 1, b"a").is_err());
        tree.remove(1, 1, b"a").unwrap();
        assert_eq!(tree, Tree::default());
    }
}
