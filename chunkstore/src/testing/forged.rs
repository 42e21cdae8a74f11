//! What anybody can do to an object without a key: change it, and make what is in clear fit again.

use crate::pack::PACK_HEADER_BYTES;

/// The hash that a small object ends with is made that of its bytes.
pub(crate) fn renew_hash(envelope: &mut [u8]) {
    let end = envelope.len() - 32;
    let hash = blake3::hash(&envelope[..end]);
    envelope[end..].copy_from_slice(hash.as_bytes());
}

/// A pack with `value` at `offset` of its header, at both ends, and a right checksum.
pub(crate) fn with_pack_header(pack: &[u8], offset: usize, value: &[u8]) -> Vec<u8> {
    let mut pack = pack.to_vec();
    pack[offset..offset + value.len()].copy_from_slice(value);
    renew_checksum(&mut pack);
    let end = pack.len() - PACK_HEADER_BYTES;
    let (front, back) = pack.split_at_mut(end);
    back.copy_from_slice(&front[..PACK_HEADER_BYTES]);
    pack
}

/// The checksum of a pack's header is made to fit what the header says.
pub(crate) fn renew_checksum(pack: &mut [u8]) {
    let checksum = xxhash_rust::xxh3::xxh3_64(&pack[..104]).to_le_bytes();
    pack[104..112].copy_from_slice(&checksum);
}
