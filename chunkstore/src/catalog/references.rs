//! Who needs given chunks: naming what is lost when a pack has no good copy left.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::entry_key::EntryKey;
use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, ListId, TimelineId};
use crate::metadata::Hole;
use crate::segment::ListNode;
use crate::version::{Contents, SnapshotNumber, Version};

use super::Catalog;
use super::row::HistoryRow;
use super::store::{self, local, split_history};

/// A Version some of whose bytes are in given chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The timeline.
    pub timeline: TimelineId,
    /// The host of the timeline.
    pub host: Vec<u8>,
    /// The entry.
    pub key: EntryKey,
    /// The Version.
    pub version: Version,
    /// The last snapshot that sees it.
    pub last: SnapshotNumber,
    /// Which bytes of the file, holes counted; empty if its lists, or the lengths of the chunks before, are not known any more.
    pub ranges: Vec<Range<u64>>,
}

impl Catalog {
    /// Gives every Version that needs one of `chunks`, or one of whose lists is missing, to `visit`: reads the whole history once.
    ///
    /// # Errors
    /// Local; what `visit` returns.
    pub fn references(
        &self,
        chunks: &HashSet<ChunkId>,
        visit: &mut dyn FnMut(Reference) -> Result<()>,
    ) -> Result<()> {
        let mut lists = HashMap::new();
        for (number, timeline) in self.timeline_rows()? {
            let head = timeline.head.unwrap_or(SnapshotNumber(0));
            // Rows of one entry come the newest first: each Version is seen until just before the row that came before it.
            let mut entry = Vec::new();
            let mut last = head;
            for row in self.inner.spaces.history.prefix(store::timeline_prefix(number)) {
                let (row_key, value) = row?;
                let (key, birth) = split_history(&row_key)?;
                if birth > head {
                    continue;
                }
                if key != entry {
                    entry.clear();
                    entry.extend_from_slice(key);
                    last = head;
                }
                let seen_until = last;
                last = SnapshotNumber(birth.0.saturating_sub(1));
                let HistoryRow::Version(row) = HistoryRow::decode(&value).map_err(local("history"))? else {
                    continue;
                };
                if !self.needs(&row.contents, chunks, &mut lists)? {
                    continue;
                }
                let key = EntryKey::from_bytes(key).map_err(local("history"))?;
                let version = self.version_of_row(number, &key, birth, *row)?;
                let ranges = self.ranges(&version, chunks)?;
                visit(Reference {
                    timeline: timeline.id,
                    host: timeline.host.clone(),
                    key,
                    version,
                    last: seen_until,
                    ranges,
                })?;
            }
        }
        Ok(())
    }

    fn needs(
        &self,
        contents: &Contents,
        chunks: &HashSet<ChunkId>,
        lists: &mut HashMap<ListId, bool>,
    ) -> Result<bool> {
        match contents {
            Contents::None => Ok(false),
            Contents::Inline(ids) => Ok(ids.iter().any(|id| chunks.contains(id))),
            Contents::List { id, .. } => self.list_needs(id, chunks, lists),
        }
    }

    fn list_needs(
        &self,
        id: &ListId,
        chunks: &HashSet<ChunkId>,
        lists: &mut HashMap<ListId, bool>,
    ) -> Result<bool> {
        if let Some(known) = lists.get(id) {
            return Ok(*known);
        }
        let mut needs = false;
        match self.list_if_known(id)? {
            None => needs = true,
            Some(ListNode::Chunks(ids)) => needs = ids.iter().any(|id| chunks.contains(id)),
            // A list's level is one above that of the lists in it, seven at most: this ends.
            Some(ListNode::Lists { lists: below, .. }) => {
                for (id, _) in below {
                    needs |= self.list_needs(&id, chunks, lists)?;
                }
            }
        }
        lists.insert(*id, needs);
        Ok(needs)
    }

    fn ranges(&self, version: &Version, chunks: &HashSet<ChunkId>) -> Result<Vec<Range<u64>>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let mut offset = 0;
        for id in self.contents(&version.contents)? {
            let id = match id {
                Ok(id) => id,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let Some(length) = self.chunk_length(&id)? else { return Ok(Vec::new()) };
            let end = offset + u64::from(length);
            if chunks.contains(&id) {
                match ranges.last_mut() {
                    Some(last) if last.end == offset => last.end = end,
                    _ => ranges.push(offset..end),
                }
            }
            offset = end;
        }
        Ok(around_holes(&ranges, &version.metadata.holes))
    }
}

/// Ranges of the bytes between holes as ranges of the file.
fn around_holes(ranges: &[Range<u64>], holes: &[Hole]) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let mut start = range.start;
        // Bytes of holes before `start`, as the file counts.
        let mut skipped = 0;
        for hole in holes {
            let hole_start = hole.offset.saturating_sub(skipped);
            if hole_start >= range.end {
                break;
            }
            if hole_start > start {
                out.push(start + skipped..hole_start + skipped);
                start = hole_start;
            }
            skipped += hole.length;
        }
        if start < range.end {
            out.push(start + skipped..range.end + skipped);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::single_range_in_vec_init, reason = "lists of ranges are what is tested")]
    fn holes_shift_and_split_ranges() {
        let holes = [Hole { offset: 10, length: 5 }, Hole { offset: 25, length: 100 }];
        // Data bytes 0..10 are file bytes 0..10; data 10..20 are 15..25; data 20.. are 125...
        assert_eq!(around_holes(&[0..10], &holes), [0..10]);
        assert_eq!(around_holes(&[0..12], &holes), [0..10, 15..17]);
        assert_eq!(around_holes(&[10..20], &holes), [15..25]);
        assert_eq!(around_holes(&[5..30], &holes), [5..10, 15..25, 125..135]);
        assert_eq!(around_holes(&[20..21], &holes), [125..126]);
        assert_eq!(around_holes(&[3..4], &[]), [3..4]);
        assert_eq!(around_holes(&[0..4], &[Hole { offset: 0, length: 7 }]), [7..11]);
    }
}
