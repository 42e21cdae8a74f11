//! What a segment says in clear, as far as it matters for what must exist.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::ObjectHash;
use crate::repository::layout::ObjectName;
use crate::segment::{Segment, SegmentName, SegmentObject};

/// What a segment says in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    /// The segment before it in the log, if it is not the first.
    pub(crate) previous: Option<ObjectHash>,
    /// The packs that it describes, and their lengths.
    pub(crate) packs: Vec<(ObjectHash, u64)>,
}

/// What the segment of that name says, given its bytes.
///
/// # Errors
/// Damage; newer format.
pub(crate) fn read_facts(name: &ObjectName, bytes: Vec<u8>) -> Result<SegmentFacts> {
    let name = SegmentName::from_key(&name.key())
        .ok_or_else(|| Error::damage(format!("{name}: logs begin with segment 1")))?;
    let segment = Segment::open(&SegmentObject { name, bytes: Arc::new(bytes) })?;
    let predecessor = segment.header.predecessor;
    Ok(SegmentFacts {
        previous: (predecessor != ObjectHash::from_bytes([0; ObjectHash::BYTES])).then_some(predecessor),
        packs: segment.names.packs.iter().map(|pack| (pack.name, pack.stored_bytes)).collect(),
    })
}
