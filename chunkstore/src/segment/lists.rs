//! Long contents: chunk ids cut by content into lists, recursively, each named by a keyed hash of its bytes.
//!
//! A list ends behind an id whose first two bytes say so (one in 256), or when it is full: so a change in the middle of a 100 GB image
//! writes the one list that holds the changed chunks, and one list on each level above. Bytes: FORMAT.md, lists.

use crate::codec::{Decoder, put_varint};
use crate::error::{Error, Result};
use crate::id::{ChunkId, ListId};
use crate::seal::newer;
use crate::secret::{Purpose, Secret, Secrets};
use crate::version::{Contents, INLINE_CHUNKS_MAX};

/// The fewest ids in a list that is not the last: shorter ones would cost more in names than they save.
const LIST_IDS_MIN: usize = 64;
/// The most ids in a list: 32 KiB.
pub const LIST_IDS_MAX: usize = 1024;
/// A list ends behind an id whose first two bytes, as a little-endian number, have these bits clear.
const CUT_MASK: u16 = 0xff;
/// The most levels: 64 ids at least in each list make 2^42 chunks of 7.
const LEVELS_MAX: u8 = 7;

/// The key of the hash that names lists.
#[derive(Clone, Debug)]
pub struct ListKey(Secret);

impl ListKey {
    /// The repository's.
    pub fn new(secrets: &Secrets) -> Self {
        Self(secrets.of_master(Purpose::ListId))
    }
}

/// A list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListNode {
    /// Ids of chunks.
    Chunks(Vec<ChunkId>),
    /// Ids of lists one level below, each with the number of chunks under it.
    Lists {
        /// 2 for lists of lists of chunks, and so on.
        level: u8,
        /// The lists.
        lists: Vec<(ListId, u64)>,
    },
}

impl ListNode {
    /// How many chunks are under it.
    pub fn chunk_count(&self) -> u64 {
        match self {
            Self::Chunks(ids) => ids.len() as u64,
            Self::Lists { lists, .. } => lists.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count)),
        }
    }

    /// Its bytes: level, count, ids (above the first level each with its count of chunks).
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Chunks(ids) => {
                out.push(1);
                put_varint(&mut out, ids.len() as u64);
                for id in ids {
                    out.extend_from_slice(id.as_bytes());
                }
            }
            Self::Lists { level, lists } => {
                out.push(*level);
                put_varint(&mut out, lists.len() as u64);
                for (id, count) in lists {
                    out.extend_from_slice(id.as_bytes());
                    put_varint(&mut out, *count);
                }
            }
        }
        out
    }

    /// The list with these bytes.
    ///
    /// # Errors
    /// Damage if they are none; newer format for more levels than this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut from = Decoder::new(bytes);
        let level = from.u8("level of a list")?;
        if level == 0 {
            return Err(Error::damage("a list: level 0 is none"));
        }
        if level > LEVELS_MAX {
            return Err(newer(format!("level {level} of a list")));
        }
        let count = from.varint_usize("ids in a list")?;
        if count == 0 || count > LIST_IDS_MAX {
            return Err(Error::damage(format!("a list: 1 to {LIST_IDS_MAX} ids expected, {count} found")));
        }
        let node = if level == 1 {
            let mut ids = Vec::with_capacity(count);
            for _ in 0..count {
                ids.push(ChunkId::from_bytes(from.array("chunk id in a list")?));
            }
            Self::Chunks(ids)
        } else {
            let mut lists = Vec::with_capacity(count);
            for _ in 0..count {
                let id = ListId::from_bytes(from.array("list id in a list")?);
                lists.push((id, from.varint("count of chunks in a list")?));
            }
            Self::Lists { level, lists }
        };
        from.finish("a list")?;
        Ok(node)
    }

    /// Its name: the keyed hash of its bytes.
    pub fn id(&self, key: &ListKey) -> ListId {
        ListId::from_bytes(key.0.hash(&[&self.encode()]))
    }
}

fn ends_list(first_bytes: &[u8; 32], length: usize) -> bool {
    let [low, high, ..] = *first_bytes;
    length >= LIST_IDS_MAX || (length >= LIST_IDS_MIN && u16::from_le_bytes([low, high]) & CUT_MASK == 0)
}

