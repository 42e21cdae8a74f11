//! What can still be read of a damaged table: every block that verifies, wherever it stands.
//!
//! 1. The identity, with which all checksums are salted, stands in the header, in the footer, and in the manifest: one that makes blocks verify is it.
//! 2. Blocks stand one behind the other from the header on, and each ends in a trailer whose first bytes are few of all that there may be. So from each
//!    place where a block may begin, the few places where it may end are tried. Where none verifies, the walk goes on behind the next trailer.
//! 3. The index blocks and the top index that were found say where others are: those that the walk missed, as the trailer before
//!    them is damaged.
//! 4. Data blocks are decoded whole. What is left over are bytes that verify as nothing: those known to be no data do no harm, the others have lost
//!    keys between those of their neighbours. If all entries are there that the properties count, nothing is lost.
//!
//! No index is needed for this, so that a file that was cut short or whose end is damaged loses what is damaged and no more. What a checksum does
//! not vouch for is never taken.

#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::block::{
    Block, BlockIter, BlockKind, DICTIONARY_BYTES_MAX, Dictionary, DictionaryRef, open, open_with,
    stated_payload_bytes, unpack_with,
};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::fs::FileSystem;
use crate::key::{self, KEY_BYTES_MAX, Kind, SEQUENCE_MAX, SequenceNumber, VALUE_BYTES_MAX};
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::row::Widths;
use crate::table::fixed::{Columns, Plan, RowLayout};
use crate::table::footer::{Directory, Footer};
use crate::table::header::{Header, TableKind};
use crate::table::index::Handle;
use crate::table::salvage::walk::{Walk, index_handles, slice};
use crate::table::{FOOTER_BYTES, HEADER_BYTES, TableOrigin, TableSummary, properties};

/// Keys that a damaged table may have held and that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostKeys {
    /// Between which keys they were.
    pub range: KeyRange,
    /// Where the bytes begin that do not verify.
    pub offset: u64,
    /// How many bytes; 0 where the file was cut between two blocks.
    pub bytes: u64,
}

/// Takes an entry: its internal key and its value.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<()>;

/// A data block that verifies and decodes.
#[derive(Debug)]
struct DataBlock {
    at: Handle,
    kind: BlockKind,
    first: Vec<u8>,
    last: Vec<u8>,
}

/// A damaged table, as far as it can be read: all of it is in memory.
#[derive(Debug)]
pub struct TableScan {
    bytes: Vec<u8>,
    pub(crate) identity: Identity,
    /// The database that the header names, and whether the header verifies.
    pub(crate) database: (Identity, bool),
    /// How rows lie in their blocks, if it is a table of rows.
    layout: Option<RowLayout>,
    /// The sequence number of rows that have none of their own, if the table does not say it either.
    sequence: SequenceNumber,
    pub(crate) summary: Option<TableSummary>,
    pub(crate) origin: Option<TableOrigin>,
    pub(crate) tombstones: RangeTombstones,
    /// Whether there were range tombstones, or may have been, that cannot be read.
    pub(crate) lost_tombstones: bool,
    /// Entries that can be read.
    pub(crate) entries: u64,
    /// How many are missing, where that is known.
    pub(crate) entries_lost: Option<u64>,
    pub(crate) lost: Vec<LostKeys>,
    data: Vec<DataBlock>,
    /// What data blocks may have been compressed with, if a copy of it can be read.
    dictionary: Option<Dictionary>,
    /// The smallest and the largest sequence number of the entries that can be read.
    read_sequences: Option<(SequenceNumber, SequenceNumber)>,
    /// Whether the entries ascend, as they stand in the file.
    ascending: bool,
}

