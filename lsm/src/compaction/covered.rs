//! What need not be read, because range tombstones delete all of it for everybody.
//!
//! All of a table between two keys is deleted for everybody if over each key between them lies a tombstone newer than everything in the table, and nobody
//! reads at a sequence number that sees something of the table and not the tombstone. Then a merge leaves the table out, or the part; and a whole table goes
//! by an edit, without a merge, once the tombstones stand in a table too.

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::drop::Retention;
use crate::compaction::job::removed;
use crate::engine::Engine;
use crate::error::Result;
use crate::filename::FileName;
use crate::flush::update;
use crate::levels::{Edit, KeyspaceView, Levels, OpenTree, TableReference};
use crate::range_tombstone::{RangeTombstones, TombstoneCursor};

/// Where deleted keys end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Before this key, within the table.
    Key(Vec<u8>),
    /// Behind the table's last.
    EndOfTable,
}

/// Up to where everything in `table` is deleted for everybody, from `user` on, by `tombstones`; `None`: `user` itself is not.
pub(super) fn deleted_until(
    table: &TableReference,
    user: &[u8],
    tombstones: &Arc<RangeTombstones>,
    retention: &Retention,
) -> Option<Reach> {
    let stripe = retention.stripe(table.sequence_max);
    if tombstones.is_empty() || retention.stripe(table.sequence_min) != stripe {
        return None;
    }
    let mut cursor = TombstoneCursor::new(Arc::clone(tombstones), retention.end(stripe));
    if cursor.newest_covering(user) <= table.sequence_max {
        return None;
    }
    let is_behind = |end: &[u8]| !table.bounds.is_before_end(end);
    Some(match cursor.end_of_run(table.sequence_max, is_behind) {
        Some(end) if !is_behind(end) => Reach::Key(end.to_vec()),
        _ => Reach::EndOfTable,
    })
}

/// Whether all of a table is deleted for everybody.
pub(super) fn is_deleted(
    table: &TableReference,
    tombstones: &Arc<RangeTombstones>,
    retention: &Retention,
) -> bool {
    let reach = deleted_until(table, &table.bounds.lower, tombstones, retention);
    reach == Some(Reach::EndOfTable)
}

/// The tables of a tree, with their levels, that one other table's tombstones delete for everybody.
fn deleted_tables(tree: &OpenTree, retention: &Retention) -> Vec<(usize, Arc<TableReference>)> {
    let mut deleted = Vec::new();
    for (above, upper) in tree.levels().iter().enumerate() {
        for (open, set) in upper.iter().filter_map(|open| Some((open, open.tombstones.as_ref()?))) {
            let bounds = &open.reference.bounds;
            for (level, tables) in tree.levels().iter().enumerate().skip(above) {
                let inside = match level {
                    // What is older than a table of level 0 may be another of level 0.
                    0 => &**tables,
                    // Below that, nothing is in its own level.
                    _ if level == above => continue,
                    _ => OpenTree::overlapping(tables, bounds),
                };
                let is_deleted = |table: &&Arc<TableReference>| {
                    table.sequence_max < set.sequence_max()
                        && bounds.overlaps(&table.bounds)
                        && is_deleted(table, set, retention)
                };
                let tables = inside.iter().map(|open| &open.reference).filter(is_deleted);
                deleted.extend(tables.map(|table| (level, Arc::clone(table))));
            }
        }
    }
    deleted.sort_by(|(_, a), (_, b)| (a.file, &a.bounds.lower).cmp(&(b.file, &b.bounds.lower)));
    deleted.dedup_by(|(_, a), (_, b)| (a.file, &a.bounds.lower) == (b.file, &b.bounds.lower));
    deleted
}

impl Engine {
    /// Lets go of the tables of a keyspace of which everything is deleted; whether there were any. The caller sees to it that no merge is under way.
    ///
    /// # Errors
    /// Those of writing the edit: the database has failed then.
    pub(crate) fn drop_deleted(&self, id: KeyspaceId, keyspace: &KeyspaceView) -> Result<bool> {
        if keyspace.tables.tables().all(|open| open.tombstones.is_none()) {
            return Ok(false);
        }
        let deleted = deleted_tables(&keyspace.tables, &Retention::new(self.read_sequences()));
        if deleted.is_empty() {
            return Ok(false);
        }
        let changes = deleted.iter().map(|(level, table)| removed(id, *level, table)).collect();
        let mut manifest = self.manifest.lock();
        if !manifest.levels().holds(id, &deleted) {
            // The keyspace was dropped meanwhile.
            return Ok(false);
        }
        let levels = manifest.commit(Edit { changes }).map_err(|error| self.fail(error))?;
        self.install(|view| update(view, &levels, |_| None, &self.budget));
        drop(manifest);
        self.counters.dropped(deleted.len());
        self.forget_tables(&levels, deleted.iter().map(|(_, table)| &**table));
        Ok(true)
    }

