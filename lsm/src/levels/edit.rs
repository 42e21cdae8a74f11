//! All that a manifest says, and the edits that change it: pure functions and their encoding.
//!
//! An [`Edit`] is a list of changes that happen together; encoded it is the payload of one record of the manifest, so that it is there whole
//! or not at all. A change is a tag, then its body as a slice; the tag's low bit says what a reader does who does not know it: refuse
//! the manifest (1), or pass over the change (0). FORMAT.md, "Manifest", has the bytes.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::tree::{TableReference, Tree};
use crate::batch::KeyspaceId;
use crate::checksum::Identity;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::{FileName, FileNumber};
use crate::journal::Cut;
use crate::key::{KEY_BYTES_MAX, SEQUENCE_MAX, SequenceNumber};
use crate::range::KeyRange;

/// Required features of a database that this version understands: none yet.
const REQUIRED_FEATURES_KNOWN: u64 = 0;
/// Longest name of a keyspace, in bytes.
pub(crate) const KEYSPACE_NAME_BYTES_MAX: usize = 255;

const MUST_UNDERSTAND: u64 = 1;
const TAG_DATABASE: u64 = 1 << 1 | MUST_UNDERSTAND;
const TAG_KEYSPACE: u64 = 2 << 1 | MUST_UNDERSTAND;
const TAG_TABLE_ADDED: u64 = 3 << 1 | MUST_UNDERSTAND;
const TAG_TABLE_REMOVED: u64 = 4 << 1 | MUST_UNDERSTAND;
const TAG_FLUSHED: u64 = 5 << 1 | MUST_UNDERSTAND;
const TAG_LOG_ADDED: u64 = 6 << 1 | MUST_UNDERSTAND;
const TAG_LOG_CUT: u64 = 7 << 1 | MUST_UNDERSTAND;
const TAG_LOG_REMOVED: u64 = 8 << 1 | MUST_UNDERSTAND;
const TAG_NEXT_FILE: u64 = 9 << 1 | MUST_UNDERSTAND;
const TAG_NEXT_SEQUENCE: u64 = 10 << 1 | MUST_UNDERSTAND;

const UPPER_EXCLUDED: u8 = 1;
const UPPER_INCLUDED: u8 = 2;
const UPPER_UNBOUNDED: u8 = 3;

/// How a keyspace keeps its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum KeyspaceKind {
    /// Keys of any kind, in order, in prefix-compressed blocks.
    Sorted = 1,
}

impl KeyspaceKind {
    fn from_u8(kind: u8) -> Result<Self> {
        match kind {
            0 => Err(Error::corruption("a keyspace of kind 0")),
            1 => Ok(Self::Sorted),
            _ => Err(Error::new(
                ErrorKind::NewerFormat,
                format!(
                    "a keyspace of kind {kind}, which this version does not know: open it with a newer one"
                ),
            )),
        }
    }
}

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
    pub keyspaces: BTreeMap<KeyspaceId, KeyspaceRecord>,
    /// The logs to replay, by number.
    pub logs: BTreeMap<FileNumber, LogRecord>,
    /// Files of this number and above were never made (or nobody knows of them).
    pub next_file: FileNumber,
    /// Sequence numbers below it may have been given out. (Those in logs may be larger.)
    pub next_sequence: SequenceNumber,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The first of each manifest: which database this is.
    Database(Identity),
    /// A new keyspace.
    Keyspace {
        /// Its number, larger than any before.
        id: KeyspaceId,
        /// Its name.
        name: Arc<str>,
        /// How it keeps its entries.
        kind: KeyspaceKind,
    },
    /// A table joins a level.
    TableAdded {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The level.
        level: usize,
        /// The table.
        table: Arc<TableReference>,
    },
    /// A table leaves its level.
    TableRemoved {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The level.
        level: usize,
        /// The number of its file.
        file: FileNumber,
        /// The lower end of the reference's bounds: with the file it says which reference.
        lower: Vec<u8>,
    },
    /// What a keyspace was written up to this number is in its tables.
    Flushed {
        /// The keyspace.
        keyspace: KeyspaceId,
        /// The number.
        through: SequenceNumber,
    },
    /// A new log exists.
    LogAdded {
        /// Its number.
        number: FileNumber,
        /// Its identity.
        identity: Identity,
    },
    /// A log ends here, and what is behind is never replayed.
    LogCut {
        /// Its number.
        number: FileNumber,
        /// Where.
        cut: Cut,
    },
    /// A log is needed no more.
    LogRemoved(FileNumber),
    /// Numbers below may be in use as file names.
    NextFile(FileNumber),
    /// Sequence numbers below may have been used.
    NextSequence(SequenceNumber),
}

