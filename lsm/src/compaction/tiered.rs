//! Which runs of a keyspace with fixed widths to merge next: a pure function of its tree.
//!
//! Level 0 holds runs, the newest first: what was flushed, and what was merged of it. Level 1 holds the last run, which is the oldest. (A run is one table, or
//! several with disjoint bounds: in level 0 those of one epoch.) Random keys leave no garbage, so merging them pays only by there being fewer runs to ask: runs of
//! about one size are merged when there are [`Tuning::tier_runs`] of them, and all is merged into the last run when what is above has grown twice as large. So an
//! entry is written about once for each time that the number of entries grew by that factor; and what is overwritten or deleted takes at most twice the space
//! of what is there.
//!
//! A run that cannot be read keeps itself and its neighbours out of merges that would need it.

use std::sync::Arc;

use super::pick::Pick;
use crate::filename::FileNumber;
use crate::levels::{TableReference, Tree};
use crate::options::Tuning;

/// Runs in level 0 from which on something is merged whatever the sizes are, in multiples of `tier_runs`.
const RUNS_PART_MAX: usize = 2;

/// How many times larger the largest of several runs may be than the smallest, to count as of one size.
const SIZE_RATIO: u64 = 3;

/// How many times larger than the last run what is above it may become: all of that might be garbage, and mostly nothing of it is.
const ABOVE_MAX: u64 = 2;

/// A run of level 0.
struct Run<'a> {
    tables: &'a [Arc<TableReference>],
    bytes: u64,
    is_avoided: bool,
}

/// The runs of level 0, the newest first.
pub(crate) fn runs(tree: &Tree) -> impl Iterator<Item = &[Arc<TableReference>]> {
    tree.level(0).chunk_by(|a, b| a.epoch == b.epoch)
}

/// The next merge of a tree, if it wants one, without the tables that are `avoided`.
pub(crate) fn pick(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let runs: Vec<Run<'_>> = runs(tree)
        .map(|tables| Run {
            tables,
            bytes: tables.iter().map(|table| table.file_bytes).sum(),
            is_avoided: tables.iter().any(|table| avoided(table.file)),
        })
        .collect();
    let above: u64 = runs.iter().map(|run| run.bytes).sum();
    let last = tree.level_bytes(1);
    let is_clean =
        !runs.iter().any(|run| run.is_avoided) && !tree.level(1).iter().any(|table| avoided(table.file));
    if is_clean
        && last > 0
        && above >= last.saturating_mul(ABOVE_MAX)
        && runs.len() >= tuning.tier_runs.min(4)
    {
        return Some(with_last(tree, &runs));
    }
    // The oldest first: it is the largest merge, and the one that the others wait for least.
    let window = windows(&runs, tuning.tier_runs).filter(|window| is_of_one_size(window)).last();
    let window = window.or_else(|| {
        let is_crowded = runs.len() >= tuning.tier_runs.saturating_mul(RUNS_PART_MAX);
        let cheapest = || windows(&runs, tuning.tier_runs).min_by_key(|window| bytes(window));
        is_crowded.then(cheapest).flatten()
    })?;
    if is_clean && last == 0 && window.len() == runs.len() {
        // All there is: it becomes the last run.
        return Some(with_last(tree, &runs));
    }
    Some(Pick { inputs: inputs(window), output_level: 0 })
}

fn windows<'a, 'b>(runs: &'b [Run<'a>], count: usize) -> impl Iterator<Item = &'b [Run<'a>]> {
    runs.windows(count.max(2)).filter(|window| !window.iter().any(|run| run.is_avoided))
}

