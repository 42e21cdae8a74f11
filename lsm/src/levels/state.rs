//! All that a manifest says: an immutable value, and the rules by which an edit leads to the next.

use std::sync::Arc;

use super::edit::{Change, Edit};
use super::tree::{TableReference, Tree};
use crate::batch::KeyspaceId;
use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::filename::{FileName, FileNumber};
use crate::journal::Cut;
use crate::key::SequenceNumber;
use crate::ordered::OrderedMap;
use crate::row::KeyspaceKind;

/// One keyspace, as of an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceRecord {
    /// Its name.
    pub name: Arc<str>,
    /// How it keeps its entries.
    pub kind: KeyspaceKind,
    /// Operations up to this sequence number are in its tables: replay passes over them.
    pub flushed: SequenceNumber,
    /// Its tables.
    pub tree: Arc<Tree>,
}

/// One log that may hold what is in no table yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The identity in its header.
    pub identity: Identity,
    /// Where it was found to end; `None`: at its last record.
    pub cut: Option<Cut>,
}

/// All that a manifest says. Immutable: [`Levels::apply`] makes the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Levels {
    /// The identity of the database, in each of its files.
    pub database: Identity,
    /// The keyspaces by number.
    pub keyspaces: OrderedMap<KeyspaceId, KeyspaceRecord>,
    /// The logs to replay, by number.
    pub logs: OrderedMap<FileNumber, LogRecord>,
    /// Files of this number and above were never made (or nobody knows of them).
    pub next_file: FileNumber,
    /// Sequence numbers below it may have been given out. (Those in logs may be larger.)
    pub next_sequence: SequenceNumber,
    /// The largest number ever given to a keyspace, whatever became of it; 0: there never was one. What a log says of a number up to here
    /// that is not there is of a keyspace that was dropped.
    pub keyspace_last: u32,
    /// The largest mark that a dropped keyspace had: what was in tables does not become less by a drop.
    pub flushed_dropped: SequenceNumber,
}

impl Levels {
    /// Nothing yet, of this database.
    pub fn new(database: Identity) -> Self {
        Self {
            database,
            keyspaces: OrderedMap::new(),
            logs: OrderedMap::new(),
            next_file: 1,
            next_sequence: 1,
            keyspace_last: 0,
            flushed_dropped: 0,
        }
    }

    /// What a manifest's first edit says.
    ///
    /// # Errors
    /// Corruption if it does not name the database first; and as [`Self::apply`].
    pub fn begin(edit: &Edit) -> Result<Self> {
        let Some((Change::Database(identity), rest)) = edit.changes.split_first() else {
            return Err(Error::corruption("the first change of a manifest does not name the database"));
        };
        // What they say is for whoever reads the file (`crate::manifest::Standing`); a fresh manifest says it no more.
        let is_standing = |change: &&Change| matches!(change, Change::Checkpoint | Change::Unfinished);
        let rest: Vec<Change> = rest.iter().filter(|change| !is_standing(change)).cloned().collect();
        Self::new(*identity).apply_changes(&rest)
    }

    /// The state after an edit.
    ///
    /// # Errors
    /// Corruption where the edit does not fit, or leaves tables out of order.
    pub fn apply(&self, edit: &Edit) -> Result<Self> {
        self.apply_changes(&edit.changes)
    }

    fn apply_changes(&self, changes: &[Change]) -> Result<Self> {
        let mut next = self.clone();
        let mut touched = Vec::new();
        for change in changes {
            next.apply_change(change, &mut touched)?;
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            if let Some(keyspace) = next.keyspaces.get(&id) {
                let in_keyspace =
                    |error: Error| Error::new(error.kind(), format!("keyspace {:?}: {error}", keyspace.name));
                keyspace.tree.check().map_err(in_keyspace)?;
            }
        }
        Ok(next)
    }

    fn keyspace_mut(&mut self, id: KeyspaceId) -> Result<&mut KeyspaceRecord> {
        self.keyspaces.get_mut(&id).ok_or_else(|| {
            Error::corruption(format!("an edit names keyspace {}, which is not there", id.number()))
        })
    }

