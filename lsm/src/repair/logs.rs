//! The logs of a database that is repaired: what counts of them, and what is lost.
//!
//! They are read as recovery mode Salvage reads them, by the same rule: a torn tail is cut, damage to what was durable is stepped over and told. Where logs
//! contradict what was recorded of them, the record is dropped before the log is.

use std::path::Path;
use std::sync::Arc;

use crate::batch::{KeyspaceId, Operation, Operations};
use crate::checksum::Identity;
use crate::error::{ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::FileSystem;
use crate::journal::{
    Access, ExpectedLog, Flushed, JournalRecovery, RecoverOptions, RecoveryMode, Start, Verdict, recover,
    start_of,
};
use crate::key::SequenceNumber;
use crate::manifest::Told;
use crate::ordered::OrderedMap;
use crate::repair::report::{Loss, LossKind};

/// Takes an operation, and the batch in which it lies.
pub(super) type Visit<'a> =
    &'a mut dyn FnMut(KeyspaceId, SequenceNumber, &Arc<[u8]>, Operation) -> Result<()>;

/// What is asked of the logs.
#[derive(Debug)]
pub(super) struct Logs {
    expected: Vec<ExpectedLog>,
    options: RecoverOptions,
}

/// What was lost and what may be.
#[derive(Debug, Default)]
pub(super) struct Lost {
    pub(super) losses: Vec<Loss>,
    pub(super) doubts: Vec<String>,
}

/// The logs in the directory of which an edit, or the log itself, says that they are of this database.
///
/// # Errors
/// Io; NewerFormat.
pub(super) fn of_database(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    names: &[FileName],
    told: Option<&Told>,
    database: Identity,
) -> Result<Vec<ExpectedLog>> {
    let mut numbers: Vec<FileNumber> = names
        .iter()
        .filter_map(|name| match name {
            FileName::Log(number) => Some(*number),
            _ => None,
        })
        .collect();
    numbers.extend(told.iter().flat_map(|told| told.logs.keys().copied()));
    numbers.sort_unstable();
    numbers.dedup();
    numbers.retain(|number| told.is_none_or(|told| !told.removed_logs.contains(number)));
    let mut starts: OrderedMap<FileNumber, Start> = OrderedMap::new();
    for number in &numbers {
        if names.contains(&FileName::Log(*number))
            && let Some(start) = start_of(fs.as_ref(), &FileName::Log(*number).path(directory))?
        {
            starts.insert(*number, start);
        }
    }
    let is_foreign = |number: &FileNumber| {
        starts.get(number).is_some_and(|start| start.number != *number || start.database != database)
    };
    numbers.retain(|number| !is_foreign(number));
    let ends = || starts.values().filter_map(|start| start.previous);
    let expected = numbers.into_iter().map(|number| {
        let told_identity = told.and_then(|told| told.logs.get(&number).copied());
        let own = starts.get(&number).map(|start| start.identity);
        let next = ends().find(|end| end.number == number).map(|end| end.identity);
        ExpectedLog {
            number,
            identity: told_identity.or(own).or(next),
            cut: told.and_then(|told| told.cuts.get(&number).copied()),
        }
    });
    Ok(expected.collect())
}

impl Logs {
    /// Finds out which of `expected` can be read together; what cannot is in `lost`. Returns the logs, and what reading them gives.
    ///
    /// # Errors
    /// Io; NewerFormat.
    pub(super) fn open(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        mut expected: Vec<ExpectedLog>,
        database: Identity,
        flushed: Flushed,
        lost: &mut Lost,
    ) -> Result<(Self, JournalRecovery)> {
        let options =
            RecoverOptions { database, flushed, mode: RecoveryMode::Salvage, access: Access::ReadOnly };
        loop {
            let error = match recover(fs, directory, &expected, &options, &mut |_| Ok(())) {
                Ok(recovery) => return Ok((Self { expected, options }, recovery)),
                Err(error) if error.kind() == ErrorKind::Corruption => error,
                Err(error) => return Err(error),
            };
            let is_it = |log: &&mut ExpectedLog| {
                error.path() == Some(FileName::Log(log.number).path(directory).as_path())
            };
            match expected.iter_mut().find(is_it) {
                None => return Err(error),
                Some(log) if log.cut.is_some() => log.cut = None,
                Some(log) => {
                    let number = log.number;
                    lost.losses.push(Loss {
                        kind: LossKind::Commits,
                        keyspace: None,
                        file: FileName::Log(number).path(directory),
                        range: None,
                        sequences: None,
                        entries: None,
                        reason: error.to_string(),
                    });
                    expected.retain(|log| log.number != number);
                }
            }
        }
    }

    /// Says what is lost of them. Losses of what every keyspace has in tables, up to `every`, are none.
    pub(super) fn judge(
        recovery: &JournalRecovery,
        every: SequenceNumber,
        unread_bytes: impl Fn(&Path) -> u64,
        lost: &mut Lost,
    ) {
        for log in &recovery.logs {
            let mut found_any = false;
            for hole in log.holes.iter().filter(|hole| !hole.harmless) {
                found_any = true;
                if hole.sequences.and_then(|(_, last)| last).is_some_and(|last| last <= every) {
                    continue;
                }
                lost.losses.push(Loss {
                    kind: LossKind::Commits,
                    keyspace: None,
                    file: log.path.clone(),
                    range: None,
                    sequences: hole.sequences,
                    entries: None,
                    reason: format!("{} bytes at {}: {}", hole.bytes, hole.offset, hole.reason),
                });
            }
            let unread = unread_bytes(&log.path);
            if unread > 0 && !found_any {
                lost.losses.push(Loss {
                    kind: LossKind::Commits,
                    keyspace: None,
                    file: log.path.clone(),
                    range: None,
                    sequences: Some((log.last_sequence + 1, None)),
                    entries: None,
                    reason: "bytes that cannot be read; perhaps nothing was written there".to_owned(),
                });
            }
            if let Verdict::TornMaybeAcknowledged { at } = log.verdict {
                lost.doubts.push(format!(
                    "{} ends in bytes that are no record, at {at}: a crash leaves that, and so does damage to the last commits that \
                     were synced. What stands there is kept aside",
                    log.path.display()
                ));
            }
        }
    }

    /// Visits each operation that counts, in order; batches that do not decode are lost whole.
    ///
    /// # Errors
    /// Io; those of `visit`.
    pub(super) fn visit(
        &self,
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        lost: &mut Lost,
        visit: Visit<'_>,
    ) -> Result<()> {
        recover(fs, directory, &self.expected, &self.options, &mut |batch| {
            let payload: Arc<[u8]> = batch.payload.into();
            let decoded: Result<Vec<(KeyspaceId, Operation)>> = Operations::new(&payload).collect();
            let reason = match decoded {
                Ok(operations) if operations.len() == batch.op_count as usize => {
                    for (sequence, (keyspace, operation)) in (batch.first_sequence..).zip(operations) {
                        visit(keyspace, sequence, &payload, operation)?;
                    }
                    return Ok(());
                }
                Ok(operations) => {
                    format!("a batch of {} operations, its record says {}", operations.len(), batch.op_count)
                }
                Err(error) => error.to_string(),
            };
            let last = batch.first_sequence + u64::from(batch.op_count) - 1;
            lost.losses.push(Loss {
                kind: LossKind::Commits,
                keyspace: None,
                file: FileName::Log(batch.log).path(directory),
                range: None,
                sequences: Some((batch.first_sequence, Some(last))),
                entries: None,
                reason: format!("at {}: {reason}", batch.offset),
            });
            Ok(())
        })?;
        Ok(())
    }
}
