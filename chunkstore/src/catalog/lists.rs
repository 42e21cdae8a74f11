//! Contents as streams: chunk ids out of lists of lists, and where each chunk's bytes begin.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ChunkId, ListId};
use crate::segment::ListNode;
use crate::version::Contents;

use super::Catalog;
use super::chunks::ChunkPlace;
use super::store::{bad_row, local};

/// How many chunks are looked up together.
const LOOKUP_CHUNKS: usize = 256;

/// The chunk ids of some contents, in order. Memory for one list on each level, however long the contents are.
#[derive(Debug)]
pub struct ContentsIter {
    catalog: Catalog,
    /// What is still to come: the next at the end.
    chunks: Vec<ChunkId>,
    /// Lists still to come, by level: the next at the end.
    lists: Vec<ListId>,
    left: u64,
    failed: bool,
}

/// A chunk as a part of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSpan {
    /// Its id.
    pub id: ChunkId,
    /// Where it begins, in bytes from the start of the contents (holes not counted).
    pub offset: u64,
    /// Its length in bytes.
    pub length: u32,
    /// Every place that holds it, those on a usable pack first; never empty.
    pub places: Vec<ChunkPlace>,
}

/// The chunks of some contents with their offsets and places, in order.
#[derive(Debug)]
pub struct SpanIter {
    ids: ContentsIter,
    /// Looked up and not given out yet: the next at the end.
    ready: Vec<ChunkSpan>,
    offset: u64,
    /// What ended the last look-up.
    error: Option<Error>,
    failed: bool,
}

impl Catalog {
    /// `None` if no segment that was read told of it: one is lost.
    pub(super) fn list_if_known(&self, id: &ListId) -> Result<Option<ListNode>> {
        let row = self.inner.spaces.lists.get(id.as_bytes())?;
        row.map(|row| ListNode::decode(&row).map_err(local("lists"))).transpose()
    }

    fn list(&self, id: &ListId) -> Result<ListNode> {
        self.list_if_known(id)?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("list {id} of its chunks is not known: the segment that told of it is lost"),
            )
        })
    }

    /// The chunk ids of contents. A list that no segment told of is an error of kind not found, and the last item.
    ///
    /// # Errors
    /// Local.
    pub fn contents(&self, contents: &Contents) -> Result<ContentsIter> {
        let (chunks, lists, left) = match contents {
            Contents::None => (Vec::new(), Vec::new(), 0),
            Contents::Inline(ids) => (ids.iter().rev().copied().collect(), Vec::new(), ids.len() as u64),
            Contents::List { id, count } => (Vec::new(), vec![*id], *count),
        };
        Ok(ContentsIter { catalog: self.clone(), chunks, lists, left, failed: false })
    }

    /// The chunks of contents with offsets, lengths and places, looked up in batches. A chunk that no segment tells of is an error of kind
    /// not found, and the last item: offsets behind it are not known.
    ///
    /// # Errors
    /// Local.
    pub fn spans(&self, contents: &Contents) -> Result<SpanIter> {
        Ok(SpanIter {
            ids: self.contents(contents)?,
            ready: Vec::new(),
            offset: 0,
            error: None,
            failed: false,
        })
    }
}

impl ContentsIter {
    fn step(&mut self) -> Result<Option<ChunkId>> {
        loop {
            if let Some(id) = self.chunks.pop() {
                self.left =
                    self.left.checked_sub(1).ok_or_else(|| bad_row("lists", "more chunks than counted"))?;
                return Ok(Some(id));
            }
            let Some(id) = self.lists.pop() else { break };
            match self.catalog.list(&id)? {
                ListNode::Chunks(ids) => self.chunks.extend(ids.into_iter().rev()),
                ListNode::Lists { lists, .. } => self.lists.extend(lists.into_iter().rev().map(|(id, _)| id)),
            }
        }
        if self.left > 0 {
            return Err(bad_row("lists", &format!("{} chunks fewer than counted", self.left)));
        }
        Ok(None)
    }
}

impl Iterator for ContentsIter {
    type Item = Result<ChunkId>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.step().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

impl SpanIter {
    fn look_up(&mut self) -> Result<()> {
        let ids: Vec<ChunkId> = self.ids.by_ref().take(LOOKUP_CHUNKS).collect::<Result<_>>()?;
        let places = self.ids.catalog.places(&ids)?;
        for (id, places) in ids.into_iter().zip(places) {
            let Some(length) = places.first().map(|place| place.length) else {
                let offset = self.offset;
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("no pack is known that holds chunk {id}, {offset} bytes into the contents"),
                ));
            };
            self.ready.push(ChunkSpan { id, offset: self.offset, length, places });
            self.offset += u64::from(length);
        }
        Ok(())
    }
}

impl Iterator for SpanIter {
    type Item = Result<ChunkSpan>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() && self.error.is_none() && !self.failed {
            self.error = self.look_up().err();
            self.ready.reverse();
        }
        if let Some(span) = self.ready.pop() {
            return Some(Ok(span));
        }
        // What was found before the error comes before it.
        let error = self.error.take()?;
        self.failed = true;
        Some(Err(error))
    }
}
