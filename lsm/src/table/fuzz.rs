//! Tables that nobody wrote: every checksum is right and what it covers is anything. No panic, no huge allocation, and what the iterator shows
//! one way it shows the other way, if it shows it without an error.

use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, BlockIter, BlockKind, Codec, seal};
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::filter;
use crate::fs::{FileSystem, MemFs};
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, split};
use crate::table::footer::{Directory, Footer};
use crate::table::header::{Header, TableKind};
use crate::table::index::Handle;
use crate::table::{CheckLevel, FOOTER_BYTES, Lookup, ReadMode, Table};

const IDENTITY: Identity = Identity::from_bytes([7; 16]);

/// Steps that a walk takes at most: a block may send the reader to another one over and over.
const STEPS_MAX: usize = 2000;

/// A block of any kind with any payload.
pub fn block(bytes: &[u8]) {
    let Some((&choice, payload)) = bytes.split_first() else { return };
    let kind = if choice & 1 == 0 { BlockKind::Data } else { BlockKind::Index };
    let Ok(block) = Block::sorted(payload, kind) else { return };
    let mut keys = Vec::new();
    walk(&mut BlockIter::new(block.clone()), &mut keys);
    for key in keys {
        let mut iter = BlockIter::new(block.clone());
        let _ = InternalIterator::seek(&mut iter, &key);
        let _ = InternalIterator::seek_for_prev(&mut iter, &key);
        if let Ok((user, _)) = split(&key) {
            let _ = block.get(user, SEQUENCE_MAX);
        }
    }
}

/// A whole file: as it is, and as blocks whose checksums are right.
pub fn table(bytes: &[u8]) {
    read(bytes);
    read(&sealed(bytes));
}

fn walk(iter: &mut dyn InternalIterator, keys: &mut Vec<Vec<u8>>) {
    let mut step = iter.seek_to_first();
    let mut steps = 0;
    while step.is_ok() && iter.valid() && steps < STEPS_MAX {
        keys.push(iter.key().to_vec());
        let _ = (iter.value().len(), iter.owned_value());
        step = iter.next();
        steps += 1;
    }
    let mut step = iter.seek_to_last();
    let mut steps = 0;
    while step.is_ok() && iter.valid() && steps < STEPS_MAX {
        step = iter.prev();
        steps += 1;
    }
}

fn read(bytes: &[u8]) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let path = Path::new("/fuzz.table");
    let file = fs.create_new(path).and_then(|file| file.write_all_at(bytes, 0));
    if file.is_err() {
        return;
    }
    let Ok(table) = Table::open_unexpected(&fs, path, &Arc::new(BlockCache::new(1 << 20))) else { return };
    table.check(CheckLevel::Full, &mut |_| {});
    let _ = table.dump(&mut String::new());
    for mode in [ReadMode::Cached, ReadMode::Bypass] {
        let mut keys = Vec::new();
        let mut iter = table.iter(mode);
        walk(&mut iter, &mut keys);
        keys.sort();
        for key in &keys {
            let Ok((user, _)) = split(key) else { continue };
            let _ = iter.seek(key);
            let _ = iter.seek_for_prev(key);
            let _ = table.get(user, SEQUENCE_MAX);
            table.range_tombstones().newest_covering(user, SEQUENCE_MAX);
        }
        let mut lookups: Vec<Lookup<'_>> = keys
            .iter()
            .filter_map(|key| split(key).ok())
            .map(|(user, _)| Lookup { user_key: user, hash: filter::hash(user), found: None })
            .collect();
        lookups.sort_by_key(|lookup| lookup.user_key);
        let _ = table.multi_get(&mut lookups, SEQUENCE_MAX);
    }
}

