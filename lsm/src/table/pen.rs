//! Giving the bytes of a table to its file: by the thread that makes them, or by one beside it, to which it leaves a piece and goes on with the next.
//!
//! Half of what a load in order does is the system's copying into its cache. A flush or a merge has other threads beside it already, and writes for itself.
//!
//! The file is written out while it is being made, so that the sync at its end finds little left to do, and what others sync meanwhile (the journal) does not
//! stand behind a whole table.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::fs::{Advice, File, SyncSite};

/// The system is told to write the file out after so many bytes.
const BEHIND_BYTES: u64 = 1 << 20;

/// The sync that makes a table's contents durable before the manifest names it.
const SYNC_CONTENTS: SyncSite = SyncSite::new("table-contents");

/// The file, and how far the system was told to write it out; `None`: it need not be.
#[derive(Clone, Debug)]
struct Tail {
    path: PathBuf,
    file: Arc<dyn File>,
    told: Option<u64>,
}

impl Tail {
    /// Writes a piece behind all that was written before.
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).context("write a table", &self.path)?;
        let end = offset + bytes.len() as u64;
        if let Some(told) = &mut self.told
            && end - *told >= BEHIND_BYTES
        {
            self.file.advise(Advice::WriteBack, *told, end - *told);
            *told = end;
        }
        Ok(())
    }
}

/// Who writes.
#[derive(Debug)]
enum Hand {
    /// Whoever makes the table.
    Own,
    /// The same, but a thread beside him from the first whole piece on, if the system has one to give.
    OwnYet,
    Beside(Beside),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pen {
    tail: Tail,
    hand: Hand,
}

impl Pen {
    pub(super) fn new(path: PathBuf, file: Arc<dyn File>) -> Self {
        Self { tail: Tail { path, file, told: Some(0) }, hand: Hand::Own }
    }

    /// Says that the file will soon be gone: it need not be written out.
    pub(super) fn set_temporary(&mut self) {
        self.tail.told = None;
    }

    /// Has a thread of its own write what more than one piece is written of.
    pub(super) fn write_beside(&mut self) {
        self.hand = Hand::OwnYet;
    }

    /// Writes a piece, which is empty then, to where all before it end. A thread of its own that has failed has failed for good: there would be a hole in the file.
    ///
    /// # Errors
    /// Io, also of a piece that was given before.
    pub(super) fn write(&mut self, bytes: &mut Vec<u8>, offset: u64) -> Result<()> {
        if matches!(self.hand, Hand::OwnYet) {
            let spare = Vec::with_capacity(bytes.capacity());
            self.hand = Beside::start(self.tail.clone(), spare).map_or(Hand::Own, Hand::Beside);
        }
        self.give(bytes, offset)
    }

    /// As [`Self::write`], for the last piece: all is written then.
    ///
    /// # Errors
    /// The same.
    pub(super) fn write_last(&mut self, bytes: &mut Vec<u8>, offset: u64) -> Result<()> {
        self.give(bytes, offset)?;
        match &mut self.hand {
            Hand::Own | Hand::OwnYet => Ok(()),
            Hand::Beside(beside) => beside.wait(),
        }
    }

    fn give(&mut self, bytes: &mut Vec<u8>, offset: u64) -> Result<()> {
        match &mut self.hand {
            Hand::Own | Hand::OwnYet => {
                self.tail.write(bytes, offset)?;
                bytes.clear();
                Ok(())
            }
            Hand::Beside(beside) => beside.write(bytes, offset),
        }
    }

    /// Makes what is written durable.
    ///
    /// # Errors
    /// Io.
    pub(super) fn sync(&self) -> Result<()> {
        self.tail.file.sync_data(SYNC_CONTENTS).context("make a table durable", &self.tail.path)
    }