    fn apply_change(&mut self, change: &Change, touched: &mut Vec<KeyspaceId>) -> Result<()> {
        match change {
            Change::Database(_) => {
                return Err(Error::corruption("an edit names the database a second time"));
            }
            Change::Keyspace { id, name, kind } => {
                if self.keyspace_last >= id.number() {
                    return Err(Error::corruption(format!("keyspace {} is added out of order", id.number())));
                }
                if self.keyspaces.values().any(|other| other.name == *name) {
                    return Err(Error::corruption(format!("keyspace {name:?} is added a second time")));
                }
                let record =
                    KeyspaceRecord { name: Arc::clone(name), kind: *kind, flushed: 0, tree: Arc::default() };
                self.keyspaces.insert(*id, record);
                self.keyspace_last = id.number();
            }
            Change::KeyspaceRemoved(id) => {
                let flushed = self.keyspace_mut(*id)?.flushed;
                self.keyspaces.remove(id);
                self.flushed_dropped = self.flushed_dropped.max(flushed);
            }
            Change::KeyspacesDropped { last, flushed } => {
                if last.number() < self.keyspace_last || *flushed < self.flushed_dropped {
                    return Err(Error::corruption(format!(
                        "keyspaces up to {} were made, and {} was flushed of dropped ones; now it is {} and {flushed}",
                        self.keyspace_last,
                        self.flushed_dropped,
                        last.number()
                    )));
                }
                (self.keyspace_last, self.flushed_dropped) = (last.number(), *flushed);
            }
            Change::TableAdded { keyspace, level, table } => {
                if table.file >= self.next_file {
                    return Err(Error::corruption(format!(
                        "{} is added, but the next file is number {}",
                        FileName::Table(table.file),
                        self.next_file
                    )));
                }
                Arc::make_mut(&mut self.keyspace_mut(*keyspace)?.tree).add(*level, Arc::clone(table))?;
                touched.push(*keyspace);
            }
            Change::TableRemoved { keyspace, level, file, lower } => {
                Arc::make_mut(&mut self.keyspace_mut(*keyspace)?.tree).remove(*level, *file, lower)?;
                touched.push(*keyspace);
            }
            Change::Flushed { keyspace, through } => {
                let record = self.keyspace_mut(*keyspace)?;
                if *through < record.flushed {
                    return Err(Error::corruption(format!(
                        "keyspace {:?} was flushed through {}, now through {through}",
                        record.name, record.flushed
                    )));
                }
                record.flushed = *through;
            }
            Change::LogAdded { number, identity } => {
                if self.logs.last_key_value().is_some_and(|(last, _)| last >= number)
                    || *number >= self.next_file
                {
                    return Err(Error::corruption(format!(
                        "{} is added out of order",
                        FileName::Log(*number)
                    )));
                }
                self.logs.insert(*number, LogRecord { identity: *identity, cut: None });
            }
            Change::LogCut { number, cut } => match self.logs.get_mut(number) {
                Some(log) => log.cut = Some(*cut),
                None => return Err(no_log(*number, "cut")),
            },
            Change::LogRemoved(number) => {
                if self.logs.remove(number).is_none() {
                    return Err(no_log(*number, "removed"));
                }
            }
            Change::NextFile(number) => {
                if *number < self.next_file {
                    return Err(Error::corruption(format!(
                        "the next file was number {}, now {number}",
                        self.next_file
                    )));
                }
                self.next_file = *number;
            }
            Change::Checkpoint | Change::Unfinished => {
                return Err(Error::corruption(
                    "an edit that is not the first says that this is a checkpoint",
                ));
            }
            Change::NextSequence(number) => self.next_sequence = self.next_sequence.max(*number),
        }
        Ok(())
    }

    /// The edit that leads from nothing to this state: the first of a fresh manifest.
    pub fn to_edit(&self) -> Edit {
        let mut changes = vec![
            Change::Database(self.database),
            Change::NextFile(self.next_file),
            Change::NextSequence(self.next_sequence),
        ];
        for (id, keyspace) in &self.keyspaces {
            changes.push(Change::Keyspace { id: *id, name: Arc::clone(&keyspace.name), kind: keyspace.kind });
            if keyspace.flushed > 0 {
                changes.push(Change::Flushed { keyspace: *id, through: keyspace.flushed });
            }
            changes.extend(keyspace.tree.tables().map(|(level, table)| Change::TableAdded {
                keyspace: *id,
                level,
                table: Arc::clone(table),
            }));
        }
        changes.extend(self.dropped());
        for (number, log) in &self.logs {
            changes.push(Change::LogAdded { number: *number, identity: log.identity });
            if let Some(cut) = log.cut {
                changes.push(Change::LogCut { number: *number, cut });
            }
        }
        Edit { changes }
    }

