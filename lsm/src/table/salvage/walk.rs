//! Blocks without an index: where each may begin and end, and what verifies of that.

use std::cell::Cell;
use std::collections::BTreeMap;

use crate::block::{
    Block, BlockIter, BlockKind, Codec, LZ4_TIMES_MAX, PAYLOAD_BYTES_MAX, TRAILER_BYTES, open,
};
use crate::checksum::{Identity, salted_xxh3};
use crate::table::HEADER_BYTES;
use crate::table::fixed::Plan;
use crate::table::footer::Directory;
use crate::table::index::{Handle, Partition};

/// The first bytes of a zstd frame.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// So many times the bytes of the file are hashed or looked at in the search for blocks, at most, whatever somebody wrote into it.
const SPENT_TIMES_MAX: usize = 16;

/// A compressed block may end at so many trailers behind its beginning, at most. Within a block bytes look like one once in a hundred million
/// places, unless somebody wishes it.
const COMPRESSED_ENDS_MAX: usize = 16;

/// Where the trailer of a compressed block may stand, and what it would say.
#[derive(Clone, Copy, Debug)]
struct MaybeTrailer {
    at: usize,
    is_frame: bool,
    payload_bytes: usize,
}

impl MaybeTrailer {
    /// Whether it may end a block that begins at `start`, as a frame of zstd or not: what does not shrink is not compressed, and blocks of LZ4 begin with nothing of
    /// their own.
    fn may_end(&self, start: usize, is_frame: bool) -> bool {
        let stored_bytes = self.at.saturating_sub(start);
        let fits = if self.is_frame {
            is_frame
        } else {
            self.payload_bytes <= stored_bytes.saturating_mul(LZ4_TIMES_MAX)
        };
        fits && self.payload_bytes > stored_bytes
    }
}

/// Looks for blocks.
pub(super) struct Walk<'a> {
    bytes: &'a [u8],
    identity: Identity,
    /// Where trailers may stand. Ascending.
    trailers: Vec<usize>,
    compressed: Vec<MaybeTrailer>,
    /// The most that any of them says to hold.
    compressed_bytes_max: usize,
    /// Of blocks stored as they are: where each would begin, and its trailer. Ascending.
    by_start: Vec<(usize, usize)>,
    /// Bytes that were hashed or looked at.
    spent: Cell<usize>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(bytes: &'a [u8], identity: Identity) -> Self {
        let (mut trailers, mut compressed, mut by_start) = (Vec::new(), Vec::new(), Vec::new());
        let mut compressed_bytes_max = 0;
        for (at, trailer) in bytes.windows(TRAILER_BYTES).enumerate().skip(HEADER_BYTES + 1) {
            let [kind, codec, 0, 0, a, b, c, d, ..] = *trailer else { continue };
            let (Some(_), Ok(codec)) = (BlockKind::from_u8(kind), Codec::from_u8(codec)) else { continue };
            let payload_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
            if payload_bytes > PAYLOAD_BYTES_MAX {
                continue;
            }
            trailers.push(at);
            if codec != Codec::None {
                compressed.push(MaybeTrailer { at, is_frame: codec != Codec::Lz4, payload_bytes });
                compressed_bytes_max = compressed_bytes_max.max(payload_bytes);
            } else if let Some(start) = at.checked_sub(payload_bytes) {
                by_start.push((start, at));
            }
        }
        by_start.sort_unstable();
        Self { bytes, identity, trailers, compressed, compressed_bytes_max, by_start, spent: Cell::new(0) }
    }

    /// Counts that so many bytes are hashed or looked at; false: it is enough.
    fn spend(&self, bytes: usize) -> bool {
        self.spent.set(self.spent.get().saturating_add(bytes));
        !self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.spent.get() > self.bytes.len().saturating_mul(SPENT_TIMES_MAX)
    }

    /// The blocks that verify, by offset.
    pub(super) fn blocks(self) -> BTreeMap<u64, (u32, BlockKind)> {
        let mut found = BTreeMap::new();
        let mut at = HEADER_BYTES;
        while at < self.bytes.len() && !self.is_spent() {
            at = match self.block_from(at) {
                Some((end, kind)) => {
                    found.insert(at as u64, (u32::try_from(end - at).unwrap_or(u32::MAX), kind));
                    end
                }
                None => match self.start_behind(at) {
                    Some(next) => next,
                    None => break,
                },
            };
        }
        // What the found ones lead to, however long the search for them was; an index that is found so leads further.
        self.spent.set(0);
        let mut unread: Vec<(u64, (u32, BlockKind))> =
            found.iter().map(|(at, block)| (*at, *block)).collect();
        while let Some((at, (bytes, kind))) = unread.pop() {
            for handle in self.led_to(Handle { offset: at, bytes }, kind) {
                let known = found.contains_key(&handle.offset);
                if !known && let Some(kind) = self.block_at(handle) {
                    found.insert(handle.offset, (handle.bytes, kind));
                    unread.push((handle.offset, (handle.bytes, kind)));
                }
            }
        }
        found
    }

    /// The next place where a block may begin: behind a trailer, or where a trailer says that its block does.
    fn start_behind(&self, at: usize) -> Option<usize> {
        let behind = self.trailers.get(self.trailers_until(at)).map(|next| next + TRAILER_BYTES);
        let told = self.stored_from(at + 1).first().map(|(start, _)| *start);
        behind.into_iter().chain(told).min()
    }

    /// How many trailers stand at or before `at`, with all their bytes.
    fn trailers_until(&self, at: usize) -> usize {
        self.trailers.partition_point(|trailer| trailer + TRAILER_BYTES <= at)
    }

    /// What stands in `by_start` from a place on.
    fn stored_from(&self, at: usize) -> &[(usize, usize)] {
        let place = self.by_start.partition_point(|(start, _)| *start < at);
        self.by_start.get(place..).unwrap_or_default()
    }

    /// The block that begins at `start`: where it ends.
    fn block_from(&self, start: usize) -> Option<(usize, BlockKind)> {
        let stored = self.stored_from(start).iter().take_while(|(other, _)| *other == start);
        let is_frame = self.bytes.get(start..).is_some_and(|bytes| bytes.starts_with(&ZSTD_MAGIC));
        let behind = self.compressed.partition_point(|trailer| trailer.at <= start);
        let compressed = self.compressed.get(behind..).unwrap_or_default().iter();
        let compressed = compressed
            .take_while(|trailer| trailer.at - start < self.compressed_bytes_max && self.spend(TRAILER_BYTES))
            .filter(|trailer| trailer.may_end(start, is_frame))
            .map(|trailer| trailer.at)
            .take(COMPRESSED_ENDS_MAX);
        // Mostly the first one is it, and the others are not looked at.
        stored.map(|(_, end)| *end).chain(compressed).find_map(|end| {
            let handle =
                Handle { offset: start as u64, bytes: u32::try_from(end + TRAILER_BYTES - start).ok()? };
            self.block_at(handle).map(|kind| (end + TRAILER_BYTES, kind))
        })
    }

    /// The kind of the block at a place, if it verifies.
    fn block_at(&self, handle: Handle) -> Option<BlockKind> {
        let bytes = slice(self.bytes, handle)?;
        if !self.spend(bytes.len()) {
            return None;
        }
        let (checked, checksum) = bytes.split_last_chunk::<8>()?;
        if salted_xxh3(self.identity, handle.offset, checked) != u64::from_le_bytes(*checksum) {
            return None;
        }
        BlockKind::from_u8(*bytes.get(bytes.len().checked_sub(TRAILER_BYTES)?)?)
    }

    /// Where an index says that blocks are.
    fn led_to(&self, at: Handle, kind: BlockKind) -> Vec<Handle> {
        index_handles(self.bytes, self.identity, at, kind).into_iter().map(|(handle, _)| handle).collect()
    }
}