/// A file of these blocks: a byte for the kind and the codec, two for the length, the payload; and so on. The last of each kind of section is the
/// one that the directory names.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let header =
        Header { kind: TableKind::Sorted, required: 0, optional: 0, identity: IDENTITY, database: IDENTITY };
    let mut file = header.encode().to_vec();
    let mut directory = Directory::default();
    while let Some(([choice, low, high], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        let kind = BlockKind::from_u8(choice & 7).unwrap_or(BlockKind::Data);
        let codec = if choice & 8 == 0 { Codec::None } else { Codec::Zstd };
        let offset = file.len() as u64;
        let payload_bytes = if codec == Codec::None { length } else { length * usize::from(choice >> 4) };
        seal(&mut file, IDENTITY, offset, kind, codec, payload, payload_bytes);
        let handle = Handle { offset, bytes: u32::try_from(file.len() as u64 - offset).unwrap_or(0) };
        match kind {
            BlockKind::TopIndex => directory.top_index = Some(handle),
            BlockKind::Tombstones => directory.tombstones = Some(handle),
            BlockKind::Properties => directory.properties = Some(handle),
            _ => {}
        }
    }
    let offset = file.len() as u64;
    let payload = directory.encode();
    seal(&mut file, IDENTITY, offset, BlockKind::Directory, Codec::None, &payload, payload.len());
    let bytes = u32::try_from(file.len() as u64 - offset).unwrap_or(0);
    let file_bytes = (file.len() + FOOTER_BYTES) as u64;
    let footer = Footer { directory: Handle { offset, bytes }, file_bytes, identity: IDENTITY };
    file.extend_from_slice(&footer.encode());
    file
}

/// The blocks of a real table in the form that [`sealed`] takes apart: what a fuzzer had better begin with.
#[cfg(test)]
pub(crate) fn unsealed(file: &[u8]) -> Vec<u8> {
    use crate::table::HEADER_BYTES;

    let mut out = Vec::new();
    let mut rest = &file[HEADER_BYTES..file.len() - FOOTER_BYTES];
    // Blocks have no length in front: the trailer of each tells its payload, and that nothing is compressed here.
    while !rest.is_empty() {
        let end = (16..=rest.len())
            .find(|end| {
                let trailer = &rest[end - 16..*end];
                let payload = u32::from_le_bytes(trailer[4..8].try_into().unwrap());
                let shape = (1..=7).contains(&trailer[0]) && trailer[1] == 1 && trailer[2..4] == [0, 0];
                shape && payload as usize == end - 16
            })
            .unwrap();
        let (block, after) = rest.split_at(end);
        rest = after;
        let kind = block[end - 16];
        if kind != BlockKind::Directory as u8 {
            out.push(kind);
            out.extend_from_slice(&u16::try_from(end - 16).unwrap().to_le_bytes());
            out.extend_from_slice(&block[..end - 16]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::error::Result;
    use crate::table::golden::golden_files;
    use proptest::prelude::*;

    #[test]
    fn sealing_what_was_unsealed_gives_tables_that_are_read() -> Result<()> {
        for (name, bytes) in golden_files() {
            if name == "compressed" {
                continue;
            }
            let again = sealed(&unsealed(&bytes));
            let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
            let path = Path::new("/again.table");
            fs.create_new(path).unwrap().write_all_at(&again, 0).unwrap();
            let table = Table::open_unexpected(&fs, path, &Arc::new(BlockCache::new(0)))?;
            let figures = table.check(CheckLevel::Full, &mut |fault| panic!("{name}: {fault}"));
            assert_eq!(figures.faults, 0);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn blocks_and_tables_of_anything(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            block(&bytes);
            table(&bytes);
        }

        #[test]
        fn tables_with_good_checksums_over_damage(
            which in any::<prop::sample::Index>(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
        ) {
            static BEGINNINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
                let plain = golden_files().into_iter().filter(|(name, _)| *name != "compressed");
                plain.map(|(_, bytes)| unsealed(&bytes)).collect()
            });
            let mut bytes = which.get(&BEGINNINGS).clone();
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            table(&bytes);
        }
    }
}
