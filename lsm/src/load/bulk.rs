//! Loading what is in no order: sorted in memory a buffer at a time, and merged once. What fits into one buffer is written once, everything else twice.

use std::sync::Arc;

use super::Loading;
use super::entries::Entries;
use super::rows::Rows;
use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::Result;
use crate::key::SequenceNumber;
use crate::row::KeyspaceKind;

/// Loads entries in any order into a keyspace ([`Keyspace::bulk`](crate::Keyspace::bulk)); of several with one key the last holds. Nothing is seen of them
/// before [`Bulk::finish`]; dropped before, nothing was ever there. Until then nobody else writes to the keyspace.
#[derive(Debug)]
pub struct Bulk {
    // Before the right to load is given back, its memory is.
    buffer: Buffer,
    loading: Loading,
}

#[derive(Debug)]
enum Buffer {
    Entries(Entries),
    Rows(Rows),
}

impl Bulk {
    pub(crate) fn begin(engine: &Arc<Engine>, id: KeyspaceId, name: &Arc<str>) -> Result<Self> {
        let loading = Loading::begin(engine, id, name)?;
        let buffer = match loading.kind {
            KeyspaceKind::Sorted => Buffer::Entries(Entries::new(&loading)),
            KeyspaceKind::Fixed(widths) => Buffer::Rows(Rows::new(&loading, widths)),
        };
        Ok(Self { buffer, loading })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// InvalidArgument for widths or lengths that cannot be: the entry is left out, and one can go on. Any other, of writing mostly: this load is over, and says so from then on.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.loading.check_whole()?;
        self.loading.check(key, value)?;
        match &mut self.buffer {
            Buffer::Entries(entries) => entries.put(&mut self.loading, key, value),
            Buffer::Rows(rows) => rows.put(&mut self.loading, key, value),
        }
    }

    /// Shows all of them at once, durably. Returns a sequence number behind which all snapshots see them. What was committed before the call is durable then, too; others write on meanwhile.
    ///
    /// # Errors
    /// Dropped, if the keyspace was meanwhile; Closed; Failed and those of reading and writing, also of a [`Self::put`] before: nothing is shown then.
    pub fn finish(self) -> Result<SequenceNumber> {
        self.loading.check_whole()?;
        match self.buffer {
            Buffer::Entries(entries) => entries.finish(self.loading),
            Buffer::Rows(rows) => rows.finish(self.loading),
        }
    }
}
