//! Whether a table is sound: all of it, down to the order of its entries.
//!
//! What passes the full check is what its writer meant to write. Every byte of the file lies in the header, the footer or exactly one block, and
//! all have checksums salted with identity and place, so no byte is other than it was written. The rest is what a writer with a bug, or with
//! failing memory, could have got wrong: entries ascend strictly over the whole file, each lies above the separator before its block and at or below the
//! one behind it, and where a search in a block may begin there is an entry (so a search finds it), its partition's filter knows its key (so a search is not sent away), sequence numbers and
//! keys lie within what the properties claim (so the levels may rely on them), and all counts are what was counted (but
//! for the blocks that were written in haste, an estimate that nothing but work depends on).

use std::sync::Arc;

use crate::block::{Block, BlockIter, BlockKind, Dictionary};
use crate::error::{Error, IoContext, Result};
use crate::filter;
use crate::fs::Advice;
use crate::key::{self, Kind};
use crate::range::KeyRange;
use crate::table::dictionary::read_copy;
use crate::table::file::{ANYWHERE, ReadAhead};
use crate::table::footer::Footer;
use crate::table::header::Header;
use crate::table::index::{Handle, Partition};
use crate::table::{FOOTER_BYTES, HEADER_BYTES, ReadMode, Table};

/// How much of a table is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckLevel {
    /// Header, footer, sections, index and filters: about a hundredth of the file is read.
    Structure,
    /// Everything: every block is read from the medium, every entry looked at.
    Full,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableCheck {
    /// Blocks read.
    pub blocks: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Entries looked at, range tombstones included.
    pub entries: u64,
    /// Faults found.
    pub faults: u64,
}

impl std::ops::AddAssign for TableCheck {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
        self.entries += other.entries;
        self.faults += other.faults;
    }
}

impl Table {
    /// Checks the table and gives each fault, with file and offset, to `fault`; a damaged block costs that block (an index block what it leads to), and the
    /// check goes on behind it. Of the cache nothing is used or changed, but that a table may take its dictionary from there.
    pub fn check(self: &Arc<Self>, level: CheckLevel, fault: &mut dyn FnMut(Error)) -> TableCheck {
        if level == CheckLevel::Full {
            // What the system has cached says nothing about the medium.
            self.file.file.advise(Advice::DontNeed, 0, 0);
        }
        let mut check = Check {
            table: self,
            level,
            fault,
            figures: TableCheck::default(),
            at: HEADER_BYTES as u64,
            ahead: ReadAhead::new(ReadMode::Bypass),
            last: Vec::new(),
            hashes: Vec::new(),
            counted: Counted::default(),
            whole: true,
        };
        check.ends();
        check.dictionary();
        check.partitions();
        check.sections();
        check.summary();
        check.figures
    }
}

#[derive(Default)]
struct Counted {
    entries: u64,
    deletions: u64,
    key_bytes: u64,
    value_bytes: u64,
    data_blocks: u64,
    partitions: u64,
    sequences: Option<(u64, u64)>,
    first: Option<Vec<u8>>,
}

struct Check<'a> {
    table: &'a Arc<Table>,
    level: CheckLevel,
    fault: &'a mut dyn FnMut(Error),
    figures: TableCheck,
    /// Up to where every byte belongs to something.
    at: u64,
    ahead: ReadAhead,
    /// The internal key of the last entry seen, or the separator passed.
    last: Vec<u8>,
    /// Of the partition's user keys.
    hashes: Vec<u64>,
    counted: Counted,
    /// Whether every block could be read, so that counts mean something.
    whole: bool,
}

