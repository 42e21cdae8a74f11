//! Which level each table may stand in, found out from what is in them.
//!
//! Whoever reads takes the first answer from above for the newest one. So of two tables that hold the same key, the one with the newer entries must
//! stand above the other; and so must one with a range tombstone above what it deletes, and below what is newer than it. Every entry
//! carries its sequence number, so one pass over all of them finds all such pairs. The tables are then stacked from below, each in the deepest
//! level that is above those it must stand above and has room for its keys. What was a database once can always be stacked so: the levels that it
//! had are one way.
//!
//! Where the pairs contradict each other (two tables each hold the newer entry of some key), or more levels would be needed than there are, the tables
//! have to be merged: by their sequence numbers, too.

use std::sync::Arc;

use crate::error::Result;
use crate::filename::FileNumber;
use crate::iter::InternalIterator;
use crate::key::{SEQUENCE_MAX, SequenceNumber, parse_trailer, split};
use crate::levels::{LEVEL_COUNT, OpenTable, RunIter};
use crate::merge::MergingIterator;
use crate::ordered::{OrderedMap, OrderedSet};
use crate::range::KeyRange;
use crate::range_tombstone::TombstoneCursor;
use crate::table::ReadMode;

/// A table to be placed, and the level that it is said to come from.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) open: OpenTable,
    pub(super) level: usize,
}

impl Piece {
    fn bounds(&self) -> &KeyRange {
        &self.open.reference.bounds
    }
}

/// Tables of a keyspace with fixed widths whose sequence numbers hang together.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) pieces: Vec<Piece>,
    /// Whether no two of them may hold the same key.
    pub(super) is_disjoint: bool,
}

/// The runs of a keyspace with fixed widths, the oldest first. What a flush or a merge writes says one range of sequence numbers of all its tables, and the
/// ranges of different runs do not touch; so whatever touches was one run, or came to lie beside what it was written from.
pub(super) fn runs(mut pieces: Vec<Piece>) -> Vec<Run> {
    pieces.sort_by_key(|piece| piece.open.reference.sequence_min);
    let mut runs: Vec<(SequenceNumber, Vec<Piece>)> = Vec::new();
    for piece in pieces {
        let (min, max) = (piece.open.reference.sequence_min, piece.open.reference.sequence_max);
        match runs.last_mut() {
            Some((last, run)) if min <= *last => {
                *last = max.max(*last);
                run.push(piece);
            }
            _ => runs.push((max, vec![piece])),
        }
    }
    let run = |(_, mut pieces): (SequenceNumber, Vec<Piece>)| {
        pieces.sort_by(|a, b| a.bounds().lower.cmp(&b.bounds().lower));
        let overlap = |(a, b): (&Piece, &Piece)| a.bounds().overlaps(b.bounds());
        let is_disjoint = !pieces.iter().zip(pieces.iter().skip(1)).any(overlap);
        Run { pieces, is_disjoint }
    };
    runs.into_iter().map(run).collect()
}

/// All entries of these tables in the order of their keys: as few sources as there are tables over one key.
pub(super) fn merged(pieces: &[Piece]) -> MergingIterator<RunIter> {
    let mut sorted: Vec<&Piece> = pieces.iter().collect();
    sorted.sort_by(|a, b| a.bounds().lower.cmp(&b.bounds().lower));
    let mut runs: Vec<Vec<OpenTable>> = Vec::new();
    for piece in sorted {
        let is_behind = |run: &&mut Vec<OpenTable>| {
            run.last().is_none_or(|last| !last.reference.bounds.overlaps(piece.bounds()))
        };
        match runs.iter_mut().find(is_behind) {
            Some(run) => run.push(piece.open.clone()),
            None => runs.push(vec![piece.open.clone()]),
        }
    }
    let sources = runs.into_iter().map(|run| RunIter::new(run.into(), ReadMode::Bypass, KeyRange::all()));
    MergingIterator::new(sources.collect())
}

/// The level of each piece, in their order; `None` if they have to be merged.
///
/// # Errors
/// Those of reading.
pub(super) fn place(pieces: &[Piece]) -> Result<Option<Vec<usize>>> {
    let below = relations(pieces)?;
    let deepest = pieces.iter().map(|piece| piece.level).max().unwrap_or(0).clamp(1, LEVEL_COUNT - 1);
    let newest = newest(pieces);
    // Level 0 costs every reader: it is used only if the others are not enough.
    for count in [0, newest.len()] {
        let top: OrderedSet<usize> = newest.iter().take(count).copied().collect();
        let rest: Vec<usize> = (0..pieces.len()).filter(|index| !top.contains(index)).collect();
        let Some(layers) = stack(pieces, &rest, &below) else { return Ok(None) };
        let needed = layers.values().max().map_or(0, |layer| layer + 1);
        if needed < LEVEL_COUNT {
            let bottom = deepest.max(needed);
            let level = |index| layers.get(&index).map_or(0, |layer| bottom - layer);
            return Ok(Some((0..pieces.len()).map(level).collect()));
        }
    }
    Ok(None)
}

