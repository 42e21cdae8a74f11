//! How rows lie in a block, and where the parts of a table of rows are.
//!
//! The payload of a block of rows:
//!
//! ```text
//! 0                count u16 | reserved, 6 bytes
//! 8                the first eight bytes of each key as a number, u64 each (zeros behind the end of a shorter key)
//! then             rows: what follows the eight bytes of the key, then the value
//! then             sequence numbers, u64 each, if the table has that column
//! then             kinds, a byte each, if the table has that column
//! ```
//!
//! Each column has room for as many rows as a block can hold, whatever the count: so where something stands depends on nothing that is in the block.

use crate::block::TRAILER_BYTES;
use crate::codec::{Decoder, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{Kind, SEQUENCE_MAX, SequenceNumber};
use crate::row::{self, Widths};
use crate::table::index::Handle;

/// Bytes before the first column.
const HEAD_BYTES: usize = 8;

/// A block is a multiple of this: one page, one read.
const PAGE_BYTES: usize = 4096;

/// Rows that a block has room for, at least.
const ROWS_MIN: usize = 8;

/// Lines of memory around a place where a row is guessed to be: of a block of seventy evenly spread keys two in three are in the four rows around it.
const LINES_NEAR: usize = 5;

/// Feature bits of a table's columns.
const COLUMN_SEQUENCES: u64 = 1;
const COLUMN_KINDS: u64 = 2;

/// Where the widths stand in a hint, behind a bit for each of the two columns.
const HINT_KEY_SHIFT: u32 = 2;
const HINT_KEY_MASK: u32 = (1 << 10) - 1;
const HINT_VALUE_SHIFT: u32 = 12;
const HINT_VALUE_MASK: u32 = (1 << 12) - 1;

/// Fences in one of their blocks.
pub(super) const FENCES_PER_BLOCK: u64 = 508;

/// Bytes of a line of a filter, and lines in one of its blocks.
pub(super) const LINES_PER_BLOCK: u64 = 63;

/// Which columns there are beside keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Columns {
    /// Sequence numbers: without them every row has the largest of its table, which is right where no reader stands between the smallest and
    /// the largest.
    pub sequences: bool,
    /// Kinds: without them every row is a put.
    pub kinds: bool,
}

/// How rows lie in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::table) struct RowLayout {
    pub(in crate::table) widths: Widths,
    pub(in crate::table) columns: Columns,
    /// Bytes of a block on disk.
    pub(in crate::table) block_bytes: usize,
    /// Rows that a block has room for.
    pub(super) capacity: usize,
    tail_bytes: usize,
    row_bytes: usize,
    rows_at: usize,
    sequences_at: usize,
    kinds_at: usize,
}

impl RowLayout {
    pub(super) fn new(widths: Widths, columns: Columns) -> Self {
        let tail_bytes = widths.key().saturating_sub(8);
        let row_bytes = tail_bytes + widths.value();
        let bytes_each = 8 + row_bytes + 8 * usize::from(columns.sequences) + usize::from(columns.kinds);
        let block_bytes = (bytes_each * ROWS_MIN + HEAD_BYTES + TRAILER_BYTES).next_multiple_of(PAGE_BYTES);
        let capacity = (block_bytes - HEAD_BYTES - TRAILER_BYTES) / bytes_each;
        let rows_at = HEAD_BYTES + 8 * capacity;
        let sequences_at = rows_at + row_bytes * capacity;
        let kinds_at = sequences_at + 8 * capacity * usize::from(columns.sequences);
        Self {
            widths,
            columns,
            block_bytes,
            capacity,
            tail_bytes,
            row_bytes,
            rows_at,
            sequences_at,
            kinds_at,
        }
    }

    /// Widths and columns in the bits of a header's optional features: for whoever has to do without the rest of the file.
    pub(super) fn hint(&self) -> u32 {
        let columns = u32::from(self.columns.sequences) | u32::from(self.columns.kinds) << 1;
        let width = |bytes: usize| u32::try_from(bytes).unwrap_or(0);
        columns | width(self.widths.key()) << HINT_KEY_SHIFT | width(self.widths.value()) << HINT_VALUE_SHIFT
    }

