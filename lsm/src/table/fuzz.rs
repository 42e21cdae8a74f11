//! Tables that nobody wrote: every checksum is right and what it covers is anything. No panic, no huge allocation, and what the iterator shows
//! one way it shows the other way, if it shows it without an error. Where a check finds nothing, a walk within bounds shows what a walk over all does.

use std::path::Path;
use std::sync::Arc;

use crate::block::{Block, BlockIter, BlockKind, Codec, seal};
use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::filter;
use crate::fs::{FileSystem, MemFs};
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, split};
use crate::range::KeyRange;
use crate::table::footer::{Directory, Footer};
use crate::table::header::{Header, REQUIRED_DICTIONARY, REQUIRED_ZSTD, TableKind};
use crate::table::index::Handle;
use crate::table::{CheckLevel, FOOTER_BYTES, HEADER_BYTES, Lookup, ReadMode, Table};

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
    walk_down(iter, &mut Vec::new());
}

fn walk_down(iter: &mut dyn InternalIterator, keys: &mut Vec<Vec<u8>>) {
    let mut step = iter.seek_to_last();
    while step.is_ok() && iter.valid() && keys.len() < STEPS_MAX {
        keys.push(iter.key().to_vec());
        step = iter.prev();
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
    let is_whole = table.check(CheckLevel::Full, &mut |_| {}).faults == 0;
    let _ = table.dump(&mut String::new());
    for mode in [ReadMode::Cached, ReadMode::Bypass] {
        let mut keys = Vec::new();
        let mut iter = table.iter(mode);
        walk(&mut iter, &mut keys);
        walk_within_bounds(&table, mode, &keys, is_whole && keys.len() < STEPS_MAX);
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
        let asked = [(&*table, 0..lookups.len())];
        let _ = crate::table::multi_get(&asked, &mut lookups, SEQUENCE_MAX);
    }
}

/// Walks within bounds that are keys of the table. Of one that a check finds whole, they meet what a walk over all of it met there.
fn walk_within_bounds(table: &Arc<Table>, mode: ReadMode, keys: &[Vec<u8>], is_whole: bool) {
    let users: Vec<&[u8]> = keys.iter().filter_map(|key| split(key).ok()).map(|(user, _)| user).collect();
    for (distance, lower) in users.iter().enumerate().step_by(users.len() / 5 + 1) {
        let Some(upper) = users.get(distance * 2 + 1).or(users.last()) else { continue };
        for bounds in [KeyRange::inclusive(*lower, *upper), KeyRange::until(*lower, Some(upper.to_vec()))] {
            let mut upward = Vec::new();
            walk(&mut table.iter_within(mode, bounds.clone()), &mut upward);
            let mut downward = Vec::new();
            walk_down(&mut table.iter_within(mode, bounds.clone()), &mut downward);
            if is_whole {
                let within = |key: &&Vec<u8>| split(key).is_ok_and(|(user, _)| bounds.contains(user));
                assert!(upward.iter().eq(keys.iter().filter(within)), "{bounds:?}: upward");
                assert!(downward.iter().eq(keys.iter().filter(within).rev()), "{bounds:?}: downward");
            }
        }
    }
}

/// A file of these blocks: a byte for the kind and the codec, two for the length, the payload; and so on. The last of each kind of section is the
/// one that the directory names. The first may be a dictionary (kind 0): then it stands at the end once more, and data blocks are compressed with it.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let has_dictionary = bytes.first().is_some_and(|choice| choice & 7 == 0);
    let required = if has_dictionary { REQUIRED_ZSTD | REQUIRED_DICTIONARY } else { 0 };
    let header =
        Header { kind: TableKind::Sorted, required, optional: 0, identity: IDENTITY, database: IDENTITY };
    let mut file = header.encode().to_vec();
    let mut directory = Directory::default();
    let mut dictionary = None;
    while let Some(([choice, low, high], rest)) = bytes.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        bytes = rest;
        let offset = file.len() as u64;
        let is_first = offset == HEADER_BYTES as u64;
        let kind = match BlockKind::from_u8(choice & 7) {
            Some(kind) => kind,
            None if is_first => BlockKind::Dictionary,
            None => BlockKind::Data,
        };
        let times = choice >> 4;
        let codec = match kind {
            _ if choice & 8 == 0 => Codec::None,
            _ if times >= LZ4_OF_ANY_LENGTH => Codec::Lz4,
            BlockKind::Data if has_dictionary => Codec::ZstdDictionary,
            _ => Codec::Zstd,
        };
        let payload_bytes = match (codec, times) {
            (Codec::None, _) => length,
            (Codec::Lz4, LZ4) => lz4_bytes(payload),
            (Codec::Lz4, _) => length * 3,
            (_, 0) => frame_bytes(payload),
            (_, times) => length * usize::from(times),
        };
        if kind == BlockKind::Dictionary {
            dictionary = Some((codec, payload, payload_bytes));
        }
        seal(&mut file, IDENTITY, offset, kind, codec, payload, payload_bytes);
        let handle = Handle { offset, bytes: u32::try_from(file.len() as u64 - offset).unwrap_or(0) };
        match kind {
            BlockKind::TopIndex => directory.top_index = Some(handle),
            BlockKind::Tombstones => directory.tombstones = Some(handle),
            BlockKind::Properties => directory.properties = Some(handle),
            _ => {}
        }
    }
    if let Some((codec, payload, payload_bytes)) = dictionary {
        let offset = file.len() as u64;
        seal(&mut file, IDENTITY, offset, BlockKind::Dictionary, codec, payload, payload_bytes);
        let bytes = u32::try_from(file.len() as u64 - offset).unwrap_or(0);
        directory.dictionary = Some(Handle { offset, bytes });
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

/// In the place of how many times longer the payload is: it is LZ4's, and as long as it is; or says to be three times as long as what is stored.
const LZ4: u8 = 15;
const LZ4_OF_ANY_LENGTH: u8 = 14;

/// How long that is, if it is not long.
fn lz4_bytes(stored: &[u8]) -> usize {
    lz4_flex::block::decompress_into(stored, &mut vec![0; 1 << 16]).unwrap_or(stored.len())
}

/// How long the frame says that its content is.
#[cfg(feature = "zstd")]
fn frame_bytes(frame: &[u8]) -> usize {
    let bytes = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0).min(u32::MAX as usize)
}

