//! Logs that cannot stay as they are: up to where tables have what is in them, and the rest as tables.

use crate::batch::{KeyspaceId, Operations};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::journal::{
    Access, ExpectedLog, Flushed, JournalRecovery, RecoverOptions, RecoveryMode, recover, start_of,
};
use crate::key::SequenceNumber;
use crate::memtable::{Memtable, Supply};
use crate::ordered::OrderedMap;
use crate::repair::items::{Items, Owner, Source};
use crate::repair::keyspaces::origin;
use crate::repair::logs::{Logs, Lost, of_database};
use crate::repair::place::Piece;
use crate::repair::rebuild::Rebuild;
use crate::repair::report::{Loss, LossKind};
use crate::repair::survey::Survey;
use crate::repair::workshop::Workshop;
use crate::replay::{expected, flushed};
use crate::row::KeyspaceKind;
use crate::write::check_row;

/// What was replayed goes to tables when memtables take so many bytes.
const MEMTABLE_BYTES_MAX: usize = 64 << 20;

/// The logs as they are to be read.
pub(super) struct Replay {
    pub(super) logs: Logs,
    pub(super) recovery: JournalRecovery,
    pub(super) marks: OrderedMap<KeyspaceId, SequenceNumber>,
}

impl Rebuild {
    /// Why the logs that a trusted manifest names cannot stay as they are.
    pub(super) fn logs_fault(&self) -> Result<Option<Error>> {
        let Some(levels) = self.survey.trusted() else { return Ok(None) };
        let expected = expected(levels);
        let options = RecoverOptions {
            database: levels.database,
            flushed: flushed(levels),
            mode: RecoveryMode::Tail,
            access: Access::ReadOnly,
        };
        let directory = &self.survey.directory;
        let read = recover(&self.survey.fs, directory, &expected, &options, &mut |batch| {
            let mut count = 0;
            for operation in Operations::new(batch.payload) {
                let (keyspace, _) = operation?;
                if !levels.keyspaces.contains_key(&keyspace) && !levels.was_dropped(keyspace) {
                    let what =
                        format!("a batch writes to keyspace {}, which is not there", keyspace.number());
                    return Err(Error::corruption(what).at(FileName::Log(batch.log).path(directory)));
                }
                count += 1;
            }
            match count == batch.op_count {
                true => Ok(()),
                false => Err(Error::corruption("a batch of other operations than its record says")
                    .at(FileName::Log(batch.log).path(directory))),
            }
        });
        match read {
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(Some(error)),
            Err(error) => Err(error),
            Ok(_) => {
                let paths = levels.logs.keys().map(|number| FileName::Log(*number).path(directory));
                let unread = paths.into_iter().find(|path| self.survey.tolerant.unread_bytes(path) > 0);
                Ok(unread.map(|path| Error::corruption("bytes of the log cannot be read").at(path)))
            }
        }
    }

    /// What of each keyspace is in tables already: its operations up to there are not replayed.
    pub(super) fn marks(&self) -> OrderedMap<KeyspaceId, SequenceNumber> {
        if let Some(levels) = self.survey.trusted() {
            return levels.keyspaces.iter().map(|(id, record)| (*id, record.flushed)).collect();
        }
        let mut marks = OrderedMap::new();
        for id in self.items.keyspaces.keys() {
            let items = || self.items.items.iter().filter(|item| item.owner == Owner::Known(*id));
            let sound = items().filter_map(|item| match &item.source {
                Source::Sound(table) => Some(table.summary().sequence_max),
                _ => None,
            });
            let in_sound = sound.max().unwrap_or(0);
            let all_sound = items().all(|item| matches!(item.source, Source::Sound(_)));
            // A mark is worth what its tables are. Where one is damaged a log may still have what it lost.
            let told = self.survey.told.as_ref().and_then(|told| told.flushed.get(id)).filter(|_| all_sound);
            marks.insert(*id, in_sound.max(told.copied().unwrap_or(0)));
        }
        marks
    }

    /// Everything up to here is in tables of every keyspace.
    pub(super) fn flushed_in_every(&self, marks: &OrderedMap<KeyspaceId, SequenceNumber>) -> SequenceNumber {
        match self.survey.trusted() {
            Some(levels) => levels.flushed_every(),
            // A keyspace that nobody tells of has nothing in tables, as far as anybody knows.
            None if self.items.items.iter().any(|item| matches!(item.owner, Owner::Unknown(_))) => 0,
            None => marks.values().copied().min().unwrap_or(0),
        }
    }

