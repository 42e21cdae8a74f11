//! Where memtables get their memory, and where it is counted.

use std::sync::Arc;

use super::fixed::Pool;
use super::sorted::Segments;
use crate::charge::Charge;

/// See the module; a clone is a handle to the same one.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    /// What all memtables take, those too that only a snapshot or a scan keeps, and what waits for the next ones.
    pub(crate) charge: Arc<Charge>,
    /// Memory of memtables of rows, for the next.
    pub(crate) rows: Arc<Pool>,
    /// Memory for trees.
    pub(crate) segments: Arc<Segments>,
}

impl Default for Supply {
    fn default() -> Self {
        Self::charged(Arc::default(), usize::MAX)
    }
}

impl Supply {
    /// A supply that counts as this. What is left by memtables is kept while all of it together is not more than so many bytes.
    pub(crate) fn charged(charge: Arc<Charge>, bytes_max: usize) -> Self {
        Self {
            rows: Arc::new(Pool::charged(Arc::clone(&charge), bytes_max)),
            segments: Arc::new(Segments::charged(Arc::clone(&charge), bytes_max)),
            charge,
        }
    }

    /// From now on all of it together may come to so many bytes.
    pub(crate) fn limit(&self, bytes_max: usize) {
        self.rows.limit(bytes_max);
        self.segments.limit(bytes_max);
    }

    /// Bytes that are kept for memtables to come.
    pub(crate) fn kept_bytes(&self) -> usize {
        self.rows.bytes().saturating_add(self.segments.bytes())
    }

    /// Gives back what there is no room for any more, since others take more.
    pub(crate) fn trim(&self) {
        self.rows.trim();
        self.segments.trim();
    }

    /// Gives back all that is kept.
    pub(crate) fn clear(&self) {
        self.rows.clear();
        self.segments.clear();
    }
}
