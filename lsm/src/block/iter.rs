//! Moving through a sorted block, both ways.

use std::ops::Range;

use crate::block::{Block, Entry, Rank, rank_of_stamp};
use crate::error::Result;
use crate::iter::InternalIterator;
use crate::key;
use crate::value::Value;

/// Room for most keys: they are put together from several pieces.
const KEY_CAPACITY: usize = 96;

/// A cursor over the entries of a block. It can be set on another block and keeps its buffers, so that a scan allocates nothing.
#[derive(Debug)]
pub struct BlockIter {
    block: Block,
    /// The internal key of the current entry; empty where there is none.
    key: Vec<u8>,
    value: Range<usize>,
    /// Where the current entry begins, and the next.
    offset: usize,
    next: usize,
    /// The entries before the current one that were decoded when we went backwards, from a restart on.
    behind: Vec<Behind>,
    behind_keys: Vec<u8>,
}

#[derive(Debug)]
struct Behind {
    offset: usize,
    next: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl BlockIter {
    /// A cursor over `block` that stands nowhere yet.
    pub fn new(block: Block) -> Self {
        Self {
            block,
            key: Vec::with_capacity(KEY_CAPACITY),
            value: 0..0,
            offset: 0,
            next: 0,
            behind: Vec::new(),
            behind_keys: Vec::new(),
        }
    }

    /// The same cursor over another block, standing nowhere.
    pub(crate) fn set_block(&mut self, block: Block) {
        self.block = block;
        self.invalidate();
    }

    /// The block.
    pub(crate) fn block(&self) -> &Block {
        &self.block
    }

    /// Stands nowhere.
    pub(crate) fn invalidate(&mut self) {
        self.key.clear();
        self.value = 0..0;
        self.behind.clear();
    }

    /// Whether it stands on an entry.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        !self.key.is_empty()
    }

    /// The internal key of the entry.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value of the entry.
    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        self.block.slice(self.value.clone())
    }

    /// The value as a handle that may share the block.
    pub(crate) fn owned_value(&self) -> Value {
        Value::from_block(&self.block, self.block.range_of(self.value.clone()))
    }

    /// Puts the key of `entry`, which follows the current one, together.
    #[inline]
    fn enter(&mut self, offset: usize, entry: Entry) -> Result<()> {
        if entry.shared > self.key.len().saturating_sub(key::TRAILER_BYTES) {
            self.invalidate();
            return Err(self.block.malformed(offset));
        }
        self.key.truncate(entry.shared);
        self.key.extend_from_slice(self.block.slice(entry.suffix));
        self.key.extend_from_slice(&rank_of_stamp(entry.stamp).to_be_bytes());
        self.value = entry.value;
        self.offset = offset;
        self.next = entry.next;
        Ok(())
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// Corruption if it is malformed.
    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.invalidate();
        self.next = 0;
        self.forward()
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// Corruption if an entry is malformed.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.invalidate();
        self.offset = self.block.entries_end();
        self.backward()
    }

    /// Moves to the first entry at or above (`user`, `rank`).
    ///
    /// # Errors
    /// Corruption if an entry is malformed.
    pub(crate) fn seek_rank(&mut self, user: &[u8], rank: Rank) -> Result<()> {
        self.invalidate();
        let block = &self.block;
        let mut stamp = 0;
        let mut at = 0;
        let key = &mut self.key;
        let found = block.lower_bound(user, rank, |offset, entry, suffix| {
            if entry.shared > key.len() {
                return Err(block.malformed(offset));
            }
            key.truncate(entry.shared);
            key.extend_from_slice(suffix);
            (stamp, at) = (entry.stamp, offset);
            Ok(())
        });
        match found {
            Ok(Some((entry, _))) => {
                self.key.extend_from_slice(&rank_of_stamp(stamp).to_be_bytes());
                self.value = entry.value;
                self.offset = at;
                self.next = entry.next;
                Ok(())
            }
            Ok(None) => {
                self.invalidate();
                Ok(())
            }
            Err(error) => {
                self.invalidate();
                Err(error)
            }
        }
    }

    /// Moves to the first entry whose internal key is `internal` or above.
    ///
    /// # Errors
    /// Corruption if an entry is malformed or `internal` is too short for an internal key.
    pub(crate) fn seek(&mut self, internal: &[u8]) -> Result<()> {
        let (user, trailer) = key::split(internal)?;
        self.seek_rank(user, u64::from_be_bytes(trailer))
    }

    /// Moves to the last entry whose internal key is `internal` or below.
    ///
    /// # Errors
    /// As [`Self::seek`].
    pub(crate) fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        self.seek(internal)?;
        if !self.valid() {
            return self.seek_to_last();
        }
        if self.key() == internal { Ok(()) } else { self.backward() }
    }

    /// Moves to the next entry, if it stands on one.
    ///
    /// # Errors
    /// Corruption if it is malformed.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if !self.valid() {
            return Ok(());
        }
        self.behind.clear();
        self.forward()
    }

    #[inline]
    fn forward(&mut self) -> Result<()> {
        let offset = self.next;
        if offset >= self.block.entries_end() {
            self.invalidate();
            return Ok(());
        }
        match self.block.entry(offset) {
            // At the front there is no key before: what is shared with nothing is nothing.
            Ok(entry) => self.enter(offset, entry),
            Err(error) => {
                self.invalidate();
                Err(error)
            }
        }
    }

    /// Moves to the entry before, if it stands on one.
    ///
    /// # Errors
    /// Corruption if an entry is malformed.
    pub(crate) fn prev(&mut self) -> Result<()> {
        if self.valid() { self.backward() } else { Ok(()) }
    }

    /// Moves to the entry before `self.offset`.
    fn backward(&mut self) -> Result<()> {
        if self.behind.is_empty() {
            self.decode_behind()?;
        }
        let Some(entry) = self.behind.pop() else {
            self.invalidate();
            return Ok(());
        };
        self.key.clear();
        self.key.extend_from_slice(self.behind_keys.get(entry.key).unwrap_or_default());
        self.value = entry.value;
        self.offset = entry.offset;
        self.next = entry.next;
        Ok(())
    }

    /// Entries can only be decoded forwards: those from the last restart before here are decoded once and kept, so that a step back costs
    /// as much as one forward.
    fn decode_behind(&mut self) -> Result<()> {
        let until = self.offset;
        self.behind_keys.clear();
        let Some(restart) = self.block.restart_under(until) else { return Ok(()) };
        let mut offset = self.block.restart_offset(restart);
        let mut last = 0..0;
        while offset < until {
            let entry = match self.block.entry(offset) {
                Ok(entry) if entry.shared <= last.len().saturating_sub(key::TRAILER_BYTES) => entry,
                _ => {
                    self.invalidate();
                    return Err(self.block.malformed(offset));
                }
            };
            let start = self.behind_keys.len();
            self.behind_keys.extend_from_within(last.start..last.start + entry.shared);
            self.behind_keys.extend_from_slice(self.block.slice(entry.suffix));
            self.behind_keys.extend_from_slice(&rank_of_stamp(entry.stamp).to_be_bytes());
            last = start..self.behind_keys.len();
            self.behind.push(Behind { offset, next: entry.next, key: last.clone(), value: entry.value });
            offset = entry.next;
        }
        Ok(())
    }
}

