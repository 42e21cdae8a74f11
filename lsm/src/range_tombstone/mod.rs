//! Range tombstones: "every key from here to there is gone, as of this sequence number".
//!
//! The question asked of a set is: which is the newest tombstone over this key that this reader sees? The starts and ends of all tombstones cut
//! the keys into *fragments*, found by binary search. To list for each fragment the tombstones over it takes, where they are nested, the
//! square of their number. So they hang in a segment tree over the fragments: each in the few nodes that make up its range (one, mostly), a
//! node's newest first. A lookup goes from the fragment's leaf up to the root, through about log₂ n nodes, and building takes n log n, whatever
//! the tombstones look like.
//!
//! Encoded (FORMAT.md, "Tables"): the count; then each tombstone, by start, newest first: bytes shared with the start before, the rest of the
//! start, 1 and the bytes that the end shares with the start and the rest of the end, or 2 for no end, the sequence number.

mod cursor;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use crate::block::common_prefix;
use crate::codec::{Decoder, put_slice, put_varint};
use crate::error::{Error, Result};
use crate::key::{KEY_BYTES_MAX, SEQUENCE_MAX, SequenceNumber};
use crate::range::{KeyRange, successor};

pub use cursor::TombstoneCursor;

const END_BOUNDED: u8 = 1;
const END_UNBOUNDED: u8 = 2;

/// The fewest bytes that an encoded tombstone takes: what a count is held against before memory is reserved.
const ENCODED_BYTES_MIN: usize = 4;

/// One deleted range, as it is given to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RangeTombstone {
    /// The first key deleted.
    pub start: Vec<u8>,
    /// The first key no longer deleted; `None`: every key from `start` on is.
    pub end: Option<Vec<u8>>,
    /// Entries with smaller sequence numbers are deleted.
    pub sequence: SequenceNumber,
}

/// The same, borrowed from a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeTombstoneRef<'a> {
    /// The first key deleted.
    pub start: &'a [u8],
    /// The first key no longer deleted; `None`: every key from `start` on is.
    pub end: Option<&'a [u8]>,
    /// Entries with smaller sequence numbers are deleted.
    pub sequence: SequenceNumber,
}

impl RangeTombstoneRef<'_> {
    /// A copy that stands alone.
    pub fn to_owned(self) -> RangeTombstone {
        RangeTombstone {
            start: self.start.to_vec(),
            end: self.end.map(<[u8]>::to_vec),
            sequence: self.sequence,
        }
    }
}

/// Keys one behind the other in one allocation.
#[derive(Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Keys {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.bytes.get(start..end)
    }

    /// How many keys are at or below `key`.
    fn count_through(&self, key: &[u8]) -> usize {
        self.count_while(|boundary| boundary <= key)
    }

    /// How many keys `are` so, which the first ones are.
    fn count_while(&self, are: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(&are) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

/// A tombstone by the numbers of its boundaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u32,
    /// The number of boundaries, where there is no end.
    end: u32,
    sequence: SequenceNumber,
}

/// An immutable set of range tombstones, searched by key.
#[derive(Debug, Default)]
pub struct RangeTombstones {
    /// Every start and end once, ascending. Fragment `i` goes from boundary `i` to the next, the last one to the end of all keys.
    boundaries: Keys,
    /// By start, then newest first.
    spans: Vec<Span>,
    /// For each node of the tree, where its sequence numbers end in `sequences`. Node 1 is the root, `n + i` the leaf of fragment `i`.
    node_ends: Vec<u32>,
    /// Of each node, descending.
    sequences: Vec<SequenceNumber>,
    /// Where tombstones follow each other without a gap: the number of the boundary where that begins, and of the one where it ends.
    islands: Vec<(u32, u32)>,
    sequence_min: SequenceNumber,
    sequence_max: SequenceNumber,
    /// The smallest range that encloses all.
    bounds: Option<KeyRange>,
}