    /// What is to be said of dropped keyspaces, if there were any: in its absence the largest number there is the largest ever given.
    fn dropped(&self) -> Option<Change> {
        let last = self.keyspaces.last_key_value().map_or(0, |(id, _)| id.number());
        let is_needed = self.keyspace_last > last || self.flushed_dropped > 0;
        let last = KeyspaceId::new(self.keyspace_last).ok()?;
        is_needed.then_some(Change::KeyspacesDropped { last, flushed: self.flushed_dropped })
    }

    /// The changes that say that everything up to `through` is in the tables of every keyspace; where there is none any more it is the mark
    /// of the dropped ones that tells.
    pub fn flushed_through(&self, through: SequenceNumber) -> Vec<Change> {
        match KeyspaceId::new(self.keyspace_last) {
            Ok(last) if self.keyspaces.is_empty() && through > self.flushed_dropped => {
                vec![Change::KeyspacesDropped { last, flushed: through }]
            }
            _ => self.keyspaces.keys().map(|id| Change::Flushed { keyspace: *id, through }).collect(),
        }
    }

    /// Whether a number was given to a keyspace that was dropped.
    pub fn was_dropped(&self, id: KeyspaceId) -> bool {
        id.number() <= self.keyspace_last && !self.keyspaces.contains_key(&id)
    }

    /// Whether these tables are there, each in its level: what a merge began with may have gone meanwhile.
    pub fn holds(&self, keyspace: KeyspaceId, tables: &[(usize, Arc<TableReference>)]) -> bool {
        self.keyspaces.get(&keyspace).is_some_and(|record| {
            tables.iter().all(|(level, table)| record.tree.level(*level).contains(table))
        })
    }

    /// The keyspace of this name.
    pub fn keyspace_named(&self, name: &str) -> Option<(KeyspaceId, &KeyspaceRecord)> {
        self.keyspaces
            .iter()
            .find(|(_, keyspace)| &*keyspace.name == name)
            .map(|(id, keyspace)| (*id, keyspace))
    }

    /// The largest epoch of any table.
    pub fn epoch_max(&self) -> u64 {
        let tables = self.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
        tables.map(|(_, table)| table.epoch).max().unwrap_or(0)
    }

    /// The largest mark, of dropped keyspaces too: nothing above it is in tables.
    pub fn flushed_any(&self) -> SequenceNumber {
        let marks = self.keyspaces.values().map(|keyspace| keyspace.flushed);
        marks.max().unwrap_or(0).max(self.flushed_dropped)
    }

    /// The smallest mark: everything up to it is in tables, in every keyspace.
    pub fn flushed_every(&self) -> SequenceNumber {
        self.keyspaces.values().map(|keyspace| keyspace.flushed).min().unwrap_or(self.flushed_dropped)
    }

    /// The largest sequence number that anything here tells of.
    pub fn sequence_max(&self) -> SequenceNumber {
        let tables = self.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
        let in_tables = tables.map(|(_, table)| table.sequence_max).max().unwrap_or(0);
        let flushed = self.flushed_any();
        let cut =
            self.logs.values().filter_map(|log| log.cut).map(|cut| cut.last_sequence).max().unwrap_or(0);
        in_tables.max(flushed).max(cut).max(self.next_sequence.saturating_sub(1))
    }
}

