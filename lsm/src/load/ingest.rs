//! Loading what is sorted: each entry is written once, where it stays.

use std::sync::Arc;

use super::Loading;
use crate::batch::KeyspaceId;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileNumber;
use crate::key::{Kind, SequenceNumber, trailer};
use crate::table::{AnyTableWriter, TableSummary};

/// Loads sorted entries into a keyspace ([`Keyspace::ingest`](crate::Keyspace::ingest)). Nothing is seen of them before [`Ingest::finish`]; dropped before, nothing was
/// ever there. Until then nobody else writes to the keyspace.
#[derive(Debug)]
pub struct Ingest {
    output: Option<(FileNumber, AnyTableWriter)>,
    done: Vec<(FileNumber, TableSummary)>,
    /// The last key, and the internal key that is being made.
    last: Option<Vec<u8>>,
    internal: Vec<u8>,
    // Behind the output: before the files of a load that is given up are removed, they are closed.
    loading: Loading,
}

impl Ingest {
    pub(crate) fn begin(engine: &Arc<Engine>, id: KeyspaceId, name: &Arc<str>) -> Result<Self> {
        let loading = Loading::begin(engine, id, name)?;
        Ok(Self::with(loading))
    }

    pub(super) fn with(loading: Loading) -> Self {
        Self { loading, output: None, done: Vec::new(), last: None, internal: Vec::new() }
    }

    /// Adds an entry, whose key is above the one before it.
    ///
    /// # Errors
    /// InvalidArgument for a key that is not, and for widths or lengths that cannot be: the entry is left out, and one can go on. Any other, of writing mostly: this load is over, and says so from then on.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        self.loading.check_whole()?;
        self.loading.check(key, value)?;
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "key {} does not follow the one before it: sorted input is what is ingested; `bulk` takes any",
                    key.escape_ascii()
                ),
            ));
        }
        let added = self.add(key, value);
        if added.is_err() {
            self.output = None;
        }
        self.loading.settle(added)
    }

    /// Adds an entry that was looked at.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.output.as_ref().is_some_and(|(_, writer)| self.loading.is_full(writer.estimated_bytes())) {
            self.end_table()?;
        }
        let (_, writer) = match &mut self.output {
            Some(output) => output,
            None => {
                let (file, writer) = self.loading.plan().create(self.loading.engine())?;
                self.loading.began(file);
                self.output.insert((file, writer))
            }
        };
        self.internal.clear();
        self.internal.extend_from_slice(key);
        self.internal.extend_from_slice(&trailer(self.loading.sequence(), Kind::Put));
        writer.add(&self.internal, value)?;
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        Ok(())
    }

    /// The key that was added last.
    pub(super) fn last_key(&self) -> Option<&[u8]> {
        self.last.as_deref()
    }

    fn end_table(&mut self) -> Result<()> {
        if let Some((file, writer)) = self.output.take() {
            self.done.push((file, writer.finish()?));
        }
        Ok(())
    }

    /// Shows all of them at once, durably. Returns a sequence number behind which all snapshots see them. What was committed before the call is durable then, too; others write on meanwhile.
    ///
    /// # Errors
    /// Dropped, if the keyspace was meanwhile; Closed; Failed and those of writing, also of a [`Self::put`] before: nothing is shown then.
    pub fn finish(mut self) -> Result<SequenceNumber> {
        self.loading.check_whole()?;
        self.end_table()?;
        self.loading.finish(self.done)
    }
}