/// Reads what verifies of the table at `path`. `told` is its identity and its largest sequence number, if the manifest says them. `None`: nothing
/// verifies.
///
/// # Errors
/// Io; NewerFormat; InvalidArgument if it is compressed with what this build has not.
pub fn scan(
    fs: &Arc<dyn FileSystem>,
    path: &Path,
    told: Option<(Identity, SequenceNumber)>,
) -> Result<Option<TableScan>> {
    let file = fs.open_read(path).context("open a table", path)?;
    let length = file.len().context("ask a table for its length", path)?;
    let length = usize::try_from(length).map_err(|_| {
        Error::corruption("the table is larger than the memory that can be addressed").at(path)
    })?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).context("read a table", path)?;
    let mut candidates: Vec<Identity> = told.map(|(identity, _)| identity).into_iter().collect();
    let mut layout = None;
    let mut database = (Identity::from_bytes([0; 16]), false);
    if let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
        match Header::decode(header) {
            Ok(header) => {
                candidates.insert(0, header.identity);
                database = (header.database, true);
                layout = RowLayout::from_hint(header.optional).filter(|_| header.kind == TableKind::Fixed);
            }
            Err(error) if error.kind() == ErrorKind::Corruption => {
                candidates.extend(identity_at(&bytes, 24));
                database.0 = identity_at(&bytes, 40).unwrap_or(database.0);
            }
            Err(error) => return Err(error.at(path).at_offset(0)),
        }
    }
    candidates
        .extend(bytes.len().checked_sub(FOOTER_BYTES).and_then(|footer| identity_at(&bytes, footer + 24)));
    candidates.dedup();
    for identity in candidates {
        let blocks = Walk::new(&bytes, identity).blocks();
        if !blocks.is_empty() {
            let sequence = told.map_or(1, |(_, sequence)| sequence);
            let scan = TableScan::new(bytes, identity, database, (layout, sequence), blocks);
            return scan.map(Some).map_err(|error| error.at(path));
        }
    }
    Ok(None)
}

fn identity_at(bytes: &[u8], offset: usize) -> Option<Identity> {
    bytes.get(offset..)?.first_chunk::<16>().map(|bytes| Identity::from_bytes(*bytes))
}