    /// The layout that was so hinted at.
    pub(in crate::table) fn from_hint(hint: u32) -> Option<Self> {
        let key = (hint >> HINT_KEY_SHIFT & HINT_KEY_MASK) as usize;
        let value = (hint >> HINT_VALUE_SHIFT & HINT_VALUE_MASK) as usize;
        let columns = Columns { sequences: hint & 1 != 0, kinds: hint & 2 != 0 };
        Some(Self::new(Widths::new(key, value).ok()?, columns))
    }

    /// Bytes of a block's payload.
    pub(super) fn payload_bytes(&self) -> usize {
        self.block_bytes - TRAILER_BYTES
    }

    /// Where block number `block` is.
    pub(in crate::table) fn handle(&self, block: u64) -> Handle {
        let bytes = u32::try_from(self.block_bytes).unwrap_or(u32::MAX);
        Handle { offset: (block + 1).saturating_mul(self.block_bytes as u64), bytes }
    }

    /// Where the lines of memory are that a search for a prefix reads which begins at row `index`.
    #[inline]
    pub(super) fn prefix_lines(&self, index: usize) -> [usize; 2] {
        let prefix = HEAD_BYTES + 8 * index;
        [prefix.saturating_sub(32), prefix + 24]
    }

    /// Where the lines of memory are that a row lies in, of a width that fits into two.
    #[inline]
    pub(super) fn row_lines(&self, index: usize) -> [usize; 2] {
        let row = self.rows_at + self.row_bytes * index;
        [row, row + self.row_bytes.saturating_sub(1)]
    }

    /// Where the lines of memory are that a row lies in which may be one of those around `index`, where rows are narrow.
    #[inline]
    pub(super) fn lines_near(&self, index: usize) -> [usize; LINES_NEAR] {
        let first = (self.rows_at + self.row_bytes * index).saturating_sub(64 * (LINES_NEAR / 2));
        std::array::from_fn(|line| first + 64 * line)
    }

    /// The rows in a payload.
    #[inline]
    pub(in crate::table) fn rows<'a>(&'a self, payload: &'a [u8]) -> Rows<'a> {
        Rows { layout: self, payload }
    }

    /// Whether a payload can be one of this layout, its rows in order and of known kinds.
    pub(in crate::table) fn check(&self, payload: &[u8], count_expected: usize) -> Result<()> {
        if payload.len() != self.payload_bytes() {
            return Err(Error::corruption(format!(
                "a block of rows has {} bytes where {} are expected",
                payload.len(),
                self.payload_bytes()
            )));
        }
        let rows = self.rows(payload);
        let count = rows.count();
        if count != count_expected || count > self.capacity || payload.get(2..HEAD_BYTES) != Some(&[0; 6]) {
            return Err(Error::corruption(format!(
                "a block of {count} rows where {count_expected} are expected"
            )));
        }
        if (1..count).any(|index| rows.prefix(index - 1) > rows.prefix(index)) {
            return Err(Error::corruption("the rows of a block are out of order"));
        }
        let beyond_key = u64::MAX.checked_shr(8 * u32::try_from(self.widths.key()).unwrap_or(8)).unwrap_or(0);
        if beyond_key != 0 && (0..count).any(|index| rows.prefix(index) & beyond_key != 0) {
            return Err(Error::corruption(
                "a row has something behind its key, which is shorter than eight bytes",
            ));
        }
        for index in 0..count * usize::from(self.columns.kinds) {
            rows.kind(index)?;
        }
        Ok(())
    }
}

/// The rows in the payload of a block.
#[derive(Clone, Copy)]
pub(in crate::table) struct Rows<'a> {
    layout: &'a RowLayout,
    payload: &'a [u8],
}

impl<'a> Rows<'a> {
    /// How many there are.
    #[inline]
    pub(in crate::table) fn count(&self) -> usize {
        self.payload.first_chunk::<2>().map_or(0, |count| usize::from(u16::from_le_bytes(*count)))
    }

    /// The first eight bytes of a key as a number; beyond the end the largest.
    #[inline]
    pub(super) fn prefix(&self, index: usize) -> u64 {
        let at = HEAD_BYTES + 8 * index;
        self.payload
            .get(at..)
            .and_then(<[u8]>::first_chunk::<8>)
            .map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn row(&self, index: usize) -> &'a [u8] {
        let at = self.layout.rows_at + self.layout.row_bytes * index;
        self.payload.get(at..at + self.layout.row_bytes).unwrap_or_default()
    }

