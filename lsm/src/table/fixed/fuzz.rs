//! Tables of rows that nobody wrote: every checksum is right and what it covers is anything. No panic, no huge allocation, no endless search.
//! Where a check finds nothing, a walk within bounds shows what a walk over all does.

use std::path::Path;
use std::sync::Arc;

use super::layout::Plan;
use super::{Columns, FixedTable, FixedTableIter, FixedWriter, Resident, RowCursor};
use crate::block::{BlockKind, Codec, TRAILER_BYTES, seal};
use crate::cache::BlockCache;
use crate::checksum::{Identity, salted_xxh3};
use crate::filter;
use crate::fs::{FileSystem, MemFs};
use crate::iter::InternalIterator;
use crate::key::{Kind, SEQUENCE_MAX, split};
use crate::range::KeyRange;
use crate::row::Widths;
use crate::table::index::Handle;
use crate::table::{CheckLevel, FOOTER_BYTES, HEADER_BYTES, ReadMode};

const IDENTITY: Identity = Identity::from_bytes([7; 16]);

/// Steps that a walk takes at most.
const STEPS_MAX: usize = 3000;

/// Damage to a table of rows, under good checksums: a byte says which table, then four each: the place (three bytes) and what stands there.
pub fn rows(bytes: &[u8]) {
    let (choice, rest) = bytes.split_first().map_or((0, bytes), |(choice, rest)| (*choice, rest));
    let (mut file, blocks) = written(choice);
    for change in rest.chunks_exact(4) {
        let [low, middle, high, byte] = change else { continue };
        let at = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % file.len().max(1);
        if let Some(place) = file.get_mut(at) {
            *place = *byte;
        }
    }
    reseal(&mut file, &blocks);
    read(&file);
}

/// A table, and where its blocks are.
fn written(choice: u8) -> (Vec<u8>, Vec<Handle>) {
    let columns = Columns { sequences: choice & 1 != 0, kinds: choice & 2 != 0 };
    let (key_bytes, value_bytes) = if choice & 4 != 0 { (16, 24) } else { (5, 900) };
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let path = Path::new("/fuzz.table");
    let write = || {
        let widths = Widths::new(key_bytes, value_bytes)?;
        let identities = (IDENTITY, IDENTITY);
        let mut writer = FixedWriter::create(&fs, path, identities, widths, columns, (1, 9), 10)?;
        for number in 0..300u64 {
            let spread = if choice & 8 != 0 { number << 50 } else { number };
            let mut key = spread.to_be_bytes().to_vec();
            key.rotate_left(8 - key_bytes.min(8));
            key.resize(key_bytes, 1);
            key.truncate(key_bytes);
            let kind = if columns.kinds && number % 5 == 0 { Kind::Delete } else { Kind::Put };
            if number == 0 || writer.last_key() < key.as_slice() {
                writer.add(&key, &vec![3; value_bytes], 1 + number % 9, kind)?;
            }
        }
        writer.finish()
    };
    let Ok(summary) = write() else { return (Vec::new(), Vec::new()) };
    let mut file = vec![0; usize::try_from(summary.file_bytes).unwrap_or(0)];
    let table = FixedTable::open(&fs, path, None, &Arc::new(BlockCache::new(0)));
    let (Ok(table), Ok(())) = (table, fs.open_read(path).and_then(|from| from.read_exact_at(&mut file, 0)))
    else {
        return (Vec::new(), Vec::new());
    };
    let plan: &Plan = &table.plan;
    let layout = plan.row_layout();
    let mut blocks: Vec<Handle> = (0..plan.blocks).map(|block| layout.handle(block)).collect();
    blocks.extend((0..plan.filter_blocks()).map(|block| plan.filter_handle(block)));
    blocks.extend((0..plan.fence_blocks()).map(|block| plan.fence_handle(block)));
    blocks.extend(table.sections.iter().copied().chain([table.directory_handle]));
    (file, blocks)
}

/// Makes all checksums right.
fn reseal(file: &mut [u8], blocks: &[Handle]) {
    let identity = IDENTITY.to_bytes();
    for handle in blocks {
        let (start, length) = (usize::try_from(handle.offset).unwrap_or(0), handle.bytes as usize);
        let Some(block) = file.get(start..start + length) else { continue };
        let Some((payload, trailer)) = block.split_last_chunk::<TRAILER_BYTES>() else { continue };
        let kind = BlockKind::from_u8(trailer.first().copied().unwrap_or(0)).unwrap_or(BlockKind::Rows);
        let mut sealed = Vec::new();
        seal(&mut sealed, IDENTITY, handle.offset, kind, Codec::None, payload, payload.len());
        if let Some(place) = file.get_mut(start..start + length) {
            place.copy_from_slice(&sealed);
        }
    }
    let footer = file.len().saturating_sub(FOOTER_BYTES);
    // Header: its identity, then the checksum; the footer: likewise.
    for (at, identity_at, checksum_at) in [(0, 24, HEADER_BYTES - 8), (footer, 24, 48)] {
        if let Some(place) = file.get_mut(at + identity_at..at + identity_at + 16) {
            place.copy_from_slice(&identity);
        }
        let Some(covered) = file.get(at..at + checksum_at) else { continue };
        let checksum = salted_xxh3(IDENTITY, at as u64, covered).to_le_bytes();
        if let Some(place) = file.get_mut(at + checksum_at..at + checksum_at + 8) {
            place.copy_from_slice(&checksum);
        }
    }
}