impl RangeTombstones {
    /// The set of these, in any order. Empty ranges are dropped.
    ///
    /// # Panics
    /// If there are more than 2^31.
    pub fn new(tombstones: impl IntoIterator<Item = RangeTombstone>) -> Self {
        let mut tombstones: Vec<_> = tombstones
            .into_iter()
            .filter(|tombstone| tombstone.end.as_ref().is_none_or(|end| *end > tombstone.start))
            .collect();
        tombstones.sort_unstable_by(|a, b| a.start.cmp(&b.start).then(b.sequence.cmp(&a.sequence)));
        let mut sorted: Vec<&[u8]> = tombstones.iter().map(|tombstone| tombstone.start.as_slice()).collect();
        sorted.extend(tombstones.iter().filter_map(|tombstone| tombstone.end.as_deref()));
        sorted.sort_unstable();
        sorted.dedup();
        let mut boundaries = Keys::default();
        sorted.iter().for_each(|key| boundaries.push(key));
        let number = |index: usize| u32::try_from(index).expect("two boundaries a tombstone: below 2^32");
        let place = |key: &[u8]| number(sorted.binary_search(&key).unwrap_or_else(|place| place));
        let spans = tombstones
            .iter()
            .map(|tombstone| Span {
                start: place(&tombstone.start),
                end: tombstone.end.as_deref().map_or(number(sorted.len()), place),
                sequence: tombstone.sequence,
            })
            .collect();
        Self::build(boundaries, spans)
    }

    fn build(boundaries: Keys, spans: Vec<Span>) -> Self {
        let fragments = boundaries.len();
        let mut placed: Vec<(u32, SequenceNumber)> = Vec::with_capacity(spans.len());
        for span in &spans {
            nodes_of(*span, fragments, |node| placed.push((node, span.sequence)));
        }
        placed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        placed.dedup();
        let mut node_ends = vec![0u32; 2 * fragments];
        for (node, _) in &placed {
            if let Some(count) = node_ends.get_mut(*node as usize) {
                *count += 1;
            }
        }
        let mut end = 0;
        for count in &mut node_ends {
            end += *count;
            *count = end;
        }
        let unbounded = spans.iter().any(|span| span.end as usize >= fragments);
        let last = boundaries.get(fragments.saturating_sub(1)).filter(|_| !unbounded).map(<[u8]>::to_vec);
        let bounds = boundaries.get(0).map(|lower| KeyRange::until(lower, last));
        Self {
            bounds,
            islands: islands(&spans),
            node_ends,
            sequences: placed.into_iter().map(|(_, sequence)| sequence).collect(),
            sequence_min: spans.iter().map(|span| span.sequence).min().unwrap_or(0),
            sequence_max: spans.iter().map(|span| span.sequence).max().unwrap_or(0),
            boundaries,
            spans,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The newest tombstone over `key` that a reader at `read_sequence` sees: its sequence number, or 0 where there is none. Costs a
    /// binary search over the boundaries.
    #[inline]
    pub fn newest_covering(&self, key: &[u8], read_sequence: SequenceNumber) -> SequenceNumber {
        if self.spans.is_empty() || self.sequence_min > read_sequence {
            return 0;
        }
        match self.boundaries.count_through(key).checked_sub(1) {
            Some(fragment) => self.newest_in(fragment, read_sequence),
            None => 0,
        }
    }

    /// The newest over fragment `fragment` that a reader at `read_sequence` sees, or 0.
    fn newest_in(&self, fragment: usize, read_sequence: SequenceNumber) -> SequenceNumber {
        let mut newest = 0;
        let mut node = fragment + self.boundaries.len();
        while node > 0 {
            let start = self.node_ends.get(node - 1).copied().unwrap_or(0) as usize;
            let end = self.node_ends.get(node).copied().unwrap_or(0) as usize;
            if let Some(sequences) = self.sequences.get(start..end)
                && !sequences.is_empty()
            {
                let seen = sequences.partition_point(|sequence| *sequence > read_sequence);
                newest = newest.max(sequences.get(seen).copied().unwrap_or(0));
            }
            node >>= 1;
        }
        newest
    }

    /// The numbers of the boundaries between which tombstones lie without a gap, around fragment `fragment`.
    fn island(&self, fragment: usize) -> Option<(usize, usize)> {
        let after = self.islands.partition_point(|(start, _)| *start as usize <= fragment);
        let (start, end) = *self.islands.get(after.checked_sub(1)?)?;
        ((end as usize) > fragment).then_some((start as usize, end as usize))
    }

    /// The tombstones as they were given, by start, then newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RangeTombstoneRef<'_>> + '_ {
        self.spans.iter().map(|span| self.reference(span))
    }

    fn reference(&self, span: &Span) -> RangeTombstoneRef<'_> {
        RangeTombstoneRef {
            start: self.boundaries.get(span.start as usize).unwrap_or_default(),
            end: self.boundaries.get(span.end as usize),
            sequence: span.sequence,
        }
    }

