//! Compressing late what a flush stored as it was, because writers were about to wait for it.
//!
//! Most of that is merged before long, and compressed then. What overlaps nothing is not: loaded in order, it goes down the levels as it was flushed. Such a table
//! is written anew where it lies, by itself, when the database is idle or is compacted on request. It ends by itself: no merge hurries.

use std::sync::Arc;

use crate::compaction::pick::Pick;
use crate::filename::FileNumber;
use crate::levels::OpenTree;
use crate::table::TableSummary;

/// From this part of its data blocks on a table is worth it.
const HURRIED_PART: u64 = 4;

fn is_worth_it(summary: &TableSummary) -> bool {
    summary.hurried_blocks > 0 && summary.hurried_blocks.saturating_mul(HURRIED_PART) >= summary.data_blocks
}

/// The first such table below level 0, where all is merged soon, that is not `avoided`.
pub(crate) fn pick(tables: &OpenTree, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let below = tables.levels().iter().enumerate().skip(1);
    let mut found = below.flat_map(|(level, tables)| tables.iter().map(move |open| (level, open)));
    let (level, open) =
        found.find(|(_, open)| is_worth_it(open.table.summary()) && !avoided(open.reference.file))?;
    Some(Pick { inputs: vec![(level, Arc::clone(&open.reference))], output_level: level })
}
