//! Compressing data blocks by two threads: a few at a time they are left to one beside the writer's, as long as it has nothing else to do, and are
//! compressed by the writer's own where it has. They are written in their order.
//!
//! Half of what a load does is compressing. A flush or a merge has other threads beside it already, and compresses for itself.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::block::{Codec, Compression, Compressor};
use crate::error::{Error, ErrorKind, Result};
use crate::table::sample::HeldBlock;

/// Bytes of blocks that are compressed together: some tenths of a millisecond, beside which handing them over is nothing. A block that is larger by
/// itself is not held back.
pub(super) const BATCH_BYTES: usize = 64 << 10;

/// Batches that may wait until those before them are compressed.
const WAITING_MAX: usize = 4;

/// Some blocks, and what to store for each once they are compressed.
#[derive(Debug, Default)]
pub(super) struct Batch {
    blocks: Vec<HeldBlock>,
    payload_bytes: usize,
    /// All that is to be stored, one behind the other; the codec of each, and where it ends.
    stored: Vec<u8>,
    ends: Vec<(Codec, usize)>,
}

impl Batch {
    fn pack(&mut self, compressor: &mut Compressor) -> Result<()> {
        for block in &self.blocks {
            let (codec, stored) = compressor.pack(&block.payload)?;
            self.stored.extend_from_slice(stored);
            self.ends.push((codec, self.stored.len()));
        }
        Ok(())
    }

    /// The blocks, each with its codec and what is to be stored.
    pub(super) fn packed(&self) -> impl Iterator<Item = (&HeldBlock, Codec, &[u8])> {
        let mut start = 0;
        self.blocks.iter().zip(&self.ends).map(move |(block, (codec, end))| {
            let stored = self.stored.get(start..*end).unwrap_or_default();
            start = *end;
            (block, *codec, stored)
        })
    }
}

/// A batch in its place among others.
#[derive(Debug)]
enum Waiting {
    Packed(Batch),
    /// The thread has it.
    Away,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Beside {
    filling: Batch,
    waiting: VecDeque<Waiting>,
    /// Payloads of all that is held, in bytes.
    held_bytes: usize,
    /// `None`: the thread is told to end.
    to_pack: Option<SyncSender<Batch>>,
    packed: Receiver<Result<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Starts the thread; `None` if the system has none to give.
    ///
    /// # Errors
    /// InvalidArgument if this build has no such codec.
    pub(super) fn start(compression: Compression) -> Result<Option<Self>> {
        let mut compressor = Compressor::new(compression)?;
        // One that it works at, and one that waits for it.
        let (to_pack, batches) = sync_channel::<Batch>(1);
        let (done, packed) = sync_channel(WAITING_MAX + 1);
        let pack_all = move || {
            for mut batch in batches {
                let result = batch.pack(&mut compressor).map(|()| batch);
                if done.send(result).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lsm-load".to_owned()).spawn(pack_all);
        Ok(thread.ok().map(|thread| Self {
            filling: Batch::default(),
            waiting: VecDeque::new(),
            held_bytes: 0,
            to_pack: Some(to_pack),
            packed,
            thread: Some(thread),
        }))
    }

    /// Bytes of blocks that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes a block in, behind all before it.
    ///
    /// # Errors
    /// Io if `compressor`, which is that of the writer, fails.
    pub(super) fn push(&mut self, block: HeldBlock, compressor: &mut Compressor) -> Result<()> {
        self.held_bytes += block.payload.len();
        self.filling.payload_bytes += block.payload.len();
        self.filling.blocks.push(block);
        if self.filling.payload_bytes >= BATCH_BYTES { self.hand_over(compressor) } else { Ok(()) }
    }

    /// Has what was taken in compressed, however little it is.
    ///
    /// # Errors
    /// Io if `compressor` fails.
    pub(super) fn hand_over(&mut self, compressor: &mut Compressor) -> Result<()> {
        let batch = std::mem::take(&mut self.filling);
        if batch.blocks.is_empty() {
            return Ok(());
        }
        let sent = self.to_pack.as_ref().map(|to_pack| to_pack.try_send(batch));
        let waiting = match sent {
            Some(Ok(())) => Waiting::Away,
            Some(Err(TrySendError::Full(mut batch))) => {
                batch.pack(compressor)?;
                Waiting::Packed(batch)
            }
            Some(Err(TrySendError::Disconnected(_))) | None => return Err(panicked()),
        };
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// The oldest batch that was handed over, if it is compressed; it is waited for with `wait`, and if there are too many behind it.
    ///
    /// # Errors
    /// Io if the thread's compressor failed; Failed if it panicked.
    pub(super) fn next(&mut self, wait: bool) -> Result<Option<Batch>> {
        let batch = match self.waiting.pop_front() {
            None => return Ok(None),
            Some(Waiting::Packed(batch)) => batch,
            Some(Waiting::Away) if wait || self.waiting.len() >= WAITING_MAX => {
                self.packed.recv().unwrap_or_else(|_| Err(panicked()))?
            }
            Some(Waiting::Away) => match self.packed.try_recv() {
                Ok(batch) => batch?,
                Err(TryRecvError::Empty) => {
                    self.waiting.push_front(Waiting::Away);
                    return Ok(None);
                }
                Err(TryRecvError::Disconnected) => return Err(panicked()),
            },
        };
        self.held_bytes -= batch.payload_bytes;
        Ok(Some(batch))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.to_pack = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was the error of whoever waited for it.
            let _ = thread.join();
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Failed, "a thread that compressed blocks panicked: a bug of this crate")
}
