//! Intents: a writer at work.
//!
//! Whoever is about to put packs puts an intent first, on each target that it will write to, and takes it away after its last
//! segment is acknowledged. An intent that stays behind (a crash) delays pruning and endangers nothing. FORMAT.md, intents.

use super::fetch::fetch;
use super::layout::{INTENTS, ObjectName};
use crate::envelope::{Envelope, EnvelopeKind, EnvelopeWriter, FieldNumber, Known, Unknown};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntentId, WriterId};
use crate::metadata::Timestamp;
use crate::target::Target;

use super::config::{decode_time, encode_time};

const ID: FieldNumber = FieldNumber(1);
const WRITER: FieldNumber = FieldNumber(2);
const STARTED: FieldNumber = FieldNumber(3);
const HOST: FieldNumber = FieldNumber(4);

/// The longest host name that an intent keeps, in bytes; a longer one is cut.
const HOST_BYTES_MAX: usize = 255;

/// A writer at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Unique for each run.
    pub id: IntentId,
    /// Whose run it is.
    pub writer: WriterId,
    /// When it began, by the writer's clock: for people, never for a decision.
    pub started: Timestamp,
    /// Where: for people.
    pub host: String,
}

impl Intent {
    /// A fresh intent of `writer`, on `host`, now.
    ///
    /// # Errors
    /// Local, if the system has no randomness to give.
    pub fn new(writer: WriterId, host: &str) -> Result<Self> {
        let mut end = host.len().min(HOST_BYTES_MAX);
        while !host.is_char_boundary(end) {
            end -= 1;
        }
        let host = host.get(..end).unwrap_or_default().to_owned();
        Ok(Self { id: IntentId::random()?, writer, started: super::now(), host })
    }

    /// One of which nothing is known but its id: takes the place of one that is damaged everywhere, and counts as it did.
    pub(crate) fn unknown(id: IntentId) -> Self {
        Self { id, writer: WriterId::from_bytes([0; 16]), started: Timestamp::default(), host: String::new() }
    }

    /// Its name on a target.
    pub fn name(&self) -> ObjectName {
        ObjectName::Intent(self.id)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = EnvelopeWriter::new(EnvelopeKind::Intent);
        writer
            .field(ID, Unknown::Refuse, self.id.as_bytes())
            .field(WRITER, Unknown::Refuse, self.writer.as_bytes())
            .field(STARTED, Unknown::PassOver, &encode_time(self.started))
            .field(HOST, Unknown::PassOver, self.host.as_bytes());
        writer.finish()
    }

    /// The intent with these bytes.
    ///
    /// # Errors
    /// Damage; newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let (mut id, mut writer, mut started, mut host) = (None, None, Timestamp::default(), String::new());
        Envelope::decode(EnvelopeKind::Intent, bytes)?.fields(|field| {
            match field.number {
                ID => id = Some(IntentId::from_bytes(field.array("id")?)),
                WRITER => writer = Some(WriterId::from_bytes(field.array("writer")?)),
                STARTED => started = decode_time(field.decoder())?,
                HOST => {
                    let text =
                        std::str::from_utf8(field.value).ok().filter(|text| text.len() <= HOST_BYTES_MAX);
                    host = text.ok_or_else(|| Error::damage("the host is too long or no text"))?.to_owned();
                }
                _ => return Ok(Known::No),
            }
            Ok(Known::Yes)
        })?;
        match (id, writer) {
            (Some(id), Some(writer)) => Ok(Self { id, writer, started, host }),
            _ => Err(Error::damage("intent: a field is missing")),
        }
    }

    /// Puts it on a target, before the first pack goes there.
    ///
    /// # Errors
    /// Those of the target.
    pub fn put(&self, target: &dyn Target) -> Result<()> {
        target.put(&self.name().key(), &[&self.encode()])
    }

    /// Takes it away from a target, after the last segment was acknowledged.
    ///
    /// # Errors
    /// Those of the target.
    pub fn delete(&self, target: &dyn Target) -> Result<()> {
        target.delete(&self.name().key())
    }

    /// Who is at work on a target: the ids, from the names alone. An intent counts whatever its bytes are.
    ///
    /// # Errors
    /// Those of the target.
    pub fn ids(target: &dyn Target) -> Result<Vec<IntentId>> {
        let id = |object: &crate::target::ObjectInfo| match ObjectName::parse(&object.key) {
            Some(ObjectName::Intent(id)) => Some(id),
            _ => None,
        };
        Ok(target.list(INTENTS)?.iter().filter_map(id).collect())
    }

    /// Who is at work on a target, with what the intents say. One that is damaged or vanishes meanwhile is left out.
    ///
    /// # Errors
    /// Those of the target; newer format.
    pub fn list(target: &dyn Target) -> Result<Vec<Self>> {
        let mut intents = Vec::new();
        for id in Self::ids(target)? {
            match fetch(target, &ObjectName::Intent(id)).and_then(|bytes| Self::decode(&bytes)) {
                Ok(intent) if intent.id == id => intents.push(intent),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damage) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(intents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mem::MemTarget;

    #[test]
    fn intents_come_and_go() {
        let target = MemTarget::new("a");
        let intent = Intent::new(WriterId::from_bytes([1; 16]), &"ä".repeat(300)).unwrap();
        assert_eq!(intent.host.len(), 254, "cut between characters");
        intent.put(&*target).unwrap();
        intent.put(&*target).unwrap();
        assert_eq!(Intent::list(&*target).unwrap(), std::slice::from_ref(&intent));
        target.tamper(|objects| {
            objects.insert(intent.name().key(), vec![0; 9].into());
        });
        assert_eq!(Intent::ids(&*target).unwrap(), [intent.id], "it counts though it is damaged");
        assert!(Intent::list(&*target).unwrap().is_empty());
        intent.delete(&*target).unwrap();
        assert!(Intent::ids(&*target).unwrap().is_empty());
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let bytes = Intent::new(WriterId::from_bytes([1; 16]), "host").unwrap().encode();
        for index in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[index] ^= 1;
            assert_eq!(Intent::decode(&bad).unwrap_err().kind(), ErrorKind::Damage, "byte {index}");
        }
    }
}
