//! Whether a table of rows is sound: all of it, down to the order of its rows.
//!
//! Every byte lies in the header, the zeros behind it, a block whose place follows from its number, a section, the directory or the footer. Beyond the checksums:
//! rows ascend over the whole file, each fence is the first prefix of its block, the filter knows every key, and all counts are what was counted.

use std::sync::Arc;

use super::layout::{FENCES_PER_BLOCK, LINES_PER_BLOCK};
use super::reader::FixedTable;
use crate::block::{Block, BlockKind};
use crate::error::{Error, IoContext, Result};
use crate::filter;
use crate::fs::Advice;
use crate::key::Kind;
use crate::table::footer::Footer;
use crate::table::header::Header;
use crate::table::index::Handle;
use crate::table::{CheckLevel, FOOTER_BYTES, HEADER_BYTES, TableCheck};

impl FixedTable {
    /// Checks the table and gives each fault, with file and offset, to `fault`; a damaged block costs that block, and the check goes on behind it. The
    /// cache and what is resident are neither used nor changed.
    pub fn check(self: &Arc<Self>, level: CheckLevel, fault: &mut dyn FnMut(Error)) -> TableCheck {
        if level == CheckLevel::Full {
            // What the system has cached says nothing about the medium.
            self.file.file.advise(Advice::DontNeed, 0, 0);
        }
        let mut check = Check {
            table: self,
            fault,
            figures: TableCheck::default(),
            fences: Vec::new(),
            lines: Vec::new(),
            is_whole: true,
        };
        check.ends();
        check.fences();
        check.filter();
        if level == CheckLevel::Full {
            check.rows();
        }
        check.sections();
        check.figures
    }
}

struct Check<'a> {
    table: &'a FixedTable,
    fault: &'a mut dyn FnMut(Error),
    figures: TableCheck,
    /// All fences, and all lines of the filter; empty where they could not be read.
    fences: Vec<u64>,
    lines: Vec<u8>,
    /// Whether every block of rows could be read, so that counts mean something.
    is_whole: bool,
}