impl Change {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let tag = match self {
            Self::Database(identity) => {
                body.extend_from_slice(&identity.to_bytes());
                put_varint(&mut body, REQUIRED_FEATURES_KNOWN);
                put_varint(&mut body, 0);
                TAG_DATABASE
            }
            Self::Keyspace { id, name, kind } => {
                put_varint(&mut body, u64::from(id.number()));
                body.push(*kind as u8);
                put_slice(&mut body, name.as_bytes());
                // Options that are kept with the keyspace: none yet.
                put_slice(&mut body, &[]);
                TAG_KEYSPACE
            }
            Self::TableAdded { keyspace, level, table } => {
                put_varint(&mut body, u64::from(keyspace.number()));
                put_varint(&mut body, *level as u64);
                encode_table(table, &mut body);
                TAG_TABLE_ADDED
            }
            Self::TableRemoved { keyspace, level, file, lower } => {
                put_varint(&mut body, u64::from(keyspace.number()));
                put_varint(&mut body, *level as u64);
                put_varint(&mut body, *file);
                put_slice(&mut body, lower);
                TAG_TABLE_REMOVED
            }
            Self::Flushed { keyspace, through } => {
                put_varint(&mut body, u64::from(keyspace.number()));
                put_varint(&mut body, *through);
                TAG_FLUSHED
            }
            Self::LogAdded { number, identity } => {
                put_varint(&mut body, *number);
                body.extend_from_slice(&identity.to_bytes());
                TAG_LOG_ADDED
            }
            Self::LogCut { number, cut } => {
                put_varint(&mut body, *number);
                put_varint(&mut body, cut.offset);
                put_varint(&mut body, cut.last_sequence);
                TAG_LOG_CUT
            }
            Self::LogRemoved(number) => {
                put_varint(&mut body, *number);
                TAG_LOG_REMOVED
            }
            Self::NextFile(number) => {
                put_varint(&mut body, *number);
                TAG_NEXT_FILE
            }
            Self::NextSequence(number) => {
                put_varint(&mut body, *number);
                TAG_NEXT_SEQUENCE
            }
        };
        put_varint(out, tag);
        put_slice(out, &body);
    }

    /// The change with this tag, or `None` for one that may be passed over.
    fn decode(tag: u64, body: &[u8]) -> Result<Option<Self>> {
        let mut decoder = Decoder::new(body);
        let decoder = &mut decoder;
        let change = match tag {
            TAG_DATABASE => {
                let identity = Identity::decode(decoder)?;
                let required = decoder.varint("required features")?;
                let _optional = decoder.varint("optional features")?;
                if required & !REQUIRED_FEATURES_KNOWN != 0 {
                    return Err(Error::new(
                        ErrorKind::NewerFormat,
                        format!("the database needs features {required:#x}: open it with a newer version"),
                    ));
                }
                Self::Database(identity)
            }
            TAG_KEYSPACE => {
                let id = keyspace(decoder)?;
                let kind = KeyspaceKind::from_u8(decoder.u8("keyspace's kind")?)?;
                let name = std::str::from_utf8(decoder.slice("keyspace's name")?)
                    .map_err(|_| Error::corruption("a keyspace's name is not UTF-8"))?;
                if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
                    return Err(Error::corruption(format!("a keyspace's name of {} bytes", name.len())));
                }
                if !decoder.slice("keyspace's options")?.is_empty() {
                    return Err(Error::new(
                        ErrorKind::NewerFormat,
                        format!(
                            "keyspace {name:?} has options that this version does not know: open it with a newer one"
                        ),
                    ));
                }
                Self::Keyspace { id, name: name.into(), kind }
            }
            TAG_TABLE_ADDED => Self::TableAdded {
                keyspace: keyspace(decoder)?,
                level: decoder.varint_usize("level")?,
                table: Arc::new(decode_table(decoder)?),
            },
            TAG_TABLE_REMOVED => Self::TableRemoved {
                keyspace: keyspace(decoder)?,
                level: decoder.varint_usize("level")?,
                file: decoder.varint("table's number")?,
                lower: key(decoder, "lower bound")?,
            },
            TAG_FLUSHED => Self::Flushed {
                keyspace: keyspace(decoder)?,
                through: sequence(decoder, "flushed sequence number")?,
            },
            TAG_LOG_ADDED => Self::LogAdded {
                number: decoder.varint("log's number")?,
                identity: Identity::decode(decoder)?,
            },
            TAG_LOG_CUT => Self::LogCut {
                number: decoder.varint("log's number")?,
                cut: Cut {
                    offset: decoder.varint("log's end")?,
                    last_sequence: sequence(decoder, "log's last sequence number")?,
                },
            },
            TAG_LOG_REMOVED => Self::LogRemoved(decoder.varint("log's number")?),
            TAG_NEXT_FILE => Self::NextFile(decoder.varint("next file number")?),
            TAG_NEXT_SEQUENCE => Self::NextSequence(next_sequence(decoder)?),
            0 | 1 => return Err(Error::corruption(format!("a change with tag {tag}"))),
            _ if tag & MUST_UNDERSTAND == 0 => return Ok(None),
            _ => {
                return Err(Error::new(
                    ErrorKind::NewerFormat,
                    format!(
                        "a change with tag {tag}, which must be understood: open it with a newer version"
                    ),
                ));
            }
        };
        decoder.finish("change")?;
        Ok(Some(change))
    }
}

