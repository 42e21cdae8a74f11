//! Index blocks and filters that an open table keeps for itself: a lookup in it takes no lock for them and looks them up nowhere.
//!
//! A table has a partition for every few megabytes. Each has a place for its two blocks, filled when they are first asked for, if the cache has
//! room to spare ([`BlockCache::pin`](crate::cache::BlockCache::pin)); they are let go with the table.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::block::{Block, BlockIter};
use crate::table::index::Partition;

/// Of one partition.
#[derive(Debug)]
pub(super) struct PinnedPartition {
    /// Where the index block is in the file.
    offset: u64,
    pub(super) index: OnceLock<Block>,
    pub(super) filter: OnceLock<Block>,
}

/// Of a table.
#[derive(Debug, Default)]
pub(super) struct PinnedBlocks {
    /// By offset; made at the first lookup.
    partitions: OnceLock<Box<[PinnedPartition]>>,
}

impl PinnedBlocks {
    /// The places of a partition that the top index leads to.
    #[inline]
    pub(super) fn of(&self, top: &Block, partition: Partition) -> Option<&PinnedPartition> {
        let partitions = self.partitions.get_or_init(|| places(top));
        let offset = partition.index.offset;
        let at = partitions.partition_point(|pinned| pinned.offset < offset);
        partitions.get(at).filter(|pinned| pinned.offset == offset)
    }

    /// Every block that is pinned.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &Block> {
        let partitions = self.partitions.get().map_or(&[][..], |partitions| partitions);
        partitions.iter().flat_map(|pinned| [&pinned.index, &pinned.filter]).filter_map(OnceLock::get)
    }
}

/// A place for each partition in the order of offsets. Partitions of a damaged top index have none: what is wrong is said by whoever looks something up in it.
fn places(top: &Block) -> Box<[PinnedPartition]> {
    let mut offsets = Vec::new();
    let mut iter = BlockIter::new(top.clone());
    let mut moved = iter.seek_to_first();
    while moved.is_ok() && iter.valid() {
        offsets.extend(Partition::from_value(iter.value()).ok().map(|partition| partition.index.offset));
        moved = iter.next();
    }
    offsets.sort_unstable();
    offsets.dedup();
    let place = |offset| PinnedPartition { offset, index: OnceLock::new(), filter: OnceLock::new() };
    offsets.into_iter().map(place).collect()
}

/// A block that the table has pinned, or one that the caller has a share in.
#[derive(Debug)]
pub(super) enum Held<'a> {
    Pinned(&'a Block),
    Own(Block),
}

impl Held<'_> {
    pub(super) fn into_block(self) -> Block {
        match self {
            Self::Pinned(block) => block.clone(),
            Self::Own(block) => block,
        }
    }
}

impl Deref for Held<'_> {
    type Target = Block;

    #[inline]
    fn deref(&self) -> &Block {
        match self {
            Self::Pinned(block) => block,
            Self::Own(block) => block,
        }
    }
}
