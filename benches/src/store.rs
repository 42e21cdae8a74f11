//! What a storage engine must do to be measured.
//!
//! A [`Store`] is an open database with one ordered map in it; a [`Reader`] is one thread's way to read it. The engines that read at a
//! transaction's moment (LMDB, redb) keep the transaction in the reader, as their documentation advises, and begin a new one when told
//! to [`refresh`](Reader::refresh): a workload does so before it reads what may have been written since. For the others that is nothing.
//!
//! Keys and values are handed to closures where the engine holds them, so that none is made to copy that can do without.

use std::path::PathBuf;

use crate::error::Result;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of the process, however it comes (of the call alone, where an engine offers no more without a sync: see its module).
    System,
    /// A power loss.
    Synced,
}

/// How to open an engine.
#[derive(Clone, Debug)]
pub(crate) struct Configuration {
    /// The folder in which the database is; there from the start.
    pub(crate) path: PathBuf,
    /// All the memory that the engine may take: caches and write buffers together.
    pub(crate) memory_bytes: u64,
    /// Bytes of writes to gather in memory before they are written as a table; `None`: what suits the memory.
    pub(crate) write_buffer_bytes: Option<u64>,
    /// What commits will ask for: some engines want to know when they open.
    pub(crate) durability: Durability,
    /// The widths of keys and values, where all are alike and the keys uniformly random.
    pub(crate) fixed: Option<Widths>,
    /// Bytes of the largest database that it may become: some engines reserve addresses for it.
    #[cfg_attr(not(feature = "lmdb"), allow(dead_code, reason = "only LMDB does"))]
    pub(crate) size_bytes_max: u64,
}

impl Configuration {
    /// Bits of filter a key: what `lsm` has by default, which is more where it keeps rows of fixed widths.
    #[cfg_attr(
        not(any(feature = "fjall", feature = "rocksdb")),
        allow(dead_code, reason = "the peers' need")
    )]
    pub(crate) fn filter_bits_per_key(&self) -> u8 {
        if self.fixed.is_some() { 15 } else { 10 }
    }

    /// The write buffer: what was asked for, or a quarter of the memory up to 64 MiB, which is the default of RocksDB and of fjall and needs
    /// place for a second one that is being written out.
    #[cfg_attr(
        not(any(feature = "fjall", feature = "rocksdb")),
        allow(dead_code, reason = "the peers' need")
    )]
    pub(crate) fn write_buffer(&self) -> u64 {
        self.write_buffer_bytes.unwrap_or((self.memory_bytes / 4).clamp(1 << 20, 64 << 20))
    }
}

/// The width of every key and every value, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Widths {
    pub(crate) key: usize,
    pub(crate) value: usize,
}

/// One write of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    Put(&'a [u8], &'a [u8]),
    Delete(&'a [u8]),
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// What to scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    /// The key to start at, itself included if it is there; `None`: at the first, backward at the last.
    pub(crate) from: Option<&'a [u8]>,
    /// Only keys that start with this, in which case there is no `from`.
    pub(crate) prefix: Option<&'a [u8]>,
    pub(crate) direction: Direction,
    /// Entries at most.
    pub(crate) limit: u64,
}

impl<'a> Scan<'a> {
    /// Everything.
    pub(crate) fn all(direction: Direction) -> Self {
        Self { from: None, prefix: None, direction, limit: u64::MAX }
    }

    /// Some entries from a key on, forward.
    pub(crate) fn from(key: &'a [u8], limit: u64) -> Self {
        Self { from: Some(key), prefix: None, direction: Direction::Forward, limit }
    }

    /// Some entries whose keys start with a prefix, forward.
    pub(crate) fn prefix(prefix: &'a [u8], limit: u64) -> Self {
        Self { from: None, prefix: Some(prefix), direction: Direction::Forward, limit }
    }

    /// The entries' range of keys: `from` or the prefix, as an inclusive start or end and an exclusive end.
    pub(crate) fn bounds(&self) -> Bounds<'a> {
        match (self.prefix, self.from, self.direction) {
            (Some(prefix), ..) => {
                Bounds { start: Some(prefix), end: prefix_end(prefix).map_or(End::Open, End::Before) }
            }
            (None, from, Direction::Forward) => Bounds { start: from, end: End::Open },
            (None, Some(from), Direction::Backward) => Bounds { start: None, end: End::Through(from) },
            (None, None, Direction::Backward) => Bounds { start: None, end: End::Open },
        }
    }
}