    /// What follows the first eight bytes of a key.
    #[inline]
    pub(super) fn tail(&self, index: usize) -> &'a [u8] {
        self.row(index).get(..self.layout.tail_bytes).unwrap_or_default()
    }

    /// The value.
    #[inline]
    pub(in crate::table) fn value(&self, index: usize) -> &'a [u8] {
        self.row(index).get(self.layout.tail_bytes..).unwrap_or_default()
    }

    /// The sequence number, where the table has the column.
    #[inline]
    pub(in crate::table) fn sequence(&self, index: usize) -> Option<SequenceNumber> {
        if !self.layout.columns.sequences {
            return None;
        }
        let at = self.layout.sequences_at + 8 * index;
        self.payload.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes) & SEQUENCE_MAX)
    }

    /// What the write did.
    ///
    /// # Errors
    /// Corruption if the kind is unknown.
    #[inline]
    pub(in crate::table) fn kind(&self, index: usize) -> Result<Kind> {
        match self.layout.columns.kinds {
            false => Ok(Kind::Put),
            true => Kind::from_u8(self.payload.get(self.layout.kinds_at + index).copied().unwrap_or(0)),
        }
    }

    /// Copies a key to the end of `out`.
    pub(in crate::table) fn key(&self, index: usize, out: &mut Vec<u8>) {
        let front = self.prefix(index).to_be_bytes();
        out.extend_from_slice(front.get(..self.layout.widths.key().min(8)).unwrap_or(&front));
        out.extend_from_slice(self.tail(index));
    }

    /// The first of `count` rows whose prefix is `prefix` or above. `guess` says where it may be: how far it is from there is what it costs.
    #[inline]
    pub(super) fn lower_bound(&self, prefix: u64, guess: usize, count: usize) -> usize {
        let mut at = guess.min(count);
        while at > 0 && self.prefix(at - 1) >= prefix {
            at -= 1;
        }
        while at < count && self.prefix(at) < prefix {
            at += 1;
        }
        at
    }

    /// The order of row `index` against the write of `key` with this sequence number, as internal keys are ordered (kinds aside). Rows without numbers
    /// of their own have `sequence_of_all`.
    #[inline]
    pub(super) fn compare(
        &self,
        index: usize,
        key: &[u8],
        sequence: SequenceNumber,
        sequence_of_all: SequenceNumber,
    ) -> std::cmp::Ordering {
        self.prefix(index)
            .cmp(&row::prefix(key))
            .then_with(|| self.tail(index).cmp(row::tail(key)))
            .then_with(|| sequence.cmp(&self.sequence(index).unwrap_or(sequence_of_all)))
    }
}

/// A block of rows that is being filled.
#[derive(Debug)]
pub(super) struct RowsBuilder {
    layout: RowLayout,
    payload: Vec<u8>,
    count: usize,
}

impl RowsBuilder {
    pub(super) fn new(layout: RowLayout) -> Self {
        Self { layout, payload: vec![0; layout.payload_bytes()], count: 0 }
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn is_full(&self) -> bool {
        self.count == self.layout.capacity
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.payload.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// Adds a row; there is room for it. `value` is as wide as values are.
    pub(super) fn add(&mut self, key: &[u8], value: &[u8], sequence: SequenceNumber, kind: Kind) {
        let (layout, index) = (self.layout, self.count);
        self.set(HEAD_BYTES + 8 * index, &row::prefix(key).to_le_bytes());
        let at = layout.rows_at + layout.row_bytes * index;
        self.set(at, row::tail(key));
        self.set(at + layout.tail_bytes, value);
        if layout.columns.sequences {
            self.set(layout.sequences_at + 8 * index, &sequence.to_le_bytes());
        }
        if layout.columns.kinds {
            self.set(layout.kinds_at + index, &[kind as u8]);
        }
        self.count += 1;
    }

    /// The payload.
    pub(super) fn finish(&mut self) -> &[u8] {
        let count = u16::try_from(self.count).unwrap_or(u16::MAX);
        self.set(0, &count.to_le_bytes());
        &self.payload
    }

    /// Begins anew.
    pub(super) fn clear(&mut self) {
        self.payload.fill(0);
        self.count = 0;
    }
}

/// What a table's section "rows" says: everything that leads to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::table) struct Plan {
    pub(in crate::table) widths: Widths,
    pub(in crate::table) columns: Columns,
    /// Blocks of rows.
    pub(in crate::table) blocks: u64,
    /// Lines of the filter; 0: there is none.
    pub(super) filter_lines: u64,
    pub(super) filter_probes: u8,
    /// The first prefix of each block of fences.
    pub(super) top: Vec<u64>,
}

/// Bytes on disk of a block of so many payload bytes.
fn sealed(payload_bytes: u64) -> u64 {
    payload_bytes + TRAILER_BYTES as u64
}

const FILTER_HEAD_BYTES: u64 = 8;

impl Plan {
    pub(in crate::table) fn row_layout(&self) -> RowLayout {
        RowLayout::new(self.widths, self.columns)
    }