    /// The error, of this file.
    pub(super) fn locate(&self, error: Error) -> Error {
        error.at(&self.tail.path)
    }
}

/// A thread that writes one piece at a time.
#[derive(Debug)]
struct Beside {
    /// Pieces on their way there, with where they belong; `None`: it is told to end.
    given: Option<SyncSender<(Vec<u8>, u64)>>,
    /// What they were written from, empty, on its way back.
    written: Receiver<Result<Vec<u8>>>,
    /// What the next piece is gathered in; `None` while it is being written from.
    spare: Option<Vec<u8>>,
    failed: Option<Error>,
    thread: Option<JoinHandle<()>>,
}

impl Beside {
    fn start(mut tail: Tail, spare: Vec<u8>) -> Option<Self> {
        let (given, pieces) = sync_channel::<(Vec<u8>, u64)>(1);
        let (back, written) = sync_channel(1);
        let thread = std::thread::Builder::new().name("lsm-load".to_owned());
        let write_all = move || {
            for (mut bytes, offset) in pieces {
                let result = tail.write(&bytes, offset);
                bytes.clear();
                if back.send(result.map(|()| bytes)).is_err() {
                    break;
                }
            }
        };
        let thread = thread.spawn(write_all).ok()?;
        Some(Self { given: Some(given), written, spare: Some(spare), failed: None, thread: Some(thread) })
    }

    fn write(&mut self, bytes: &mut Vec<u8>, offset: u64) -> Result<()> {
        self.wait()?;
        let spare = self.spare.take().unwrap_or_default();
        let piece = std::mem::replace(bytes, spare);
        let is_given = self.given.as_ref().is_some_and(|given| given.send((piece, offset)).is_ok());
        if is_given { Ok(()) } else { Err(self.fail(panicked())) }
    }

    fn wait(&mut self) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if self.spare.is_none() {
            match self.written.recv().unwrap_or_else(|_| Err(panicked())) {
                Ok(spare) => self.spare = Some(spare),
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        error
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It ends when nothing more can come; what it writes until then goes into a file that nobody names, or that is whole.
        self.given = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was the error of whoever waited for it.
            let _ = thread.join();
        }
    }
}

fn panicked() -> Error {
    Error::new(ErrorKind::Failed, "a thread that wrote a table panicked: a bug of this crate")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::{Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};

    const PATH: &str = "/a.table";

    fn pen(fs: &dyn FileSystem, is_beside: bool) -> Pen {
        let mut pen = Pen::new(PathBuf::from(PATH), fs.create_new(Path::new(PATH)).unwrap());
        if is_beside {
            pen.write_beside();
        }
        pen
    }

    #[test]
    fn what_is_given_stands_in_the_file_in_its_order_whoever_writes_it() {
        for is_beside in [false, true] {
            let fs = MemFs::new();
            let mut pen = pen(&fs, is_beside);
            let mut whole = Vec::new();
            let mut bytes = Vec::new();
            for number in 0..100u8 {
                bytes.resize(usize::from(number) * 100 + 1, number);
                let offset = whole.len() as u64;
                whole.extend_from_slice(&bytes);
                pen.write(&mut bytes, offset).unwrap();
                assert!(bytes.is_empty());
            }
            assert_eq!(matches!(pen.hand, Hand::Beside(_)), is_beside);
            pen.write_last(&mut b"the end".to_vec(), whole.len() as u64).unwrap();
            whole.extend_from_slice(b"the end");
            pen.sync().unwrap();
            drop(pen);
            let mut found = vec![0; whole.len()];
            fs.open_read(Path::new(PATH)).unwrap().read_exact_at(&mut found, 0).unwrap();
            assert!(found == whole);
        }
    }

    #[test]
    fn a_piece_that_could_not_be_written_is_an_error_from_then_on() {
        let fs = FaultFs::new(Arc::new(MemFs::new()));
        let mut pen = pen(&fs, true);
        let mut offset = 0;
        let mut put = |pen: &mut Pen| {
            let mut bytes = vec![1; 1000];
            offset += 1000;
            pen.write(&mut bytes, offset - 1000)
        };
        fs.inject(Fault::once(FaultCall::Write, 2, FaultEffect::Error));
        put(&mut pen).unwrap();
        put(&mut pen).unwrap();
        for _ in 0..3 {
            let error = put(&mut pen).unwrap_err();
            assert!(error.kind() == ErrorKind::Io && error.to_string().contains(PATH), "{error}");
        }
        assert_eq!(pen.write_last(&mut vec![2], 0).unwrap_err().kind(), ErrorKind::Io);
    }
}
