//! Where the bytes of a Version lie in its file: contents are what is between the holes, one piece after the other.

use super::Metadata;

/// A piece of a file that holds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where its first byte is in the contents: holes not counted.
    pub contents_offset: u64,
    /// Where its first byte is in the file.
    pub file_offset: u64,
    /// How many bytes; more than zero.
    pub length: u64,
}

/// Every piece of a file that holds bytes, ascending and apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// The pieces between the holes of `metadata`.
    pub fn of(metadata: &Metadata) -> Self {
        let mut extents = Vec::with_capacity(metadata.holes.len() + 1);
        let (mut contents_offset, mut file_offset) = (0, 0);
        let ends = metadata.holes.iter().map(|hole| (hole.offset, hole.offset.saturating_add(hole.length)));
        for (hole, behind) in ends.chain([(metadata.size, metadata.size)]) {
            let length = hole.saturating_sub(file_offset);
            if length > 0 {
                extents.push(Extent { contents_offset, file_offset, length });
            }
            contents_offset += length;
            file_offset = behind;
        }
        Self(extents)
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// Bytes in all.
    pub fn data_bytes(&self) -> u64 {
        self.0.last().map_or(0, |last| last.contents_offset + last.length)
    }

    /// Where `length` bytes of the contents from `contents_offset` on lie in the file: one piece, or more where holes are between.
    /// What is beyond the end of the contents is in none.
    pub fn pieces(&self, contents_offset: u64, length: u64) -> impl Iterator<Item = Extent> + '_ {
        let end = contents_offset.saturating_add(length);
        let first =
            self.0.partition_point(|extent| extent.contents_offset + extent.length <= contents_offset);
        let from = self.0.get(first..).unwrap_or_default();
        from.iter().take_while(move |extent| extent.contents_offset < end).filter_map(move |extent| {
            let start = extent.contents_offset.max(contents_offset);
            let stop = (extent.contents_offset + extent.length).min(end);
            (start < stop).then(|| Extent {
                contents_offset: start,
                file_offset: extent.file_offset + (start - extent.contents_offset),
                length: stop - start,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{Hole, Kind};
    use proptest::prelude::*;

    fn file(size: u64, holes: &[(u64, u64)]) -> Metadata {
        let holes = holes.iter().map(|&(offset, length)| Hole { offset, length }).collect();
        Metadata { size, holes, ..Metadata::new(Kind::File) }
    }

    #[test]
    fn pieces_lie_between_the_holes() {
        let extent = |contents_offset, file_offset, length| Extent { contents_offset, file_offset, length };
        assert_eq!(Extents::of(&file(0, &[])).as_slice(), []);
        assert_eq!(Extents::of(&file(10, &[(0, 10)])).as_slice(), []);
        assert_eq!(Extents::of(&file(10, &[])).as_slice(), [extent(0, 0, 10)]);
        let extents = Extents::of(&file(100, &[(0, 10), (20, 30), (90, 10)]));
        assert_eq!(extents.as_slice(), [extent(0, 10, 10), extent(10, 50, 40)]);
        assert_eq!(extents.data_bytes(), 50);
        assert_eq!(extents.pieces(5, 10).collect::<Vec<_>>(), [extent(5, 15, 5), extent(10, 50, 5)]);
        assert_eq!(extents.pieces(10, 5).collect::<Vec<_>>(), [extent(10, 50, 5)]);
        assert_eq!(extents.pieces(48, 100).collect::<Vec<_>>(), [extent(48, 88, 2)]);
        assert_eq!(extents.pieces(50, 1).count(), 0);
        assert_eq!(extents.pieces(0, 0).count(), 0);
    }

    proptest! {
        #[test]
        fn each_byte_of_the_contents_has_one_place(
            gaps in proptest::collection::vec((1u64..9, 1u64..9), 0..6), tail in 0u64..9,
            cuts in proptest::collection::vec(1u64..7, 1..30),
        ) {
            let (mut at, mut holes, mut places) = (0, Vec::new(), Vec::new());
            for (gap, length) in gaps {
                places.extend(at..at + gap);
                holes.push((at + gap, length));
                at += gap + length;
            }
            places.extend(at..at + tail);
            let extents = Extents::of(&file(at + tail, &holes));
            prop_assert_eq!(extents.data_bytes(), places.len() as u64);
            let (mut offset, mut found) = (0, Vec::new());
            for length in cuts {
                for piece in extents.pieces(offset, length) {
                    prop_assert_eq!(piece.contents_offset, found.len() as u64);
                    found.extend(piece.file_offset..piece.file_offset + piece.length);
                }
                offset += length;
            }
            places.truncate(found.len().max(places.len().min(usize::try_from(offset).unwrap())));
            prop_assert_eq!(found, places);
        }
    }
}
