//! Reading files, cutting them into chunks, naming each chunk: the stage of many threads.
//!
//! A job is some entries in a row: many small files, or one large one. What a worker makes of it goes on in batches of about
//! [`BATCH_BYTES`]: the chunks' bytes one after the other, and the events that say how they are cut and where each
//! entry ends. Bytes are read straight into the batch that carries them on; only what is not cut yet when a batch is full is
//! copied, into the next.

use crossbeam_channel::Sender;

use crate::chunk::{Cutter, Hasher};
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// A batch is handed on when it holds this much: large enough that a channel costs nothing, small enough that a dozen of
/// them in flight are no memory to speak of.
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// The bytes of a file between its holes, in order.
pub(crate) trait Contents {
    /// Reads some bytes into `buffer`; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

/// What happens in a batch, in order.
pub(crate) enum Event<E> {
    /// The next `length` bytes of the batch are a chunk of the entry that ends next.
    Chunk {
        /// Its id.
        id: ChunkId,
        /// Its bytes.
        length: usize,
    },
    /// All chunks of an entry have come.
    End(E),
}

/// Bytes and events, in order.
pub(crate) struct Batch<E> {
    /// The chunks' bytes, one after the other.
    pub(crate) data: Vec<u8>,
    /// How they are cut, and what they are.
    pub(crate) events: Vec<Event<E>>,
}

impl<E> Default for Batch<E> {
    fn default() -> Self {
        Self { data: Vec::new(), events: Vec::new() }
    }
}

/// The worker's side of one job: cuts what it is given, and sends full batches on.
pub(crate) struct BatchWriter<'a, E> {
    cutter: &'a Cutter,
    hasher: &'a Hasher,
    out: &'a Sender<Batch<E>>,
    batch: Batch<E>,
    /// What the entries in the batch take besides their bytes.
    weight: usize,
}

impl<'a, E> BatchWriter<'a, E> {
    /// A writer whose batches go to `out`.
    pub(crate) fn new(cutter: &'a Cutter, hasher: &'a Hasher, out: &'a Sender<Batch<E>>) -> Self {
        Self { cutter, hasher, out, batch: Batch::default(), weight: 0 }
    }

    /// Reads a file to its end. Returns its bytes.
    ///
    /// # Errors
    /// The reader's; chunks that were complete before stay in the stream, where they belong to no entry and do no harm. Cancelled
    /// if nobody takes the batches any more.
    pub(crate) fn contents(&mut self, contents: &mut dyn Contents) -> Result<u64> {
        // Bytes at the end of the batch that no chunk has claimed yet.
        let mut uncut = 0usize;
        let mut total = 0u64;
        let mut ended = false;
        // A reader that knows the end is not asked for more than a chunk at first: most files are small.
        let chunk_max = self.cutter.sizes().max() as usize;
        let mut ask = chunk_max;
        loop {
            while !ended && uncut < chunk_max {
                let filled = self.batch.data.len();
                self.batch.data.resize(filled + ask, 0);
                let read = match self.batch.data.get_mut(filled..) {
                    Some(room) => contents.read(room),
                    None => Ok(0),
                };
                let count = match read {
                    Ok(count) => count,
                    Err(error) => {
                        self.batch.data.truncate(filled - uncut);
                        return Err(error);
                    }
                };
                self.batch.data.truncate(filled + count);
                uncut += count;
                total += count as u64;
                ended = count == 0;
                ask = BATCH_BYTES / 2;
            }
            if uncut == 0 {
                return Ok(total);
            }
            let start = self.batch.data.len() - uncut;
            let pending = self.batch.data.get(start..).unwrap_or_default();
            let length = self.cutter.cut_last(pending);
            assert!(length > 0 && length <= uncut, "the cutter cut {length} of {uncut} bytes");
            let id = self.hasher.id(pending.get(..length).unwrap_or_default());
            self.batch.events.push(Event::Chunk { id, length });
            uncut -= length;
            if self.batch.data.len() - uncut >= BATCH_BYTES {
                let rest = self.batch.data.split_off(self.batch.data.len() - uncut);
                self.send()?;
                self.batch.data = rest;
            }
        }
    }

    /// Ends an entry that takes `weight` bytes of memory besides its contents: some have megabytes of attributes.
    ///
    /// # Errors
    /// Cancelled if nobody takes the batches any more.
    pub(crate) fn end(&mut self, entry: E, weight: usize) -> Result<()> {
        self.batch.events.push(Event::End(entry));
        self.weight += weight;
        if self.batch.data.len() + self.weight >= BATCH_BYTES {
            self.send()?;
        }
        Ok(())
    }

    /// Sends what is left; ends the job.
    ///
    /// # Errors
    /// Cancelled if nobody takes the batches any more.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.batch.events.is_empty() { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<()> {
        self.weight = 0;
        self.out.send(std::mem::take(&mut self.batch)).map_err(|_| stopped())
    }
}

/// The error of a stage whose neighbour stopped: whoever stopped first has the real one.
pub(crate) fn stopped() -> Error {
    Error::new(crate::error::ErrorKind::Cancelled, "the backup stopped")
}
