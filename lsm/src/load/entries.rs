//! Loading a sorted keyspace in any order: sorted a buffer at a time, and merged once, as what is ingested.

use std::sync::Arc;

use super::{Ingest, Loading};
use crate::charge::Charge;
use crate::error::Result;
use crate::filename::FileNumber;
use crate::flush::open_table;
use crate::iter::InternalIterator;
use crate::key::{Kind, SequenceNumber, split, trailer};
use crate::levels::{OpenTable, RunIter, TableReference};
use crate::merge::MergingIterator;
use crate::range::KeyRange;
use crate::row::prefix;
use crate::table::{ReadMode, TableSummary};

/// What an entry takes beside its bytes.
const ENTRY_BYTES: usize = size_of::<Place>();

/// Where an entry lies in the buffer.
#[derive(Clone, Copy, Debug)]
struct Place {
    prefix: u64,
    start: usize,
    key_bytes: u32,
    value_bytes: u32,
}

/// Entries in the order they came.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    places: Vec<Place>,
    charge: Arc<Charge>,
    charged: usize,
}

impl Buffer {
    /// What it takes.
    fn bytes(&self) -> usize {
        self.bytes.len() + self.places.len() * ENTRY_BYTES
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        let lengths = (u32::try_from(key.len()), u32::try_from(value.len()));
        let (Ok(key_bytes), Ok(value_bytes)) = lengths else {
            debug_assert!(false, "lengths were checked");
            return;
        };
        self.places.push(Place { prefix: prefix(key), start: self.bytes.len(), key_bytes, value_bytes });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let now = self.bytes.capacity() + self.places.capacity() * ENTRY_BYTES;
        if now > self.charged {
            self.charge.add(now - self.charged);
            self.charged = now;
        }
    }

    /// Gives the entries to `use_entry`, sorted, of each key the last, and is empty then.
    fn drain(&mut self, mut use_entry: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let bytes = &self.bytes;
        let key = |place: &Place| {
            bytes.get(place.start..place.start + place.key_bytes as usize).unwrap_or_default()
        };
        // Later entries stand further behind.
        self.places.sort_unstable_by(|a, b| {
            a.prefix.cmp(&b.prefix).then_with(|| key(a).cmp(key(b))).then_with(|| b.start.cmp(&a.start))
        });
        let mut last: Option<&[u8]> = None;
        for place in &self.places {
            let key = key(place);
            if last != Some(key) {
                let value_at = place.start + place.key_bytes as usize;
                use_entry(
                    key,
                    bytes.get(value_at..value_at + place.value_bytes as usize).unwrap_or_default(),
                )?;
                last = Some(key);
            }
        }
        self.places.clear();
        self.bytes.clear();
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.charge.subtract(self.charged);
    }
}

/// Entries that are being loaded.
#[derive(Debug)]
pub(super) struct Entries {
    buffer: Buffer,
    buffer_bytes_max: usize,
    /// Sorted tables, the oldest first.
    spilled: Vec<(FileNumber, TableSummary)>,
}

impl Entries {
    pub(super) fn new(loading: &Loading) -> Self {
        let engine = loading.engine();
        let charge = Arc::clone(engine.budget.loads());
        let buffer = Buffer { bytes: Vec::new(), places: Vec::new(), charge, charged: 0 };
        Self { buffer, buffer_bytes_max: engine.tuning.write_buffer_bytes, spilled: Vec::new() }
    }

    /// Adds an entry that was looked at.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn put(&mut self, loading: &mut Loading, key: &[u8], value: &[u8]) -> Result<()> {
        let own = key.len() + value.len() + ENTRY_BYTES;
        if self.buffer.bytes() > 0 && self.buffer.bytes() + own > self.buffer_bytes_max {
            self.spill(loading)?;
        }
        self.buffer.add(key, value);
        Ok(())
    }

    /// Writes the buffer to a table that is merged later.
    fn spill(&mut self, loading: &mut Loading) -> Result<()> {
        let spilled = self.write(loading);
        loading.settle(spilled)
    }

    fn write(&mut self, loading: &mut Loading) -> Result<()> {
        let (file, mut writer) = loading.plan().create(loading.engine())?;
        loading.began(file);
        let trailer = trailer(loading.sequence(), Kind::Put);
        let mut internal = Vec::new();
        self.buffer.drain(|key, value| {
            internal.clear();
            internal.extend_from_slice(key);
            internal.extend_from_slice(&trailer);
            writer.add(&internal, value)
        })?;
        self.spilled.push((file, writer.finish()?));
        Ok(())
    }

    /// As [`super::Bulk::finish`].
    pub(super) fn finish(mut self, mut loading: Loading) -> Result<SequenceNumber> {
        if !self.spilled.is_empty() && self.buffer.bytes() > 0 {
            self.spill(&mut loading)?;
        }
        let Self { mut buffer, spilled, .. } = self;
        let mut sources = Vec::new();
        // The newest first: of equal keys, that of the first source comes first.
        for (file, summary) in spilled.iter().rev() {
            let table = open_table(loading.engine(), *file, loading.kind, summary)?;
            let reference = Arc::new(TableReference::whole(*file, summary, 0));
            let run: Arc<[OpenTable]> = Arc::from([OpenTable::new(reference, table)]);
            sources.push(RunIter::new(run, ReadMode::Bypass, KeyRange::all()));
        }
        let mut ingest = Ingest::with(loading);
        buffer.drain(|key, value| ingest.put(key, value))?;
        let mut merge = MergingIterator::new(sources);
        merge.seek_to_first()?;
        while merge.valid() {
            let (user, _) = split(merge.key())?;
            if ingest.last_key() != Some(user) {
                ingest.put(user, merge.value())?;
            }
            merge.next()?;
        }
        ingest.finish()
    }
}