fn read(bytes: &[u8]) {
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let path = Path::new("/fuzz.table");
    if fs.create_new(path).and_then(|file| file.write_all_at(bytes, 0)).is_err() {
        return;
    }
    let Ok(table) = FixedTable::open(&fs, path, None, &Arc::new(BlockCache::new(1 << 20))) else { return };
    let is_whole = table.check(CheckLevel::Full, &mut |_| {}).faults == 0;
    let charge = Arc::default();
    let meta = Some(table.new_meta(&charge));
    let whole = Resident { rows: table.new_region(&charge), meta: meta.clone() };
    for resident in [Resident::default(), Resident { meta, rows: None }, whole] {
        for mode in [ReadMode::Cached, ReadMode::Bypass] {
            let cursor = RowCursor::new(Arc::clone(&table), resident.clone(), mode, KeyRange::all());
            let (keys, _) = walk(&mut FixedTableIter::new(cursor));
            for (place, key) in keys.iter().enumerate().step_by(7) {
                let Ok((user, _)) = split(key) else { continue };
                let last = keys.get(place + place % 5).and_then(|last| split(last).ok());
                let bounds = KeyRange::inclusive(user, last.map_or(user, |(last, _)| last));
                let cursor = RowCursor::new(Arc::clone(&table), resident.clone(), mode, bounds.clone());
                let (upward, downward) = walk(&mut FixedTableIter::new(cursor));
                if is_whole {
                    let within = |key: &&Vec<u8>| split(key).is_ok_and(|(user, _)| bounds.contains(user));
                    assert!(upward.iter().eq(keys.iter().filter(within)), "{bounds:?}: upward");
                    assert!(downward.iter().eq(keys.iter().filter(within).rev()), "{bounds:?}: downward");
                }
                let _ = table.get(&resident, user, filter::hash(user), SEQUENCE_MAX);
                let searched = table.begin(&resident, crate::row::prefix(user)).and_then(|mut search| {
                    table.narrow(&resident, &mut search, crate::row::prefix(user));
                    table.conclude(&resident, search, user, SEQUENCE_MAX, |_, _, value| value.len())
                });
                let _ = searched;
            }
        }
    }
}

/// What there is, upward and downward.
fn walk(iter: &mut FixedTableIter) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut keys = Vec::new();
    let mut step = iter.seek_to_first();
    while step.is_ok() && iter.valid() && keys.len() < STEPS_MAX {
        keys.push(iter.key().to_vec());
        step = iter.next();
    }
    let mut step = iter.seek_to_last();
    let mut downward = Vec::new();
    while step.is_ok() && iter.valid() && downward.len() < STEPS_MAX {
        downward.push(iter.key().to_vec());
        step = iter.prev();
    }
    (keys, downward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_damaged_is_sound() {
        for choice in 0..16 {
            let (mut file, blocks) = written(choice);
            let before = file.clone();
            reseal(&mut file, &blocks);
            assert!(file == before && !blocks.is_empty(), "choice {choice}: sealing anew changes nothing");
        }
    }

    #[test]
    fn what_stands_behind_a_short_key_is_damage() {
        let (mut file, blocks) = written(0);
        file[0xa020] = 1;
        reseal(&mut file, &blocks);
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let path = Path::new("/short.table");
        fs.create_new(path).unwrap().write_all_at(&file, 0).unwrap();
        let table = FixedTable::open(&fs, path, None, &Arc::new(BlockCache::new(1 << 20))).unwrap();
        let mut faults = Vec::new();
        table.check(CheckLevel::Full, &mut |fault| faults.push(fault.to_string()));
        assert!(faults.iter().any(|fault| fault.contains("behind its key")), "{faults:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn damage_under_good_checksums(choice in any::<u8>(), changes in prop::collection::vec((any::<u32>(), any::<u8>()), 0..5), at_the_end in any::<bool>()) {
            let mut program = vec![choice];
            for (at, byte) in changes {
                // The plan, the properties and the fences stand at the end, and are small.
                let length = u32::try_from(written(choice).0.len()).unwrap();
                let at = if at_the_end { length - 1 - at % 900 } else { at % length };
                program.extend_from_slice(&at.to_le_bytes()[..3]);
                program.push(byte);
            }
            rows(&program);
        }
    }
}