    /// Where the blocks of rows end, and those of the filter begin.
    fn filter_offset(&self) -> u64 {
        let block_bytes = self.row_layout().block_bytes as u64;
        self.blocks.saturating_add(1).saturating_mul(block_bytes)
    }

    pub(in crate::table) fn filter_blocks(&self) -> u64 {
        self.filter_lines.div_ceil(LINES_PER_BLOCK)
    }

    /// Where a block of the filter is.
    pub(in crate::table) fn filter_handle(&self, block: u64) -> Handle {
        let whole = sealed(FILTER_HEAD_BYTES + LINES_PER_BLOCK * 64);
        let lines =
            self.filter_lines.saturating_sub(block.saturating_mul(LINES_PER_BLOCK)).min(LINES_PER_BLOCK);
        let bytes = sealed(FILTER_HEAD_BYTES + lines * 64);
        Handle {
            offset: self.filter_offset().saturating_add(block.saturating_mul(whole)),
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
        }
    }

    fn fence_offset(&self) -> u64 {
        match self.filter_blocks().checked_sub(1) {
            Some(last) => self.filter_handle(last).end(),
            None => self.filter_offset(),
        }
    }

    pub(in crate::table) fn fence_blocks(&self) -> u64 {
        self.blocks.div_ceil(FENCES_PER_BLOCK)
    }

    /// Where a block of fences is.
    pub(in crate::table) fn fence_handle(&self, block: u64) -> Handle {
        let whole = sealed(FENCES_PER_BLOCK * 8);
        let fences = self.blocks.saturating_sub(block.saturating_mul(FENCES_PER_BLOCK)).min(FENCES_PER_BLOCK);
        Handle {
            offset: self.fence_offset().saturating_add(block.saturating_mul(whole)),
            bytes: u32::try_from(sealed(fences * 8)).unwrap_or(u32::MAX),
        }
    }

    /// Where all of these end.
    pub(super) fn end(&self) -> u64 {
        match self.fence_blocks().checked_sub(1) {
            Some(last) => self.fence_handle(last).end(),
            None => self.fence_offset(),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, self.widths.key() as u64);
        put_varint(&mut out, self.widths.value() as u64);
        let columns = COLUMN_SEQUENCES * u64::from(self.columns.sequences)
            + COLUMN_KINDS * u64::from(self.columns.kinds);
        put_varint(&mut out, columns);
        put_varint(&mut out, self.blocks);
        put_varint(&mut out, self.filter_lines);
        out.push(self.filter_probes);
        for fence in &self.top {
            out.extend_from_slice(&fence.to_le_bytes());
        }
        out
    }

