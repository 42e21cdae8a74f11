//! Replaying logs: what the tables do not have yet goes into memtables.
//!
//! Each batch that counts (the journal's verdicts say which) is applied to the active memtables of a View, as a commit would. Passed over is what the
//! tables of its keyspace have, and what belongs to keyspaces that were dropped. A keyspace that never was is damage; but a
//! reader beside a writer may meet one that was made after it had read the manifest, and ends its history there.

use std::path::Path;
use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::fs::FileSystem;
use crate::journal::{Access, ExpectedLog, Flushed, JournalRecovery, RecoverOptions, RecoveryMode, recover};
use crate::key::SequenceNumber;
use crate::levels::{Levels, View};
use crate::manifest;
use crate::ordered::OrderedMap;
use crate::write::{apply_to, no_keyspace};

/// Where logs are replayed from, and how.
pub(crate) struct Logs<'a> {
    pub(crate) fs: &'a Arc<dyn FileSystem>,
    pub(crate) directory: &'a Path,
    pub(crate) mode: RecoveryMode,
    pub(crate) access: Access,
}

/// The logs that `levels` name.
pub(crate) fn expected(levels: &Levels) -> Vec<ExpectedLog> {
    levels
        .logs
        .iter()
        .map(|(number, log)| ExpectedLog { number: *number, identity: Some(log.identity), cut: log.cut })
        .collect()
}

/// How far what `levels` name is in tables.
pub(crate) fn flushed(levels: &Levels) -> Flushed {
    let tables = levels.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
    let in_tables = tables.map(|(_, table)| table.sequence_max).max().unwrap_or(0);
    Flushed { every: levels.flushed_every(), any: in_tables.max(levels.flushed_any()) }
}

impl Logs<'_> {
    /// Replays the logs that `levels` name into the active memtables of `view`.
    pub(crate) fn replay(&self, levels: &Levels, view: &View) -> Result<JournalRecovery> {
        let marks: OrderedMap<KeyspaceId, SequenceNumber> =
            levels.keyspaces.iter().map(|(id, record)| (*id, record.flushed)).collect();
        let expected = expected(levels);
        let flushed = flushed(levels);
        let options =
            RecoverOptions { database: levels.database, flushed, mode: self.mode, access: self.access };
        // What a reader finds of a keyspace that it does not know: the first, where its history ends then, and what it is if it is damage.
        let mut unknown: Option<(KeyspaceId, SequenceNumber, Error)> = None;
        let mut recovery = recover(self.fs, self.directory, &expected, &options, &mut |batch| {
            if unknown.is_some() {
                return Ok(());
            }
            let mut later = None;
            let wanted = |keyspace: KeyspaceId, sequence: SequenceNumber| match marks.get(&keyspace) {
                Some(mark) => sequence > *mark,
                None if levels.was_dropped(keyspace) => false,
                None if self.access == Access::ReadOnly => {
                    later = Some(keyspace);
                    false
                }
                // Whoever applies the batch says so.
                None => true,
            };
            let place = |error: Error| {
                error.at(FileName::Log(batch.log).path(self.directory)).at_offset(batch.offset)
            };
            let count = apply_to(view, batch.payload, batch.first_sequence, wanted).map_err(place)?;
            if count != u64::from(batch.op_count) {
                return Err(place(Error::corruption(format!(
                    "a batch of {count} operations, its record says {}",
                    batch.op_count
                ))));
            }
            unknown = later.map(|id| (id, batch.first_sequence - 1, place(no_keyspace(id))));
            Ok(())
        })?;
        recovery.last_sequence = recovery.last_sequence.max(flushed.any);
        if let Some((id, before, error)) = unknown {
            // A writer may be at work, and have made it after its manifest was read here: then this reader's history ends before it. (What was
            // applied of that batch is above what it sees.)
            match manifest::read(self.fs, self.directory)? {
                Some(now) if now.levels.keyspace_last >= id.number() => recovery.last_sequence = before,
                _ => return Err(error),
            }
        }
        let seen = levels.next_sequence.max(levels.sequence_max() + 1);
        recovery.next_sequence = recovery.next_sequence.max(seen);
        Ok(recovery)
    }
}