impl Check<'_> {
    fn report(&mut self, error: Error, offset: u64) {
        self.figures.faults += 1;
        let error = self.table.file.locate(error, offset);
        (self.fault)(error);
    }

    fn wrong(&mut self, offset: u64, message: impl Into<String>) {
        self.report(Error::corruption(message), offset);
    }

    fn read_block<T>(&mut self, handle: Handle, read: impl FnOnce(&mut Self) -> Result<T>) -> Option<T> {
        match read(self) {
            Ok(block) => {
                self.figures.blocks += 1;
                self.figures.bytes += u64::from(handle.bytes);
                Some(block)
            }
            Err(error) => {
                self.whole = false;
                self.report(error, handle.offset);
                None
            }
        }
    }

    /// Header and footer, read once more.
    fn ends(&mut self) {
        let file = &self.table.file;
        let mut header = [0; HEADER_BYTES];
        let read = file.file.read_exact_at(&mut header, 0).context("read the header of a table", &file.path);
        match read.and_then(|()| Header::decode(&header)) {
            Ok(header) if (header.identity, header.database) == (file.identity, self.table.database) => {}
            Ok(header) => self.wrong(0, format!("the header changed since the table was opened: {header:?}")),
            Err(error) => self.report(error, 0),
        }
        let offset = file.file_bytes - FOOTER_BYTES as u64;
        let mut footer = [0; FOOTER_BYTES];
        let read =
            file.file.read_exact_at(&mut footer, offset).context("read the footer of a table", &file.path);
        match read.and_then(|()| Footer::decode(&footer, file.identity, file.file_bytes)) {
            Ok(footer) if footer.directory == self.table.directory_handle => {}
            Ok(footer) => {
                self.wrong(offset, format!("the footer changed since the table was opened: {footer:?}"))
            }
            Err(error) => self.report(error, offset),
        }
        self.figures.bytes += (HEADER_BYTES + FOOTER_BYTES) as u64;
    }

    /// Notes that a block stands where the last thing ended.
    fn place(&mut self, handle: Handle, what: &str) {
        if handle.offset != self.at {
            let message = format!("{what} stands here where the bytes before end at {}", self.at);
            self.wrong(handle.offset, message);
        }
        self.at = handle.end();
    }

    /// Both copies of the dictionary; that of the sections has its place there.
    fn dictionary(&mut self) {
        let Some(copies) = self.table.directory.dictionary_copies() else { return };
        let [section, first] = copies.map(|handle| {
            self.read_block(handle, |check| {
                let bytes = read_copy(&check.table.file, handle)?;
                Dictionary::new(&bytes).map(|_| bytes)
            })
        });
        let [section_handle, first_handle] = copies;
        if section.is_some() && first.is_some() && section != first {
            self.wrong(section_handle.offset, "the two copies of the dictionary differ");
        }
        self.place(first_handle, "the dictionary");
    }

    fn partitions(&mut self) {
        let top_offset = self.table.directory.top_index.map_or(0, |handle| handle.offset);
        self.search(&self.table.top.clone(), top_offset);
        let mut top = BlockIter::new(self.table.top.clone());
        let mut step = top.seek_to_first();
        let mut before: Vec<u8> = Vec::new();
        while step.is_ok() && top.valid() {
            let above = before.is_empty() || key::compare(&before, top.key()).is_lt();
            if !above {
                self.wrong(top_offset, "the separators of the top index don't ascend");
            }
            before.clear();
            before.extend_from_slice(top.key());
            self.counted.partitions += 1;
            match Partition::from_value(top.value()) {
                Ok(partition) => self.partition(partition, &before),
                Err(error) => self.report(error, top_offset),
            }
            step = top.next();
        }
        if let Err(error) = step {
            self.whole = false;
            self.report(error, top_offset);
        }
    }

    fn partition(&mut self, partition: Partition, until: &[u8]) {
        self.hashes.clear();
        let handle = partition.index;
        let whole_before = std::mem::replace(&mut self.whole, true);
        match self.read_block(handle, |check| check.table.file.block(handle, BlockKind::Index)) {
            Some(index) => self.index(index, handle, until),
            None => self.at = handle.offset,
        }
        self.place(handle, "an index block");
        if let Some(handle) = partition.filter() {
            if let Some(filter) =
                self.read_block(handle, |check| check.table.file.block(handle, BlockKind::Filter))
            {
                self.filter(&filter, handle);
            }
            self.place(handle, "a filter");
        }
        self.whole &= whole_before;
        self.last.clear();
        self.last.extend_from_slice(until);
    }

    /// That a search in a block sees what the walk through it does.
    fn search(&mut self, block: &Block, offset: u64) {
        if let Err(error) = block.check_search() {
            self.report(error, offset);
        }
    }

    fn index(&mut self, index: Block, at: Handle, until: &[u8]) {
        self.search(&index, at.offset);
        let mut index = BlockIter::new(index);
        let mut step = index.seek_to_first();
        let mut separator: Vec<u8> = Vec::new();
        while step.is_ok() && index.valid() {
            let above = separator.is_empty() || key::compare(&separator, index.key()).is_lt();
            if !above {
                self.wrong(at.offset, "the separators of an index block don't ascend");
            }
            separator.clear();
            separator.extend_from_slice(index.key());
            match Handle::from_value(index.value()) {
                Ok(handle) => {
                    self.place(handle, "a data block");
                    self.counted.data_blocks += 1;
                    if let Err(error) = self.table.file.check_handle(handle) {
                        self.report(error, at.offset);
                    } else if self.level == CheckLevel::Full {
                        self.data(handle, &separator);
                    }
                }
                Err(error) => self.report(error, at.offset),
            }
            step = index.next();
        }
        if let Err(error) = step {
            self.whole = false;
            self.report(error, at.offset);
        }
        if separator != until {
            self.wrong(at.offset, "the last separator of an index block is not that of its partition");
        }
    }

    fn data(&mut self, handle: Handle, until: &[u8]) {
        let Some(block) =
            self.read_block(handle, |check| check.ahead.read(&check.table.file, handle, || ANYWHERE))
        else {
            return;
        };
        self.search(&block, handle.offset);
        let bounds = self.table.summary().bounds.clone();
        let mut entries = BlockIter::new(block);
        let mut step = entries.seek_to_first();
        while step.is_ok() && entries.valid() {
            if let Err(error) = self.entry(&entries, until, &bounds) {
                self.report(error, handle.offset);
            }
            step = entries.next();
        }
        if let Err(error) = step {
            self.whole = false;
            self.report(error, handle.offset);
        }
        self.last.clear();
        self.last.extend_from_slice(until);
    }

    fn entry(&mut self, entry: &BlockIter, until: &[u8], bounds: &KeyRange) -> Result<()> {
        let (user, trailer) = key::split(entry.key())?;
        let (sequence, kind) = key::parse_trailer(trailer)?;
        let fault =
            |what: &str| Err(Error::corruption(format!("the entry \"{}\" {what}", user.escape_ascii())));
        if !self.last.is_empty() && key::compare(&self.last, entry.key()).is_ge() {
            return fault("is not above the one before it");
        }
        if key::compare(entry.key(), until).is_gt() {
            return fault("is above the separator of its block");
        }
        if !bounds.contains(user) {
            return fault("lies outside the bounds of the table");
        }
        if kind == Kind::Delete && !entry.value().is_empty() {
            return fault("is a deletion with a value");
        }
        self.last.clear();
        self.last.extend_from_slice(entry.key());
        self.hashes.push(filter::hash(user));
        let counted = &mut self.counted;
        counted.entries += 1;
        counted.deletions += u64::from(kind == Kind::Delete);
        counted.key_bytes += user.len() as u64;
        counted.value_bytes += entry.value().len() as u64;
        let (min, max) = counted.sequences.unwrap_or((sequence, sequence));
        counted.sequences = Some((min.min(sequence), max.max(sequence)));
        counted.first.get_or_insert_with(|| user.to_vec());
        self.figures.entries += 1;
        Ok(())
    }

    fn filter(&mut self, filter: &Block, handle: Handle) {
        let missing = self.hashes.iter().filter(|hash| !filter::may_contain(filter.bytes(), **hash)).count();
        if missing > 0 {
            self.wrong(handle.offset, format!("the filter does not know {missing} keys of its partition"));
        }
    }

    /// The sections after the partitions: there they are verified once more, here it matters that nothing lies between them.
    fn sections(&mut self) {
        let table = self.table;
        for handle in table.directory.handles() {
            self.place(handle, "a section");
        }
        self.place(table.directory_handle, "the directory");
        let footer = table.file.file_bytes - FOOTER_BYTES as u64;
        if self.at != footer {
            self.wrong(footer, format!("the footer stands here where the bytes before end at {}", self.at));
        }
        let kinds = [
            (table.directory.top_index, BlockKind::TopIndex),
            (table.directory.tombstones, BlockKind::Tombstones),
            (table.directory.properties, BlockKind::Properties),
            (Some(table.directory_handle), BlockKind::Directory),
        ];
        for (handle, kind) in kinds {
            if let Some(handle) = handle {
                self.read_block(handle, |check| check.table.file.payload(handle, kind));
            }
        }
        let tombstones = table.range_tombstones();
        self.figures.entries += tombstones.len() as u64;
        let bounds = &table.summary().bounds;
        if tombstones.bounds().is_some_and(|range| !bounds.encloses(range)) {
            let offset = table.directory.tombstones.map_or(0, |handle| handle.offset);
            self.wrong(offset, "a range tombstone lies outside the bounds of the table");
        }
    }

    fn summary(&mut self) {
        let summary = self.table.summary();
        let offset = self.table.directory.properties.map_or(0, |handle| handle.offset);
        if !self.whole {
            return;
        }
        let counted = &self.counted;
        if (counted.data_blocks, counted.partitions) != (summary.data_blocks, summary.partitions) {
            let message = format!(
                "{} data blocks in {} partitions are there, {} in {} expected",
                counted.data_blocks, counted.partitions, summary.data_blocks, summary.partitions
            );
            return self.wrong(offset, message);
        }
        if self.level < CheckLevel::Full {
            return;
        }
        let found = [counted.entries, counted.deletions, counted.key_bytes, counted.value_bytes];
        let expected = [summary.entries, summary.deletions, summary.key_bytes, summary.value_bytes];
        if found != expected {
            let message = format!(
                "entries, deletions, bytes of keys and of values are {found:?} where the properties say {expected:?}"
            );
            return self.wrong(offset, message);
        }
        let tombstones = self.table.range_tombstones();
        let ranges = (!tombstones.is_empty()).then(|| (tombstones.sequence_min(), tombstones.sequence_max()));
        let both = match (counted.sequences, ranges) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (one, other) => one.or(other),
        };
        if both != Some((summary.sequence_min, summary.sequence_max)) {
            let message = format!(
                "sequence numbers are {both:?} where the properties say {} to {}",
                summary.sequence_min, summary.sequence_max
            );
            return self.wrong(offset, message);
        }
        let lower = [counted.first.clone(), tombstones.bounds().map(|bounds| bounds.lower.clone())]
            .into_iter()
            .flatten()
            .min();
        if lower.as_ref() != Some(&summary.bounds.lower) {
            self.wrong(offset, "the first key of the table is not the lower bound that its properties name");
        }
    }
}
