//! Which tables to merge next: a pure function of a tree and the limits.
//!
//! Leveled: level 0 is merged into level 1 when it has too many tables, all of it at once (so that what is left in level 0 is always newer than
//! all below); into one table of level 0 while it is so little that level 1 would be written anew for nothing; and not at all where its oldest tables overlap
//! nothing, as when keys come in order: those go down as they are. A level below is merged when
//! it has too many bytes, one table at a time: the one that costs least, by the bytes that it overlaps in the next level for each of its own. A
//! table that overlaps nothing moves down by an edit alone.
//!
//! Some tables are to be kept away from, because they cannot be read. Then the most urgent merge that does without them is picked; and what stands in
//! level 0 above such a table, or above one in level 1, is merged in its place, lest level 0 grow without end.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::filename::FileNumber;
use crate::levels::{LEVEL_COUNT, TableReference, Tree};
use crate::options::Tuning;
use crate::range::KeyRange;

/// Inputs of a merge, and where its output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// The tables, each with its level.
    pub inputs: Vec<(usize, Arc<TableReference>)>,
    /// The level of the output; that of the deepest inputs, or one below.
    pub output_level: usize,
}

impl Pick {
    /// Whether the inputs can go down as they are: they overlap nothing in the level that they go to, nor each other. What is small in level 0 is merged all
    /// the same: else many small tables would be left below.
    pub fn is_move(&self, tuning: &Tuning) -> bool {
        let mut rest = self.inputs.as_slice();
        while let Some(((level, table), others)) = rest.split_first() {
            let is_large = *level > 0 || table.file_bytes >= tuning.table_bytes / MOVED_PART;
            let is_lone = !others.iter().any(|(_, other)| other.bounds.overlaps(&table.bounds));
            if *level >= self.output_level || !is_large || !is_lone {
                return false;
            }
            rest = others;
        }
        true
    }

    /// Bytes of the inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|(_, table)| table.file_bytes).sum()
    }

    /// The epoch of what comes out.
    pub(crate) fn epoch(&self) -> u64 {
        self.inputs.iter().map(|(_, table)| table.epoch).max().unwrap_or(0)
    }

    /// The smallest range that encloses all inputs.
    pub fn bounds(&self) -> Option<KeyRange> {
        let bounds = self.inputs.iter().map(|(_, table)| table.bounds.clone());
        bounds.reduce(|all, one| all.union(&one))
    }
}

/// Level 0 stays in level 0 while what it overlaps in level 1 is more than this many times as large. Many small flushes (one for each
/// short session, say) would otherwise write all of level 1 every few times.
const LEVEL0_RATIO: u64 = 8;

/// A table goes down as it is out of level 0 only if it is no smaller than this part of one that a merge would make.
const MOVED_PART: u64 = 4;

/// The bytes that a level may hold.
pub fn level_bytes_max(level: usize, tuning: &Tuning) -> u64 {
    let exponent = u32::try_from(level.saturating_sub(1)).unwrap_or(u32::MAX);
    tuning.level1_bytes.saturating_mul(tuning.level_growth.saturating_pow(exponent))
}

/// How much a level is over its limit, in thousandths: 1000 and above wants a merge.
fn score(tree: &Tree, level: usize, tuning: &Tuning) -> u64 {
    match level {
        0 => tree.level(0).len() as u64 * 1000 / tuning.level0_tables as u64,
        _ => {
            let bytes = u128::from(tree.level_bytes(level)) * 1000;
            u64::try_from(bytes / u128::from(level_bytes_max(level, tuning))).unwrap_or(u64::MAX)
        }
    }
}

/// How urgently a tree wants a merge, in thousandths; below 1000 it does not.
pub fn urgency(tree: &Tree, tuning: &Tuning) -> u64 {
    (0..LEVEL_COUNT - 1).map(|level| score(tree, level, tuning)).max().unwrap_or(0)
}

/// The next merge of a tree, if it wants one, without the tables that are `avoided`.
pub fn pick(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let scores = (0..LEVEL_COUNT - 1).map(|level| (score(tree, level, tuning), level));
    let mut wanted: Vec<(u64, usize)> = scores.filter(|(score, _)| *score >= 1000).collect();
    // The upper level of two equally urgent: it is the one that slows readers and writers.
    wanted.sort_by_key(|(score, level)| (Reverse(*score), *level));
    wanted.into_iter().find_map(|(_, level)| match level {
        0 => pick_level0(tree, tuning, &avoided),
        _ => pick_below(tree, level, &avoided),
    })
}