fn keyspace(decoder: &mut Decoder<'_>) -> Result<KeyspaceId> {
    KeyspaceId::new(decoder.varint_u32("keyspace")?)
}

fn sequence(decoder: &mut Decoder<'_>, field: &str) -> Result<SequenceNumber> {
    let sequence = decoder.varint(field)?;
    if sequence > SEQUENCE_MAX {
        return Err(Error::corruption(format!("{field} {sequence}: at most {SEQUENCE_MAX}")));
    }
    Ok(sequence)
}

/// One more than a sequence number: all of them may have been given out.
fn next_sequence(decoder: &mut Decoder<'_>) -> Result<SequenceNumber> {
    let next = decoder.varint("next sequence number")?;
    if next > SEQUENCE_MAX + 1 {
        return Err(Error::corruption(format!("next sequence number {next}: at most {}", SEQUENCE_MAX + 1)));
    }
    Ok(next)
}

fn key(decoder: &mut Decoder<'_>, field: &str) -> Result<Vec<u8>> {
    let key = decoder.slice(field)?;
    // One more than a key: the successor of the longest ends a range.
    if key.len() > KEY_BYTES_MAX + 1 {
        return Err(Error::corruption(format!("{field} of {} bytes", key.len())));
    }
    Ok(key.to_vec())
}

fn encode_table(table: &TableReference, out: &mut Vec<u8>) {
    put_varint(out, table.file);
    out.extend_from_slice(&table.identity.to_bytes());
    put_varint(out, table.file_bytes);
    put_slice(out, &table.bounds.lower);
    match &table.bounds.upper {
        Bound::Excluded(upper) => {
            out.push(UPPER_EXCLUDED);
            put_slice(out, upper);
        }
        Bound::Included(upper) => {
            out.push(UPPER_INCLUDED);
            put_slice(out, upper);
        }
        Bound::Unbounded => out.push(UPPER_UNBOUNDED),
    }
    put_varint(out, table.sequence_min);
    put_varint(out, table.sequence_max);
    put_varint(out, table.epoch);
    put_varint(out, table.entries);
    put_varint(out, table.deletions);
}

