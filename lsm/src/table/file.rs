//! Reading blocks of one table from its file: one at a time, or many with one call when they are asked for in order.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::block::{Block, BlockKind, Buffers, Payload, Scratch, TRAILER_BYTES, open, open_with, zeros};
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::filter;
use crate::fs::{File, ReadRequest};
use crate::table::dictionary::TableDictionary;
use crate::table::index::Handle;
use crate::table::{FOOTER_BYTES, HEADER_BYTES, ReadMode};

/// Read at once when a scan has shown itself, in bytes. Larger reads gain nothing on any disk that was measured.
const WINDOW_BYTES_MAX: u64 = 256 << 10;

/// The first read ahead of a scan through the cache, in bytes; it doubles with each.
const WINDOW_BYTES_MIN: u64 = 16 << 10;

/// A range that takes no more of the file is read at once when the first of its blocks is: whoever asks for a range mostly wants all of it.
const SHORT_RANGE_BYTES_MAX: u64 = 32 << 10;

/// Blocks that lie this near, in bytes, are still in order: index blocks and filters stand between the data.
const GAP_BYTES_MAX: u64 = 128 << 10;

/// The extent of a range of which nothing is known.
pub(super) const ANYWHERE: Range<u64> = 0..u64::MAX;

/// An open file and what its blocks are checked against.
#[derive(Debug)]
pub(super) struct TableFile {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) file_bytes: u64,
    /// Memory for blocks that the cache may come to hold.
    pub(super) buffers: Arc<Buffers>,
    /// What data blocks may have been compressed with.
    pub(super) dictionary: Option<TableDictionary>,
}

impl TableFile {
    /// The error, with this file and the offset.
    #[cold]
    pub(super) fn locate(&self, error: Error, offset: u64) -> Error {
        error.at_offset(offset).at(&self.path)
    }

    /// That a block can be there, before memory is reserved for it.
    pub(super) fn check_handle(&self, handle: Handle) -> Result<()> {
        let end_max = self.file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let fits = handle.offset >= HEADER_BYTES as u64
            && handle.bytes as usize > TRAILER_BYTES
            && handle.end() <= end_max;
        if fits {
            return Ok(());
        }
        Err(Error::corruption(format!(
            "a block of {} bytes at {} does not fit a table of {} bytes",
            handle.bytes, handle.offset, self.file_bytes
        ))
        .at(&self.path))
    }

    /// The bytes of a block, not yet verified.
    pub(super) fn read(&self, handle: Handle) -> Result<Scratch> {
        self.check_handle(handle)?;
        let mut bytes = Scratch::with_bytes(handle.bytes as usize);
        self.file.read_exact_at(&mut bytes, handle.offset).map_err(|error| self.failed(error, handle))?;
        Ok(bytes)
    }

    /// What `bytes`, read at `handle`, hold.
    pub(super) fn open<'a>(&self, bytes: &'a [u8], handle: Handle, kind: BlockKind) -> Result<Payload<'a>> {
        let payload = match &self.dictionary {
            Some(dictionary) if kind == BlockKind::Data => {
                open_with(bytes, self.identity, handle.offset, kind, |stored, payload_bytes| {
                    dictionary.unpack(self, stored, payload_bytes)
                })
            }
            _ => open(bytes, self.identity, handle.offset, kind),
        };
        payload.map_err(|error| self.locate(error, handle.offset))
    }

    /// The payload of a block.
    pub(super) fn payload(&self, handle: Handle, kind: BlockKind) -> Result<Vec<u8>> {
        let bytes = self.read(handle)?;
        Ok(self.open(&bytes, handle, kind)?.into_owned())
    }

    /// The block that `bytes`, read at `handle`, hold: one that the cache may come to hold.
    pub(super) fn block_of(&self, bytes: &[u8], handle: Handle, kind: BlockKind) -> Result<Block> {
        self.block_in(bytes, handle, kind, |bytes| self.buffers.take(bytes))
    }

    /// The block that `bytes`, read at `handle`, hold, in memory that `memory` gives.
    fn block_in(
        &self,
        bytes: &[u8],
        handle: Handle,
        kind: BlockKind,
        memory: impl FnOnce(usize) -> Arc<[u8]>,
    ) -> Result<Block> {
        let payload = self.open(bytes, handle, kind)?;
        let block = match kind {
            BlockKind::Filter => filter::check(&payload).map(|()| Block::opaque_in(&payload, memory)),
            BlockKind::Rows | BlockKind::Fences => Ok(Block::opaque_in(&payload, memory)),
            _ => Block::sorted_in(&payload, kind, memory),
        };
        block.map_err(|error| self.locate(error, handle.offset))
    }

    /// As [`Self::block_of`]: one that the cache will not hold.
    fn lone_block_of(&self, bytes: &[u8], handle: Handle, kind: BlockKind) -> Result<Block> {
        self.block_in(bytes, handle, kind, zeros)
    }

    /// A block.
    pub(super) fn block(&self, handle: Handle, kind: BlockKind) -> Result<Block> {
        self.block_of(&self.read(handle)?, handle, kind)
    }

    /// Several blocks, read at once.
    pub(super) fn blocks(&self, handles: &[Handle], kind: BlockKind) -> Result<Vec<Block>> {
        let mut needed = 0usize;
        for handle in handles {
            self.check_handle(*handle)?;
            needed = needed.checked_add(handle.bytes as usize).ok_or_else(|| {
                self.locate(Error::corruption("blocks of more bytes than memory can have"), handle.offset)
            })?;
        }
        let mut bytes = Scratch::with_bytes(needed);
        let mut requests = Vec::with_capacity(handles.len());
        let mut rest = &mut *bytes;
        for handle in handles {
            let (buffer, behind) = rest.split_at_mut(handle.bytes as usize);
            requests.push(ReadRequest { offset: handle.offset, buffer });
            rest = behind;
        }
        self.file.read_many(&mut requests).context("read blocks of a table", &self.path)?;
        let mut rest = &*bytes;
        let mut block = |handle: &Handle| {
            let (bytes, behind) = rest.split_at(handle.bytes as usize);
            rest = behind;
            self.block_of(bytes, *handle, kind)
        };
        handles.iter().map(&mut block).collect()
    }

    #[cold]
    fn failed(&self, error: std::io::Error, handle: Handle) -> Error {
        Error::io(format!("read a block of {} bytes", handle.bytes), error)
            .at_offset(handle.offset)
            .at(&self.path)
    }
}