/// A damaged entry is an error once: a block is memory, and whoever reads it through a table has the table's iterator keep the error.
impl InternalIterator for BlockIter {
    fn seek_to_first(&mut self) -> Result<()> {
        self.seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<()> {
        self.seek_to_last()
    }

    fn seek(&mut self, internal: &[u8]) -> Result<()> {
        self.seek(internal)
    }

    fn seek_for_prev(&mut self, internal: &[u8]) -> Result<()> {
        self.seek_for_prev(internal)
    }

    fn next(&mut self) -> Result<()> {
        self.next()
    }

    fn prev(&mut self) -> Result<()> {
        self.prev()
    }

    fn valid(&self) -> bool {
        self.valid()
    }

    fn key(&self) -> &[u8] {
        self.key()
    }

    fn value(&self) -> &[u8] {
        self.value()
    }

    fn owned_value(&self) -> Value {
        self.owned_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockBuilder, BlockKind, stamp_of_rank};
    use crate::model::{Model, some_entries, some_walk};
    use proptest::prelude::*;

    fn payload(model: &Model, restart_interval: usize) -> Vec<u8> {
        let mut builder = BlockBuilder::new(restart_interval);
        for (key, value) in model.entries() {
            let (user, trailer) = key::split(key).unwrap();
            builder.add(user, stamp_of_rank(u64::from_be_bytes(trailer)), value);
        }
        assert_eq!(builder.entries(), model.entries().len() as u64);
        builder.finish().to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn a_block_is_a_sorted_map(
            model in some_entries(1..60), interval in prop::sample::select(vec![1usize, 2, 3, 16]), walk in some_walk()
        ) {
            let block = Block::sorted(&payload(&model, interval), BlockKind::Data).unwrap();
            model.compare(&mut BlockIter::new(block.clone()), &walk)?;
            for (user, sequence) in model.questions() {
                let found = block.get(&user, sequence).unwrap().map(|entry| {
                    let (sequence, _) = crate::block::split_stamp(entry.stamp);
                    (sequence, block.slice(entry.value).to_vec())
                });
                prop_assert_eq!(found, model.get(&user, sequence));
            }
        }

        #[test]
        fn a_damaged_block_gives_an_error_or_something_but_never_a_panic(
            model in some_entries(1..20), interval in 1usize..4, at in any::<prop::sample::Index>(), byte in any::<u8>(), walk in some_walk()
        ) {
            let mut bytes = payload(&model, interval);
            *at.get_mut(&mut bytes) = byte;
            for kind in [BlockKind::Data, BlockKind::Index] {
                let Ok(block) = Block::sorted(&bytes, kind) else { continue };
                crate::model::stagger(&mut BlockIter::new(block.clone()), &walk);
                for (user, sequence) in model.questions() {
                    let _ = block.get(&user, sequence);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), walk in some_walk()) {
            if let Ok(block) = Block::sorted(&bytes, BlockKind::Data) {
                crate::model::stagger(&mut BlockIter::new(block), &walk);
            }
        }
    }

    #[test]
    #[should_panic(expected = "ascending")]
    fn entries_out_of_order_are_not_written() {
        let mut builder = BlockBuilder::new(16);
        builder.add(b"b", 9, b"");
        builder.add(b"a", 9, b"");
    }

    #[test]
    #[should_panic(expected = "ascending")]
    fn an_older_write_comes_after_a_newer_one() {
        let mut builder = BlockBuilder::new(16);
        builder.add(b"a", 9, b"");
        builder.add(b"a", 17, b"");
    }
}