/// A range of keys.
#[derive(Debug)]
pub(crate) struct Bounds<'a> {
    /// The first key; `None`: no bound.
    pub(crate) start: Option<&'a [u8]>,
    pub(crate) end: End<'a>,
}

/// Where a range of keys ends.
#[derive(Debug)]
pub(crate) enum End<'a> {
    Open,
    Before(Vec<u8>),
    Through(&'a [u8]),
}

impl Bounds<'_> {
    /// As the standard library's bounds.
    pub(crate) fn as_range(&self) -> (std::ops::Bound<&[u8]>, std::ops::Bound<&[u8]>) {
        use std::ops::Bound;
        let end = match &self.end {
            End::Open => Bound::Unbounded,
            End::Before(key) => Bound::Excluded(key.as_slice()),
            End::Through(key) => Bound::Included(*key),
        };
        (self.start.map_or(Bound::Unbounded, Bound::Included), end)
    }
}

/// The first key after all that start with `prefix`; `None`: there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// What an engine counts itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Bytes written to tables and journal since it was opened.
    pub(crate) written_bytes: u64,
    /// How often a writer had to wait.
    pub(crate) stalls: u64,
}

/// Called with each entry of a scan.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], &[u8]) + 'v;

/// Hands out the next entry to load, in any order: fills key and value and returns true, or returns false at the end.
pub(crate) type Entries<'e> = dyn FnMut(&mut Vec<u8>, &mut Vec<u8>) -> bool + 'e;

/// One thread's way to read a store.
pub(crate) trait Reader {
    /// Sees what was committed before this.
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    /// Hands the value of a key to `read`; false if there is none.
    fn get(&mut self, key: &[u8], read: &mut dyn FnMut(&[u8])) -> Result<bool>;

    /// Whether a key is there.
    fn contains(&mut self, key: &[u8]) -> Result<bool> {
        self.get(key, &mut |_| ())
    }

    /// Hands each value that there is to `read`, with its key's place in `keys`.
    fn multi_get(&mut self, keys: &[&[u8]], read: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        for (place, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| read(place, value))?;
        }
        Ok(())
    }

    /// Says of each key whether it is there.
    fn multi_contains(&mut self, keys: &[&[u8]], found: &mut Vec<bool>) -> Result<()> {
        found.clear();
        for key in keys {
            found.push(self.contains(key)?);
        }
        Ok(())
    }

    /// Hands entries to `visit`, in order; returns how many.
    fn scan(&mut self, scan: Scan<'_>, visit: &mut Visit<'_>) -> Result<u64>;
}

/// An open database with one ordered map in it.
pub(crate) trait Store: Send + Sync {
    /// Commits a batch, all of it or nothing.
    fn write(&self, operations: &[Operation<'_>], durability: Durability) -> Result<()>;

    /// Removes all keys that start with a prefix, by the best means that the engine has.
    fn delete_prefix(&self, prefix: &[u8]) -> Result<()>;

    /// Loads many entries into an empty store in the way that the engine has for it; durable when it returns.
    fn bulk_load(&mut self, entries: &mut Entries<'_>) -> Result<()>;

    /// As [`Self::bulk_load`], of entries that come in ascending order of their keys.
    fn load_sorted(&mut self, entries: &mut Entries<'_>) -> Result<()> {
        self.bulk_load(entries)
    }

    /// A way to read for one thread.
    fn reader(&self) -> Result<Box<dyn Reader + '_>>;

    /// Writes what is in memory to tables.
    fn flush(&self) -> Result<()>;

    /// Brings everything to the form that is fastest to read and takes least space.
    fn compact(&mut self) -> Result<()>;

    /// Makes everything durable.
    fn sync(&self) -> Result<()>;

    /// What the engine counts itself, if it does.
    fn counts(&self) -> Option<Counts> {
        None
    }

    /// Ends it in order.
    fn close(self: Box<Self>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(prefix_end(b"ab").unwrap(), b"ac");
        assert_eq!(prefix_end(b"a\xff\xff").unwrap(), b"b");
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }

    #[test]
    fn a_scan_becomes_bounds() {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        assert_eq!(Scan::from(b"k", 1).bounds().as_range(), (Included(&b"k"[..]), Unbounded));
        assert_eq!(Scan::prefix(b"k", 1).bounds().as_range(), (Included(&b"k"[..]), Excluded(&b"l"[..])));
        let backward = Scan { direction: Direction::Backward, ..Scan::from(b"k", 1) };
        assert_eq!(backward.bounds().as_range(), (Unbounded, Included(&b"k"[..])));
        assert_eq!(Scan::all(Direction::Backward).bounds().as_range(), (Unbounded, Unbounded));
    }
}