/// Reads data blocks for one scan. Once blocks are asked for in order, either way, it reads many with one call; those of a short range at once.
#[derive(Debug)]
pub(super) struct ReadAhead {
    mode: ReadMode,
    buffer: Scratch,
    /// Where the buffer begins.
    offset: u64,
    window_bytes: u64,
    last: Option<Handle>,
}

impl ReadAhead {
    pub(super) fn new(mode: ReadMode) -> Self {
        Self { mode, buffer: Scratch::default(), offset: 0, window_bytes: 0, last: None }
    }

    /// Says that a block was used that needed no reading (it was in the cache).
    pub(super) fn skip(&mut self, handle: Handle) {
        self.last = Some(handle);
    }

    /// Whether so much was read in order that the scan will not soon end.
    pub(super) fn is_long(&self) -> bool {
        self.window_bytes == WINDOW_BYTES_MAX
    }

    /// A data block. What is not in the buffer is read, with others if they are likely to be wanted; `range` says where in the file those are that can be.
    pub(super) fn read(
        &mut self,
        file: &TableFile,
        handle: Handle,
        range: impl FnOnce() -> Range<u64>,
    ) -> Result<Block> {
        file.check_handle(handle)?;
        let last = self.last.replace(handle);
        if let Some(bytes) = self.buffered(handle) {
            return self.block_of(file, bytes, handle);
        }
        let range = range();
        let window = self.window(last, handle, &range);
        let (start, end) =
            (window.start.max(range.start).min(handle.offset), window.end.min(range.end).max(handle.end()));
        if end - start <= u64::from(handle.bytes) {
            return file.block(handle, BlockKind::Data);
        }
        let end = end.min(file.file_bytes);
        self.buffer.resize(usize::try_from(end - start).unwrap_or(0));
        self.offset = start;
        if file.file.read_exact_at(&mut self.buffer, start).is_err() {
            // A neighbour may be what cannot be read: this block alone decides.
            self.buffer = Scratch::default();
            self.window_bytes = 0;
            return file.block(handle, BlockKind::Data);
        }
        self.block_of(file, self.buffered(handle).unwrap_or_default(), handle)
    }

    /// Which part of the file may be wanted now, behind a block at `last`.
    fn window(&mut self, last: Option<Handle>, handle: Handle, range: &Range<u64>) -> Range<u64> {
        let near = |gap: Option<u64>| gap.is_some_and(|gap| gap <= GAP_BYTES_MAX);
        let forwards = last.is_some_and(|last| near(handle.offset.checked_sub(last.end())));
        let backwards = last.is_some_and(|last| near(last.offset.checked_sub(handle.end())));
        self.window_bytes = match self.mode {
            ReadMode::Bypass => WINDOW_BYTES_MAX,
            ReadMode::Cached if forwards || backwards => {
                (self.window_bytes * 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
            }
            ReadMode::Cached => 0,
        };
        let is_in_range = range.start <= handle.offset && handle.end() <= range.end;
        let is_short = is_in_range && range.end - range.start <= SHORT_RANGE_BYTES_MAX;
        match (forwards, backwards) {
            (false, false) if is_short => range.clone(),
            (true, _) if is_short => handle.offset..range.end,
            (_, true) if is_short => range.start..handle.end(),
            (_, true) => handle.end().saturating_sub(self.window_bytes)..handle.end(),
            _ => handle.offset..handle.offset.saturating_add(self.window_bytes),
        }
    }

    fn block_of(&self, file: &TableFile, bytes: &[u8], handle: Handle) -> Result<Block> {
        match self.mode {
            ReadMode::Cached => file.block_of(bytes, handle, BlockKind::Data),
            ReadMode::Bypass => file.lone_block_of(bytes, handle, BlockKind::Data),
        }
    }

    fn buffered(&self, handle: Handle) -> Option<&[u8]> {
        let start = usize::try_from(handle.offset.checked_sub(self.offset)?).ok()?;
        self.buffer.get(start..start.checked_add(handle.bytes as usize)?)
    }
}
