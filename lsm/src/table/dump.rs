//! A table as text, byte by byte: for tools, and for the annotated dumps beside the golden files.

use std::fmt::{self, Write};
use std::sync::Arc;

use crate::block::{BlockIter, BlockKind};
use crate::error::Result;
use crate::key;
use crate::range::KeyRange;
use crate::table::dictionary::read_copy;
use crate::table::footer::Footer;
use crate::table::index::{Handle, Partition};
use crate::table::{FOOTER_BYTES, HEADER_BYTES, Table};

impl Table {
    /// Writes what stands at each offset to `out`, in the order of the file: blocks, entries, sections.
    ///
    /// # Errors
    /// Io or corruption, naming file and offset; what was read before it has been written.
    pub fn dump(self: &Arc<Self>, out: &mut String) -> Result<()> {
        let mut dump = Dump { table: self, out };
        dump.line(format_args!(
            "{:>8}  {HEADER_BYTES} bytes: header of table {:?}, database {:?}",
            0, self.file.identity, self.database
        ));
        if let Some([section, first]) = self.directory.dictionary_copies() {
            let bytes = read_copy(&self.file, first).or_else(|_| read_copy(&self.file, section))?;
            dump.block(first, "dictionary");
            dump.line(format_args!("          {} bytes; data blocks may be compressed with it", bytes.len()));
        }
        let mut top = BlockIter::new(self.top.clone());
        top.seek_to_first()?;
        while top.valid() {
            dump.partition(Partition::from_value(top.value())?)?;
            top.next()?;
        }
        dump.sections()
    }
}

struct Dump<'a> {
    table: &'a Arc<Table>,
    out: &'a mut String,
}

fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 40;
    match bytes.get(..SHOWN_MAX) {
        Some(front) if bytes.len() > SHOWN_MAX => {
            format!("\"{}\"... ({} bytes)", front.escape_ascii(), bytes.len())
        }
        _ => format!("\"{}\"", bytes.escape_ascii()),
    }
}

fn shown_range(range: &KeyRange) -> String {
    let upper = match &range.upper {
        std::ops::Bound::Included(upper) => format!("{} included", shown(upper)),
        std::ops::Bound::Excluded(upper) => format!("{} excluded", shown(upper)),
        std::ops::Bound::Unbounded => "the end of all keys".to_owned(),
    };
    format!("{} to {upper}", shown(&range.lower))
}

fn shown_key(internal: &[u8]) -> Result<String> {
    let (user, trailer) = key::split(internal)?;
    if trailer == [0xff; key::TRAILER_BYTES] {
        return Ok(format!("{} behind all its writes", shown(user)));
    }
    let (sequence, kind) = key::parse_trailer(trailer)?;
    Ok(format!("{} {sequence} {kind:?}", shown(user)))
}

impl Dump<'_> {
    fn line(&mut self, text: fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{text}"); // A String takes everything.
    }

    fn block(&mut self, handle: Handle, what: &str) {
        self.line(format_args!("{:>8}  {} bytes: {what}", handle.offset, handle.bytes));
    }

    fn partition(&mut self, partition: Partition) -> Result<()> {
        let table = self.table;
        let mut index = BlockIter::new(table.file.block(partition.index, BlockKind::Index)?);
        index.seek_to_first()?;
        while index.valid() {
            let handle = Handle::from_value(index.value())?;
            self.block(handle, "data block");
            let mut data = BlockIter::new(table.file.block(handle, BlockKind::Data)?);
            data.seek_to_first()?;
            while data.valid() {
                let (key, value) = (shown_key(data.key())?, shown(data.value()));
                self.line(format_args!("          {key} = {value}"));
                data.next()?;
            }
            index.next()?;
        }
        self.block(partition.index, "index block");
        index.seek_to_first()?;
        while index.valid() {
            let (key, handle) = (shown_key(index.key())?, Handle::from_value(index.value())?);
            self.line(format_args!("          up to {key}: {} bytes at {}", handle.bytes, handle.offset));
            index.next()?;
        }
        if let Some(handle) = partition.filter() {
            let filter = table.file.block(handle, BlockKind::Filter)?;
            self.block(handle, "filter");
            let (kind, probes) = (filter.bytes().first(), filter.bytes().get(1));
            self.line(format_args!("          kind {}, {} probes", kind.unwrap_or(&0), probes.unwrap_or(&0)));
        }
        Ok(())
    }

    fn sections(&mut self) -> Result<()> {
        let table = self.table;
        if let Some(handle) = table.directory.tombstones {
            self.block(handle, "range tombstones");
            for tombstone in table.range_tombstones().iter() {
                let range = KeyRange::until(tombstone.start, tombstone.end.map(<[u8]>::to_vec));
                self.line(format_args!("          {} {}", shown_range(&range), tombstone.sequence));
            }
        }
        if let Some(handle) = table.directory.top_index {
            self.block(handle, "top index");
            let mut top = BlockIter::new(table.top.clone());
            top.seek_to_first()?;
            while top.valid() {
                let (key, partition) = (shown_key(top.key())?, Partition::from_value(top.value())?);
                let Handle { offset, bytes } = partition.index;
                let filter = partition.filter_bytes;
                self.line(format_args!(
                    "          up to {key}: {bytes} bytes at {offset}, filter of {filter}"
                ));
                top.next()?;
            }
        }
        if let Some(handle) = table.directory.properties {
            self.block(handle, "properties");
            let summary = table.summary();
            self.line(format_args!(
                "          {} entries, {} of them deletions, {} range tombstones",
                summary.entries, summary.deletions, summary.range_tombstones
            ));
            self.line(format_args!("          keys {}", shown_range(&summary.bounds)));
            self.line(format_args!(
                "          sequence numbers {} to {}",
                summary.sequence_min, summary.sequence_max
            ));
            self.line(format_args!(
                "          {} bytes of keys, {} of values; {} data blocks in {} partitions",
                summary.key_bytes, summary.value_bytes, summary.data_blocks, summary.partitions
            ));
            if summary.hurried_blocks > 0 {
                self.line(format_args!(
                    "          {} data blocks not compressed for haste",
                    summary.hurried_blocks
                ));
            }
            if let Some(origin) = table.origin() {
                self.line(format_args!(
                    "          written for keyspace {} {:?}, level {}, epoch {}",
                    origin.keyspace, origin.name, origin.level, origin.epoch
                ));
            }
        }
        if let Some(handle) = table.directory.dictionary {
            self.block(handle, "dictionary, once more");
        }
        for handle in &table.directory.unknown {
            self.block(*handle, "section of a kind that this version does not know");
        }
        self.block(table.directory_handle, "directory");
        let file_bytes = table.file.file_bytes;
        let footer = Footer { directory: table.directory_handle, file_bytes, identity: table.file.identity };
        self.line(format_args!("{:>8}  {FOOTER_BYTES} bytes: footer", footer.offset()));
        Ok(())
    }
}
