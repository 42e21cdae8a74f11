//! What an open table keeps for itself, so that a lookup in it takes no lock and looks nothing up elsewhere: where its partitions are, and their index blocks and
//! filters.
//!
//! A table has a partition for every megabyte or so. Each has a place for the two, filled when they are first asked for, if the cache has
//! room to spare ([`BlockCache::pin`](crate::cache::BlockCache::pin)); they are let go with the table.

use std::ops::Deref;
use std::sync::OnceLock;

use crate::block::{Block, BlockIter, Fences};
use crate::cache::BlockCache;
use crate::error::Result;
use crate::filter::{self, LINE_BYTES};
use crate::key;
use crate::memory;
use crate::table::index::Partition;

/// Of one partition.
#[derive(Debug)]
pub(super) struct PinnedPartition {
    /// Where they are in the file.
    pub(super) partition: Partition,
    pub(super) index: OnceLock<Block>,
    pub(super) filter: OnceLock<PinnedFilter>,
}

/// Of a table.
#[derive(Debug, Default)]
pub(super) struct PinnedBlocks {
    /// Made at the first lookup.
    routes: OnceLock<Routes>,
}

/// The partitions in the order of their keys, and what is last in each. None of a damaged top index: what is wrong is said by whoever looks something up in it.
#[derive(Debug, Default)]
struct Routes {
    lasts: Fences,
    partitions: Box<[PinnedPartition]>,
}

/// Where a key is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route<'a> {
    /// In no partition.
    Nowhere,
    /// In this one or in none.
    To(&'a PinnedPartition),
    /// The top index must be asked.
    Unknown,
}

impl PinnedBlocks {
    #[inline]
    fn routes(&self, top: &Block) -> &Routes {
        self.routes.get_or_init(|| Routes::new(top).unwrap_or_default())
    }

    /// Where a key is, if that is quickly said.
    #[inline]
    pub(super) fn route(&self, top: &Block, user_key: &[u8]) -> Route<'_> {
        let routes = self.routes(top);
        let around = routes.lasts.around(user_key);
        if !around.is_empty() {
            return Route::Unknown;
        }
        match routes.partitions.get(around.start) {
            Some(pinned) => Route::To(pinned),
            None if routes.partitions.is_empty() => Route::Unknown,
            None => Route::Nowhere,
        }
    }

    /// The places of a partition that the top index leads to.
    #[inline]
    pub(super) fn of(&self, top: &Block, partition: Partition) -> Option<&PinnedPartition> {
        let partitions = &self.routes(top).partitions;
        let offset = partition.index.offset;
        let at = partitions.partition_point(|pinned| pinned.partition.index.offset < offset);
        partitions.get(at).filter(|pinned| pinned.partition == partition)
    }

    /// The bytes of the cache's capacity that all of them take.
    pub(super) fn bytes(&self) -> usize {
        let partitions = self.routes.get().map_or(&[][..], |routes| &routes.partitions);
        let index = |pinned: &PinnedPartition| pinned.index.get().map_or(0, BlockCache::bytes_of);
        let filter = |pinned: &PinnedPartition| pinned.filter.get().map_or(0, |filter| filter.bytes);
        partitions.iter().map(|pinned| index(pinned) + filter(pinned)).sum()
    }
}

impl Routes {
    fn new(top: &Block) -> Result<Self> {
        let (mut lasts, mut partitions) = (Vec::new(), Vec::<PinnedPartition>::new());
        let mut iter = BlockIter::new(top.clone());
        iter.seek_to_first()?;
        while iter.valid() {
            let partition = Partition::from_value(iter.value())?;
            let (user, _) = key::split(iter.key())?;
            let is_behind = |before: &PinnedPartition| before.partition.index.offset < partition.index.offset;
            if !partitions.last().is_none_or(is_behind)
                || lasts.last().is_some_and(|last: &Vec<u8>| last.as_slice() > user)
            {
                return Ok(Self::default());
            }
            lasts.push(user.to_vec());
            partitions.push(PinnedPartition { partition, index: OnceLock::new(), filter: OnceLock::new() });
            iter.next()?;
        }
        Ok(Self { lasts: Fences::new(lasts.iter().map(Vec::as_slice)), partitions: partitions.into() })
    }
}

/// A filter whose lines are lines of the processor's cache, as they are in no block.
#[derive(Debug)]
pub(super) struct PinnedFilter {
    probes: u8,
    /// None of a filter of an unknown kind, which says nothing.
    lines: Box<[Line]>,
    /// What it takes of the cache's capacity.
    bytes: usize,
}

#[derive(Debug)]
#[repr(align(64))]
struct Line([u8; LINE_BYTES]);

impl PinnedFilter {
    /// The filter in this block, for which so many bytes were taken.
    pub(super) fn new(block: &Block, bytes: usize) -> Self {
        let (probes, lines) = filter::parts(block.bytes()).unwrap_or((0, &[]));
        Self { probes, lines: lines.as_chunks().0.iter().map(|line| Line(*line)).collect(), bytes }
    }

    #[inline]
    fn line(&self, hash: u64) -> Option<&Line> {
        self.lines.get(filter::line(hash, self.lines.len()))
    }

    /// Has the line fetched that tells about a key.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        if let Some(line) = self.line(hash) {
            memory::prefetch(line);
        }
    }

    /// Whether the key may be in the partition.
    #[inline]
    pub(super) fn may_contain(&self, hash: u64) -> bool {
        self.line(hash).is_none_or(|Line(line)| filter::line_may_contain(line, hash, self.probes))
    }
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