    /// The parts that lie in `range`. Costs little where few do, however many there are.
    pub fn clipped(&self, range: &KeyRange) -> Self {
        let limit = match &range.upper {
            Bound::Included(upper) => Some(successor(upper)),
            Bound::Excluded(upper) => Some(upper.clone()),
            Bound::Unbounded => None,
        };
        // Compared by the numbers of their boundaries: only what is kept is copied.
        let after_lower = self.boundaries.count_through(&range.lower);
        let before_limit =
            limit.as_ref().map_or(self.boundaries.len(), |limit| self.boundaries.count_through(limit));
        let near = self.spans.iter().take_while(|span| (span.start as usize) < before_limit);
        Self::new(near.filter(|span| span.end as usize >= after_lower).map(|span| {
            let tombstone = self.reference(span);
            RangeTombstone {
                start: tombstone.start.max(&range.lower).to_vec(),
                end: match (tombstone.end, &limit) {
                    (Some(end), Some(limit)) => Some(end.min(limit).to_vec()),
                    (Some(end), None) => Some(end.to_vec()),
                    (None, limit) => limit.clone(),
                },
                sequence: tombstone.sequence,
            }
        }))
    }

    /// The smallest range that encloses all; `None` where there are none.
    pub fn bounds(&self) -> Option<&KeyRange> {
        self.bounds.as_ref()
    }

    /// The smallest sequence number in it, 0 where there are none.
    pub fn sequence_min(&self) -> SequenceNumber {
        self.sequence_min
    }

    /// The largest sequence number in it, 0 where there are none.
    pub fn sequence_max(&self) -> SequenceNumber {
        self.sequence_max
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.boundaries.memory_bytes()
            + self.spans.capacity() * size_of::<Span>()
            + self.node_ends.capacity() * size_of::<u32>()
            + self.sequences.capacity() * size_of::<SequenceNumber>()
            + self.islands.capacity() * size_of::<(u32, u32)>()
    }