fn decode_table(decoder: &mut Decoder<'_>) -> Result<TableReference> {
    Ok(TableReference {
        file: decoder.varint("table's number")?,
        identity: Identity::decode(decoder)?,
        file_bytes: decoder.varint("table's length")?,
        bounds: KeyRange {
            lower: key(decoder, "lower bound")?,
            upper: match decoder.u8("kind of the upper bound")? {
                UPPER_EXCLUDED => Bound::Excluded(key(decoder, "upper bound")?),
                UPPER_INCLUDED => Bound::Included(key(decoder, "upper bound")?),
                UPPER_UNBOUNDED => Bound::Unbounded,
                kind => return Err(Error::corruption(format!("an upper bound of kind {kind}"))),
            },
        },
        sequence_min: sequence(decoder, "table's smallest sequence number")?,
        sequence_max: sequence(decoder, "table's largest sequence number")?,
        epoch: decoder.varint("table's epoch")?,
        entries: decoder.varint("table's entries")?,
        deletions: decoder.varint("table's deletions")?,
    })
}

/// Changes that happen together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// In their order.
    pub changes: Vec<Change>,
}

impl Edit {
    /// The payload of a manifest's record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for change in &self.changes {
            change.encode(&mut out);
        }
        out
    }

    /// The edit that was encoded so, without the changes that may be passed over.
    ///
    /// # Errors
    /// Corruption; [`ErrorKind::NewerFormat`] for a change that must be understood and is not.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(payload);
        let mut changes = Vec::new();
        while !decoder.is_empty() {
            let tag = decoder.varint("tag of a change")?;
            let body = decoder.slice("change")?;
            changes.extend(Change::decode(tag, body)?);
        }
        Ok(Self { changes })
    }
}

impl Levels {
    /// Nothing yet, of this database.
    pub fn new(database: Identity) -> Self {
        Self { database, keyspaces: BTreeMap::new(), logs: BTreeMap::new(), next_file: 1, next_sequence: 1 }
    }