impl TableScan {
    fn new(
        bytes: Vec<u8>,
        identity: Identity,
        database: (Identity, bool),
        (layout, sequence): (Option<RowLayout>, SequenceNumber),
        blocks: BTreeMap<u64, (u32, BlockKind)>,
    ) -> Result<Self> {
        let file_bytes = bytes.len() as u64;
        let mut scan = Self {
            bytes,
            identity,
            database,
            layout,
            sequence,
            summary: None,
            origin: None,
            tombstones: RangeTombstones::default(),
            lost_tombstones: false,
            entries: 0,
            entries_lost: None,
            lost: Vec::new(),
            data: Vec::new(),
            dictionary: None,
            read_sequences: None,
            ascending: true,
        };
        // What is read, or needs not be: the rest is lost.
        let mut accounted: Vec<Range<u64>> = vec![0..HEADER_BYTES as u64, scan.footer()..file_bytes];
        // Whether the directory tells of range tombstones; how many were read.
        let (mut told_tombstones, mut has_tombstones) = (None, None);
        let mut partitions_end = HEADER_BYTES as u64;
        let mut data = Vec::new();
        for (offset, (length, kind)) in blocks {
            let at = Handle { offset, bytes: length };
            if !matches!(
                kind,
                BlockKind::Tombstones
                    | BlockKind::TopIndex
                    | BlockKind::Properties
                    | BlockKind::Directory
                    | BlockKind::Dictionary
            ) {
                partitions_end = at.end();
            }
            let harmless =
                index_handles(&scan.bytes, identity, at, kind).into_iter().filter(|(_, is_data)| !is_data);
            accounted.extend(harmless.map(|(handle, _)| handle.offset..handle.end()));
            match kind {
                BlockKind::Data | BlockKind::Rows => {
                    data.push((at, kind));
                    continue;
                }
                BlockKind::Tombstones => {
                    if let Some(found) =
                        scan.payload(at, kind)?.and_then(|payload| RangeTombstones::decode(&payload).ok())
                    {
                        has_tombstones = Some(found.len() as u64);
                        scan.tombstones = found;
                    }
                }
                BlockKind::Properties => {
                    if let Some(payload) = scan.payload(at, kind)? {
                        match properties::decode(&payload, identity, file_bytes) {
                            Ok((summary, origin)) => (scan.summary, scan.origin) = (Some(summary), origin),
                            Err(error) if error.kind() == ErrorKind::NewerFormat => return Err(error),
                            Err(_) => {}
                        }
                    }
                }
                BlockKind::Directory => {
                    if let Some(payload) = scan.payload(at, kind)?
                        && let Ok(directory) = Directory::decode(&payload)
                    {
                        told_tombstones = Some(directory.tombstones.is_some());
                    }
                }
                BlockKind::RowsPlan => {
                    let payload = scan.payload(at, kind)?;
                    let plan = payload.and_then(|payload| Plan::decode(&payload, file_bytes).ok());
                    scan.layout = plan.map(|plan| plan.row_layout()).or(scan.layout);
                }
                BlockKind::Dictionary => {
                    // One of two copies: without either, the data blocks that need it are lost, and told as such.
                    if scan.dictionary.is_none()
                        && slice(&scan.bytes, at)
                            .is_some_and(|bytes| stated_payload_bytes(bytes) <= DICTIONARY_BYTES_MAX)
                        && let Some(payload) = scan.payload(at, kind)?
                    {
                        scan.dictionary = match Dictionary::new(&payload) {
                            Ok(dictionary) => Some(dictionary),
                            Err(error) if error.kind() == ErrorKind::Corruption => None,
                            // A build without zstd does not know what is lost.
                            Err(error) => return Err(error.at_offset(at.offset)),
                        };
                    }
                }
                BlockKind::Index | BlockKind::TopIndex | BlockKind::Filter | BlockKind::Fences => {}
            }
            accounted.push(offset..at.end());
        }
        if let Some(layout) = &scan.layout {
            // Zeros up to the first block. A table of rows has no range tombstones.
            accounted.push(0..layout.block_bytes as u64);
            told_tombstones = Some(false);
        }
        let mut last: Option<Vec<u8>> = None;
        for (at, kind) in data {
            match scan.read_data(at, kind, &mut last) {
                Ok(()) => accounted.push(at.offset..at.end()),
                // It verifies and is none: lost like one that does not.
                Err(error) if error.kind() == ErrorKind::Corruption => {}
                Err(error) => return Err(error.at_offset(at.offset)),
            }
        }
        let mut gaps = gaps(accounted, file_bytes);
        if scan.is_cut() && gaps.last().is_none_or(|gap| gap.end < file_bytes) {
            // Cut between two blocks: the gap is behind the file.
            gaps.push(file_bytes..file_bytes);
        }
        scan.lost_tombstones = match (&scan.summary, has_tombstones) {
            (Some(summary), found) => found.unwrap_or(0) < summary.range_tombstones,
            (None, Some(_)) => false,
            (None, None) => told_tombstones.unwrap_or_else(|| {
                // Nobody says that there were none, and there are bytes, or none any more, where they would be.
                scan.is_cut() || gaps.iter().any(|gap| gap.end > partitions_end)
            }),
        };
        scan.entries_lost = scan.summary.as_ref().map(|summary| summary.entries.saturating_sub(scan.entries));
        if scan.entries_lost != Some(0) {
            scan.lose(&gaps);
        }
        Ok(scan)
    }

    /// Where the footer begins, or the file ends, if it has none.
    fn footer(&self) -> u64 {
        let file_bytes = self.bytes.len() as u64;
        let footer = self.bytes.last_chunk::<FOOTER_BYTES>();
        match footer.map(|footer| Footer::decode(footer, self.identity, file_bytes)) {
            Some(Ok(footer)) => footer.offset(),
            _ => file_bytes,
        }
    }

    /// Whether the end of the file is not that of a table: it was cut off, or never finished.
    pub(crate) fn is_cut(&self) -> bool {
        self.footer() == self.bytes.len() as u64
    }

    fn payload(&self, at: Handle, kind: BlockKind) -> Result<Option<Vec<u8>>> {
        let Some(stored) = slice(&self.bytes, at) else { return Ok(None) };
        match open(stored, self.identity, at.offset, kind) {
            Ok(payload) => Ok(Some(payload.into_owned())),
            Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
            Err(error) => Err(error.at_offset(at.offset)),
        }
    }

