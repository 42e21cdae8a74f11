//! What can still be read of a manifest: every edit whose record is whole, and where others are missing.
//!
//! Edits are applied without asking whether they fit, as some may be lost that they build upon. What one says stays true: a table that an edit
//! took out is never to come back, a mark was reached. What is *there* now only a manifest that is read whole can say.

use std::path::Path;
use std::sync::Arc;

use super::recover::{ManifestReport, read};
use crate::batch::KeyspaceId;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::FileSystem;
use crate::journal::{BadBytes, Cut, LogKind, RecordKind, salvage_records};
use crate::key::SequenceNumber;
use crate::levels::{Change, Edit, KeyspaceKind, TableReference};
use crate::ordered::{OrderedMap, OrderedSet};

/// A reference that an edit put in and none that can be read took out.
#[derive(Clone, Debug)]
pub(crate) struct ToldTable {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) level: usize,
    pub(crate) table: Arc<TableReference>,
    /// Where the edit stands that put it in.
    pub(crate) offset: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What the manifest says, where it can be read as an opening reads it.
    pub(crate) whole: Option<ManifestReport>,
    /// Why it cannot be.
    pub(crate) fault: Option<Error>,
    /// Edits that were read.
    pub(crate) edits: u64,
    /// Bytes between them.
    pub(crate) bad: Vec<BadBytes>,
    pub(crate) database: Option<Identity>,
    pub(crate) keyspaces: OrderedMap<KeyspaceId, (Arc<str>, KeyspaceKind)>,
    /// Keyspaces that an edit dropped; the largest number ever given to one, and the largest mark of one that is no more.
    pub(crate) dropped: OrderedSet<KeyspaceId>,
    pub(crate) keyspace_last: Option<KeyspaceId>,
    pub(crate) flushed_dropped: SequenceNumber,
    pub(crate) flushed: OrderedMap<KeyspaceId, SequenceNumber>,
    /// By file and lower bound.
    pub(crate) tables: OrderedMap<(FileNumber, Vec<u8>), ToldTable>,
    /// Taken out, the last time that they were named.
    pub(crate) removed_tables: OrderedSet<FileNumber>,
    pub(crate) logs: OrderedMap<FileNumber, Identity>,
    /// Where logs were recorded to end.
    pub(crate) cuts: OrderedMap<FileNumber, Cut>,
    pub(crate) removed_logs: OrderedSet<FileNumber>,
    pub(crate) next_file: FileNumber,
    pub(crate) next_sequence: SequenceNumber,
}

/// Reads what can be read; `None` if there is no manifest.
///
/// # Errors
/// Io; [`ErrorKind::NewerFormat`]: what a newer version wrote is not for this one to repair.
pub(crate) fn salvage(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Option<Told>> {
    let path = FileName::Manifest.path(directory);
    if !fs.exists(&path).context("look for the manifest", &path)? {
        return Ok(None);
    }
    let mut told = Told::default();
    match read(fs, directory) {
        Ok(found) => told.whole = found,
        Err(error) if error.kind() == ErrorKind::Corruption => told.fault = Some(error),
        Err(error) => return Err(error),
    }
    let file = fs.open_read(&path).context("open the manifest", &path)?;
    let mut undecoded = Vec::new();
    let mut last = 0;
    let bad = salvage_records(&file, &path, LogKind::Manifest, &mut |record| {
        // Numbers rise; one that does not was not written here.
        if record.header.kind != RecordKind::Batch || record.header.first_sequence <= last {
            return Ok(());
        }
        last = record.header.first_sequence;
        match Edit::decode(record.payload) {
            Ok(edit) => told.take(record.offset, edit),
            Err(error) if error.kind() == ErrorKind::Corruption => undecoded.push(BadBytes {
                offset: record.offset,
                bytes: record.end - record.offset,
                reason: error.to_string(),
            }),
            Err(error) => return Err(error.at(&path).at_offset(record.offset)),
        }
        Ok(())
    })?;
    told.bad = bad;
    told.bad.append(&mut undecoded);
    told.bad.sort_by_key(|bad| bad.offset);
    Ok(Some(told))
}

impl Told {
    fn take(&mut self, offset: u64, edit: Edit) {
        self.edits += 1;
        for change in edit.changes {
            self.take_change(offset, change);
        }
    }

    fn take_change(&mut self, offset: u64, change: Change) {
        match change {
            Change::Database(identity) => {
                self.database.get_or_insert(identity);
            }
            Change::Keyspace { id, name, kind } => {
                self.keyspace_last = self.keyspace_last.max(Some(id));
                self.keyspaces.insert(id, (name, kind));
            }
            Change::KeyspaceRemoved(id) => {
                self.keyspaces.remove(&id);
                self.dropped.insert(id);
                let mark = self.flushed.remove(&id).unwrap_or(0);
                self.flushed_dropped = self.flushed_dropped.max(mark);
                let gone: Vec<_> = self
                    .tables
                    .iter()
                    .filter(|(_, told)| told.keyspace == id)
                    .map(|(place, _)| place.clone())
                    .collect();
                for place in gone {
                    self.tables.remove(&place);
                    self.removed_tables.insert(place.0);
                }
            }
            Change::KeyspacesDropped { last, flushed } => {
                self.keyspace_last = self.keyspace_last.max(Some(last));
                self.flushed_dropped = self.flushed_dropped.max(flushed);
            }
            // What stands there is judged by whoever opens it.
            Change::Checkpoint | Change::Unfinished => {}
            Change::TableAdded { keyspace, level, table } => {
                self.removed_tables.remove(&table.file);
                let place = (table.file, table.bounds.lower.clone());
                self.tables.insert(place, ToldTable { keyspace, level, table, offset });
            }
            Change::TableRemoved { file, lower, .. } => {
                self.tables.remove(&(file, lower));
                if !self.tables.keys().any(|(other, _)| *other == file) {
                    self.removed_tables.insert(file);
                }
            }
            Change::Flushed { keyspace, through } => {
                let mark = self.flushed.get_or_insert_with(keyspace, || 0);
                *mark = through.max(*mark);
            }
            Change::LogAdded { number, identity } => {
                self.logs.insert(number, identity);
            }
            Change::LogCut { number, cut } => {
                self.cuts.insert(number, cut);
            }
            Change::LogRemoved(number) => {
                self.logs.remove(&number);
                self.removed_logs.insert(number);
            }
            Change::NextFile(number) => self.next_file = self.next_file.max(number),
            Change::NextSequence(number) => self.next_sequence = self.next_sequence.max(number),
        }
    }

    /// Whether a keyspace is known to be no more: what there still is of it must not come back.
    pub(crate) fn is_dropped(&self, id: KeyspaceId) -> bool {
        // One that is not there and has a number that was given; unless an edit that made it may be among what cannot be read.
        let is_gone =
            self.bad.is_empty() && Some(id) <= self.keyspace_last && !self.keyspaces.contains_key(&id);
        self.dropped.contains(&id) || is_gone
    }

    /// Whether an edit that cannot be read may have come after what stands at `offset`.
    pub(crate) fn is_unsure_behind(&self, offset: u64) -> bool {
        // One that reads as whole and is not trusted lost its end.
        self.whole.is_some() || self.bad.iter().any(|bad| bad.offset > offset)
    }

    /// The references to a file.
    pub(crate) fn references(&self, file: FileNumber) -> impl Iterator<Item = &ToldTable> {
        self.tables
            .iter_from(&(file, Vec::new()))
            .take_while(move |((other, _), _)| *other == file)
            .map(|(_, told)| told)
    }
}
