//! What a segment says in clear, as far as it matters for what must exist.

use crate::error::{Error, Result};
use crate::id::ObjectHash;
use crate::repository::layout::ObjectName;

/// What a segment says in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    /// The segment before it in the log, if it is not the first.
    pub(crate) previous: Option<ObjectHash>,
    /// The packs that it describes, and their lengths.
    pub(crate) packs: Vec<(ObjectHash, u64)>,
}

/// What the good segment of that name says.
///
/// # Errors
/// Damage; newer format.
pub(crate) fn read_facts(name: &ObjectName, bytes: Vec<u8>) -> Result<SegmentFacts> {
    #[cfg(test)]
    if let Some(facts) = tests::decode(&bytes) {
        return Ok(facts);
    }
    let _ = (name, bytes);
    Err(Error::damage("segments cannot be read yet"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A stand-in for a segment: its facts and nothing else.
    pub(crate) fn encode(facts: &SegmentFacts, salt: &[u8]) -> Vec<u8> {
        let mut out = b"FAKESEGM".to_vec();
        out.extend_from_slice(facts.previous.unwrap_or(ObjectHash::from_bytes([0; 32])).as_bytes());
        for (pack, length) in &facts.packs {
            out.extend_from_slice(pack.as_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
        out.extend_from_slice(salt);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<SegmentFacts> {
        let mut rest = bytes.strip_prefix(b"FAKESEGM")?;
        let mut take = |count: usize| {
            let (front, back) = rest.split_at_checked(count)?;
            rest = back;
            Some(front)
        };
        let previous = ObjectHash::from_bytes(take(32)?.try_into().ok()?);
        let mut facts = SegmentFacts {
            previous: (previous != ObjectHash::from_bytes([0; 32])).then_some(previous),
            packs: Vec::new(),
        };
        while let Some(pack) = take(40) {
            let (hash, length) = pack.split_at(32);
            let hash = ObjectHash::from_bytes(hash.try_into().ok()?);
            facts.packs.push((hash, u64::from_le_bytes(length.try_into().ok()?)));
        }
        Some(facts)
    }
}
