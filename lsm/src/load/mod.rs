//! Loading much at once into one keyspace: written as tables without the journal, and there all at once when it is finished.
//!
//! Who loads has the keyspace for himself: nobody else writes to it until he is done, so that what he brings is newer than all that is there. When he begins,
//! what is in memory is frozen with its log, and he gets a sequence number. When he finishes, all that is older is in tables, and what was committed before is durable (what
//! survives never builds on what did not); then one edit names his tables, while others write on. A crash before that leaves files that nobody names, which the next opening
//! removes.

mod bulk;
mod dealt;
mod entries;
mod ingest;
mod rows;

use std::sync::Arc;

use crate::batch::KeyspaceId;
use crate::compaction::drop::Retention;
use crate::engine::{Engine, sites};
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::event::Event;
use crate::filename::{FileName, FileNumber};
use crate::flush::{open_table, update};
use crate::key::{KEY_BYTES_MAX, Kind, SEQUENCE_MAX, SequenceNumber, VALUE_BYTES_MAX};
use crate::levels::{Change, Edit, TableReference};
use crate::options::{Background, DEEP_LEVEL};
use crate::ordered::OrderedSet;
use crate::output::OutputPlan;
use crate::row::KeyspaceKind;
use crate::table::TableSummary;

pub use bulk::Bulk;
pub use ingest::Ingest;

/// The right to load a keyspace, and what was written for it.
#[derive(Debug)]
pub(crate) struct Loading {
    engine: Arc<Engine>,
    /// Which opening of the engine it began in: opening again after a failure takes its files for what the failure left.
    session: u64,
    id: KeyspaceId,
    name: Arc<str>,
    kind: KeyspaceKind,
    /// What everything that is loaded is numbered.
    sequence: SequenceNumber,
    /// Whether there was nothing in the keyspace: then what is loaded goes deep at once, in several tables.
    was_empty: bool,
    /// Files that were begun and that no edit names.
    files: Vec<FileNumber>,
    /// Why some of it may be lost: what is left may not be shown.
    failed: Option<Error>,
}

impl Loading {
    /// # Errors
    /// InvalidArgument, if somebody else loads it; NotFound or Dropped; ReadOnly; Closed; Failed and those of writing.
    pub(crate) fn begin(engine: &Arc<Engine>, id: KeyspaceId, name: &Arc<str>) -> Result<Self> {
        engine.check_writable()?;
        let beside = engine.expect_rotation()?;
        let mut state = engine.commit.lock();
        engine.check_writable()?;
        let claimed = engine.claimed(&[id]);
        let view = engine.view();
        let keyspace = view.keyspace(id, name)?;
        claimed.check(&view)?;
        engine.claim_for_load(id);
        let mut loading = Self {
            engine: Arc::clone(engine),
            session: engine.session(),
            id,
            name: Arc::clone(name),
            kind: keyspace.kind,
            sequence: 0,
            was_empty: keyspace.memtables().all(|memtable| memtable.is_empty())
                && keyspace.tables.tables().next().is_none(),
            files: Vec::new(),
            failed: None,
        };
        engine.rotate(&mut state, beside)?;
        loading.sequence = take_sequence(&mut state.next_sequence)?;
        // Nothing has that number yet; what gets it is to be seen without another.
        engine.publish(&state, loading.sequence);
        Ok(loading)
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    pub(crate) fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// That nothing is lost.
    ///
    /// # Errors
    /// Why something may be.
    pub(crate) fn check_whole(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Passes on what came of writing; from a failure on, this load is over.
    pub(crate) fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Whether an entry can be in the keyspace.
    pub(crate) fn check(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let checked = match self.kind {
            KeyspaceKind::Fixed(widths) => widths.check(key, value, Kind::Put),
            KeyspaceKind::Sorted if key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX => Ok(()),
            KeyspaceKind::Sorted => Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("a key of {} and a value of {} bytes are above the limits", key.len(), value.len()),
            )),
        };
        checked.map_err(|error| Error::new(error.kind(), format!("keyspace {:?}: {error}", self.name)))
    }

    /// How its tables are written.
    pub(crate) fn plan(&self) -> OutputPlan {
        let retention = Retention::new(Vec::new());
        let plan =
            OutputPlan::new(self.kind, self.level(), (self.sequence, self.sequence), false, &retention);
        let has_threads =
            self.engine.background == Background::Threads && self.engine.tuning.merge_threads > 1;
        if has_threads { plan.beside() } else { plan }
    }

