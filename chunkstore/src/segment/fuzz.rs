//! Segments that nobody wrote, for the fuzzer: every hash, length and seal is right, and what they cover is anything.

use super::header::{Header, SEGMENT_HEADER_BYTES, Tail};
use super::{PieceFlags, SegmentKeys, Sequence};
use crate::id::{IntentId, ObjectHash, WriterId};
use crate::seal::{BoxKind, BoxNumber, Cipher};
use crate::secret::Epoch;

/// A segment with this text in clear and these plaintexts, each with codec and length in front; an empty one is left out.
pub(crate) fn sealed(
    keys: &SegmentKeys,
    cipher: Cipher,
    names: &[u8],
    index: &[u8],
    versions: &[u8],
) -> Option<Vec<u8>> {
    let header = Header {
        cipher,
        optional_features: 0,
        epoch: Epoch::FIRST,
        writer: WriterId::from_bytes([6; 16]),
        sequence: Sequence(1),
        predecessor: ObjectHash::from_bytes([0; 32]),
        intent: IntentId::from_bytes([7; 16]),
        flags: PieceFlags { begins: true, commits: true },
        names_hash: ObjectHash::of(&[names]),
        salt: [5; 32],
    };
    let (index_sealer, versions_sealer) = (keys.index(&header), keys.versions(&header).ok()?);
    let (mut index_box, mut versions_box) = (Vec::new(), Vec::new());
    if !index.is_empty() {
        index_sealer.seal(BoxNumber(0), BoxKind::SegmentIndex, &[index], &mut index_box);
    }
    if !versions.is_empty() {
        versions_sealer.seal(BoxNumber(0), BoxKind::SegmentVersions, &[versions], &mut versions_box);
    }
    let tail = Tail {
        index_commitment: *index_sealer.commitment(),
        versions_commitment: *versions_sealer.commitment(),
        names_bytes: u32::try_from(names.len()).ok()?,
        index_bytes: u32::try_from(index_box.len()).ok()?,
        versions_bytes: u32::try_from(versions_box.len()).ok()?,
    };
    let header: [u8; SEGMENT_HEADER_BYTES] = header.encode(&tail);
    Some([&header[..], names, &index_box, &versions_box].concat())
}
