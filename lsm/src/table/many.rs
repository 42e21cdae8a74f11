//! Lookups of many keys in tables that have nothing in common, such as those of a level: in steps, so that the waits for memory of all keys overlap. Blocks that several
//! keys need are fetched once, and those of a table that are not in the cache are asked for together.

use std::ops::Range;

use crate::block::{Block, BlockKind, Rank, rank_seen_by};
use crate::error::Result;
use crate::key::SequenceNumber;
use crate::table::Lookup;
use crate::table::index::{Handle, Partition};
use crate::table::pinned::Held;
use crate::table::reader::{Place, Table};

/// So many blocks are worth to be asked for before any is looked at.
const FETCHED_AHEAD_MIN: usize = 4;

/// Blocks that are held at once.
const BLOCKS_TOGETHER: usize = 64;

/// A key for which a table says that it may be there: the number of its lookup.
struct Maybe<'t> {
    number: usize,
    table: &'t Table,
    place: Place<'t>,
}

/// A key and the block in which it is if it is anywhere.
#[derive(Clone, Copy)]
struct Wanted<'t> {
    number: usize,
    table: &'t Table,
    handle: Handle,
}

impl Wanted<'_> {
    fn is_in_block_of(&self, other: &Self) -> bool {
        std::ptr::eq(self.table, other.table) && self.handle == other.handle
    }
}

/// Looks up those of `lookups`, which are in ascending order, that have not been found, each in the table to whose range of them it belongs, as [`Table::get`] would. No
/// two ranges have a lookup in common, and the tables share one cache.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub fn multi_get(
    asked: &[(&Table, Range<usize>)],
    lookups: &mut [Lookup<'_>],
    read_sequence: SequenceNumber,
) -> Result<()> {
    debug_assert!(lookups.is_sorted_by_key(|lookup| lookup.user_key), "keys are given in order");
    debug_assert!(asked.is_sorted_by(|(_, a), (_, b)| a.end <= b.start), "and each once");
    let rank = rank_seen_by(read_sequence);
    let wanted = wanted(&maybe(asked, lookups, read_sequence)?, lookups, rank)?;
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        let (blocks, count) = fetch(rest)?;
        let (batch, after) = rest.split_at(count);
        rest = after;
        let mut searches = Vec::with_capacity(count);
        let mut blocks = blocks.into_iter().peekable();
        for wanted in batch {
            while blocks.peek().is_some_and(|(at, _)| !at.is_in_block_of(wanted)) {
                blocks.next();
            }
            if let (Some((_, block)), Some(lookup)) = (blocks.peek(), lookups.get(wanted.number)) {
                let start = wanted.table.fetch_for(block, wanted.handle, lookup.user_key, rank)?;
                searches.push((wanted, block.clone(), start));
            }
        }
        for (Wanted { number, table, handle }, block, start) in searches {
            if let Some(lookup) = lookups.get_mut(*number) {
                lookup.found = table.find_from(start, block, *handle, lookup.user_key, rank)?;
            }
        }
    }
    Ok(())
}

/// Where in their tables they are if they are there; the filters that tell are on their way then.
fn maybe<'t>(
    asked: &[(&'t Table, Range<usize>)],
    lookups: &[Lookup<'_>],
    read_sequence: SequenceNumber,
) -> Result<Vec<Maybe<'t>>> {
    let mut maybe = Vec::with_capacity(lookups.len());
    for (table, range) in asked {
        for number in range.clone() {
            if let Some(Lookup { user_key, hash, found: None }) = lookups.get(number)
                && let Some(place) = table.place(user_key, *hash, read_sequence)?
            {
                maybe.push(Maybe { number, table, place });
            }
        }
    }
    Ok(maybe)
}

/// Where the blocks are of those whose filters do not rule them out.
fn wanted<'t>(maybe: &[Maybe<'t>], lookups: &[Lookup<'_>], rank: Rank) -> Result<Vec<Wanted<'t>>> {
    let mut wanted: Vec<Wanted<'t>> = Vec::with_capacity(maybe.len());
    // Keys in a row mostly need the same index.
    let mut known: Option<(&Table, Partition, Held<'t>)> = None;
    for Maybe { number, table, place } in maybe {
        let Some(lookup) = lookups.get(*number) else { continue };
        if !table.may_contain(*place, lookup.hash)? {
            continue;
        }
        let here = match known.take() {
            Some(known) if std::ptr::eq(known.0, *table) && known.1 == place.partition() => known,
            _ => (*table, place.partition(), table.index_at(*place)?),
        };
        let (_, partition, index) = known.insert(here);
        let handle = table.data_handle(index, partition.index, lookup.user_key, rank)?;
        wanted.push(Wanted { number: *number, table, handle });
    }
    Ok(wanted)
}

/// The blocks of the first of them, each once, in order, and for how many they are enough.
fn fetch<'t>(wanted: &[Wanted<'t>]) -> Result<(Vec<(Wanted<'t>, Block)>, usize)> {
    let mut blocks: Vec<(Wanted<'t>, Option<Block>)> = Vec::with_capacity(wanted.len().min(BLOCKS_TOGETHER));
    let mut count = 0;
    for next in wanted {
        if blocks.last().is_none_or(|(last, _)| !last.is_in_block_of(next)) {
            if blocks.len() == BLOCKS_TOGETHER {
                break;
            }
            blocks.push((*next, None));
        }
        count += 1;
    }
    if let Some((first, _)) = blocks.get(FETCHED_AHEAD_MIN - 1) {
        first.table.cache().prefetch(blocks.iter().map(|(at, _)| at.table.cache_key(at.handle)));
    }
    for (at, block) in &mut blocks {
        *block = at.table.cached(at.handle);
    }
    for blocks in blocks.chunk_by_mut(|(a, _), (b, _)| std::ptr::eq(a.table, b.table)) {
        let missing: Vec<Handle> =
            blocks.iter().filter(|(_, block)| block.is_none()).map(|(at, _)| at.handle).collect();
        let Some((Wanted { table, .. }, _)) = blocks.first().filter(|_| !missing.is_empty()) else {
            continue;
        };
        let mut read = table.file.blocks(&missing, BlockKind::Data)?.into_iter();
        for (at, block) in blocks.iter_mut().filter(|(_, block)| block.is_none()) {
            *block = read.next().map(|block| at.table.keep(block, at.handle));
        }
    }
    Ok((blocks.into_iter().filter_map(|(at, block)| Some((at, block?))).collect(), count))
}
