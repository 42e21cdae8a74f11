//! Searching a sorted block: the restart to begin at, by the eight bytes kept of each; from there the entries, by what each shares with the one before.

use std::cmp::Ordering;

#[cfg(feature = "testing")]
use super::rank_seen_by;
use super::{Block, Entry, PREFIX_BYTES, Rank, common_prefix, prefetch_lines, prefix_number, rank_of_stamp};
use crate::error::{Error, Result};
use crate::key;
#[cfg(feature = "testing")]
use crate::key::SequenceNumber;

/// How many lines a search has fetched: the entries of a restart are mostly within them, and where they are not, values are large, which it steps over.
const SEARCHED_LINES_MAX: usize = 32;

impl Block {
    #[inline]
    fn restart_prefix(&self, index: usize) -> u64 {
        let prefix =
            self.bytes.get(index * PREFIX_BYTES..).and_then(|bytes| bytes.first_chunk::<PREFIX_BYTES>());
        prefix.map_or(0, |prefix| u64::from_le_bytes(*prefix))
    }

    /// The last restart whose key is below (`user`, `rank`); the first if none is. An entry at or above that key can only stand
    /// behind it, before or at the next restart.
    pub(crate) fn restart_before(&self, user: &[u8], rank: Rank) -> Result<usize> {
        let count = self.restarts as usize;
        let last = count.saturating_sub(1);
        if last == 0 {
            return Ok(0);
        }
        let skip = self.restart_skip as usize;
        let shared = self.restart_key(0)?.get(..skip).unwrap_or_default();
        let (head, tail) = user.split_at(user.len().min(skip));
        match key::order(head, shared) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(last),
            Ordering::Equal => {}
        }
        let wanted = prefix_number(tail);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.restart_prefix(middle) < wanted {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        while high < count && self.restart_prefix(high) == wanted {
            high += 1;
        }
        // Those from `low` to `high` are alike in eight bytes: here the keys themselves decide.
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(self.restart_offset(middle))?;
            let below = match key::order(self.slice(entry.suffix), user) {
                Ordering::Equal => rank_of_stamp(entry.stamp) < rank,
                order => order == Ordering::Less,
            };
            if below {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.saturating_sub(1))
    }

    /// Where a search for (`user`, `rank`) begins. The entries that it may see are on their way then: where each ends only the entry itself tells, so else each line
    /// of them would be waited for.
    #[inline]
    pub(crate) fn fetch_for(&self, user: &[u8], rank: Rank) -> Result<usize> {
        let restart = self.restart_before(user, rank)?;
        let (start, entries) = (self.restart_offset(restart), self.entries());
        let is_last = restart + 1 >= self.restarts as usize;
        let end = if is_last { entries.len() } else { self.restart_offset(restart + 1) };
        prefetch_lines(entries.get(start..end).unwrap_or_default(), SEARCHED_LINES_MAX);
        Ok(start)
    }

    /// The first entry at or above (`user`, `rank`), and whether it has that user key. `visit` sees each entry on the way and the one found: how
    /// many bytes it shares with the one before, and the rest of its key.
    ///
    /// No key is put together: of each entry on the way it is known that it lies below what is looked for and how many bytes the
    /// two have in common, so that the number of shared bytes mostly decides about the next one.
    #[inline]
    pub(crate) fn lower_bound(
        &self,
        user: &[u8],
        rank: Rank,
        visit: impl FnMut(usize, &Entry, &[u8]) -> Result<()>,
    ) -> Result<Option<(Entry, bool)>> {
        self.lower_bound_from(self.fetch_for(user, rank)?, user, rank, visit)
    }

