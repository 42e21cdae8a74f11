//! Writing a table of rows: blocks are filled as rows come, and go out behind each other; filter and fences follow.

use std::path::Path;
use std::sync::Arc;

use super::layout::{Columns, FENCES_PER_BLOCK, LINES_PER_BLOCK, Plan, RowLayout, RowsBuilder};
use super::shared::{SharedFilter, Sharing};
use crate::block::BlockKind;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filter;
use crate::fs::FileSystem;
use crate::key::{Kind, SequenceNumber};
use crate::memory::Bytes;
use crate::range::KeyRange;
use crate::row::{self, Widths};
use crate::table::footer::{Directory, Footer};
use crate::table::header::{Header, TableKind};
use crate::table::index::Handle;
use crate::table::sealed::{Sealed, WRITE_BYTES};
use crate::table::{FOOTER_BYTES, HEADER_BYTES, TableOrigin, TableSummary, properties};

/// Bytes of the first part of the hashes, and of the largest: each is twice as large as the one before.
const PART_BYTES_MIN: usize = 1 << 10;
const PART_BYTES_MAX: usize = 256 << 10;

/// Bytes of a hash.
const HASH_BYTES: usize = size_of::<u64>();

/// The hashes of all keys, until it is known how large the filter is to be.
#[derive(Debug, Default)]
struct Hashes {
    /// All full but the last.
    parts: Vec<Bytes>,
    /// Bytes of the last that are in use.
    used: usize,
    count: usize,
}

impl Hashes {
    #[inline]
    fn push(&mut self, hash: u64) {
        let place = self.parts.last_mut().and_then(|part| part.get_mut(self.used..)?.first_chunk_mut());
        match place {
            Some(place) => *place = hash.to_le_bytes(),
            None => self.push_part(hash),
        }
        self.used += HASH_BYTES;
        self.count += 1;
    }

    #[cold]
    fn push_part(&mut self, hash: u64) {
        let bytes = self.parts.last().map_or(PART_BYTES_MIN, |last| (last.len() * 2).min(PART_BYTES_MAX));
        let mut part = Bytes::scratch(bytes);
        if let Some(place) = part.first_chunk_mut() {
            *place = hash.to_le_bytes();
        }
        self.parts.push(part);
        self.used = 0;
    }

    fn len(&self) -> usize {
        self.count
    }

    /// All of them; each part goes when it has been gone through.
    fn drain(&mut self) -> impl Iterator<Item = u64> {
        let Self { parts, count, .. } = std::mem::take(self);
        let each = |part: Bytes| {
            let hash = move |index| part.as_chunks().0.get(index).map(|hash| u64::from_le_bytes(*hash));
            (0..).map_while(hash)
        };
        parts.into_iter().flat_map(each).take(count)
    }
}

/// Writes a table of rows, row by row, in the order of internal keys.
#[derive(Debug)]
pub struct FixedWriter {
    identity: Identity,
    layout: RowLayout,
    filter_bits_per_key: u32,
    out: Sealed,
    rows: RowsBuilder,
    /// The first prefix of each block.
    fences: Vec<u64>,
    /// Of the keys, each once.
    hashes: Hashes,
    first: Vec<u8>,
    last: Vec<u8>,
    last_sequence: SequenceNumber,
    entries: u64,
    deletions: u64,
    sequences: (SequenceNumber, SequenceNumber),
    origin: Option<TableOrigin>,
    /// A filter that other tables put their keys into, too.
    sharing: Option<Sharing>,
}