fn bytes(runs: &[Run<'_>]) -> u64 {
    runs.iter().map(|run| run.bytes).sum()
}

fn is_of_one_size(runs: &[Run<'_>]) -> bool {
    let smallest = runs.iter().map(|run| run.bytes).min().unwrap_or(0);
    let largest = runs.iter().map(|run| run.bytes).max().unwrap_or(0);
    largest <= smallest.saturating_mul(SIZE_RATIO)
}

fn inputs(runs: &[Run<'_>]) -> Vec<(usize, Arc<TableReference>)> {
    runs.iter().flat_map(|run| run.tables).map(|table| (0, Arc::clone(table))).collect()
}

fn with_last(tree: &Tree, runs: &[Run<'_>]) -> Pick {
    let mut inputs = inputs(runs);
    inputs.extend(tree.level(1).iter().map(|table| (1, Arc::clone(table))));
    Pick { inputs, output_level: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Identity;
    use crate::range::KeyRange;

    fn table(file: u64, epoch: u64, bounds: (&str, &str), file_bytes: u64) -> Arc<TableReference> {
        Arc::new(TableReference {
            file,
            identity: Identity::from_bytes([1; 16]),
            file_bytes,
            bounds: KeyRange::inclusive(bounds.0, bounds.1),
            sequence_min: epoch * 10 + 1,
            sequence_max: epoch * 10 + 10,
            epoch,
            entries: 10,
            deletions: 0,
        })
    }

    fn tuning() -> Tuning {
        Tuning { tier_runs: 4, ..Tuning::for_memory(1 << 20) }
    }

    fn tree(sizes: &[u64], last: u64) -> Tree {
        let mut tables: Vec<_> =
            (1..).zip(sizes).map(|(epoch, bytes)| (0, table(epoch, epoch, ("a", "z"), *bytes))).collect();
        if last > 0 {
            tables.push((1, table(100, 0, ("a", "z"), last)));
        }
        let tree = crate::levels::tests_tree(&tables);
        tree.check().unwrap();
        tree
    }

    /// Files of the inputs, the newest first.
    fn picked(tree: &Tree) -> Option<(Vec<u64>, usize)> {
        let pick = pick(tree, &tuning(), |_| false)?;
        Some((pick.inputs.iter().map(|(_, table)| table.file).collect(), pick.output_level))
    }

    #[test]
    fn few_runs_stay() {
        assert_eq!(picked(&tree(&[], 0)), None);
        assert_eq!(picked(&tree(&[10, 10, 10], 0)), None);
        assert_eq!(picked(&tree(&[10, 10, 10], 1000)), None);
    }

    #[test]
    fn runs_of_one_size_are_merged_in_their_place_and_the_first_become_the_last_run() {
        assert_eq!(picked(&tree(&[10, 10, 12, 9], 0)), Some((vec![4, 3, 2, 1], 1)));
        assert_eq!(picked(&tree(&[10, 10, 12, 9], 1000)), Some((vec![4, 3, 2, 1], 0)));
        assert_eq!(picked(&tree(&[100, 10, 10, 12, 9], 1000)), Some((vec![5, 4, 3, 2], 0)));
    }

    #[test]
    fn all_is_merged_when_what_is_above_is_twice_as_large_as_the_last_run() {
        assert_eq!(picked(&tree(&[500, 400, 90, 9], 500)), None);
        assert_eq!(picked(&tree(&[500, 400, 90, 10], 500)), Some((vec![4, 3, 2, 1, 100], 1)));
    }

    #[test]
    fn many_runs_of_all_sizes_are_merged_all_the_same() {
        let sizes: Vec<u64> = (0..8).map(|number| 1 << (3 * (10 - number))).collect();
        let (files, level) = picked(&tree(&sizes, 1 << 40)).unwrap();
        assert_eq!((files, level), (vec![8, 7, 6, 5], 0));
    }

    #[test]
    fn the_tables_of_one_epoch_are_one_run() {
        let parts = crate::levels::tests_tree(&[
            (0, table(1, 5, ("a", "c"), 10)),
            (0, table(2, 5, ("d", "f"), 10)),
            (0, table(3, 6, ("a", "f"), 10)),
        ]);
        parts.check().unwrap();
        assert_eq!(runs(&parts).map(<[_]>::len).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(picked(&parts), None);
    }

    #[test]
    fn what_cannot_be_read_is_left_alone() {
        let tree = tree(&[10; 9], 1000);
        let pick = pick(&tree, &tuning(), |file| file == 3).unwrap();
        assert_eq!(pick.inputs.iter().map(|(_, table)| table.file).collect::<Vec<_>>(), [7, 6, 5, 4]);
        let full = self::tree(&[500, 400, 90, 10], 500);
        assert!(super::pick(&full, &tuning(), |file| file == 100).is_none());
    }
}
