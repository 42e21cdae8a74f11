//! A table that a flush or a merge writes.

use crate::compaction::drop::Retention;
use crate::engine::Engine;
use crate::error::Result;
use crate::filename::{FileName, FileNumber};
use crate::journal::random_identity;
use crate::key::SequenceNumber;
use crate::row::KeyspaceKind;
use crate::table::fixed::{Columns, FixedWriter};
use crate::table::{AnyTableWriter, TableWriter};

/// What is known of a table before its first entry.
#[derive(Clone, Debug)]
pub(crate) struct OutputPlan {
    kind: KeyspaceKind,
    level: usize,
    columns: Columns,
    sequences: (SequenceNumber, SequenceNumber),
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
        Self { kind, level, sequences, columns: Columns { sequences: has_readers, kinds: has_deletions } }
    }

    /// Begins a table, in a file of a new number.
    pub(crate) fn create(&self, engine: &Engine) -> Result<(FileNumber, AnyTableWriter)> {
        let file = engine.manifest.lock().next_file()?;
        let path = FileName::Table(file).path(&engine.directory);
        let identity = random_identity()?;
        let tuning = &engine.tuning;
        let writer = match self.kind {
            KeyspaceKind::Sorted => {
                let options = tuning.table_options(self.level);
                AnyTableWriter::Sorted(TableWriter::create(
                    &engine.fs,
                    &path,
                    identity,
                    engine.database,
                    options,
                )?)
            }
            KeyspaceKind::Fixed(widths) => AnyTableWriter::Fixed(FixedWriter::create(
                &engine.fs,
                &path,
                (identity, engine.database),
                widths,
                self.columns,
                self.sequences,
                tuning.fixed_filter_bits(self.level),
            )?),
        };
        Ok((file, writer))
    }
}
