//! Lookups of many keys at once: they go through each source together, in steps. What each needs is asked for from memory before any of it is used, so that the
//! waits overlap.

use super::fixed_memtables;
use crate::error::Result;
use crate::key::{Kind, SequenceNumber};
use crate::levels::{FixedRun, KeyspaceView, RunTable, SHARED_MAX};
use crate::memtable::{FixedMemtable, fixed};
use crate::row::{FIXED_VALUE_BYTES_MAX, Widths, prefix};
use crate::table::fixed::Search;

/// Keys that go through the sources together: a few times as many waits as a processor has going at once; and each has a bit in a number.
const TOGETHER: usize = 128;
const _: () = assert!(TOGETHER <= u128::BITS as usize);

/// One key of several.
#[derive(Clone, Copy, Default)]
struct Asked {
    index: usize,
    hash: u64,
    prefix: u64,
}

/// The values of many keys that a reader at `read_sequence` sees: `use_value` is called once for each, with its index, in no order.
///
/// # Errors
/// Io or corruption, naming file and offset.
pub(crate) fn multi_get_with<K: AsRef<[u8]>>(
    view: &KeyspaceView,
    widths: Widths,
    keys: &[K],
    read_sequence: SequenceNumber,
    use_value: &mut impl FnMut(usize, Option<&[u8]>),
) -> Result<()> {
    let together = keys.len().min(TOGETHER);
    let mut batch = Together {
        view,
        widths,
        read_sequence,
        memtables: fixed_memtables(view).collect(),
        asked: Vec::with_capacity(together),
        shared: Default::default(),
        asks_shared: true,
        maybe: Vec::with_capacity(together),
        searches: Vec::with_capacity(together),
    };
    for (number, keys) in keys.chunks(TOGETHER).enumerate() {
        batch.run(keys, &mut |index, value| use_value(number * TOGETHER + index, value))?;
    }
    Ok(())
}