    /// Appends the set to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        let mut before: &[u8] = &[];
        for tombstone in self.iter() {
            put_suffix(out, before, tombstone.start);
            match tombstone.end {
                Some(end) => {
                    out.push(END_BOUNDED);
                    put_suffix(out, tombstone.start, end);
                }
                None => out.push(END_UNBOUNDED),
            }
            put_varint(out, tombstone.sequence);
            before = tombstone.start;
        }
    }

    /// The set that [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Corruption if it is not such a set.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut decoder = Decoder::new(bytes);
        let count = decoder.varint_usize("count of range tombstones")?;
        if count > bytes.len() / ENCODED_BYTES_MIN {
            return Err(Error::corruption(format!(
                "{count} range tombstones do not fit {} bytes",
                bytes.len()
            )));
        }
        let mut tombstones: Vec<RangeTombstone> = Vec::with_capacity(count);
        for _ in 0..count {
            let before = tombstones.last();
            let start = take_suffix(
                &mut decoder,
                before.map_or(&[], |tombstone| &tombstone.start),
                "start of a range tombstone",
            )?;
            let end = match decoder.u8("kind of the end of a range tombstone")? {
                END_BOUNDED => Some(take_suffix(&mut decoder, &start, "end of a range tombstone")?),
                END_UNBOUNDED => None,
                other => {
                    return Err(Error::corruption(format!("{other} is no kind of end of a range tombstone")));
                }
            };
            let sequence = decoder.varint("sequence number of a range tombstone")?;
            let tombstone = RangeTombstone { start, end, sequence };
            let ordered = before.is_none_or(|before| {
                before.start < tombstone.start
                    || (before.start == tombstone.start && before.sequence >= tombstone.sequence)
            });
            if !ordered {
                return Err(Error::corruption("range tombstones are out of order"));
            }
            if sequence == 0 || sequence > SEQUENCE_MAX {
                return Err(Error::corruption(format!(
                    "{sequence} is no sequence number of a range tombstone"
                )));
            }
            if tombstone.end.as_ref().is_some_and(|end| *end <= tombstone.start) {
                return Err(Error::corruption("a range tombstone ends before it starts"));
            }
            tombstones.push(tombstone);
        }
        decoder.finish("range tombstones")?;
        Ok(Self::new(tombstones))
    }
}

/// See [`RangeTombstones::islands`]; `spans` come by their starts.
fn islands(spans: &[Span]) -> Vec<(u32, u32)> {
    let mut islands: Vec<(u32, u32)> = Vec::new();
    for span in spans {
        match islands.last_mut() {
            Some((_, end)) if span.start <= *end => *end = span.end.max(*end),
            _ => islands.push((span.start, span.end)),
        }
    }
    islands.shrink_to_fit();
    islands
}

/// Calls `place` for each node of the tree whose leaves together are those of `span`.
fn nodes_of(span: Span, fragments: usize, mut place: impl FnMut(u32)) {
    let leaves = u32::try_from(fragments).expect("two boundaries a tombstone: below 2^32");
    let (mut low, mut high) =
        (u64::from(span.start) + u64::from(leaves), u64::from(span.end) + u64::from(leaves));
    let mut put = |node: u64| place(u32::try_from(node).expect("at most two nodes a fragment: below 2^32"));
    while low < high {
        if low & 1 == 1 {
            put(low);
            low += 1;
        }
        if high & 1 == 1 {
            high -= 1;
            put(high);
        }
        low >>= 1;
        high >>= 1;
    }
}

fn put_suffix(out: &mut Vec<u8>, before: &[u8], key: &[u8]) {
    let shared = common_prefix(before, key);
    put_varint(out, shared as u64);
    put_slice(out, key.get(shared..).unwrap_or_default());
}

fn take_suffix(decoder: &mut Decoder<'_>, before: &[u8], field: &str) -> Result<Vec<u8>> {
    let shared = decoder.varint_usize(field)?;
    let suffix = decoder.slice(field)?;
    let Some(shared) = before.get(..shared) else {
        return Err(Error::corruption(format!(
            "{field}: shares {shared} bytes with a key of {}",
            before.len()
        )));
    };
    // An end clipped to the key after the longest one is a byte longer than that.
    if shared.len() + suffix.len() > KEY_BYTES_MAX + 1 {
        return Err(Error::corruption(format!("{field}: above the limit of {KEY_BYTES_MAX} bytes")));
    }
    Ok([shared, suffix].concat())
}

impl RangeTombstones {
    /// The distinct sequence numbers over `key`, newest first.
    pub fn all_covering(&self, key: &[u8]) -> Vec<SequenceNumber> {
        let mut all = Vec::new();
        let mut read_sequence = SEQUENCE_MAX;
        loop {
            let newest = self.newest_covering(key, read_sequence);
            if newest == 0 {
                return all;
            }
            all.push(newest);
            read_sequence = newest - 1;
        }
    }
}