    /// Whether a table of so many bytes is to be followed by another. What goes on top of other entries of a sorted keyspace is one table: those of level 0 are told
    /// apart by their age.
    pub(crate) fn is_full(&self, bytes: u64) -> bool {
        let may_be_several = self.was_empty || matches!(self.kind, KeyspaceKind::Fixed(_));
        may_be_several && bytes >= self.engine.tuning.table_bytes
    }

    /// Where its tables go: below all that may come, or on top of what is there.
    fn level(&self) -> usize {
        match (self.was_empty, self.kind) {
            (false, _) => 0,
            (true, KeyspaceKind::Fixed(_)) => 1,
            (true, KeyspaceKind::Sorted) => DEEP_LEVEL,
        }
    }

    /// A file is being written.
    pub(crate) fn began(&mut self, file: FileNumber) {
        self.files.push(file);
    }

    /// Shows what was loaded: tables with disjoint bounds, in their order. Returns a sequence number behind which all snapshots see it.
    ///
    /// # Errors
    /// Dropped; ReadOnly; Closed; Failed, also if it had failed and was opened again meanwhile; those of writing, also before.
    pub(crate) fn finish(mut self, tables: Vec<(FileNumber, TableSummary)>) -> Result<SequenceNumber> {
        self.check_whole()?;
        let engine = Arc::clone(&self.engine);
        if tables.is_empty() {
            return Ok(engine.visible());
        }
        self.check_session()?;
        engine
            .fs
            .sync_dir(&engine.directory, sites::TABLE_NAMES)
            .context("sync the directory", &engine.directory)
            .map_err(|error| engine.fail(error))?;
        let mut opened = Vec::new();
        for (file, summary) in &tables {
            opened.push((*file, open_table(&engine, *file, self.kind, summary)?));
        }
        // What is older lies in tables then; and what was committed before it is seen is durable.
        engine.flush()?;
        engine.expect_load(self.id);
        engine.sync()?;
        let mut manifest = engine.manifest.lock();
        // In this order: a failure that is over when the first looks has begun another session by the time of the second.
        engine.check_writable()?;
        self.check_session()?;
        if !manifest.levels().keyspaces.contains_key(&self.id) {
            return Err(engine.dropped(self.id));
        }
        let epoch = manifest.levels().epoch_max().checked_add(1);
        let epoch = epoch.ok_or_else(|| Error::corruption("the epochs of tables are used up"))?;
        let mut changes: Vec<Change> = tables
            .iter()
            .map(|(file, summary)| Change::TableAdded {
                keyspace: self.id,
                level: self.level(),
                table: Arc::new(TableReference::whole(*file, summary, epoch)),
            })
            .collect();
        changes.push(Change::NextSequence(self.sequence + 1));
        // All that has a smaller number was frozen when this began, and is flushed; this one is in no log.
        manifest.journal_is_durable(self.sequence);
        let levels = manifest.commit(Edit { changes }).map_err(|error| engine.fail(error))?;
        // Before it is seen: whoever has seen it is not told that it is new.
        let loads = engine.load_is_shown(self.id);
        engine.install(|view| {
            let new =
                |file| opened.iter().find(|(opened, _)| *opened == file).map(|(_, table)| table.clone());
            update(view, &levels, new, &engine.budget);
            view.loads = loads;
        });
        let shown = engine.visible();
        drop(manifest);
        for (file, summary) in &tables {
            engine.events.tell(|| Event::TableMade {
                keyspace: Arc::clone(&self.name),
                file: *file,
                level: self.level(),
                bytes: summary.file_bytes,
            });
        }
        let named: OrderedSet<FileNumber> = tables.iter().map(|(file, _)| *file).collect();
        self.files.retain(|file| !named.contains(file));
        engine.preload(|file| named.contains(&file));
        engine.settle_resident();
        engine.notify();
        engine.events.deliver();
        Ok(shown)
    }

    fn check_session(&self) -> Result<()> {
        if self.engine.session() == self.session {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Failed,
            format!(
                "the database failed and was opened again since keyspace {:?} began to be loaded: begin again",
                self.name
            ),
        ))
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.engine.load_is_over(self.id);
        self.engine.add_obsolete(self.files.drain(..).map(FileName::Table));
        self.engine.remove_obsolete();
        self.engine.share_memory();
    }
}

fn take_sequence(next: &mut SequenceNumber) -> Result<SequenceNumber> {
    if *next > SEQUENCE_MAX {
        return Err(Error::new(ErrorKind::InvalidArgument, "sequence numbers are used up"));
    }
    *next += 1;
    Ok(*next - 1)
}

const _: () = {
    const fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<Ingest>();
    is_shareable::<Bulk>();
};
