//! The dictionary of an open table: read when the first block needs it, and digested as long as the cache has room to spare.
//!
//! A digested dictionary is kept by the table and taken off the cache's capacity, as pinned blocks are. Where there is no room it lies in the cache as
//! any block does, and blocks are decompressed with it as it is, at about half the speed. It stands in the file twice, since without it none of
//! the table's data could be read: where one copy is damaged the other serves, and a check tells of the damage.

use std::sync::{Arc, OnceLock};

use crate::block::{
    Block, BlockKind, DICTIONARY_BYTES_MAX, Dictionary, DictionaryRef, Scratch, check_dictionary,
    stated_payload_bytes, unpack_with,
};
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::table::file::TableFile;
use crate::table::index::Handle;

/// See the module.
#[derive(Debug)]
pub(super) struct TableDictionary {
    /// Where the copies are, the one that is read first before the other.
    copies: [Handle; 2],
    cache: Arc<BlockCache>,
    cache_table: u64,
    digested: OnceLock<Digested>,
}

#[derive(Debug)]
struct Digested {
    dictionary: Dictionary,
    pinned_bytes: usize,
}

impl TableDictionary {
    pub(super) fn new(copies: [Handle; 2], cache: &Arc<BlockCache>, cache_table: u64) -> Self {
        Self { copies, cache: Arc::clone(cache), cache_table, digested: OnceLock::new() }
    }

    /// Decompresses what a block of `file` stores.
    #[inline]
    pub(super) fn unpack(&self, file: &TableFile, stored: &[u8], payload_bytes: usize) -> Result<Scratch> {
        match self.digested.get() {
            Some(digested) => {
                unpack_with(DictionaryRef::Digested(&digested.dictionary), stored, payload_bytes)
            }
            None => self.unpack_undigested(file, stored, payload_bytes),
        }
    }

    #[cold]
    fn unpack_undigested(&self, file: &TableFile, stored: &[u8], payload_bytes: usize) -> Result<Scratch> {
        let [place, _] = self.copies;
        let bytes = match self.cache.get(self.cache_table, place.offset) {
            Some(block) => block,
            None => Block::opaque(self.read(file)?),
        };
        let pinned_bytes = Dictionary::memory_bytes_for(bytes.bytes().len());
        if !self.cache.pin(pinned_bytes) {
            let bytes = self.cache.insert(self.cache_table, place.offset, bytes);
            return unpack_with(DictionaryRef::Bytes(bytes.bytes()), stored, payload_bytes);
        }
        let dictionary = Dictionary::new(bytes.bytes()).map_err(|error| file.locate(error, place.offset));
        let set = dictionary.map(|dictionary| self.digested.set(Digested { dictionary, pinned_bytes }));
        if !matches!(set, Ok(Ok(()))) {
            self.cache.unpin(pinned_bytes); // It is none, or another thread was faster.
        }
        let _ = set?;
        match self.digested.get() {
            Some(digested) => {
                unpack_with(DictionaryRef::Digested(&digested.dictionary), stored, payload_bytes)
            }
            None => Err(Error::corruption("the dictionary of the table is not there")),
        }
    }

    /// The bytes, of whichever copy is sound.
    fn read(&self, file: &TableFile) -> Result<Vec<u8>> {
        let [first, second] = self.copies;
        read_copy(file, first).or_else(|error| read_copy(file, second).map_err(|_| error))
    }
}

impl Drop for TableDictionary {
    fn drop(&mut self) {
        if let Some(digested) = self.digested.get() {
            self.cache.unpin(digested.pinned_bytes);
        }
    }
}

/// One copy of a dictionary, verified.
pub(super) fn read_copy(file: &TableFile, handle: Handle) -> Result<Vec<u8>> {
    let bytes = file.read(handle)?;
    if stated_payload_bytes(&bytes) > DICTIONARY_BYTES_MAX {
        let error = Error::corruption("the dictionary of the table is above the limit");
        return Err(file.locate(error, handle.offset));
    }
    let payload = file.open(&bytes, handle, BlockKind::Dictionary)?;
    check_dictionary(&payload).map_err(|error| file.locate(error, handle.offset))?;
    Ok(payload.into_owned())
}