/// Turns a stream of chunk ids into contents, and hands out the lists on the way: memory for a list on each level, however long the
/// stream is. Then the next stream.
#[derive(Debug)]
pub struct ListCutter {
    key: ListKey,
    count: u64,
    chunks: Vec<ChunkId>,
    /// Lists of each level from the first that wait for a list above: with the counts of chunks under them.
    above: Vec<Vec<(ListId, u64)>>,
}

impl ListCutter {
    /// A cutter at the front of a stream.
    pub fn new(key: ListKey) -> Self {
        Self { key, count: 0, chunks: Vec::new(), above: Vec::new() }
    }

    /// Takes the next id; `list` gets each list that is complete.
    ///
    /// # Errors
    /// What `list` returns; damage if there are more chunks than lists can hold.
    pub fn push(&mut self, id: ChunkId, list: &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<()> {
        // Cut only when there is one more than stays inline: what stays inline has no lists.
        if self.count >= INLINE_CHUNKS_MAX as u64 {
            self.settle(list)?;
        }
        self.count += 1;
        self.chunks.push(id);
        Ok(())
    }

    /// Emits the list of chunks if its last id ends it.
    fn settle(&mut self, list: &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<()> {
        let Some(last) = self.chunks.last() else { return Ok(()) };
        if ends_list(last.as_bytes(), self.chunks.len()) { self.emit_chunks(list) } else { Ok(()) }
    }

    fn emit_chunks(&mut self, list: &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<()> {
        let node = ListNode::Chunks(std::mem::take(&mut self.chunks));
        self.emit(0, node, list)
    }

    /// Emits a node whose id goes to level `above[level]`, and the lists there that it completes.
    fn emit(
        &mut self,
        level: usize,
        node: ListNode,
        list: &mut dyn FnMut(ListId, ListNode) -> Result<()>,
    ) -> Result<()> {
        let (id, count) = (node.id(&self.key), node.chunk_count());
        list(id, node)?;
        if self.above.len() <= level {
            self.above.push(Vec::new());
        }
        let waiting = self.above.get_mut(level).map_or(0, |waiting| {
            waiting.push((id, count));
            waiting.len()
        });
        if ends_list(id.as_bytes(), waiting) { self.emit_level(level, list) } else { Ok(()) }
    }

    fn emit_level(
        &mut self,
        level: usize,
        list: &mut dyn FnMut(ListId, ListNode) -> Result<()>,
    ) -> Result<()> {
        let lists = self.above.get_mut(level).map(std::mem::take).unwrap_or_default();
        let number = u8::try_from(level + 2).ok().filter(|number| *number <= LEVELS_MAX);
        let number = number.ok_or_else(|| Error::damage("more chunks than lists can hold"))?;
        self.emit(level + 1, ListNode::Lists { level: number, lists }, list)
    }

    /// Forgets what came so far: the front of a stream.
    pub fn clear(&mut self) {
        self.count = 0;
        self.chunks.clear();
        self.above.clear();
    }

    /// The contents that all ids make; behind it is the front of the next stream.
    ///
    /// # Errors
    /// As [`ListCutter::push`].
    pub fn finish(&mut self, list: &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<Contents> {
        let contents = self.close(list);
        self.clear();
        contents
    }

    fn close(&mut self, list: &mut dyn FnMut(ListId, ListNode) -> Result<()>) -> Result<Contents> {
        if self.count == 0 {
            return Ok(Contents::None);
        }
        if self.count <= INLINE_CHUNKS_MAX as u64 {
            return Ok(Contents::Inline(std::mem::take(&mut self.chunks)));
        }
        if !self.chunks.is_empty() {
            self.emit_chunks(list)?;
        }
        // Close each level below the top; the top is the level that has one list and nothing above it.
        let mut level = 0;
        loop {
            let waiting = self.above.get(level).map_or(0, Vec::len);
            let is_top = level + 1 >= self.above.len();
            match self.above.get(level).and_then(|waiting| waiting.first()) {
                Some((id, _)) if is_top && waiting == 1 => {
                    return Ok(Contents::List { id: *id, count: self.count });
                }
                Some(_) => self.emit_level(level, list)?,
                None => {}
            }
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key() -> ListKey {
        ListKey::new(&crate::testing::secrets())
    }

    fn ids(seed: u64, count: usize) -> Vec<ChunkId> {
        (0..count as u64)
            .map(|n| {
                ChunkId::from_bytes(*blake3::hash(&[seed.to_le_bytes(), n.to_le_bytes()].concat()).as_bytes())
            })
            .collect()
    }

    type Lists = HashMap<ListId, ListNode>;

    fn cut(ids: &[ChunkId], lists: &mut Lists) -> Contents {
        let mut cutter = ListCutter::new(key());
        // What was begun and cleared leaves nothing.
        for id in ids.iter().rev().take(5000) {
            cutter.push(*id, &mut |_, _| Ok(())).unwrap();
        }
        cutter.clear();
        let mut keep = |id, node| {
            lists.insert(id, node);
            Ok(())
        };
        for id in ids {
            cutter.push(*id, &mut keep).unwrap();
        }
        cutter.finish(&mut keep).unwrap()
    }

    fn walk(lists: &Lists, id: &ListId, out: &mut Vec<ChunkId>) -> u64 {
        let node = &lists[id];
        assert_eq!(ListNode::decode(&node.encode()).unwrap(), *node);
        assert_eq!(node.id(&key()), *id);
        match node {
            ListNode::Chunks(ids) => {
                out.extend(ids);
                ids.len() as u64
            }
            ListNode::Lists { lists: below, .. } => below
                .iter()
                .map(|(id, count)| {
                    assert_eq!(walk(lists, id, out), *count);
                    count
                })
                .sum(),
        }
    }

    fn round_trip(ids: &[ChunkId]) -> Lists {
        let mut lists = Lists::new();
        match cut(ids, &mut lists) {
            Contents::None => assert!(ids.is_empty()),
            Contents::Inline(inline) => {
                assert!(ids.len() <= INLINE_CHUNKS_MAX && lists.is_empty());
                assert_eq!(inline, ids);
            }
            Contents::List { id, count } => {
                assert!(ids.len() > INLINE_CHUNKS_MAX);
                let mut out = Vec::new();
                assert_eq!(walk(&lists, &id, &mut out), count);
                assert_eq!(out, ids);
            }
        }
        lists
    }

    #[test]
    fn contents_of_every_length_come_back() {
        for count in [0, 1, 63, 64, 65, 66, 127, 128, 129, 1023, 1024, 1025, 5000, 150_000] {
            round_trip(&ids(7, count));
        }
        round_trip(&vec![ChunkId::from_bytes([0; 32]); 10_000]);
        round_trip(&vec![ChunkId::from_bytes([1; 32]); 10_000]);
    }

    #[test]
    fn a_change_in_the_middle_writes_a_few_lists() {
        let mut ids = ids(1, 50_000);
        let before = round_trip(&ids);
        ids[20_000] = ChunkId::from_bytes([9; 32]);
        ids.insert(30_000, ChunkId::from_bytes([8; 32]));
        let after = round_trip(&ids);
        let new = after.keys().filter(|id| !before.contains_key(id)).count();
        assert!(new <= 8, "{new} lists of {}", after.len());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for node in [
            ListNode::Chunks(ids(1, 3)),
            ListNode::Lists { level: 2, lists: vec![(ListId::from_bytes([3; 32]), 300)] },
        ] {
            let bytes = node.encode();
            for length in 0..bytes.len() {
                assert!(ListNode::decode(&bytes[..length]).is_err());
            }
        }
        assert!(ListNode::decode(&[0, 1]).is_err());
        assert!(ListNode::decode(&[1, 0]).is_err());
        assert_eq!(ListNode::decode(&[8, 1]).unwrap_err().kind(), crate::ErrorKind::NewerFormat);
        assert!(ListNode::decode(&[1, 0xff, 0xff, 0xff, 0x7f]).is_err(), "no memory for a wild count");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn contents_come_back(seed in any::<u64>(), count in 0usize..3000) {
            round_trip(&ids(seed, count));
        }
    }
}