/// The cheapest table of a level, into the next.
fn pick_below(tree: &Tree, level: usize, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let below = |table: &'_ Arc<TableReference>| -> Vec<Arc<TableReference>> {
        tree.overlapping(level + 1, &table.bounds).cloned().collect()
    };
    let picks = tree.level(level).iter().filter_map(|table| {
        let below = below(table);
        if avoided(table.file) || below.iter().any(|below| avoided(below.file)) {
            return None;
        }
        let bytes: u64 = below.iter().map(|below| below.file_bytes).sum();
        Some((u128::from(bytes) * 1000 / u128::from(table.file_bytes.max(1)), table))
    });
    let (_, cheapest) = picks.min_by_key(|(cost, _)| *cost)?;
    Some(with_overlapping(tree, vec![(level, Arc::clone(cheapest))], level + 1))
}

/// The oldest tables of level 0, if they overlap nothing, there and in level 1: what is newer stays above them.
fn lone_oldest(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let is_lone = |table: &&Arc<TableReference>| {
        let mut others = tree.level(0).iter().filter(|other| other.file != table.file);
        !others.any(|other| other.bounds.overlaps(&table.bounds))
            && tree.overlapping(1, &table.bounds).next().is_none()
            && !avoided(table.file)
    };
    let oldest = tree.level(0).iter().rev().take_while(is_lone);
    let pick = Pick { inputs: oldest.map(|table| (0, Arc::clone(table))).collect(), output_level: 1 };
    (!pick.inputs.is_empty() && pick.is_move(tuning)).then_some(pick)
}

/// All of level 0: into level 1, or into one table in its own place. Only in its own place, and only what is newer, where a table is avoided.
fn pick_level0(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    if let Some(lone) = lone_oldest(tree, tuning, &avoided) {
        return Some(lone);
    }
    let newest = tree.level(0).iter().take_while(|table| !avoided(table.file));
    let inputs: Vec<_> = newest.map(|table| (0, Arc::clone(table))).collect();
    let own = Pick { inputs, output_level: 0 };
    if own.inputs.len() < tree.level(0).len() {
        return pick_newest(own, tuning);
    }
    let own_bytes = own.bytes();
    let down = with_overlapping(tree, own.inputs.clone(), 1);
    if down.inputs.iter().any(|(_, table)| avoided(table.file)) {
        return pick_newest(own, tuning);
    }
    let below_bytes = down.bytes() - own_bytes;
    // Its output must be one table: two in level 0 could not be told which is newer.
    let is_small = own_bytes < tuning.table_bytes / 2 && own_bytes.saturating_mul(LEVEL0_RATIO) < below_bytes;
    Some(if is_small && own.inputs.len() > 1 { own } else { down })
}

/// What is in level 0 above all that is `avoided`, in its own place.
pub fn pick_above(tree: &Tree, tuning: &Tuning, avoided: impl Fn(FileNumber) -> bool) -> Option<Pick> {
    let newest = tree.level(0).iter().take_while(|table| !avoided(table.file));
    pick_newest(
        Pick { inputs: newest.map(|table| (0, Arc::clone(table))).collect(), output_level: 0 },
        tuning,
    )
}

/// Of tables of level 0 that cannot go down, the newest few that are of one size, into one: so that a table is written anew only when it is doubled, and
/// few are left.
fn pick_newest(mut own: Pick, tuning: &Tuning) -> Option<Pick> {
    let mut bytes = 0u64;
    let of_one_size = own.inputs.iter().take_while(|(_, table)| {
        let fits = bytes == 0 || table.file_bytes <= bytes.saturating_mul(2);
        bytes = bytes.saturating_add(table.file_bytes);
        fits
    });
    let count = of_one_size.count();
    own.inputs.truncate(count);
    (count >= tuning.level0_tables.max(2)).then_some(own)
}

/// A merge of everything, into the deepest level that holds anything, `level_min` at least. `None` if there is nothing to gain: all is in one run
/// without deletions there.
pub fn pick_all(tree: &Tree, level_min: usize) -> Option<Pick> {
    let output_level = tree.deepest()?.max(level_min);
    let inputs: Vec<_> = tree.tables().map(|(level, table)| (level, Arc::clone(table))).collect();
    let is_one_clean_run = inputs.iter().all(|(level, table)| *level == output_level && table.deletions == 0);
    (!is_one_clean_run).then_some(Pick { inputs, output_level })
}

