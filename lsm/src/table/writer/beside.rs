//! Compressing data blocks by two threads: a few at a time they are left to one beside the writer's, as long as it has nothing else to do, and are
//! compressed by the writer's own where it has. They are written in their order.
//!
//! Half of what a load does is compressing. A flush or a merge has other threads beside it already, and compresses for itself.
//!
//! Of blocks of the usual size about half a megabyte is held.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::block::{Codec, Compression, Compressor};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Mutex;
use crate::table::held::HeldBlock;

/// Bytes of blocks that are compressed together: some tenths of a millisecond, beside which handing them over is nothing.
const BATCH_BYTES: usize = 64 << 10;

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

    /// Gives the blocks to `write`, in their order, each with its codec and what is to be stored.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn give(self, mut write: impl FnMut(HeldBlock, Codec, &[u8]) -> Result<()>) -> Result<()> {
        let mut start = 0;
        for (block, (codec, end)) in self.blocks.into_iter().zip(self.ends) {
            write(block, codec, self.stored.get(start..end).unwrap_or_default())?;
            start = end;
        }
        Ok(())
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
    /// Batches on their way back, in their order. (A lock that nobody waits for: a writer is shared as little as it is anywhere.)
    packed: Mutex<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    /// Starts the thread; `None` if the system has none to give, or this build no such codec.
    pub(super) fn start(compression: Compression) -> Option<Self> {
        let mut compressor = Compressor::new(compression).ok()?;
        Self::start_with(move |batch| batch.pack(&mut compressor))
    }

    fn start_with(mut pack: impl FnMut(&mut Batch) -> Result<()> + Send + 'static) -> Option<Self> {
        // One that it works at, and one that waits for it.
        let (to_pack, batches) = sync_channel::<Batch>(1);
        // Room for all that can be away, so that the thread never waits for the writer.
        let (done, packed) = sync_channel(WAITING_MAX + 1);
        let pack_all = move || {
            for mut batch in batches {
                let result = pack(&mut batch).map(|()| batch);
                if done.send(result).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("lsm-load".to_owned()).spawn(pack_all);
        thread.ok().map(|thread| Self {
            filling: Batch::default(),
            waiting: VecDeque::new(),
            held_bytes: 0,
            to_pack: Some(to_pack),
            packed: Mutex::new(packed),
            thread: Some(thread),
        })
    }

    /// Whether a block of so many bytes is taken in. A large one, of a large value, is not held back: too much would be.
    pub(super) fn takes(bytes: usize) -> bool {
        bytes <= BATCH_BYTES
    }

    /// Bytes of blocks that are held.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Takes a block in, behind all before it.
    ///
    /// # Errors
    /// Io if `compressor`, which is that of the writer, fails; Failed if the thread panicked.
    pub(super) fn push(&mut self, block: HeldBlock, compressor: &mut Compressor) -> Result<()> {
        self.held_bytes += block.payload.len();
        self.filling.payload_bytes += block.payload.len();
        self.filling.blocks.push(block);
        if self.filling.payload_bytes >= BATCH_BYTES { self.hand_over(compressor) } else { Ok(()) }
    }

    /// Has what was taken in compressed, however little it is.
    ///
    /// # Errors
    /// As [`Self::push`].
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
                self.packed.lock().recv().unwrap_or_else(|_| Err(panicked()))?
            }
            Some(Waiting::Away) => {
                let received = self.packed.lock().try_recv();
                match received {
                    Ok(batch) => batch?,
                    Err(TryRecvError::Empty) => {
                        self.waiting.push_front(Waiting::Away);
                        return Ok(None);
                    }
                    Err(TryRecvError::Disconnected) => return Err(panicked()),
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::held::BlockKeys;

    /// A block that fills a batch.
    fn block(number: u8) -> HeldBlock {
        let keys = BlockKeys {
            first_user: vec![number],
            last_user: vec![number],
            last_stamp: 0,
            entries: 1,
            hashes: Vec::new(),
        };
        HeldBlock { payload: vec![number; BATCH_BYTES], keys }
    }

    /// The next batch's blocks, by their numbers.
    fn next(beside: &mut Beside) -> Result<Vec<u8>> {
        let mut numbers = Vec::new();
        let batch = beside.next(true)?.expect("some were handed over");
        batch.give(|block, codec, stored| {
            assert!(codec == Codec::Lz4 && stored.len() < BATCH_BYTES / 10);
            numbers.push(block.keys.first_user[0]);
            Ok(())
        })?;
        Ok(numbers)
    }

    fn lz4() -> Compressor {
        Compressor::new(Compression::Lz4).unwrap()
    }

    #[test]
    fn what_finds_the_thread_busy_is_compressed_here_and_all_come_in_their_order() {
        let (go_on, gate) = sync_channel::<()>(10);
        let mut its_own = lz4();
        let pack = move |batch: &mut Batch| {
            gate.recv().map_err(|_| panicked()).and_then(|()| batch.pack(&mut its_own))
        };
        let mut beside = Beside::start_with(pack).unwrap();
        for number in 0..4 {
            beside.push(block(number), &mut lz4()).unwrap();
        }
        // It stands before the gate with the first, and at most one more waits for it.
        let away = beside.waiting.iter().filter(|waiting| matches!(waiting, Waiting::Away)).count();
        assert!((1..=2).contains(&away), "{away}");
        assert!(beside.next(false).unwrap().is_none(), "the first is not compressed yet");
        assert_eq!(beside.held_bytes(), 4 * BATCH_BYTES);
        (0..away).for_each(|_| go_on.send(()).unwrap());
        for number in 0..4 {
            assert_eq!(next(&mut beside).unwrap(), [number]);
        }
        assert!(beside.next(true).unwrap().is_none());
        assert_eq!(beside.held_bytes(), 0);
    }

    #[test]
    fn what_goes_wrong_over_there_is_told_here() {
        let mut its_own = lz4();
        let pack = move |batch: &mut Batch| match batch.blocks[0].keys.first_user[0] {
            1 => Err(Error::new(ErrorKind::Io, "no memory")),
            2 => panic!("a bug"),
            _ => batch.pack(&mut its_own),
        };
        let mut beside = Beside::start_with(pack).unwrap();
        beside.push(block(0), &mut lz4()).unwrap();
        assert_eq!(next(&mut beside).unwrap(), [0]);
        for (number, kind) in [(1, ErrorKind::Io), (2, ErrorKind::Failed)] {
            beside.push(block(number), &mut lz4()).unwrap();
            assert_eq!(next(&mut beside).unwrap_err().kind(), kind);
        }
        assert_eq!(beside.push(block(3), &mut lz4()).unwrap_err().kind(), ErrorKind::Failed);
    }

    #[test]
    fn what_is_given_up_ends_its_thread() {
        let mut its_own = lz4();
        let mut beside = Beside::start_with(move |batch| batch.pack(&mut its_own)).unwrap();
        for number in 0..3 {
            beside.push(block(number), &mut lz4()).unwrap();
        }
        drop(beside);
    }
}