pub(super) fn slice(bytes: &[u8], handle: Handle) -> Option<&[u8]> {
    let start = usize::try_from(handle.offset).ok()?;
    bytes.get(start..start.checked_add(handle.bytes as usize)?)
}

/// What an index block, the top index or the directory leads to, and whether it is data.
pub(super) fn index_handles(
    bytes: &[u8],
    identity: Identity,
    at: Handle,
    kind: BlockKind,
) -> Vec<(Handle, bool)> {
    let mut handles = Vec::new();
    let Some(stored) = slice(bytes, at) else { return handles };
    let Ok(payload) = open(stored, identity, at.offset, kind) else { return handles };
    match kind {
        BlockKind::Directory => {
            if let Ok(directory) = Directory::decode(&payload) {
                let copies = directory.dictionary_copies().into_iter().flatten();
                handles.extend(directory.handles().into_iter().chain(copies).map(|handle| (handle, false)));
            }
        }
        BlockKind::Index | BlockKind::TopIndex => {
            let Ok(block) = Block::sorted(&payload, kind) else { return handles };
            let mut entries = BlockIter::new(block);
            let mut step = entries.seek_to_first();
            while step.is_ok() && entries.valid() {
                if kind == BlockKind::Index {
                    handles.extend(Handle::from_value(entries.value()).ok().map(|handle| (handle, true)));
                } else if let Ok(partition) = Partition::from_value(entries.value()) {
                    handles.push((partition.index, false));
                    handles.extend(partition.filter().map(|handle| (handle, false)));
                }
                step = entries.next();
            }
        }
        BlockKind::RowsPlan => {
            if let Ok(plan) = Plan::decode(&payload, bytes.len() as u64) {
                let layout = plan.row_layout();
                handles.extend((0..plan.blocks).map(|block| (layout.handle(block), true)));
                handles.extend((0..plan.filter_blocks()).map(|block| (plan.filter_handle(block), false)));
                handles.extend((0..plan.fence_blocks()).map(|block| (plan.fence_handle(block), false)));
            }
        }
        _ => {}
    }
    handles
}