/// Adds what the inputs overlap in the output level.
fn with_overlapping(tree: &Tree, inputs: Vec<(usize, Arc<TableReference>)>, output_level: usize) -> Pick {
    let mut pick = Pick { inputs, output_level };
    if let Some(bounds) = pick.bounds() {
        let below = tree.overlapping(output_level, &bounds).map(|table| (output_level, Arc::clone(table)));
        pick.inputs.extend(below);
    }
    pick
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Identity;

    fn table(file: u64, lower: &str, upper: &str, sequence: u64, file_bytes: u64) -> Arc<TableReference> {
        Arc::new(TableReference {
            file,
            identity: Identity::from_bytes([1; 16]),
            file_bytes,
            bounds: KeyRange::inclusive(lower, upper),
            sequence_min: sequence,
            sequence_max: sequence,
            epoch: sequence,
            entries: 10,
            deletions: 0,
        })
    }

    fn tuning() -> Tuning {
        Tuning { level0_tables: 2, level1_bytes: 1000, level_growth: 10, ..Tuning::for_memory(1 << 20) }
    }

    fn tree(tables: &[(usize, Arc<TableReference>)]) -> Tree {
        crate::levels::tests_tree(tables)
    }

    fn nothing(_: FileNumber) -> bool {
        false
    }

    fn files(pick: &Pick) -> Vec<u64> {
        pick.inputs.iter().map(|(_, table)| table.file).collect()
    }

    #[test]
    fn all_of_level_0_goes_at_once() {
        let tree = tree(&[
            (0, table(1, "a", "c", 5, 10)),
            (0, table(2, "x", "z", 6, 10)),
            (1, table(3, "b", "d", 1, 10)),
            (1, table(4, "e", "f", 1, 10)),
        ]);
        let pick = pick(&tree, &tuning(), nothing).unwrap();
        assert_eq!((files(&pick), pick.output_level), (vec![2, 1, 3, 4], 1));
        assert!(!pick.is_move(&tuning()));
    }

    #[test]
    fn the_oldest_of_level_0_go_down_as_they_are_where_they_overlap_nothing() {
        let of = |oldest: (&str, &str)| {
            tree(&[
                (0, table(1, oldest.0, oldest.1, 5, 10)),
                (0, table(5, "h", "i", 6, 10)),
                (0, table(2, "n", "p", 7, 10)),
                (0, table(3, "o", "z", 8, 10)),
                (1, table(4, "a", "c", 1, 10)),
            ])
        };
        let tuning = || Tuning { table_bytes: 40, ..tuning() };
        let lone = pick(&of(("e", "g")), &tuning(), nothing).unwrap();
        assert_eq!((files(&lone), lone.output_level, lone.is_move(&tuning())), (vec![1, 5], 1, true));
        for overlapping in [("e", "n"), ("c", "g")] {
            let all = pick(&of(overlapping), &tuning(), nothing).unwrap();
            assert!(all.inputs.len() > 2 && !all.is_move(&tuning()), "{overlapping:?}");
        }
        assert!(
            !pick(&of(("e", "g")), &tuning(), |file| file == 1).is_some_and(|pick| pick.is_move(&tuning()))
        );
        let small = Tuning { table_bytes: 11 * MOVED_PART, ..tuning() };
        assert!(!pick(&of(("e", "g")), &small, nothing).unwrap().is_move(&small), "too small to be left so");
    }

    #[test]
    fn a_little_in_level_0_does_not_write_level_1_anew() {
        let with_below = |below_bytes| {
            tree(&[
                (0, table(1, "a", "c", 5, 10)),
                (0, table(2, "b", "z", 6, 10)),
                (1, table(3, "b", "d", 1, below_bytes)),
            ])
        };
        let own = pick(&with_below(161), &tuning(), nothing).unwrap();
        assert_eq!((files(&own), own.output_level, own.is_move(&tuning())), (vec![2, 1], 0, false));
        assert_eq!(pick(&with_below(160), &tuning(), nothing).unwrap().output_level, 1);
        let tight = Tuning { table_bytes: 40, ..tuning() };
        assert_eq!(
            pick(&with_below(1000), &tight, nothing).unwrap().output_level,
            1,
            "its output would be two tables"
        );
    }

    #[test]
    fn the_cheapest_table_goes_down() {
        let tree = tree(&[
            (1, table(1, "a", "c", 1, 600)),
            (1, table(2, "d", "f", 1, 600)),
            (2, table(3, "a", "b", 1, 900)),
        ]);
        let pick = pick(&tree, &tuning(), nothing).unwrap();
        assert_eq!(files(&pick), [2]);
        assert!(pick.is_move(&tuning()));
    }

    #[test]
    fn a_tree_within_its_limits_is_left_alone() {
        let tree = tree(&[(0, table(1, "a", "c", 5, 10)), (1, table(3, "b", "d", 1, 999))]);
        assert_eq!(pick(&tree, &tuning(), nothing), None);
        assert!(urgency(&tree, &tuning()) < 1000);
    }

    #[test]
    fn what_cannot_be_read_is_gone_round() {
        // The cheapest cannot be read, nor what the next one overlaps: the third.
        let below = tree(&[
            (1, table(1, "a", "c", 1, 600)),
            (1, table(2, "d", "f", 1, 600)),
            (1, table(3, "g", "k", 1, 600)),
            (2, table(4, "d", "e", 1, 300)),
            (2, table(5, "g", "h", 1, 900)),
        ]);
        let pick_without =
            |tree: &Tree, avoided: &[u64]| pick(tree, &tuning(), |file| avoided.contains(&file));
        assert_eq!(files(&pick_without(&below, &[]).unwrap()), [1]);
        assert_eq!(files(&pick_without(&below, &[1]).unwrap()), [2, 4]);
        assert_eq!(files(&pick_without(&below, &[1, 4]).unwrap()), [3, 5]);
        assert_eq!(pick_without(&below, &[1, 4, 5]), None);
    }

    #[test]
    fn what_stands_above_an_unreadable_table_is_merged_in_place() {
        let bad_below = tree(&[
            (0, table(1, "a", "c", 5, 10)),
            (0, table(2, "b", "d", 6, 10)),
            (1, table(3, "b", "d", 1, 10)),
        ]);
        let pick_without = |tree: &Tree, avoided: u64| pick(tree, &tuning(), |file| file == avoided);
        let own = pick_without(&bad_below, 3).unwrap();
        assert_eq!((files(&own), own.output_level), (vec![2, 1], 0));
        let bad_between = tree(&[
            (0, table(1, "a", "c", 5, 10)),
            (0, table(2, "a", "c", 6, 10)),
            (0, table(3, "a", "c", 7, 10)),
            (0, table(4, "a", "c", 8, 10)),
        ]);
        let own = pick_without(&bad_between, 2).unwrap();
        assert_eq!((files(&own), own.output_level), (vec![4, 3], 0));
        assert_eq!(pick_without(&bad_between, 3), None, "one alone gains nothing");
        let large = tree(&[
            (0, table(1, "a", "c", 5, 1000)),
            (0, table(2, "a", "c", 6, 10)),
            (0, table(3, "a", "c", 7, 10)),
            (1, table(4, "a", "c", 1, 10)),
        ]);
        assert_eq!(files(&pick_without(&large, 4).unwrap()), [3, 2], "what is large is left");
    }

    /// However long it goes on, few tables are left, and each byte is not written all too often.
    #[test]
    fn level_0_stays_bounded_above_an_unreadable_table() {
        let tuning = Tuning { level0_tables: 4, ..tuning() };
        let mut sizes: Vec<u64> = Vec::new();
        let mut written = 0;
        for sequence in 1..2000 {
            sizes.insert(0, 10);
            let newest = sizes.iter().zip(0..);
            let tables: Vec<_> = newest
                .map(|(bytes, age)| (0, table(sequence * 100 - age, "a", "c", 10_000 - age, *bytes)))
                .collect();
            let mut all = tables.clone();
            all.push((1, table(1, "a", "c", 1, 10)));
            if let Some(pick) = pick(&tree(&all), &tuning, |file| file == 1) {
                assert_eq!(
                    files(&pick),
                    tables.iter().take(pick.inputs.len()).map(|(_, table)| table.file).collect::<Vec<_>>()
                );
                written += pick.bytes();
                sizes.splice(..pick.inputs.len(), [pick.bytes()]);
            }
            assert!(sizes.len() < 12, "{sizes:?}");
        }
        assert!(written < 2000 * 10 * 12, "{written}");
    }

    #[test]
    fn a_merge_of_everything_ends() {
        assert_eq!(pick_all(&Tree::default(), 1), None);
        let run = tree(&[(3, table(1, "a", "c", 1, 10)), (3, table(2, "d", "e", 1, 10))]);
        assert_eq!(pick_all(&run, 2), None);
        assert_eq!(pick_all(&run, 4).unwrap().output_level, 4);
        let all = tree(&[(0, table(1, "a", "c", 5, 10)), (3, table(2, "d", "e", 1, 10))]);
        assert_eq!(pick_all(&all, 1).unwrap().output_level, 3);
    }

    #[test]
    fn the_last_level_has_no_limit() {
        assert!(level_bytes_max(LEVEL_COUNT, &tuning()) > 1000);
        let tree = tree(&[(LEVEL_COUNT - 1, table(1, "a", "c", 1, u64::MAX / 2000))]);
        assert_eq!(pick(&tree, &tuning(), nothing), None);
    }
}
