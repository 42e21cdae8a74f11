//! The edits that change what a manifest says, and their encoding.
//!
//! An [`Edit`] is a list of changes that happen together; encoded it is the payload of one record of the manifest, so that it is there whole
//! or not at all. A change is a tag, then its body as a slice; the tag's low bit says what a reader does who does not know it: refuse
//! the manifest (1), or pass over the change (0). FORMAT.md, "Manifest", has the bytes.

use std::ops::Bound;
use std::sync::Arc;

use super::tree::TableReference;
use crate::batch::KeyspaceId;
use crate::checksum::Identity;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileNumber;
use crate::journal::Cut;
use crate::key::{KEY_BYTES_MAX, SEQUENCE_MAX, SequenceNumber};
use crate::range::KeyRange;
use crate::row::{KeyspaceKind, Widths};

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
const TAG_KEYSPACE_REMOVED: u64 = 11 << 1 | MUST_UNDERSTAND;
const TAG_KEYSPACES_DROPPED: u64 = 12 << 1 | MUST_UNDERSTAND;
/// Whoever does not know it opens the checkpoint as the database that it is.
const TAG_CHECKPOINT: u64 = 13 << 1;
const TAG_UNFINISHED: u64 = 14 << 1 | MUST_UNDERSTAND;

const KIND_SORTED: u8 = 1;
const KIND_FIXED: u8 = 2;

const UPPER_EXCLUDED: u8 = 1;
const UPPER_INCLUDED: u8 = 2;
const UPPER_UNBOUNDED: u8 = 3;

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
    /// A keyspace is no more, nor are its tables; what logs hold of it is passed over.
    KeyspaceRemoved(KeyspaceId),
    /// What is to be remembered of keyspaces that are no more.
    KeyspacesDropped {
        /// The largest number that was ever given to a keyspace.
        last: KeyspaceId,
        /// The largest mark that one of them had.
        flushed: SequenceNumber,
    },
    /// In the first edit alone: this is a checkpoint that nobody has written to.
    Checkpoint,
    /// In the first edit alone: this is to become a checkpoint, and is none yet.
    Unfinished,
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
                let mut widths = Vec::new();
                body.push(match kind {
                    KeyspaceKind::Sorted => KIND_SORTED,
                    KeyspaceKind::Fixed(fixed) => {
                        put_varint(&mut widths, fixed.key() as u64);
                        put_varint(&mut widths, fixed.value() as u64);
                        KIND_FIXED
                    }
                });
                put_slice(&mut body, name.as_bytes());
                put_slice(&mut body, &widths);
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
            Self::KeyspaceRemoved(id) => {
                put_varint(&mut body, u64::from(id.number()));
                TAG_KEYSPACE_REMOVED
            }
            Self::KeyspacesDropped { last, flushed } => {
                put_varint(&mut body, u64::from(last.number()));
                put_varint(&mut body, *flushed);
                TAG_KEYSPACES_DROPPED
            }
            Self::Checkpoint => TAG_CHECKPOINT,
            Self::Unfinished => TAG_UNFINISHED,
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
                let kind = decoder.u8("keyspace's kind")?;
                let name = std::str::from_utf8(decoder.slice("keyspace's name")?)
                    .map_err(|_| Error::corruption("a keyspace's name is not UTF-8"))?;
                if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
                    return Err(Error::corruption(format!("a keyspace's name of {} bytes", name.len())));
                }
                let kind = keyspace_kind(kind, name, decoder.slice("keyspace's options")?)?;
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
            TAG_KEYSPACE_REMOVED => Self::KeyspaceRemoved(keyspace(decoder)?),
            TAG_KEYSPACES_DROPPED => Self::KeyspacesDropped {
                last: keyspace(decoder)?,
                flushed: sequence(decoder, "mark of dropped keyspaces")?,
            },
            TAG_CHECKPOINT => Self::Checkpoint,
            TAG_UNFINISHED => Self::Unfinished,
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

/// A keyspace's kind, with the options that are kept with it: widths, where it has them.
fn keyspace_kind(kind: u8, name: &str, options: &[u8]) -> Result<KeyspaceKind> {
    let mut decoder = Decoder::new(options);
    let kind = match kind {
        0 => return Err(Error::corruption("a keyspace of kind 0")),
        KIND_SORTED => KeyspaceKind::Sorted,
        KIND_FIXED => {
            let (key, value) =
                (decoder.varint_usize("width of keys")?, decoder.varint_usize("width of values")?);
            let widths = Widths::new(key, value);
            KeyspaceKind::Fixed(
                widths.map_err(|error| Error::corruption(format!("keyspace {name:?}: {error}")))?,
            )
        }
        _ => {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                format!(
                    "a keyspace of kind {kind}, which this version does not know: open it with a newer one"
                ),
            ));
        }
    };
    if !decoder.is_empty() {
        return Err(Error::new(
            ErrorKind::NewerFormat,
            format!(
                "keyspace {name:?} has options that this version does not know: open it with a newer one"
            ),
        ));
    }
    Ok(kind)
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

#[cfg(test)]
mod tests {
    use super::super::state::{Levels, tests::full};
    use super::*;

    #[test]
    fn a_state_comes_back_from_its_edit() {
        let levels = full();
        let edit = levels.to_edit();
        assert_eq!(Edit::decode(&edit.encode()).unwrap(), edit);
        assert_eq!(Levels::begin(&edit).unwrap(), levels);
        assert_eq!(levels.sequence_max(), 119);
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
            ("keyspace removed", TAG_KEYSPACE_REMOVED),
            ("keyspaces dropped", TAG_KEYSPACES_DROPPED),
            ("checkpoint", TAG_CHECKPOINT),
            ("unfinished", TAG_UNFINISHED),
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
    fn the_edit_of_an_unfinished_checkpoint_is_as_documented() {
        let changes = vec![Change::Database(Identity::from_bytes(*b"golden database!")), Change::Unfinished];
        let edit = Edit { changes };
        let example = [&[0x03, 0x12][..], b"golden database!", &[0, 0, 0x1d, 0x00]].concat();
        assert_eq!(edit.encode(), example);
        assert_eq!(Edit::decode(&example).unwrap(), edit);
        // It says nothing else, and is said nowhere else.
        let levels = Levels::begin(&edit).unwrap();
        assert_eq!(levels.to_edit().changes[0], edit.changes[0]);
        assert!(!levels.to_edit().changes.contains(&Change::Unfinished));
        for change in [Change::Unfinished, Change::Checkpoint] {
            assert!(levels.apply(&Edit { changes: vec![change] }).is_err());
        }
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
