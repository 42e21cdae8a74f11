//! Marks of completeness: a target holds everything that a writer's segments up to one name.
//!
//! A mark is put when the last of it is durable on that target, and never before: so whoever reads it may conclude that something
//! it speaks of was lost if it is not there. FORMAT.md, marks of completeness.

use super::fetch::fetch;
use super::layout::{ObjectName, complete_of};
use crate::envelope::{Envelope, EnvelopeKind, EnvelopeWriter, FieldNumber, Known, Unknown};
use crate::error::{Error, Result};
use crate::id::{ObjectHash, WriterId};
use crate::target::Target;

const WRITER: FieldNumber = FieldNumber(1);
const SEQUENCE: FieldNumber = FieldNumber(2);
const SEGMENT: FieldNumber = FieldNumber(3);

/// A mark of completeness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Complete {
    /// Whose log it speaks of.
    pub writer: WriterId,
    /// The last segment that it covers.
    pub sequence: u64,
    /// That segment's hash: with it the whole chain before is fixed.
    pub segment: ObjectHash,
}

impl Complete {
    /// Its name on a target.
    pub fn name(&self) -> ObjectName {
        ObjectName::Complete { writer: self.writer, sequence: self.sequence }
    }

    /// Its bytes: the same for the same mark, on every target.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = EnvelopeWriter::new(EnvelopeKind::Complete);
        writer
            .field(WRITER, Unknown::Refuse, self.writer.as_bytes())
            .field(SEQUENCE, Unknown::Refuse, &self.sequence.to_le_bytes())
            .field(SEGMENT, Unknown::Refuse, self.segment.as_bytes());
        writer.finish()
    }

    /// The mark with these bytes.
    ///
    /// # Errors
    /// Damage; newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (mut writer, mut sequence, mut segment) = (None, None, None);
        Envelope::decode(EnvelopeKind::Complete, bytes)?.fields(|field| {
            match field.number {
                WRITER => writer = Some(WriterId::from_bytes(field.array("writer")?)),
                SEQUENCE => sequence = Some(u64::from_le_bytes(field.array("sequence")?)),
                SEGMENT => segment = Some(ObjectHash::from_bytes(field.array("segment")?)),
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        match (writer, sequence, segment) {
            (Some(writer), Some(sequence), Some(segment)) => Ok(Self { writer, sequence, segment }),
            _ => Err(Error::damage("mark of completeness: a field is missing")),
        }
    }

    /// Puts the mark on a target: the last step of making a run of segments whole there.
    ///
    /// # Errors
    /// Those of the target.
    pub fn put(&self, target: &dyn Target) -> Result<()> {
        target.put(&self.name().key(), &[&self.encode()])
    }

    /// How far each writer's log is whole on a target, as far as the names of its marks say: one entry a writer, ascending.
    ///
    /// # Errors
    /// Those of the target.
    pub fn heads(target: &dyn Target) -> Result<Vec<(WriterId, u64)>> {
        let mut heads: Vec<(WriterId, u64)> = Vec::new();
        for object in target.list(super::layout::COMPLETE)? {
            let Some(ObjectName::Complete { writer, sequence }) = ObjectName::parse(&object.key) else {
                continue;
            };
            match heads.last_mut() {
                Some((last, head)) if *last == writer => *head = (*head).max(sequence),
                _ => heads.push((writer, sequence)),
            }
        }
        Ok(heads)
    }

    /// The newest good mark of one writer on a target. A damaged one is passed over for the one before: it says less, and is still true.
    ///
    /// # Errors
    /// Those of the target; newer format.
    pub fn newest(target: &dyn Target, writer: WriterId) -> Result<Option<Self>> {
        for object in target.list(&complete_of(writer))?.into_iter().rev() {
            let Some(name @ ObjectName::Complete { .. }) = ObjectName::parse(&object.key) else { continue };
            match fetch(target, &name).and_then(|bytes| Self::decode(&bytes)) {
                Ok(mark) if mark.name() == name => return Ok(Some(mark)),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), crate::ErrorKind::Damage | crate::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::target::mem::MemTarget;

    fn mark(sequence: u64) -> Complete {
        Complete {
            writer: WriterId::from_bytes([7; 16]),
            sequence,
            segment: ObjectHash::of(&[&sequence.to_le_bytes()]),
        }
    }

    #[test]
    fn marks_come_back_and_every_flipped_byte_is_found() {
        let bytes = mark(3).encode();
        assert_eq!(Complete::decode(&bytes).unwrap(), mark(3));
        for index in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[index] ^= 0x40;
            assert_eq!(Complete::decode(&bad).unwrap_err().kind(), ErrorKind::Damage, "byte {index}");
        }
    }

    #[test]
    fn the_newest_good_mark_counts() {
        let target = MemTarget::new("a");
        assert_eq!(Complete::newest(&*target, mark(1).writer).unwrap(), None);
        for sequence in [1, 9, 16] {
            mark(sequence).put(&*target).unwrap();
        }
        assert_eq!(Complete::heads(&*target).unwrap(), [(mark(1).writer, 16)]);
        assert_eq!(Complete::newest(&*target, mark(1).writer).unwrap(), Some(mark(16)));
        target.tamper(|objects| {
            objects.insert(mark(16).name().key(), mark(9).encode().into());
        });
        assert_eq!(Complete::newest(&*target, mark(1).writer).unwrap(), Some(mark(9)));
    }
}