    /// Visits the entries of a data block.
    fn visit_block(&self, at: Handle, kind: BlockKind, visit: Visit<'_>) -> Result<()> {
        let stored = slice(&self.bytes, at).ok_or_else(|| Error::corruption("a block beyond the file"))?;
        let payload = open_with(stored, self.identity, at.offset, kind, |stored, payload_bytes| {
            let missing = || Error::corruption("the dictionary with which the block was compressed is lost");
            let dictionary = self.dictionary.as_ref().ok_or_else(missing)?;
            unpack_with(DictionaryRef::Digested(dictionary), stored, payload_bytes)
        })?;
        if kind == BlockKind::Data {
            let mut entries = BlockIter::new(Block::sorted(&payload, kind)?);
            entries.seek_to_first()?;
            while entries.valid() {
                visit(entries.key(), entries.value())?;
                entries.next()?;
            }
            return Ok(());
        }
        let Some(layout) = &self.layout else {
            return Err(Error::corruption("rows of which nobody says how wide they are"));
        };
        let rows = layout.rows(&payload);
        let count = rows.count();
        layout.check(&payload, count)?;
        // Nobody says it of a table whose figures are gone: then it is the rows that do.
        let (min, max) = match self.summary.is_some() {
            true => self.sequences(),
            false if layout.columns.sequences => (1, SEQUENCE_MAX),
            false => (0, self.sequence),
        };
        let sequence_of_all = self.sequence_of_all();
        let mut key = Vec::new();
        for index in 0..count {
            let kind = rows.kind(index)?;
            let sequence = rows.sequence(index).unwrap_or(sequence_of_all);
            key.clear();
            rows.key(index, &mut key);
            if !(min..=max).contains(&sequence) {
                return Err(Error::corruption(format!(
                    "a row of sequence number {sequence}, of {min} to {max}"
                )));
            }
            key.extend_from_slice(&key::trailer(sequence, kind));
            visit(&key, if kind == Kind::Put { rows.value(index) } else { &[] })?;
        }
        Ok(())
    }

    /// The sequence number of rows that have none of their own.
    fn sequence_of_all(&self) -> SequenceNumber {
        self.summary.as_ref().map_or(self.sequence, |summary| summary.sequence_max)
    }

    /// Decodes all of a data block, and takes it if nothing in it is wrong.
    fn read_data(&mut self, at: Handle, kind: BlockKind, last: &mut Option<Vec<u8>>) -> Result<()> {
        let mut ascending = true;
        let mut before = last.clone();
        let (mut count, mut first) = (0, None);
        let mut sequences = self.read_sequences;
        self.visit_block(at, kind, &mut |internal, value| {
            check_entry(internal, value)?;
            ascending &= before.as_ref().is_none_or(|before| key::compare(before, internal).is_lt());
            let before = before.get_or_insert_default();
            before.clear();
            before.extend_from_slice(internal);
            let (user, trailer) = key::split(internal)?;
            let (sequence, _) = key::parse_trailer(trailer)?;
            let (min, max) = sequences.unwrap_or((sequence, sequence));
            sequences = Some((min.min(sequence), max.max(sequence)));
            if first.is_none() {
                first = Some(user.to_vec());
            }
            count += 1;
            Ok(())
        })?;
        let (Some(first), Some(internal)) = (first, &before) else {
            return Err(Error::corruption("a block without entries"));
        };
        self.data.push(DataBlock { at, kind, first, last: key::split(internal)?.0.to_vec() });
        self.ascending &= ascending;
        self.read_sequences = sequences;
        self.entries += count;
        *last = before;
        Ok(())
    }