impl FixedWriter {
    /// Starts a new file at `path`, which must not exist. `sequences` are the smallest and the largest number of what will be added.
    ///
    /// # Errors
    /// Io if it cannot be created.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        (identity, database): (Identity, Identity),
        widths: Widths,
        columns: Columns,
        sequences: (SequenceNumber, SequenceNumber),
        filter_bits_per_key: u32,
    ) -> Result<Self> {
        let file = fs.create_new(path).context("create a table", path)?;
        let layout = RowLayout::new(widths, columns);
        let mut out = Sealed::new(path.to_owned(), file, identity, layout.block_bytes);
        let header =
            Header { kind: TableKind::Fixed, required: 0, optional: layout.hint(), identity, database };
        out.begin(&header.encode(), layout.block_bytes);
        Ok(Self {
            identity,
            layout,
            filter_bits_per_key,
            out,
            rows: RowsBuilder::new(layout),
            fences: Vec::new(),
            hashes: Hashes::default(),
            first: Vec::new(),
            last: Vec::new(),
            last_sequence: 0,
            entries: 0,
            deletions: 0,
            sequences,
            origin: None,
            sharing: None,
        })
    }

    /// About how many bytes of memory one takes for a table of this length: what waits to be written, hashes, and the filter that is made of them.
    pub(crate) fn buffer_bytes(widths: Widths, table_bytes: u64) -> usize {
        let rows =
            usize::try_from(table_bytes).unwrap_or(usize::MAX) / (widths.key() + widths.value()).max(1);
        // A filter has two bytes a row, or less.
        WRITE_BYTES.saturating_add(rows.saturating_mul(HASH_BYTES + 2))
    }

    /// What the table is to say of its place in the database, for repair.
    pub fn set_origin(&mut self, origin: Option<TableOrigin>) {
        self.origin = origin;
    }

    /// Has the keys put into a filter that other tables share, too: before the first row.
    pub(crate) fn share(&mut self, shared: Arc<SharedFilter>) {
        self.sharing = Some(Sharing::new(shared));
    }

    /// Says that it will be read and removed: see [`Self::finish_temporary`].
    pub(crate) fn set_temporary(&mut self) {
        self.out.set_temporary();
    }

    /// How many rows were added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// The key of the last row.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last
    }

    /// About how long the file would be if it ended here.
    pub fn estimated_bytes(&self) -> u64 {
        let filter = self.hashes.len() as u64 * u64::from(self.filter_bits_per_key) / 8;
        self.out.offset() + self.layout.block_bytes as u64 + filter + self.fences.len() as u64 * 8
    }

    /// Adds a row. The value of a deletion is not looked at.
    ///
    /// # Panics
    /// If it is not above the one before it, has other widths, is a deletion in a table without the column for that, or its number is not among those
    /// announced: a wrong table must never be written.
    ///
    /// # Errors
    /// Io if a block cannot be written.
    pub fn add(&mut self, key: &[u8], value: &[u8], sequence: SequenceNumber, kind: Kind) -> Result<()> {
        assert!(self.layout.widths.check(key, value, kind).is_ok(), "rows have the widths of their keyspace");
        assert!(kind == Kind::Put || self.layout.columns.kinds, "a deletion needs the column of kinds");
        assert!(
            (self.sequences.0..=self.sequences.1).contains(&sequence),
            "numbers lie among those announced"
        );
        let is_new = self.entries == 0 || self.last != key;
        if is_new {
            assert!(self.entries == 0 || self.last.as_slice() < key, "rows are added in ascending order");
        } else {
            assert!(
                self.layout.columns.sequences && sequence < self.last_sequence,
                "several writes of a key need the column of numbers, and descend"
            );
        }
        if self.rows.is_full() {
            self.finish_rows()?;
        }
        if self.rows.count() == 0 {
            self.fences.push(row::prefix(key));
        }
        let value = if kind == Kind::Put { value } else { &[] };
        self.rows.add(key, value, sequence, kind);
        if is_new {
            if self.filter_bits_per_key > 0 {
                let hash = filter::hash(key);
                self.hashes.push(hash);
                self.sharing.iter_mut().for_each(|sharing| sharing.push(hash));
            }
            if self.entries == 0 {
                self.first.extend_from_slice(key);
            }
            self.last.clear();
            self.last.extend_from_slice(key);
        }
        self.last_sequence = sequence;
        self.entries += 1;
        self.deletions += u64::from(kind == Kind::Delete);
        Ok(())
    }

    fn finish_rows(&mut self) -> Result<()> {
        let handle = self.layout.handle(self.fences.len() as u64 - 1);
        assert!(handle.offset == self.out.offset(), "blocks stand where their number says");
        self.out.put_plain(BlockKind::Rows, self.rows.finish());
        self.rows.clear();
        self.out.write_enough()
    }

    fn put(&mut self, kind: BlockKind, payload: &[u8]) -> Result<Handle> {
        let handle = self.out.put_plain(kind, payload);
        self.out.write_enough()?;
        Ok(handle)
    }

    /// Writes what is left and makes the file's contents durable; its name is the caller's to sync.
    ///
    /// # Panics
    /// If the blocks don't stand where the plan says.
    ///
    /// # Errors
    /// Io; InvalidArgument if nothing was added.
    pub fn finish(mut self) -> Result<TableSummary> {
        let summary = self.write_rest()?;
        self.out.sync()?;
        Ok(summary)
    }

    /// As [`Self::finish`], for a table that no edit will name: nothing rests on its being durable.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn finish_temporary(mut self) -> Result<TableSummary> {
        self.write_rest()
    }

    fn write_rest(&mut self) -> Result<TableSummary> {
        if self.entries == 0 {
            return Err(self
                .out
                .locate(Error::new(ErrorKind::InvalidArgument, "a table holds at least one entry")));
        }
        self.finish_rows()?;
        self.sharing.iter_mut().for_each(Sharing::put);
        let (lines, probes) = match self.filter_bits_per_key {
            0 => (0, 1),
            bits => (filter::lines_for(self.hashes.len(), bits), filter::probes_for(bits)),
        };
        let step = usize::try_from(FENCES_PER_BLOCK).unwrap_or(1);
        let plan = Plan {
            widths: self.layout.widths,
            columns: self.layout.columns,
            blocks: self.fences.len() as u64,
            filter_lines: lines as u64,
            filter_probes: probes,
            top: self.fences.iter().step_by(step).copied().collect(),
        };
        self.put_filter(lines, probes)?;
        for fences in std::mem::take(&mut self.fences).chunks(step) {
            let payload: Vec<u8> = fences.iter().flat_map(|fence| fence.to_le_bytes()).collect();
            self.put(BlockKind::Fences, &payload)?;
        }
        assert!(self.out.offset() == plan.end(), "all blocks stand where the plan says");
        let mut summary = TableSummary {
            identity: self.identity,
            file_bytes: 0,
            entries: self.entries,
            deletions: self.deletions,
            range_tombstones: 0,
            bounds: KeyRange::inclusive(std::mem::take(&mut self.first), std::mem::take(&mut self.last)),
            sequence_min: self.sequences.0,
            sequence_max: self.sequences.1,
            key_bytes: self.entries * self.layout.widths.key() as u64,
            value_bytes: (self.entries - self.deletions) * self.layout.widths.value() as u64,
            data_blocks: plan.blocks,
            partitions: plan.fence_blocks(),
            hurried_blocks: 0,
        };
        let rows = Some(self.put(BlockKind::RowsPlan, &plan.encode())?);
        let properties =
            Some(self.put(BlockKind::Properties, &properties::encode(&summary, self.origin.as_ref()))?);
        let directory = Directory { rows, properties, ..Directory::default() };
        let directory = self.put(BlockKind::Directory, &directory.encode())?;
        summary.file_bytes = self.out.offset() + FOOTER_BYTES as u64;
        let footer = Footer { directory, file_bytes: summary.file_bytes, identity: self.identity };
        let written = self.out.end(&footer.encode())?;
        assert!(written == summary.file_bytes, "the footer knows the length of the file");
        assert!(summary.file_bytes > (HEADER_BYTES + FOOTER_BYTES) as u64);
        Ok(summary)
    }

    fn put_filter(&mut self, lines: usize, probes: u8) -> Result<()> {
        if lines == 0 {
            return Ok(());
        }
        // It is filled at random: on huge pages, if it is large.
        let mut all = Bytes::zeroed(lines * filter::LINE_BYTES);
        filter::insert_all(&mut all, self.hashes.drain(), probes);
        for lines in all.chunks(usize::try_from(LINES_PER_BLOCK).unwrap_or(1) * filter::LINE_BYTES) {
            self.put(BlockKind::Filter, &filter::payload(probes, lines))?;
        }
        Ok(())
    }
}
