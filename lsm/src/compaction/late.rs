//! Compressing late what a flush stored as it was, because writers were about to wait for it.
//!
//! Most of that is merged before long, and compressed then. What overlaps nothing is not: loaded in order, it goes down the levels as it was flushed. Such tables
//! are written anew where they lie, neighbours together, when nobody has written for long, or when all is compacted on request. It ends by itself: no merge
//! hurries. Level 0 is left alone: what stays there when nobody writes is little, and is merged with what comes next.

use std::sync::Arc;

use crate::block::Compression;
use crate::compaction::pick::Pick;
use crate::levels::{OpenTable, OpenTree, TableReference};
use crate::options::Tuning;

/// When nobody asked for it, a table is worth it from this part of its data blocks on.
pub(crate) const WHEN_IDLE: u64 = 4;

/// On request, however few there are.
pub(crate) const ON_REQUEST: u64 = u64::MAX;

/// Tables that are written anew together have at most so many times the bytes of one that a merge makes, so that no small ones are left.
const TOGETHER_MAX: u64 = 4;

/// The first such tables below level 0 of which none is `avoided`: in each at least one of `part` data blocks was stored in haste.
pub(crate) fn pick(
    tables: &OpenTree,
    tuning: &Tuning,
    part: u64,
    avoided: impl Fn(usize, &TableReference) -> bool,
) -> Option<Pick> {
    let below = tables.levels().iter().enumerate().skip(1);
    let mut compressed =
        below.filter(|(level, _)| tuning.table_options(*level).compression != Compression::None);
    compressed.find_map(|(level, tables)| {
        let is_late = |open: &&OpenTable| {
            let summary = open.table.summary();
            summary.hurried_blocks > 0
                && summary.hurried_blocks.saturating_mul(part) >= summary.data_blocks
                && !avoided(level, &open.reference)
        };
        let mut bytes = 0u64;
        // Neighbours without a gap: outputs answer for what lies between them.
        let together = tables.iter().skip_while(|open| !is_late(open)).take_while(|open| {
            let is_first = bytes == 0;
            bytes = bytes.saturating_add(open.reference.file_bytes);
            is_late(open) && (is_first || bytes <= tuning.table_bytes.saturating_mul(TOGETHER_MAX))
        });
        let inputs: Vec<_> = together.map(|open| (level, Arc::clone(&open.reference))).collect();
        (!inputs.is_empty()).then_some(Pick { inputs, output_level: level })
    })
}