    /// As [`Self::lower_bound`], from where [`Self::fetch_for`] said that it begins.
    #[inline]
    fn lower_bound_from(
        &self,
        mut offset: usize,
        user: &[u8],
        rank: Rank,
        mut visit: impl FnMut(usize, &Entry, &[u8]) -> Result<()>,
    ) -> Result<Option<(Entry, bool)>> {
        let mut matched = 0;
        let entries = self.entries();
        while offset < entries.len() {
            let entry = self.parse(entries, offset).ok_or_else(|| self.malformed(offset))?;
            let suffix = entries.get(entry.suffix.clone()).unwrap_or_default();
            visit(offset, &entry, suffix)?;
            offset = entry.next;
            if entry.shared == 0 {
                matched = 0;
            }
            if entry.shared > matched {
                continue;
            }
            if entry.shared < matched {
                return Ok(Some((entry, false)));
            }
            let wanted = user.get(matched..).unwrap_or_default();
            let common = common_prefix(suffix, wanted);
            match (suffix.get(common), wanted.get(common)) {
                (None, None) if rank_of_stamp(entry.stamp) >= rank => return Ok(Some((entry, true))),
                (None, _) => matched += common,
                (Some(found), Some(wanted)) if found < wanted => matched += common,
                (Some(_), _) => return Ok(Some((entry, false))),
            }
        }
        Ok(None)
    }

    /// The newest write of `user` that a reader at `sequence` sees.
    #[cfg(feature = "testing")]
    pub(crate) fn get(&self, user: &[u8], sequence: SequenceNumber) -> Result<Option<Entry>> {
        let rank = rank_seen_by(sequence);
        self.get_from(self.fetch_for(user, rank)?, user, rank)
    }

    /// The newest write of `user` at or behind a rank, from where [`Self::fetch_for`] said that the search for it begins.
    pub(crate) fn get_from(&self, start: usize, user: &[u8], rank: Rank) -> Result<Option<Entry>> {
        let found = self.lower_bound_from(start, user, rank, |_, _, _| Ok(()))?;
        Ok(found.and_then(|(entry, same)| same.then_some(entry)))
    }

    /// That a search sees what a walk does: where each restart says that an entry stands, one does, and each other entry shares with the one before it as many bytes as
    /// the two have in common. For a check: whoever reads trusts the checksum.
    ///
    /// # Errors
    /// Corruption, if not.
    pub(crate) fn check_search(&self) -> Result<()> {
        let (mut offset, mut restart) = (0, 0);
        let mut key = Vec::new();
        while offset < self.entries_end() {
            let entry = self.entry(offset)?;
            let suffix = self.slice(entry.suffix);
            let is_restart = restart < self.restarts as usize && self.restart_offset(restart) == offset;
            let is_exact = match (key.get(entry.shared), suffix.first()) {
                _ if is_restart => entry.shared == 0,
                (Some(before), Some(first)) => before != first,
                _ => entry.shared <= key.len(),
            };
            if !is_exact {
                return Err(Error::corruption(format!(
                    "the entry at {offset} does not share what it says with the one before it"
                )));
            }
            restart += usize::from(is_restart);
            key.truncate(entry.shared);
            key.extend_from_slice(suffix);
            offset = entry.next;
        }
        if restart < self.restarts as usize {
            return Err(Error::corruption(format!(
                "no entry stands at {}, where a search may begin",
                self.restart_offset(restart)
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockKind;

    #[test]
    fn a_check_finds_what_a_search_would_stumble_over() {
        let sorted = |entries: &[&[u8]], restarts: &[u32]| {
            let mut payload = entries.concat();
            restarts.iter().for_each(|place| payload.extend_from_slice(&place.to_le_bytes()));
            payload.extend_from_slice(&u32::try_from(restarts.len()).unwrap().to_le_bytes());
            Block::sorted(&payload, BlockKind::Data).unwrap()
        };
        // A value that could be an entry; then what shares nothing, all but its last byte, and less than it could.
        let first = &[0, 2, 5, 9, b'a', b'b', 0, 1, 0, 9, b'c'][..];
        let (other, shares) = (&[0, 1, 0, 9, b'c'][..], &[1, 1, 0, 9, b'c'][..]);
        let shares_less = &[0, 2, 0, 9, b'a', b'c'][..];
        for (block, is_sound) in [
            (sorted(&[first, other], &[0, 11]), true),
            (sorted(&[first, other], &[0]), true),
            (sorted(&[first, shares], &[0]), true),
            (sorted(&[first, shares_less], &[0, 11]), true),
            (sorted(&[first, other], &[0, 6]), false),
            (sorted(&[first, shares_less], &[0]), false),
            (sorted(&[first, &[3, 1, 0, 9, b'c']], &[0]), false),
        ] {
            assert_eq!(block.check_search().is_ok(), is_sound, "{:?}", block.check_search());
        }
    }
}
