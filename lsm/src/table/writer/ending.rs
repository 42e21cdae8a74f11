//! What stands behind data blocks and leads to them: the index and the filter of each partition, then the sections, directory and footer of the table.

use super::{Pending, TableWriter};
use crate::block::{BlockKind, PAYLOAD_BYTES_MAX, STAMP_LAST};
use crate::error::{Error, ErrorKind, Result};
use crate::filter;
use crate::range::KeyRange;
use crate::range_tombstone::RangeTombstones;
use crate::table::footer::{Directory, Footer};
use crate::table::index::{Partition, separator};
use crate::table::{FOOTER_BYTES, HEADER_BYTES, TableSummary, properties};

impl TableWriter {
    /// Enters a block in the index: `next` is the user key that follows it.
    pub(super) fn index_block(&mut self, pending: &Pending, next: Option<&[u8]>) {
        let mut value = Vec::with_capacity(16);
        pending.handle.encode(&mut value);
        match next {
            Some(next) if next == pending.last_user => {
                self.index.add(&pending.last_user, pending.last_stamp, &value);
            }
            Some(next) => self.index.add(&separator(&pending.last_user, next), STAMP_LAST, &value),
            None => self.index.add(&pending.last_user, STAMP_LAST, &value),
        }
    }

    /// Ends the partition: writes the index block and the filter of its keys, and enters them in the top index.
    pub(super) fn finish_partition(&mut self) -> Result<()> {
        let (last_user, last_stamp) = self.index.last();
        let (last_user, last_stamp) = (last_user.to_vec(), last_stamp);
        let index = self.out.put(&mut self.compressor, BlockKind::Index, self.index.finish())?;
        self.index.clear();
        let mut filter_bytes = 0;
        if !self.hashes.is_empty() {
            let payload = filter::build(&self.hashes, self.options.filter_bits_per_key);
            let filter = self.out.put_plain(BlockKind::Filter, &payload);
            assert!(filter.offset == index.end(), "the filter follows the index block");
            filter_bytes = filter.bytes;
            self.hashes.clear();
        }
        let mut value = Vec::with_capacity(16);
        Partition { index, filter_bytes }.encode(&mut value);
        self.top.add(&last_user, last_stamp, &value);
        self.partitions += 1;
        Ok(())
    }

    /// Writes what is left and makes the file's contents durable; its name is the caller's to sync.
    ///
    /// # Panics
    /// If the blocks don't hold what was added.
    ///
    /// # Errors
    /// Io; InvalidArgument if nothing was added.
    pub fn finish(mut self) -> Result<TableSummary> {
        let Some((sequence_min, sequence_max)) = self.sequences else {
            return Err(self
                .out
                .locate(Error::new(ErrorKind::InvalidArgument, "a table holds at least one entry")));
        };
        if !self.data.is_empty() {
            self.finish_data_block()?;
        }
        self.end_sample()?;
        self.end_beside()?;
        if let Some(pending) = self.pending.take() {
            self.index_block(&pending, None);
        }
        if !self.index.is_empty() {
            self.finish_partition()?;
        }
        assert!(self.blocks_entries == self.entries, "every entry is in one block");
        assert!(self.partitions == self.top.entries(), "every partition is in the top index");

        let tombstones = RangeTombstones::new(std::mem::take(&mut self.tombstones));
        let mut directory = Directory::default();
        if !tombstones.is_empty() {
            let mut payload = Vec::with_capacity(self.tombstone_bytes);
            tombstones.encode(&mut payload);
            if payload.len() > PAYLOAD_BYTES_MAX {
                return Err(self.out.locate(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{} range tombstones are too many for one table", tombstones.len()),
                )));
            }
            directory.tombstones =
                Some(self.out.put(&mut self.compressor, BlockKind::Tombstones, &payload)?);
        }
        if !self.top.is_empty() {
            directory.top_index = Some(self.out.put_plain(BlockKind::TopIndex, self.top.finish()));
        }
        let points = self.first_user.take().map(|first| KeyRange::inclusive(first, self.last.0.clone()));
        let bounds = match (points, tombstones.bounds()) {
            (Some(points), Some(ranges)) => points.union(ranges),
            (Some(points), None) => points,
            (None, Some(ranges)) => ranges.clone(),
            (None, None) => unreachable!("something was added"),
        };
        let mut summary = TableSummary {
            identity: self.identity,
            file_bytes: 0,
            entries: self.entries,
            deletions: self.deletions,
            range_tombstones: tombstones.len() as u64,
            bounds,
            sequence_min,
            sequence_max,
            key_bytes: self.key_bytes,
            value_bytes: self.value_bytes,
            data_blocks: self.data_blocks,
            partitions: self.partitions,
            hurried_blocks: self.hurry.blocks(),
        };
        directory.properties =
            Some(self.out.put_plain(
                BlockKind::Properties,
                &properties::encode(&summary, self.options.origin.as_ref()),
            ));
        if let Some((_, dictionary)) = self.with_dictionary.take() {
            directory.dictionary = Some(self.out.put_packed(BlockKind::Dictionary, &dictionary));
        }
        let directory = self.out.put_plain(BlockKind::Directory, &directory.encode());
        summary.file_bytes = self.out.offset() + FOOTER_BYTES as u64;
        let footer = Footer { directory, file_bytes: summary.file_bytes, identity: self.identity };
        let written = self.out.end(&footer.encode())?;
        assert!(written == summary.file_bytes, "the footer knows the length of the file");
        assert!(summary.file_bytes > (HEADER_BYTES + FOOTER_BYTES) as u64);
        self.out.sync()?;
        Ok(summary)
    }
}
