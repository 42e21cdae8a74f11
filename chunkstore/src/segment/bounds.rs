//! How long a record becomes at most, asked before it is written: the segment that it goes to must have room for it.

use super::records::CommitRecord;
use crate::entry_key::EntryKey;
use crate::metadata::Metadata;
use crate::version::INLINE_CHUNKS_MAX;

/// The longest record of an entry: sixteen megabytes of holes, as many as are kept of a file where they are spread as they take the most
/// room; four of extended attributes, as many as are kept; the longest key; and some more. What is longer is in no segment.
pub(crate) const ENTRY_RECORD_BYTES_MAX: usize = 24 << 20;

/// What a record takes besides what has no fixed length: all numbers, ids of chunks, lengths.
const FIXED_BYTES: usize = 512 + INLINE_CHUNKS_MAX * 32;
/// What the length before a slice takes.
const LENGTH_BYTES: usize = 5;

/// The most bytes that the record of an entry takes.
pub(crate) fn entry_record_bytes(key: &EntryKey, metadata: &Metadata) -> usize {
    let Metadata { user, group, link_target, xattrs, holes, .. } = metadata;
    let texts = key.as_bytes().len() + user.len() + group.len() + link_target.as_ref().map_or(0, Vec::len);
    let xattrs: usize = xattrs.iter().map(|(name, value)| name.len() + value.len() + 2 * LENGTH_BYTES).sum();
    let mut end = 0;
    let mut hole_bytes = 0;
    for hole in holes {
        hole_bytes += varint_bytes(hole.offset.wrapping_sub(end)) + varint_bytes(hole.length);
        end = hole.offset.wrapping_add(hole.length);
    }
    FIXED_BYTES + texts + xattrs + hole_bytes
}

/// The most bytes that the record of a commit takes.
pub(crate) fn commit_record_bytes(commit: &CommitRecord) -> usize {
    let texts = |texts: &[Vec<u8>]| texts.iter().map(|text| text.len() + LENGTH_BYTES).sum::<usize>();
    let lanes = 2 * super::DIGEST_LANES;
    let texts = texts(&commit.tags) + texts(&commit.excludes) + commit.user.len() + commit.program.len();
    FIXED_BYTES + lanes + texts
}

fn varint_bytes(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).div_ceil(7).max(1) as usize
}

#[cfg(test)]
mod tests {
    use super::super::RecordWriter;
    use super::*;
    use crate::id::{ChunkId, FileId};
    use crate::metadata::{Hole, Kind, any_metadata};
    use crate::version::{Contents, FileOrigin, Marks};
    use proptest::prelude::*;

    fn written(key: &EntryKey, metadata: &Metadata) -> usize {
        let mut writer = RecordWriter::new();
        let contents = Contents::Inline(vec![ChunkId::from_bytes([1; 32]); INLINE_CHUNKS_MAX]);
        writer.entry(
            key,
            FileOrigin::Explicit(FileId::from_bytes([2; 16])),
            metadata,
            &contents,
            Marks::RACY,
        );
        writer.len()
    }

    proptest! {
        #[test]
        fn no_record_of_an_entry_is_longer_than_is_reckoned_with(metadata in any_metadata(), name in "[a-z]{1,200}") {
            let key = EntryKey::from_path_bytes(format!("/{name}").as_bytes()).unwrap();
            let bytes = written(&key, &metadata);
            prop_assert!(bytes <= entry_record_bytes(&key, &metadata), "{bytes}");
        }
    }

    #[test]
    fn the_most_holes_that_are_kept_fit_into_a_record() {
        let mut metadata = Metadata::new(Kind::File);
        let step = i64::MAX.cast_unsigned() >> 21;
        metadata.holes = (0..1 << 20).map(|n| Hole { offset: (2 * n + 1) * step, length: step }).collect();
        metadata.size = i64::MAX.cast_unsigned();
        metadata.check().unwrap();
        let key = EntryKey::from_path("/a").unwrap();
        let bytes = written(&key, &metadata);
        assert!(bytes <= entry_record_bytes(&key, &metadata) && bytes < 16 << 20, "{bytes}");
    }
}