    /// Removes the files of tables that an edit took out. A file may be referred to more than once; it goes with the last reference.
    pub(super) fn forget_tables<'a>(
        &self,
        levels: &Levels,
        tables: impl Iterator<Item = &'a TableReference>,
    ) {
        let still_used = |file| {
            let trees = levels.keyspaces.values().map(|keyspace| &keyspace.tree);
            trees.flat_map(|tree| tree.tables()).any(|(_, table)| table.file == file)
        };
        let gone = tables.map(|table| table.file).filter(|file| !still_used(*file));
        self.add_obsolete(gone.map(FileName::Table));
        self.ask_to_remove();
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Bound;

    use proptest::prelude::*;

    use super::*;
    use crate::checksum::Identity;
    use crate::key::SequenceNumber;
    use crate::range::KeyRange;
    use crate::range_tombstone::RangeTombstone;

    fn table(bounds: KeyRange, sequence_min: SequenceNumber, sequence_max: SequenceNumber) -> TableReference {
        TableReference {
            file: 1,
            identity: Identity::from_bytes([1; 16]),
            file_bytes: 1,
            bounds,
            sequence_min,
            sequence_max,
            epoch: 1,
            entries: 1,
            deletions: 0,
        }
    }

    fn set(tombstones: &[(&str, Option<&str>, SequenceNumber)]) -> Arc<RangeTombstones> {
        let owned = |(start, end, sequence): &(&str, Option<&str>, _)| RangeTombstone {
            start: start.as_bytes().to_vec(),
            end: end.map(|end| end.as_bytes().to_vec()),
            sequence: *sequence,
        };
        Arc::new(RangeTombstones::new(tombstones.iter().map(owned)))
    }

    #[test]
    fn a_table_is_deleted_when_everybody_sees_the_tombstone() {
        let within = |upper| KeyRange { lower: b"b".to_vec(), upper };
        let included = within(Bound::Included(b"d".to_vec()));
        let excluded = within(Bound::Excluded(b"d".to_vec()));
        let tombstones = set(&[("b", Some("c"), 7), ("c", Some("d"), 8)]);
        let is_deleted = |bounds: &KeyRange, sequences: (u64, u64), reads: &[u64]| {
            let table = table(bounds.clone(), sequences.0, sequences.1);
            is_deleted(&table, &tombstones, &Retention::new(reads.to_vec()))
        };
        assert!(is_deleted(&excluded, (2, 5), &[9]));
        assert!(!is_deleted(&included, (2, 5), &[9]), "d is not deleted");
        assert!(!is_deleted(&excluded, (2, 7), &[9]), "something may be as new as a tombstone");
        assert!(is_deleted(&excluded, (2, 5), &[1, 9]), "a snapshot that saw none of it");
        assert!(!is_deleted(&excluded, (2, 5), &[6, 9]), "a snapshot that sees it still");
        assert!(!is_deleted(&excluded, (2, 5), &[3, 9]), "a snapshot that sees some of it");
        assert!(!is_deleted(&excluded, (2, 5), &[7, 9]), "a snapshot before the second tombstone");
    }

    #[test]
    fn a_part_ends_where_a_key_is_left() {
        let all = table(KeyRange::inclusive("a", "z"), 2, 5);
        let tombstones =
            set(&[("b", Some("f"), 7), ("f", Some("h"), 6), ("h", Some("k"), 4), ("x", None, 9)]);
        let until = |user: &str| deleted_until(&all, user.as_bytes(), &tombstones, &Retention::new(vec![9]));
        assert_eq!(until("a"), None);
        assert_eq!(until("b"), Some(Reach::Key(b"h".to_vec())));
        assert_eq!(until("i"), None, "the tombstone is older than the table may be");
        assert_eq!(until("y"), Some(Reach::EndOfTable));
    }

    proptest! {
        /// Whatever is said to be deleted, nobody sees.
        #[test]
        fn nobody_sees_what_is_deleted(
            tombstones in prop::collection::vec(("[a-e]", "[a-f]", 1u64..20), 0..12),
            reads in prop::collection::btree_set(1u64..22, 1..4),
            sequences in (1u64..20, 0u64..4),
            user in "[a-e]",
        ) {
            let given: Vec<(&str, Option<&str>, u64)> =
                tombstones.iter().map(|(start, end, sequence)| (start.as_str(), Some(end.as_str()), *sequence)).collect();
            let tombstones = set(&given);
            let (min, max) = (sequences.0, sequences.0 + sequences.1);
            let reads: Vec<u64> = reads.into_iter().chain([25]).collect();
            let table = table(KeyRange::inclusive("a", "e"), min, max);
            let Some(reach) = deleted_until(&table, user.as_bytes(), &tombstones, &Retention::new(reads.clone())) else {
                return Ok(());
            };
            for key in ["a", "b", "c", "d", "e"].iter().filter(|key| **key >= user.as_str()) {
                if let Reach::Key(end) = &reach && key.as_bytes() >= end.as_slice() {
                    continue;
                }
                for sequence in min..=max {
                    for read in &reads {
                        let is_seen = sequence <= *read && tombstones.newest_covering(key.as_bytes(), *read) < sequence;
                        prop_assert!(!is_seen, "{key} of {sequence} at {read}");
                    }
                }
            }
        }
    }
}
