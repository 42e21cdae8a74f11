//! A table that a flush or a merge writes.

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::drop::Retention;
use crate::engine::Engine;
use crate::error::Result;
use crate::filename::{FileName, FileNumber};
use crate::journal::random_identity;
use crate::key::SequenceNumber;
use crate::levels::Levels;
use crate::row::KeyspaceKind;
use crate::table::fixed::{Columns, FixedWriter};
use crate::table::{AnyTableWriter, TableOptions, TableOrigin, TableWriter};

/// What is known of a table before its first entry.
#[derive(Clone, Debug)]
pub(crate) struct OutputPlan {
    kind: KeyspaceKind,
    level: usize,
    columns: Columns,
    sequences: (SequenceNumber, SequenceNumber),
    /// Whose the table is, and the epoch that it will have: what it says of itself.
    place: Option<(KeyspaceId, u64)>,
    is_temporary: bool,
    /// Whether a thread beside the one that makes it compresses what a table of entries of any length holds.
    is_beside: bool,
}

impl OutputPlan {
    /// For a table in `level` of entries between two sequence numbers, with deletions or without.
    pub(crate) fn new(
        kind: KeyspaceKind,
        level: usize,
        sequences: (SequenceNumber, SequenceNumber),
        has_deletions: bool,
        retention: &Retention,
    ) -> Self {
        // Rows say their numbers only if a reader stands between: to all others they look the same.
        let has_readers = retention.stripe(sequences.0) != retention.stripe(sequences.1);
        let columns = Columns { sequences: has_readers, kinds: has_deletions };
        Self { kind, level, sequences, columns, place: None, is_temporary: false, is_beside: false }
    }

    /// Has the table say for which keyspace it was written, and its epoch: for repair.
    pub(crate) fn of(self, keyspace: KeyspaceId, epoch: u64) -> Self {
        Self { place: Some((keyspace, epoch)), ..self }
    }

    /// To be read once and removed: nobody looks up its rows, and nothing rests on its being durable.
    pub(crate) fn temporary(self) -> Self {
        Self { is_temporary: true, ..self }
    }

    /// Has what tables of entries of any length hold compressed by a thread beside the one that makes them, too.
    pub(crate) fn beside(self) -> Self {
        Self { is_beside: true, ..self }
    }

    /// About what writing a table of rows takes in memory until it is finished, besides its rows.
    pub(crate) fn buffer_bytes(&self, table_bytes: u64) -> usize {
        match self.kind {
            KeyspaceKind::Sorted => 0,
            KeyspaceKind::Fixed(widths) => FixedWriter::buffer_bytes(widths, table_bytes),
        }
    }

    fn origin(&self, levels: &Levels) -> Option<TableOrigin> {
        let (keyspace, epoch) = self.place?;
        let name = Arc::clone(&levels.keyspaces.get(&keyspace)?.name);
        let keyspace = keyspace.number();
        Some(TableOrigin { keyspace, kind: self.kind, level: self.level as u64, epoch, name })
    }

    /// Begins a table, in a file of a new number.
    pub(crate) fn create(&self, engine: &Engine) -> Result<(FileNumber, AnyTableWriter)> {
        let (file, origin, has_failed) = {
            let mut manifest = engine.manifest.lock();
            (manifest.next_file(), self.origin(manifest.levels()), manifest.has_failed())
        };
        // Not all who write tables fail the database when they cannot: but where there will be no edits any more, it has failed.
        let file = file.map_err(|error| if has_failed { engine.fail(error) } else { error })?;
        let path = FileName::Table(file).path(&engine.directory);
        let identity = random_identity()?;
        let tuning = &engine.tuning;
        let writer = match self.kind {
            KeyspaceKind::Sorted => {
                let options = TableOptions { origin, ..tuning.table_options(self.level) };
                let mut writer = TableWriter::create(&engine.fs, &path, identity, engine.database, options)?;
                if self.is_beside {
                    writer.compress_beside();
                }
                AnyTableWriter::Sorted(writer)
            }
            KeyspaceKind::Fixed(widths) => {
                let filter_bits = if self.is_temporary { 0 } else { tuning.fixed_filter_bits(self.level) };
                let mut writer = FixedWriter::create(
                    &engine.fs,
                    &path,
                    (identity, engine.database),
                    widths,
                    self.columns,
                    self.sequences,
                    filter_bits,
                )?;
                writer.set_origin(origin);
                if self.is_temporary {
                    writer.set_temporary();
                }
                AnyTableWriter::Fixed(writer)
            }
        };
        Ok((file, writer))
    }
}