    /// What a manifest's first edit says.
    ///
    /// # Errors
    /// Corruption if it does not name the database first; and as [`Self::apply`].
    pub fn begin(edit: &Edit) -> Result<Self> {
        let Some((Change::Database(identity), rest)) = edit.changes.split_first() else {
            return Err(Error::corruption("the first change of a manifest does not name the database"));
        };
        Self::new(*identity).apply_changes(rest)
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
                if self.keyspaces.last_key_value().is_some_and(|(last, _)| last >= id) {
                    return Err(Error::corruption(format!("keyspace {} is added out of order", id.number())));
                }
                if self.keyspaces.values().any(|other| other.name == *name) {
                    return Err(Error::corruption(format!("keyspace {name:?} is added a second time")));
                }
                let record =
                    KeyspaceRecord { name: Arc::clone(name), kind: *kind, flushed: 0, tree: Arc::default() };
                self.keyspaces.insert(*id, record);
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
        for (number, log) in &self.logs {
            changes.push(Change::LogAdded { number: *number, identity: log.identity });
            if let Some(cut) = log.cut {
                changes.push(Change::LogCut { number: *number, cut });
            }
        }
        Edit { changes }
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

    /// The largest sequence number that anything here tells of.
    pub fn sequence_max(&self) -> SequenceNumber {
        let tables = self.keyspaces.values().flat_map(|keyspace| keyspace.tree.tables());
        let in_tables = tables.map(|(_, table)| table.sequence_max).max().unwrap_or(0);
        let flushed = self.keyspaces.values().map(|keyspace| keyspace.flushed).max().unwrap_or(0);
        let cut =
            self.logs.values().filter_map(|log| log.cut).map(|cut| cut.last_sequence).max().unwrap_or(0);
        in_tables.max(flushed).max(cut).max(self.next_sequence.saturating_sub(1))
    }
}

fn no_log(number: FileNumber, what: &str) -> Error {
    Error::corruption(format!("{} is {what}, which is not there", FileName::Log(number)))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::table;
    use super::*;

    fn id(number: u32) -> KeyspaceId {
        KeyspaceId::new(number).unwrap()
    }

    fn full() -> Levels {
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
                Change::LogAdded { number: 8, identity },
                Change::LogCut { number: 8, cut: Cut { offset: 77, last_sequence: 99 } },
                Change::LogAdded { number: 9, identity },
                Change::NextSequence(120),
            ],
        };
        Levels::new(identity).apply(&edit).unwrap()
    }

    #[test]
    fn a_state_comes_back_from_its_edit() {
        let levels = full();
        let edit = levels.to_edit();
        assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
        assert_eq!(Levels::begin(&edit).unwrap(), levels);
        assert_eq!(levels.sequence_max(), 119);
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
            bad(Change::Keyspace { id: id(5), name: "a".into(), kind: KeyspaceKind::Sorted })
                .contains("second")
        );
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
    fn an_unknown_change_is_refused_or_passed_over_as_its_tag_says() {
        let mut payload = Edit { changes: vec![Change::NextFile(5)] }.encode();
        put_varint(&mut payload, 500 << 1);
        put_slice(&mut payload, b"from the future");
        assert_eq!(Edit::decode(&payload).unwrap().changes, [Change::NextFile(5)]);
        put_varint(&mut payload, 500 << 1 | 1);
        put_slice(&mut payload, b"");
        assert_eq!(Edit::decode(&payload).unwrap_err().kind(), ErrorKind::NewerFormat);
        assert_eq!(Edit::decode(&[0, 0]).unwrap_err().kind(), ErrorKind::Corruption);
    }

    #[test]
    fn no_next_sequence_number_lies_beyond_the_last() {
        let decoded = |next| Edit::decode(&Edit { changes: vec![Change::NextSequence(next)] }.encode());
        assert!(decoded(SEQUENCE_MAX + 1).is_ok());
        for next in [SEQUENCE_MAX + 2, u64::MAX] {
            assert_eq!(decoded(next).unwrap_err().kind(), ErrorKind::Corruption);
        }
    }

    #[test]
    fn the_tags_are_as_documented() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
        let document = std::fs::read_to_string(path).unwrap();
        for (name, tag) in [
            ("database", TAG_DATABASE),
            ("keyspace", TAG_KEYSPACE),
            ("table added", TAG_TABLE_ADDED),
            ("table removed", TAG_TABLE_REMOVED),
            ("flushed", TAG_FLUSHED),
            ("log added", TAG_LOG_ADDED),
            ("log cut", TAG_LOG_CUT),
            ("log removed", TAG_LOG_REMOVED),
            ("next file", TAG_NEXT_FILE),
            ("next sequence", TAG_NEXT_SEQUENCE),
        ] {
            assert!(document.contains(&format!("\n| {name} | {tag} | ")), "{name}: {tag}");
        }
        assert_eq!((UPPER_EXCLUDED, UPPER_INCLUDED, UPPER_UNBOUNDED), (1, 2, 3));
    }

    #[test]
    fn the_first_edit_is_as_documented() {
        let example =
            [&[0x03, 0x12][..], b"golden database!", &[0, 0, 0x13, 0x01, 0x01, 0x15, 0x01, 0x01]].concat();
        assert_eq!(Levels::new(Identity::from_bytes(*b"golden database!")).to_edit().encode(), example);
    }

    #[test]
    fn no_damage_makes_it_panic() {
        let bytes = full().to_edit().encode();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[index] ^= 1 << bit;
                if let Ok(edit) = Edit::decode(&damaged) {
                    let _ = Levels::begin(&edit);
                }
            }
            let _ = Edit::decode(&bytes[..index]);
        }
    }
}