    pub(super) fn replay(&self, lost: &mut Lost) -> Result<Replay> {
        let survey = &self.survey;
        let marks = self.marks();
        let every = self.flushed_in_every(&marks);
        let (expected, flushed) = match survey.trusted() {
            Some(levels) => (expected(levels), flushed(levels)),
            None => {
                let in_tables = self.items.items.iter().filter_map(|item| match &item.source {
                    Source::Sound(table) => Some(table.summary().sequence_max),
                    _ => None,
                });
                let told = survey.told.iter().flat_map(|told| told.flushed.values().copied());
                let expected = of_database(
                    &survey.fs,
                    &survey.directory,
                    &survey.names,
                    survey.told.as_ref(),
                    survey.database,
                )?;
                let expected = self.without_removed(expected, every, lost)?;
                // Logs go in their order when what they held is in tables: so those before the first that is there did.
                let before = match expected.first() {
                    Some(log) if survey.names.contains(&FileName::Log(log.number)) => {
                        start_of(survey.fs.as_ref(), &survey.path(FileName::Log(log.number)))?
                    }
                    _ => None,
                };
                let before = before.and_then(|start| start.previous).map(|end| end.last_sequence);
                let any = in_tables.chain(told).chain(before).max().unwrap_or(0);
                // What has no keyspace's mark yet is visited too.
                (expected, Flushed { every: 0, any })
            }
        };
        let (logs, recovery) =
            Logs::open(&survey.fs, &survey.directory, expected, survey.database, flushed, lost)?;
        Ok(Replay { logs, recovery, marks })
    }

    /// Logs that an edit names and that are not there may have been taken out by one that cannot be read: then what they held is in tables.
    fn without_removed(
        &self,
        mut expected: Vec<ExpectedLog>,
        every: SequenceNumber,
        lost: &mut Lost,
    ) -> Result<Vec<ExpectedLog>> {
        let survey = &self.survey;
        let is_there = |log: &ExpectedLog| survey.names.contains(&FileName::Log(log.number));
        // Up to the end of the log before this one everything is in tables of every keyspace.
        let mut first_needed = 0;
        for log in expected.iter().filter(|log| is_there(log)) {
            let start = start_of(survey.fs.as_ref(), &survey.path(FileName::Log(log.number)))?;
            if start.and_then(|start| start.previous).is_some_and(|end| end.last_sequence <= every) {
                first_needed = log.number;
            }
        }
        let tables = self.items.items.iter().filter(|item| matches!(item.source, Source::Sound(_)));
        let newest_table = tables.map(|item| item.file).max().unwrap_or(0);
        expected.retain(|log| {
            if is_there(log) {
                return true;
            }
            if log.number >= first_needed && log.number < newest_table {
                lost.doubts.push(format!(
                    "{} is not there: the edit that took it out is one that cannot be read, and its commits are in tables; or else the file \
                     is missing, and they are lost",
                    survey.path(FileName::Log(log.number)).display()
                ));
            }
            log.number >= first_needed && log.number > newest_table
        });
        Ok(expected)
    }
}

/// What was in logs alone, as tables.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) tables: OrderedMap<KeyspaceId, Vec<Piece>>,
}

impl Replayed {
    pub(super) fn read(
        &mut self,
        survey: &Survey,
        items: &Items,
        replay: &Replay,
        workshop: &mut Workshop,
        lost: &mut Lost,
    ) -> Result<()> {
        let mut memtables: OrderedMap<KeyspaceId, Memtable> = OrderedMap::new();
        let mut misfits: Vec<(KeyspaceId, SequenceNumber, Error)> = Vec::new();
        replay.logs.visit(&survey.fs, &survey.directory, lost, &mut |id, sequence, payload, operation| {
            let is_dropped = survey.told.as_ref().is_some_and(|told| told.is_dropped(id));
            if is_dropped || replay.marks.get(&id).is_some_and(|mark| sequence <= *mark) {
                return Ok(());
            }
            let kind = items.keyspaces.get(&id).map_or(KeyspaceKind::Sorted, |(_, kind)| *kind);
            if let KeyspaceKind::Fixed(widths) = kind
                && let Err(error) = check_row(widths, payload, &operation)
            {
                misfits.push((id, sequence, error));
                return Ok(());
            }
            let memtable =
                memtables.get_or_insert_with(id, || Memtable::charged(kind, 0, &Supply::default()));
            memtable.apply(payload, operation, sequence);
            if memtable.memory_bytes() > MEMTABLE_BYTES_MAX {
                self.flush(items, &mut memtables, workshop)?;
            }
            Ok(())
        })?;
        lost.losses.extend(misfits.into_iter().map(|(id, sequence, error)| Loss {
            kind: LossKind::Commits,
            keyspace: items.keyspaces.get(&id).map(|(name, _)| name.to_string()),
            file: survey.directory.clone(),
            range: None,
            sequences: Some((sequence, Some(sequence))),
            entries: None,
            reason: format!("an operation in a log does not fit the keyspace: {error}"),
        }));
        self.flush(items, &mut memtables, workshop)
    }

    fn flush(
        &mut self,
        items: &Items,
        memtables: &mut OrderedMap<KeyspaceId, Memtable>,
        workshop: &mut Workshop,
    ) -> Result<()> {
        for (id, memtable) in std::mem::take(memtables) {
            if !memtable.is_empty() {
                let piece = workshop.flush(&memtable, &origin(items, id, 0, 0))?;
                self.tables.get_or_insert_with(id, Vec::new).push(piece);
            }
        }
        Ok(())
    }
}
