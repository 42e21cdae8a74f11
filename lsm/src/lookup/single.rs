//! Lookups one by one.
//!
//! Most of the time of one is waiting for memory, and a processor goes on with the next while it waits only if that begins within some three hundred
//! instructions: so what is done for each key is little, and what is rare (memtables with something in them, many runs) is apart.

use super::fixed_memtables;
use crate::error::Result;
use crate::filter;
use crate::key::{Kind, SequenceNumber};
use crate::levels::{FixedRun, FixedRuns, KeyspaceView, RunTable, SHARED_MAX};
use crate::memtable::fixed;
use crate::row::{FIXED_VALUE_BYTES_MAX, Widths, prefix};

/// Runs whose filters are fetched together for one key: as many as there are mostly; what is fetched in vain, because a newer run has the key, costs little.
const RUNS_TOGETHER: usize = 16;

/// What whoever looks up a key mostly finds. It changes how fast the answer comes, not the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Present,
    Absent,
}

/// A key that is looked up.
#[derive(Clone, Copy)]
struct Asked<'k> {
    key: &'k [u8],
    hash: u64,
    prefix: u64,
    read_sequence: SequenceNumber,
    expected: Expected,
}

/// The value of `key` that a reader at `read_sequence` sees, given to `use_value` where it lies.
///
/// # Errors
/// Io or corruption, naming file and offset.
#[inline]
pub(crate) fn get_with<R>(
    view: &KeyspaceView,
    widths: Widths,
    key: &[u8],
    read_sequence: SequenceNumber,
    expected: Expected,
    use_value: impl FnOnce(&[u8]) -> R,
) -> Result<Option<R>> {
    if key.len() != widths.key() {
        return Ok(None);
    }
    let asked = Asked { key, hash: filter::hash(key), prefix: prefix(key), read_sequence, expected };
    let mut use_value = Some(use_value);
    let mut answer = |kind, value: &[u8]| match kind {
        Kind::Put => use_value.take().map(|use_value| use_value(value)),
        Kind::Delete => None,
    };
    let runs = view.tables.runs();
    // The waits for what is asked first overlap, and with them those of whoever will mostly go on.
    asked.fetch_early(runs);
    if fixed_memtables(view).next().is_some()
        && let Some(found) = asked.in_memtables(view, widths, &mut answer)
    {
        return Ok(found);
    }
    let found = match runs.runs() {
        [only] => match only.find(key, asked.prefix) {
            Some(open) => asked.in_table(open, &mut answer)?,
            None => None,
        },
        [] => None,
        _ => asked.in_runs(runs, &mut answer)?,
    };
    Ok(found.flatten())
}

impl Asked<'_> {
    /// Has fetched what will be looked at first, or mostly.
    #[inline]
    fn fetch_early(self, runs: &FixedRuns) {
        runs.shared().iter().for_each(|shared| shared.prefetch(self.hash));
        if self.expected == Expected::Present {
            for (number, run) in runs.runs().iter().enumerate().take(RUNS_TOGETHER) {
                let Some(open) = run.find(self.key, self.prefix) else { continue };
                open.table.prefetch_filter(&open.resident, self.hash);
                if number + 1 == runs.runs().len() {
                    // Most keys are in the last one.
                    open.table.prefetch_index(&open.resident, self.prefix);
                }
            }
        }
    }

    /// What the memtables know of it.
    #[inline(never)]
    fn in_memtables<R>(
        self,
        view: &KeyspaceView,
        widths: Widths,
        answer: &mut impl FnMut(Kind, &[u8]) -> R,
    ) -> Option<R> {
        let mut buffer = [0; FIXED_VALUE_BYTES_MAX];
        let value = buffer.get_mut(..widths.value()).unwrap_or_default();
        let hash = fixed::hash(self.key);
        fixed_memtables(view).find_map(|memtable| {
            let kind = memtable.get_into(self.key, hash, self.read_sequence, value)?;
            Some(answer(kind, value))
        })
    }

    /// What a table knows of it.
    #[inline]
    fn in_table<R>(self, open: &RunTable, answer: &mut impl FnMut(Kind, &[u8]) -> R) -> Result<Option<R>> {
        if !open.table.may_contain(&open.resident, self.hash)? {
            return Ok(None);
        }
        open.table.find(&open.resident, self.key, self.read_sequence, |_, kind, value| answer(kind, value))
    }

    /// What several runs know of it.
    #[inline(never)]
    fn in_runs<R>(self, runs: &FixedRuns, answer: &mut impl FnMut(Kind, &[u8]) -> R) -> Result<Option<R>> {
        let mut may_be_in = [true; SHARED_MAX];
        for (may_be, shared) in may_be_in.iter_mut().zip(runs.shared()) {
            *may_be = shared.may_contain(self.hash);
        }
        let is_asked =
            |run: &FixedRun| run.shared().is_none_or(|shared| may_be_in.get(shared) == Some(&true));
        for (number, runs) in runs.runs().chunks(RUNS_TOGETHER).enumerate() {
            let is_early = number == 0 && self.expected == Expected::Present;
            let mut tables = [None; RUNS_TOGETHER];
            for (place, run) in tables.iter_mut().zip(runs).filter(|(_, run)| is_asked(run)) {
                *place = run.find(self.key, self.prefix);
                if let (Some(open), false) = (&place, is_early) {
                    open.table.prefetch_filter(&open.resident, self.hash);
                }
            }
            for open in tables.iter().take(runs.len()) {
                if let Some(open) = open
                    && let Some(found) = self.in_table(open, answer)?
                {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}