#[cfg(feature = "zstd")]
#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::block::Compression;
    use crate::checksum::Identity;
    use crate::fs::{FileSystem, MemFs};
    use crate::iter::InternalIterator;
    use crate::key::Kind;
    use crate::model::internal;
    use crate::table::{CheckLevel, ReadMode, Table, TableOptions, TableWriter, scan};

    const PATH: &str = "/9.table";

    fn file_of(bytes: &[u8]) -> Arc<dyn FileSystem> {
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        fs.create_new(Path::new(PATH)).unwrap().write_all_at(bytes, 0).unwrap();
        fs
    }

    type Entries = Vec<(Vec<u8>, Vec<u8>)>;

    fn entries() -> Entries {
        (0..2000u32)
            .map(|number| {
                let mixed = number.wrapping_mul(2_654_435_761);
                let value = format!("{{\"id\":{mixed},\"name\":\"user {}\",\"active\":true}}", mixed % 997);
                (internal(format!("user {number:06}").as_bytes(), 7, Kind::Put), value.into_bytes())
            })
            .collect()
    }

    fn written(dictionary_bytes: usize) -> Vec<u8> {
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let options = TableOptions {
            block_bytes: 500,
            index_block_bytes: 200,
            compression: Compression::Zstd(1),
            dictionary_bytes,
            ..TableOptions::default()
        };
        let (identity, database) = (Identity::from_bytes([3; 16]), Identity::from_bytes([4; 16]));
        let mut writer = TableWriter::create(&fs, Path::new(PATH), identity, database, options).unwrap();
        entries().iter().for_each(|(key, value)| writer.add(key, value).unwrap());
        let summary = writer.finish().unwrap();
        let mut bytes = vec![0; usize::try_from(summary.file_bytes).unwrap()];
        fs.open_read(Path::new(PATH)).unwrap().read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn open(bytes: &[u8], cache_bytes: usize) -> Result<Arc<Table>> {
        Table::open_unexpected(&file_of(bytes), Path::new(PATH), &Arc::new(BlockCache::new(cache_bytes)))
    }

    fn read_all(table: &Arc<Table>) -> Result<Entries> {
        let (mut iter, mut found) = (table.iter(ReadMode::Bypass), Vec::new());
        iter.seek_to_first()?;
        while iter.valid() {
            found.push((iter.key().to_vec(), iter.value().to_vec()));
            iter.next()?;
        }
        Ok(found)
    }

    #[test]
    fn a_table_with_a_dictionary_is_smaller_and_read_with_memory_and_without() {
        let (with, without) = (written(2048), written(0));
        assert!(with.len() < without.len(), "{} bytes with, {} without", with.len(), without.len());
        for cache_bytes in [0, 1 << 20] {
            let table = open(&with, cache_bytes).unwrap();
            assert!(table.directory.dictionary.is_some());
            assert_eq!(read_all(&table).unwrap(), entries());
            let figures = table.check(CheckLevel::Full, &mut |fault| panic!("{fault}"));
            assert_eq!(figures.bytes, with.len() as u64);
            let digested = table.file.dictionary.as_ref().unwrap().digested.get();
            assert_eq!(digested.is_some(), cache_bytes > 0);
        }
        assert!(open(&without, 0).unwrap().directory.dictionary.is_none());
    }

    #[test]
    fn what_the_table_took_off_the_cache_it_gives_back() {
        let cache = Arc::new(BlockCache::new(1 << 20));
        let table = Table::open_unexpected(&file_of(&written(2048)), Path::new(PATH), &cache).unwrap();
        assert_eq!(cache.pinned_bytes(), 0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(read_all(&table).unwrap(), entries()));
            }
        });
        let dictionary = read_copy(&table.file, table.directory.dictionary.unwrap()).unwrap();
        assert_eq!(cache.pinned_bytes(), Dictionary::memory_bytes_for(dictionary.len()), "it is there once");
        table.get(b"user 000007", 9).unwrap().unwrap();
        assert!(cache.pinned_bytes() > Dictionary::memory_bytes_for(dictionary.len()), "the index, too");
        drop(table);
        assert_eq!(cache.pinned_bytes(), 0);
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_never_gives_wrong_data() {
        let whole = written(600);
        let expected = entries();
        assert!(open(&whole, 0).unwrap().directory.dictionary.is_some());
        for at in (0..whole.len()).step_by(29) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x41;
            let Ok(table) = open(&bytes, 1 << 20) else { continue };
            let mut faults = 0;
            table.check(CheckLevel::Full, &mut |_| faults += 1);
            assert!(faults > 0, "{at}");
            let (mut iter, mut found) = (table.iter(ReadMode::Bypass), expected.iter());
            let mut step = iter.seek_to_first();
            while step.is_ok() && iter.valid() {
                assert_eq!(
                    found.next().map(|(key, value)| (&key[..], &value[..])),
                    Some((iter.key(), iter.value()))
                );
                step = iter.next();
            }
            let scan = scan(&file_of(&bytes), Path::new(PATH), None).unwrap().unwrap();
            assert!(scan.entries == 2000 || !scan.lost().is_empty(), "{at}");
        }
    }

    #[test]
    fn one_damaged_copy_is_told_and_the_other_serves_and_without_both_nothing_is_read() {
        let whole = written(2048);
        let copies = open(&whole, 0).unwrap().directory.dictionary_copies().unwrap();
        for copy in copies {
            let start = usize::try_from(copy.offset).unwrap();
            for at in start..start + copy.bytes as usize {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x41;
                let table = open(&bytes, 1 << 20).unwrap();
                if at % 97 == 0 {
                    assert_eq!(read_all(&table).unwrap(), entries());
                }
                let mut faults = Vec::new();
                table.check(CheckLevel::Structure, &mut |fault| faults.push(fault));
                assert!(faults.iter().any(|fault| fault.offset() == Some(copy.offset)), "{at}: {faults:?}");
            }
            let mut bytes = whole.clone();
            bytes[start] ^= 1;
            let scan = scan(&file_of(&bytes), Path::new(PATH), None).unwrap().unwrap();
            assert!(scan.lost().is_empty());
            assert_eq!(scan.entries, 2000);
        }
        let mut bytes = whole.clone();
        for copy in copies {
            bytes[usize::try_from(copy.offset).unwrap()] ^= 1;
        }
        let error = read_all(&open(&bytes, 0).unwrap()).unwrap_err();
        assert_eq!(error.kind(), crate::error::ErrorKind::Corruption);
        assert!(error.offset().is_some(), "{error}");
        let scan = scan(&file_of(&bytes), Path::new(PATH), None).unwrap();
        assert!(scan.is_some_and(|scan| !scan.lost().is_empty() && scan.entries == 0));
    }
}