struct Together<'a> {
    view: &'a KeyspaceView,
    widths: Widths,
    read_sequence: SequenceNumber,
    memtables: Vec<&'a FixedMemtable>,
    /// Those that no source has answered for.
    asked: Vec<Asked>,
    /// Those of them that runs which share a filter may know.
    shared: [Vec<Asked>; SHARED_MAX],
    /// Whether that is worth to be found out: not where most keys are there.
    asks_shared: bool,
    /// Those of them that the source at hand may know.
    maybe: Vec<(Asked, &'a RunTable)>,
    /// Those whose filter says so too.
    searches: Vec<(Asked, &'a RunTable, Option<Search>)>,
}

impl<'a> Together<'a> {
    fn run<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        use_value: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        let key_at = |index: usize| keys.get(index).map_or(&[][..], AsRef::as_ref);
        self.asked.clear();
        for index in 0..keys.len() {
            match key_at(index).len() == self.widths.key() {
                true => self.asked.push(Asked { index, hash: 0, prefix: prefix(key_at(index)) }),
                false => use_value(index, None),
            }
        }
        if !self.memtables.is_empty() {
            self.ask_memtables(&key_at, use_value);
        }
        let view = self.view;
        let runs = view.tables.runs().runs();
        let shared = if self.asks_shared { view.tables.runs().shared() } else { &[] };
        if runs.is_empty() || self.asked.is_empty() {
            self.asked.drain(..).for_each(|asked| use_value(asked.index, None));
            return Ok(());
        }
        for asked in &mut self.asked {
            asked.hash = crate::filter::hash(key_at(asked.index));
            shared.iter().for_each(|shared| shared.prefetch(asked.hash));
        }
        let mut passed = 0;
        for (may_know, shared) in self.shared.iter_mut().zip(shared) {
            may_know.clear();
            may_know.extend(self.asked.iter().filter(|asked| shared.may_contain(asked.hash)));
            passed += may_know.len();
        }
        let asks_shared = !shared.is_empty();
        self.asks_shared &= 2 * passed <= self.asked.len() * shared.len();
        for run in runs {
            self.searches.clear();
            self.choose(run, asks_shared, &key_at)?;
            if self.searches.is_empty() {
                continue;
            }
            for (asked, open, search) in &mut self.searches {
                *search = Some(open.table.begin(&open.resident, asked.prefix)?);
            }
            for (asked, open, search) in &mut self.searches {
                if let Some(search) = search {
                    open.table.narrow(&open.resident, search, asked.prefix);
                }
            }
            let mut answered = 0u128;
            for (asked, open, search) in self.searches.drain(..) {
                let Some(search) = search else { continue };
                let mut answer = |_, kind, value: &[u8]| {
                    use_value(asked.index, (kind == Kind::Put).then_some(value));
                };
                let key = key_at(asked.index);
                if open
                    .table
                    .conclude(&open.resident, search, key, self.read_sequence, &mut answer)?
                    .is_some()
                {
                    answered |= 1 << asked.index;
                }
            }
            if answered != 0 {
                let is_open = |asked: &Asked| answered & 1 << asked.index == 0;
                self.asked.retain(is_open);
                self.shared.iter_mut().for_each(|asked| asked.retain(is_open));
                if self.asked.is_empty() {
                    break;
                }
            }
        }
        self.asked.drain(..).for_each(|asked| use_value(asked.index, None));
        Ok(())
    }

    /// Collects those that a table of a run may know, by its filter.
    #[inline]
    fn choose<'k>(
        &mut self,
        run: &'a FixedRun,
        asks_shared: bool,
        key_at: &impl Fn(usize) -> &'k [u8],
    ) -> Result<()> {
        let asked = match run.shared().filter(|_| asks_shared) {
            Some(shared) => self.shared.get(shared).map_or(&[][..], |may_know| may_know),
            None => &self.asked,
        };
        if asked.is_empty() {
            return Ok(());
        }
        if let Some(open) = run.only()
            && let Some(filter) = open.table.resident_filter(&open.resident)?
        {
            // As nearly every run that is not the last: what is the same for all keys is looked at once.
            asked.iter().for_each(|asked| filter.prefetch(asked.hash));
            for asked in asked {
                if filter.may_contain(asked.hash) && open.answers_for(key_at(asked.index), asked.prefix) {
                    open.table.prefetch_index(&open.resident, asked.prefix);
                    self.searches.push((*asked, open, None));
                }
            }
            return Ok(());
        }
        self.maybe.clear();
        for asked in asked {
            if let Some(open) = run.find(key_at(asked.index), asked.prefix) {
                open.table.prefetch_filter(&open.resident, asked.hash);
                self.maybe.push((*asked, open));
            }
        }
        for (asked, open) in &self.maybe {
            if open.table.may_contain(&open.resident, asked.hash)? {
                open.table.prefetch_index(&open.resident, asked.prefix);
                self.searches.push((*asked, open, None));
            }
        }
        Ok(())
    }

    fn ask_memtables<'k>(
        &mut self,
        key_at: &impl Fn(usize) -> &'k [u8],
        use_value: &mut impl FnMut(usize, Option<&[u8]>),
    ) {
        let mut buffer = [0; FIXED_VALUE_BYTES_MAX];
        let value = buffer.get_mut(..self.widths.value()).unwrap_or_default();
        for asked in &mut self.asked {
            asked.hash = fixed::hash(key_at(asked.index));
            self.memtables.iter().for_each(|memtable| memtable.prefetch(asked.hash));
        }
        let (memtables, read_sequence) = (&self.memtables, self.read_sequence);
        self.asked.retain(|asked| {
            let key = key_at(asked.index);
            let mut kinds = memtables
                .iter()
                .filter_map(|memtable| memtable.get_into(key, asked.hash, read_sequence, value));
            let Some(kind) = kinds.next() else { return true };
            drop(kinds);
            use_value(asked.index, (kind == Kind::Put).then_some(&*value));
            false
        });
    }
}