/// Those that may stand in level 0, the newest first: each is newer than all behind it together, and than all the others.
fn newest(pieces: &[Piece]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    let sequences = |index: &usize| -> (SequenceNumber, SequenceNumber) {
        pieces.get(*index).map_or((0, 0), |piece| {
            let reference = &piece.open.reference;
            (reference.sequence_min, reference.sequence_max)
        })
    };
    order.sort_by_key(|index| std::cmp::Reverse(sequences(index)));
    let mut older_max = 0;
    let mut is_newer: Vec<bool> = order
        .iter()
        .rev()
        .map(|index| {
            let (min, max) = sequences(index);
            let is_newer = min > older_max;
            older_max = older_max.max(max);
            is_newer
        })
        .collect();
    is_newer.reverse();
    let count = is_newer.iter().take_while(|is_newer| **is_newer).count();
    order.truncate(count);
    order
}

/// For each piece, which must stand below it.
fn relations(pieces: &[Piece]) -> Result<Vec<OrderedSet<usize>>> {
    let mut relations = Relations { below: vec![OrderedSet::new(); pieces.len()] };
    let places: OrderedMap<(FileNumber, &[u8]), usize> = pieces
        .iter()
        .enumerate()
        .map(|(index, piece)| ((piece.open.reference.file, piece.bounds().lower.as_slice()), index))
        .collect();
    let with_tombstones = pieces.iter().enumerate();
    let mut tombstones: Vec<(usize, TombstoneCursor)> = with_tombstones
        .filter_map(|(index, piece)| {
            Some((index, TombstoneCursor::new(Arc::clone(piece.open.tombstones.as_ref()?), SEQUENCE_MAX)))
        })
        .collect();
    let mut merge = merged(pieces);
    merge.seek_to_first()?;
    // The pieces with the newest entry of the key so far, and the one that is being looked at.
    let mut last_user: Option<Vec<u8>> = None;
    let (mut newer, mut current): (Vec<usize>, (SequenceNumber, Vec<usize>)) = (Vec::new(), (0, Vec::new()));
    while let Some((_, source)) = merge.source() {
        let (user, trailer) = split(merge.key())?;
        let (sequence, _) = parse_trailer(trailer)?;
        let place = source.table().and_then(|open| {
            places.get(&(open.reference.file, open.reference.bounds.lower.as_slice())).copied()
        });
        if let Some(place) = place {
            if last_user.as_deref() != Some(user) {
                last_user = Some(user.to_vec());
                newer.clear();
                current = (sequence, Vec::new());
            } else if current.0 != sequence {
                newer = std::mem::replace(&mut current, (sequence, Vec::new())).1;
            }
            newer.iter().for_each(|above| relations.add(*above, place));
            current.1.push(place);
            for (other, set) in tombstones.iter_mut().filter(|(other, _)| *other != place) {
                let newest = set.newest_covering(user);
                if newest > sequence {
                    relations.add(*other, place);
                }
                if newest > 0 && set.tombstones().newest_covering(user, sequence) > 0 {
                    relations.add(place, *other);
                }
            }
        }
        merge.next()?;
    }
    Ok(relations.below)
}

struct Relations {
    below: Vec<OrderedSet<usize>>,
}

impl Relations {
    fn add(&mut self, above: usize, below: usize) {
        if above != below
            && let Some(set) = self.below.get_mut(above)
        {
            set.insert(below);
        }
    }
}

/// A layer for each of the pieces in `rest`, 0 the lowest; `None` if the relations contradict each other.
fn stack(pieces: &[Piece], rest: &[usize], below: &[OrderedSet<usize>]) -> Option<OrderedMap<usize, usize>> {
    let mut left: Vec<usize> = rest.to_vec();
    // What came from the deepest level first, so that mostly the levels come out as they were.
    left.sort_by_key(|index| pieces.get(*index).map(|piece| std::cmp::Reverse(piece.level)));
    let mut layers: OrderedMap<usize, usize> = OrderedMap::new();
    let mut filled: Vec<Vec<&KeyRange>> = Vec::new();
    let inside: OrderedSet<usize> = rest.iter().copied().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|index| {
            let (Some(piece), Some(below)) = (pieces.get(*index), below.get(*index)) else { return false };
            let mut lowest = 0;
            for other in below.iter() {
                match layers.get(other) {
                    Some(layer) => lowest = lowest.max(layer + 1),
                    // One that stands in level 0 cannot be below: it is newer than all of these.
                    None if inside.contains(other) => return true,
                    None => {}
                }
            }
            let bounds = piece.bounds();
            let has_room = |layer: &usize| {
                filled.get(*layer).is_none_or(|ranges| !ranges.iter().any(|range| range.overlaps(bounds)))
            };
            let layer = (lowest..=filled.len().max(lowest)).find(has_room).unwrap_or(filled.len());
            if filled.len() <= layer {
                filled.resize_with(layer + 1, Vec::new);
            }
            if let Some(ranges) = filled.get_mut(layer) {
                ranges.push(bounds);
            }
            layers.insert(*index, layer);
            false
        });
        if left.len() == before {
            return None;
        }
    }
    Some(layers)
}