#[cfg(not(feature = "zstd"))]
fn frame_bytes(_: &[u8]) -> usize {
    0
}

/// The blocks of a real table in the form that [`sealed`] takes apart: what a fuzzer had better begin with.
#[cfg(test)]
pub(crate) fn unsealed(file: &[u8]) -> Vec<u8> {
    use crate::checksum::salted_xxh3;

    let identity = Identity::from_bytes(file[24..40].try_into().unwrap());
    let mut out = Vec::new();
    let mut rest = &file[HEADER_BYTES..file.len() - FOOTER_BYTES];
    let mut has_dictionary = false;
    // Blocks have no length in front: each ends where a checksum says so.
    while !rest.is_empty() {
        let offset = (file.len() - FOOTER_BYTES - rest.len()) as u64;
        let end = (16..=rest.len())
            .find(|end| {
                let (checked, checksum) = rest[..*end].split_last_chunk::<8>().unwrap();
                let shape = (1..=11).contains(&rest[end - 16]) && rest[end - 14..end - 12] == [0, 0];
                shape && salted_xxh3(identity, offset, checked) == u64::from_le_bytes(*checksum)
            })
            .unwrap();
        let (block, after) = rest.split_at(end);
        rest = after;
        let (kind, codec) = (block[end - 16], block[end - 15]);
        let is_dictionary = kind == BlockKind::Dictionary as u8;
        let is_twice = is_dictionary && std::mem::replace(&mut has_dictionary, true);
        if kind != BlockKind::Directory as u8 && !is_twice {
            let compressed = match Codec::from_u8(codec).unwrap() {
                Codec::None => 0,
                Codec::Lz4 => 8 | LZ4 << 4,
                Codec::Zstd | Codec::ZstdDictionary => 8,
            };
            out.push(compressed | if is_dictionary { 0 } else { kind });
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
            if cfg!(not(feature = "zstd")) && ["compressed", "dictionary"].contains(&name) {
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
                golden_files().into_iter().map(|(_, bytes)| unsealed(&bytes)).collect()
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