    /// Says which keys may have stood in the gaps.
    fn lose(&mut self, gaps: &[Range<u64>]) {
        let bounds = self.summary.as_ref().map_or_else(KeyRange::all, |summary| summary.bounds.clone());
        for gap in gaps {
            let behind = self.data.partition_point(|block| block.at.offset < gap.start);
            let before = behind.checked_sub(1).and_then(|index| self.data.get(index));
            let after = self.data.get(behind);
            let range = KeyRange {
                lower: before.map_or_else(|| bounds.lower.clone(), |block| block.last.clone()),
                upper: after.map_or_else(
                    || bounds.upper.clone(),
                    |block| std::ops::Bound::Included(block.first.clone()),
                ),
            };
            let bytes = gap.end - gap.start;
            match self.lost.last_mut() {
                // Two gaps with nothing but an index between them.
                Some(last) if last.range == range => last.bytes += bytes,
                _ => self.lost.push(LostKeys { range, offset: gap.start, bytes }),
            }
        }
    }

    /// Its identity, with which all that was read verifies.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// What it says of its place in the database, if that can be read.
    pub fn origin(&self) -> Option<&TableOrigin> {
        self.origin.as_ref()
    }

    /// Its figures, if they can be read.
    pub fn summary(&self) -> Option<&TableSummary> {
        self.summary.as_ref()
    }

    /// The range tombstones that can be read.
    pub fn range_tombstones(&self) -> &RangeTombstones {
        &self.tombstones
    }

    /// Between which keys entries may be lost.
    pub fn lost(&self) -> &[LostKeys] {
        &self.lost
    }

    /// The widths of its rows and their columns, if it is a table of rows.
    pub(crate) fn rows(&self) -> Option<(Widths, Columns)> {
        self.layout.map(|layout| (layout.widths, layout.columns))
    }

    /// The smallest and the largest sequence number that it may hold, as far as that is known.
    pub(crate) fn sequences(&self) -> (SequenceNumber, SequenceNumber) {
        match &self.summary {
            Some(summary) => (summary.sequence_min, summary.sequence_max),
            // What was read says it; rows without numbers say the one that all have.
            None => self.read_sequences.unwrap_or((self.sequence, self.sequence)),
        }
    }

    /// Visits every entry that can be read, its internal key and its value, in order.
    ///
    /// # Errors
    /// Those of `visit`.
    pub fn entries(&self, visit: Visit<'_>) -> Result<()> {
        if !self.ascending {
            return self.sorted_entries(visit);
        }
        self.data.iter().try_for_each(|block| self.visit_block(block.at, block.kind, visit))
    }

    /// For a table whose writer had a bug: of two entries with one key and one number, the first stays.
    fn sorted_entries(&self, visit: Visit<'_>) -> Result<()> {
        let mut sorted: BTreeMap<(Vec<u8>, [u8; key::TRAILER_BYTES]), Vec<u8>> = BTreeMap::new();
        for block in &self.data {
            self.visit_block(block.at, block.kind, &mut |internal, value| {
                let (user, trailer) = key::split(internal)?;
                sorted.entry((user.to_vec(), trailer)).or_insert_with(|| value.to_vec());
                Ok(())
            })?;
        }
        sorted
            .into_iter()
            .try_for_each(|((user, trailer), value)| visit(&[user.as_slice(), &trailer].concat(), &value))
    }
}

/// Whether an entry can be written again.
fn check_entry(internal: &[u8], value: &[u8]) -> Result<()> {
    let (user, trailer) = key::split(internal)?;
    let (sequence, kind) = key::parse_trailer(trailer)?;
    let is_one = user.len() <= KEY_BYTES_MAX
        && value.len() <= VALUE_BYTES_MAX
        && sequence > 0
        && (kind == Kind::Put || value.is_empty());
    match is_one {
        true => Ok(()),
        false => Err(Error::corruption("an entry that cannot be")),
    }
}

/// What lies between ranges, up to `end`.
fn gaps(mut ranges: Vec<Range<u64>>, end: u64) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let (mut gaps, mut at) = (Vec::new(), 0);
    for range in ranges {
        if range.start > at {
            gaps.push(at..range.start.min(end));
        }
        at = at.max(range.end);
    }
    if at < end {
        gaps.push(at..end);
    }
    gaps
}