    /// # Errors
    /// Corruption where the fields contradict each other or the length of the file; NewerFormat for unknown columns.
    pub(in crate::table) fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let key = decoder.varint_usize("width of keys")?;
        let value = decoder.varint_usize("width of values")?;
        let widths = Widths::new(key, value).map_err(|error| Error::corruption(error.to_string()))?;
        let columns = decoder.varint("columns")?;
        if columns & !(COLUMN_SEQUENCES | COLUMN_KINDS) != 0 {
            return Err(Error::new(
                ErrorKind::NewerFormat,
                format!(
                    "a table with columns {columns:#x}, which this version does not know; a newer one wrote it"
                ),
            ));
        }
        let columns =
            Columns { sequences: columns & COLUMN_SEQUENCES != 0, kinds: columns & COLUMN_KINDS != 0 };
        let blocks = decoder.varint("blocks of rows")?;
        let filter_lines = decoder.varint("lines of the filter")?;
        let filter_probes = decoder.u8("probes of the filter")?;
        let mut plan = Self { widths, columns, blocks, filter_lines, filter_probes, top: Vec::new() };
        let fits = blocks > 0 && plan.end() <= file_bytes && (1..=16).contains(&filter_probes);
        let rest = decoder.rest();
        if !fits || rest.len() as u64 != plan.fence_blocks() * 8 {
            return Err(Error::corruption(format!(
                "{blocks} blocks of rows and {filter_lines} lines of filter do not fit a table of {file_bytes} bytes with {} bytes of fences",
                rest.len()
            )));
        }
        plan.top = rest.chunks_exact(8).map(|fence| fence.try_into().map_or(0, u64::from_le_bytes)).collect();
        if !plan.top.is_sorted() {
            return Err(Error::corruption("the fences of a table are out of order"));
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        for (key, value, sequences, kinds) in [
            (32, 24, false, false),
            (1, 0, true, true),
            (8, 8, false, true),
            (256, 1024, true, false),
            (9, 0, false, false),
        ] {
            let layout = RowLayout::new(Widths::new(key, value).unwrap(), Columns { sequences, kinds });
            assert_eq!(RowLayout::from_hint(layout.hint()), Some(layout));
            let mut builder = RowsBuilder::new(layout);
            let mut number = 0u8;
            while !builder.is_full() && number < 200 {
                let kind = if kinds && number.is_multiple_of(3) { Kind::Delete } else { Kind::Put };
                builder.add(&vec![number; key], &vec![number + 1; value], u64::from(number) + 9, kind);
                number += 1;
            }
            let payload = builder.finish().to_vec();
            layout.check(&payload, usize::from(number)).unwrap();
            assert!(layout.check(&payload, usize::from(number) + 1).is_err());
            let rows = layout.rows(&payload);
            assert_eq!(rows.count(), usize::from(number));
            for number in 0..number {
                let index = usize::from(number);
                let mut found = Vec::new();
                rows.key(index, &mut found);
                assert_eq!((found, rows.value(index)), (vec![number; key], &*vec![number + 1; value]));
                assert_eq!(rows.sequence(index), sequences.then_some(u64::from(number) + 9));
                assert_eq!(rows.kind(index).unwrap() == Kind::Delete, kinds && number.is_multiple_of(3));
                for guess in [0, index, usize::from(number) * 2, 1000] {
                    assert_eq!(rows.lower_bound(row::prefix(&vec![number; key]), guess, rows.count()), index);
                }
            }
        }
        let layout = RowLayout::new(Widths::new(32, 24).unwrap(), Columns::default());
        assert_eq!((layout.block_bytes, layout.capacity), (4096, 72));
    }

    #[test]
    fn a_plan_comes_back_and_its_parts_follow_each_other() {
        let mut plan = Plan {
            widths: Widths::new(32, 24).unwrap(),
            columns: Columns { sequences: true, kinds: false },
            blocks: 1234,
            filter_lines: 100,
            filter_probes: 8,
            top: vec![1, 5, 5],
        };
        assert_eq!(plan.row_layout().handle(1233).end(), plan.filter_handle(0).offset);
        assert_eq!(plan.filter_handle(0).end(), plan.filter_handle(1).offset);
        assert_eq!(plan.filter_handle(1).end(), plan.fence_handle(0).offset);
        assert_eq!(plan.fence_handle(2).end(), plan.end());
        assert_eq!(Plan::decode(&plan.encode(), 1 << 30).unwrap(), plan);
        assert!(Plan::decode(&plan.encode(), plan.end() - 1).is_err());
        plan.filter_lines = 0;
        assert_eq!(plan.row_layout().handle(1233).end(), plan.fence_handle(0).offset);
        let bytes = plan.encode();
        for cut in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..cut], 1 << 30).is_err());
        }
    }
}