fn no_log(number: FileNumber, what: &str) -> Error {
    Error::corruption(format!("{} is {what}, which is not there", FileName::Log(number)))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::ops::Bound;

    use super::super::tree::tests::table;
    use super::*;

    pub(in crate::levels) fn id(number: u32) -> KeyspaceId {
        KeyspaceId::new(number).unwrap()
    }

    pub(in crate::levels) fn full() -> Levels {
        let identity = Identity::from_bytes([9; 16]);
        let mut unbounded = (*table(7, "q", "r", 3, 4)).clone();
        unbounded.bounds.upper = Bound::Unbounded;
        let edit = Edit {
            changes: vec![
                Change::NextFile(20),
                Change::Keyspace { id: id(1), name: "a".into(), kind: KeyspaceKind::Sorted },
                Change::Keyspace { id: id(4), name: "ü".into(), kind: KeyspaceKind::Sorted },
                Change::TableAdded { keyspace: id(4), level: 2, table: table(3, "", "c", 1, 2) },
                Change::TableAdded { keyspace: id(4), level: 2, table: Arc::new(unbounded) },
                Change::Flushed { keyspace: id(4), through: 4 },
                Change::KeyspacesDropped { last: id(6), flushed: 3 },
                Change::LogAdded { number: 8, identity },
                Change::LogCut { number: 8, cut: Cut { offset: 77, last_sequence: 99 } },
                Change::LogAdded { number: 9, identity },
                Change::NextSequence(120),
            ],
        };
        Levels::new(identity).apply(&edit).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let levels = full();
        let bad = |change: Change| levels.apply(&Edit { changes: vec![change] }).unwrap_err().to_string();
        assert!(bad(Change::Database(levels.database)).contains("second time"));
        assert!(
            bad(Change::Keyspace { id: id(3), name: "x".into(), kind: KeyspaceKind::Sorted })
                .contains("order")
        );
        assert!(
            bad(Change::Keyspace { id: id(7), name: "a".into(), kind: KeyspaceKind::Sorted })
                .contains("second")
        );
        assert!(bad(Change::KeyspaceRemoved(id(2))).contains("keyspace 2"));
        assert!(bad(Change::KeyspacesDropped { last: id(5), flushed: 3 }).contains("up to 6"));
        assert!(bad(Change::KeyspacesDropped { last: id(6), flushed: 2 }).contains("up to 6"));
        assert!(bad(Change::Flushed { keyspace: id(2), through: 5 }).contains("keyspace 2"));
        assert!(bad(Change::Flushed { keyspace: id(4), through: 3 }).contains("through 4"));
        assert!(bad(Change::LogRemoved(7)).contains("not there"));
        assert!(bad(Change::NextFile(19)).contains("20"));
        let overlapping = Change::TableAdded { keyspace: id(4), level: 2, table: table(5, "b", "d", 1, 2) };
        assert!(bad(overlapping).contains("overlap"));
        let unknown = Change::TableAdded { keyspace: id(4), level: 2, table: table(25, "d", "e", 1, 2) };
        assert!(bad(unknown).contains("next file"));
    }

    #[test]
    fn a_number_and_a_mark_outlive_their_keyspace() {
        let before = Levels::new(Identity::from_bytes([9; 16]));
        let named = |number: u32, name: &str| Change::Keyspace {
            id: id(number),
            name: name.into(),
            kind: KeyspaceKind::Sorted,
        };
        let made = before.apply(&Edit { changes: vec![named(1, "a"), named(2, "b")] }).unwrap();
        assert!(
            made.to_edit().changes.iter().all(|change| !matches!(change, Change::KeyspacesDropped { .. }))
        );
        let flushed = made.apply(&Edit { changes: made.flushed_through(7) }).unwrap();
        let dropped = flushed.apply(&Edit { changes: vec![Change::KeyspaceRemoved(id(2))] }).unwrap();
        assert!(dropped.was_dropped(id(2)) && !dropped.was_dropped(id(1)) && !dropped.was_dropped(id(3)));
        // In a fresh manifest too, and with none left.
        let again = Levels::begin(&dropped.to_edit()).unwrap();
        assert_eq!(again, dropped);
        assert!(again.apply(&Edit { changes: vec![named(2, "c")] }).is_err());
        let none = again.apply(&Edit { changes: vec![Change::KeyspaceRemoved(id(1))] }).unwrap();
        assert_eq!((none.flushed_any(), none.flushed_every()), (7, 7));
        let further = none.apply(&Edit { changes: none.flushed_through(9) }).unwrap();
        let further = Levels::begin(&further.to_edit()).unwrap();
        assert_eq!((further.flushed_any(), further.keyspace_last), (9, 2));
        assert_eq!(further.apply(&Edit { changes: vec![named(3, "a")] }).unwrap().keyspace_last, 3);
    }
}