impl Check<'_> {
    fn report(&mut self, error: Error, offset: u64) {
        self.figures.faults += 1;
        let error = if error.path().is_some() { error } else { self.table.file.locate(error, offset) };
        (self.fault)(error);
    }

    fn wrong(&mut self, offset: u64, message: impl Into<String>) {
        self.report(Error::corruption(message), offset);
    }

    /// The payload of a block; `None`, and a fault, where it cannot be had.
    fn payload(&mut self, handle: Handle, kind: BlockKind) -> Option<Vec<u8>> {
        match self.table.file.payload(handle, kind) {
            Ok(payload) => {
                self.figures.blocks += 1;
                self.figures.bytes += u64::from(handle.bytes);
                Some(payload)
            }
            Err(error) => {
                self.report(error, handle.offset);
                None
            }
        }
    }

    /// Header and footer, read once more, and the zeros behind the header.
    fn ends(&mut self) {
        let file = &self.table.file;
        let mut front = vec![0; self.table.layout.block_bytes];
        let read = file.file.read_exact_at(&mut front, 0).context("read the header of a table", &file.path);
        let header = match (read, front.split_first_chunk::<HEADER_BYTES>()) {
            (Err(error), _) => Err(error),
            (Ok(()), Some((header, rest))) if rest.iter().all(|byte| *byte == 0) => Header::decode(header),
            _ => Err(Error::corruption("there is something else than zeros behind the header")),
        };
        match header {
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
        self.figures.bytes += (self.table.layout.block_bytes + FOOTER_BYTES) as u64;
    }

    fn fences(&mut self) {
        let mut all = Vec::new();
        let mut is_whole = true;
        for block in 0..self.table.plan.fence_blocks() {
            let handle = self.table.plan.fence_handle(block);
            let Some(payload) = self.payload(handle, BlockKind::Fences) else {
                is_whole = false;
                continue;
            };
            all.extend(payload.chunks_exact(8).map(|fence| fence.try_into().map_or(0, u64::from_le_bytes)));
        }
        let offset = self.table.plan.fence_handle(0).offset;
        if !is_whole {
            return;
        }
        if !all.is_sorted() || all.len() as u64 != self.table.plan.blocks {
            return self.wrong(offset, "the fences are out of order, or not as many as there are blocks");
        }
        let top = all.iter().step_by(usize::try_from(FENCES_PER_BLOCK).unwrap_or(1));
        if !top.eq(&self.table.plan.top) {
            self.wrong(offset, "the fences are not those that the section of rows begins with");
        }
        self.fences = all;
    }

    fn filter(&mut self) {
        let plan = &self.table.plan;
        let (blocks, probes) = (plan.filter_blocks(), plan.filter_probes);
        let mut all = Vec::new();
        let mut is_whole = true;
        for block in 0..blocks {
            let handle = self.table.plan.filter_handle(block);
            let lines_max = usize::try_from(LINES_PER_BLOCK).unwrap_or(0) * filter::LINE_BYTES;
            match self.payload(handle, BlockKind::Filter).as_deref().map(filter::parts) {
                Some(Some((found, lines))) if found == probes && lines.len() <= lines_max => {
                    all.extend_from_slice(lines)
                }
                Some(_) => {
                    is_whole = false;
                    self.wrong(handle.offset, "a filter of another shape than the table says");
                }
                None => is_whole = false,
            }
        }
        if is_whole {
            self.lines = all;
        }
    }

    fn rows(&mut self) {
        let table = self.table;
        let (mut entries, mut deletions) = (0u64, 0u64);
        let mut last: Option<(Vec<u8>, u64)> = None;
        for number in 0..table.plan.blocks {
            let handle = table.layout.handle(number);
            let read = table.file.read(handle).and_then(|bytes| table.rows_of(&bytes, handle));
            let block = match read {
                Ok(block) => block,
                Err(error) => {
                    self.is_whole = false;
                    self.report(error, handle.offset);
                    continue;
                }
            };
            self.figures.blocks += 1;
            self.figures.bytes += u64::from(handle.bytes);
            match self.block(&block, number, handle, &mut last) {
                Ok((found, deleted)) => {
                    entries += found;
                    deletions += deleted;
                }
                Err(error) => {
                    self.is_whole = false;
                    self.report(error, handle.offset);
                }
            }
        }
        self.figures.entries += entries;
        let summary = &table.summary;
        if !self.is_whole {
            return;
        }
        if (entries, deletions) != (summary.entries, summary.deletions) {
            let message = format!(
                "{entries} rows with {deletions} deletions are there where the properties say {} with {}",
                summary.entries, summary.deletions
            );
            self.wrong(table.directory_handle.offset, message);
        }
        if last.is_some_and(|(key, _)| std::ops::Bound::Included(key) != summary.bounds.upper) {
            self.wrong(
                table.directory_handle.offset,
                "the last row is not the upper bound that the properties name",
            );
        }
    }

    /// Looks at the rows of one block; returns how many there are, and how many of them deletions.
    fn block(
        &mut self,
        block: &Block,
        number: u64,
        handle: Handle,
        last: &mut Option<(Vec<u8>, u64)>,
    ) -> Result<(u64, u64)> {
        let table = self.table;
        let rows = table.layout.rows(block.bytes());
        let count = rows.count();
        let fence = usize::try_from(number).ok().and_then(|number| self.fences.get(number)).copied();
        if fence.is_some_and(|fence| fence != rows.prefix(0)) {
            self.wrong(handle.offset, "the first row is not the one that the block's fence names");
        }
        let mut deletions = 0;
        for index in 0..count {
            let mut key = Vec::with_capacity(table.layout.widths.key());
            rows.key(index, &mut key);
            let fault = |what: &str| {
                Err(Error::corruption(format!("row {index}, \"{}\", {what}", key.escape_ascii())))
            };
            let sequence = rows.sequence(index).unwrap_or(table.sequence_of_all());
            if !(table.summary.sequence_min..=table.summary.sequence_max).contains(&sequence) {
                return fault("has a sequence number that the properties do not expect");
            }
            match last {
                None if key != table.summary.bounds.lower => {
                    return fault("is not the lower bound that the properties name");
                }
                Some((before, number))
                    if (&*before, sequence) == (&key, *number)
                        || *before > key
                        || (*before == key && *number < sequence) =>
                {
                    return fault("is not above the one before it");
                }
                _ => {}
            }
            let hash = filter::hash(&key);
            let at = filter::line(hash, self.lines.len() / filter::LINE_BYTES) * filter::LINE_BYTES;
            let line = self.lines.get(at..).and_then(<[u8]>::first_chunk);
            if line.is_some_and(|line| !filter::line_may_contain(line, hash, table.plan.filter_probes)) {
                return fault("is not known to the filter");
            }
            deletions += u64::from(rows.kind(index)? == Kind::Delete);
            *last = Some((key, sequence));
        }
        Ok((count as u64, deletions))
    }

    /// The sections: that nothing lies between them, and that they can be read.
    fn sections(&mut self) {
        let table = self.table;
        let mut at = table.plan.end();
        for handle in table.sections.iter().copied().chain([table.directory_handle]) {
            if handle.offset != at {
                self.wrong(
                    handle.offset,
                    format!("a section stands here where the bytes before end at {at}"),
                );
            }
            at = handle.end();
            let kinds = [BlockKind::RowsPlan, BlockKind::Properties, BlockKind::Directory];
            let read = table.file.read(handle);
            match read {
                Ok(bytes) if kinds.iter().any(|kind| table.file.open(&bytes, handle, *kind).is_ok()) => {
                    self.figures.blocks += 1;
                    self.figures.bytes += u64::from(handle.bytes);
                }
                Ok(_) => self.wrong(handle.offset, "a section cannot be read"),
                Err(error) => self.report(error, handle.offset),
            }
        }
        let footer = table.file.file_bytes - FOOTER_BYTES as u64;
        if at != footer {
            self.wrong(footer, format!("the footer stands here where the bytes before end at {at}"));
        }
    }
}
