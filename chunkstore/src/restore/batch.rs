//! A batch of a restore: many pieces of many files, done in the order in which they are stored.
//!
//! The pieces are sorted by pack and frame. A frame is one unit of work: a thread reads and decodes it, checks each chunk that is wanted against
//! its id, and writes it to every file that wants it. So each frame is decoded once in a batch, however many files share it, and a pack is read
//! from front to back. The units are taken in order by as many threads as there are; whichever thread writes a file's last piece finishes the file.
//!
//! A frame that nobody has good is not the end: pieces that are also stored elsewhere are tried there, in a further round.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::file::{FileJob, OpenFiles};
use super::report::{Failure, Report};
use super::{RestoreOptions, RestoreSource, cancelled};
use crate::catalog::ChunkPlace;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{DecodedFrame, Decompressor};
use crate::id::ChunkId;

/// A chunk that a file needs.
pub(super) struct Piece {
    pub(super) job: Arc<FileJob>,
    pub(super) id: ChunkId,
    /// Where it begins in the file's contents.
    pub(super) contents_offset: u64,
    pub(super) length: u32,
    /// Where it is read from.
    pub(super) place: ChunkPlace,
    /// Where else it is, the best place last.
    pub(super) others: Vec<ChunkPlace>,
}

/// What is to be done together.
#[derive(Default)]
pub(super) struct Batch {
    /// Pieces of files.
    pub(super) pieces: Vec<Piece>,
    /// Files without any.
    pub(super) bare: Vec<Arc<FileJob>>,
}

/// What the threads share.
struct Shared<'a> {
    source: &'a dyn RestoreSource,
    options: &'a RestoreOptions,
    report: &'a Report<'a>,
    open_files: &'a OpenFiles,
    /// Pieces to be tried at another place.
    again: Mutex<Vec<Piece>>,
    /// Why everything ends.
    end: Mutex<Option<Error>>,
}

impl Shared<'_> {
    fn stop(&self, error: Error) {
        self.end.lock().get_or_insert(error);
    }

    fn is_stopped(&self) -> bool {
        if self.report.monitor.cancelled() {
            self.stop(cancelled());
        }
        self.end.lock().is_some()
    }

    fn or_stop(&self, result: Result<()>) {
        if let Err(error) = result {
            self.stop(error);
        }
    }

    fn piece_done(&self, job: &Arc<FileJob>) {
        if job.piece_done() {
            self.or_stop(job.finish(self.options.ownership, self.report, self.open_files));
        }
    }

    /// All pieces out of one frame.
    fn frame(&self, pieces: &[Piece], decompressor: &mut Decompressor) {
        let Some(first) = pieces.first() else { return };
        match self.source.frame(&first.place.pack, &first.place.frame, decompressor) {
            Ok(frame) => {
                let mut checked = None;
                for piece in pieces {
                    self.piece(piece, &frame, &mut checked);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Local | ErrorKind::Cancelled) => self.stop(error),
            Err(error) => {
                for piece in pieces {
                    self.elsewhere(piece, &error);
                }
            }
        }
    }

    /// One piece out of its frame. `checked` is the place in the frame, and the id, of the chunk that was compared with its id last.
    fn piece(&self, piece: &Piece, frame: &DecodedFrame, checked: &mut Option<(u32, ChunkId)>) {
        let index = piece.place.index as usize;
        let bytes = if *checked == Some((piece.place.index, piece.id)) {
            frame.bytes(index).ok_or_else(|| Error::damage("the frame holds fewer chunks than it should"))
        } else {
            frame.chunk(index, &piece.id, self.source.hasher())
        };
        match bytes {
            Ok(bytes) if bytes.len() == piece.length as usize => {
                *checked = Some((piece.place.index, piece.id));
                match piece.job.write(piece.contents_offset, bytes, self.open_files) {
                    Ok(()) => self.piece_done(&piece.job),
                    Err(failure) => self.or_stop(piece.job.fail(failure, self.report)),
                }
            }
            Ok(bytes) => {
                let what =
                    format!("chunk {} has {} bytes, {} were expected", piece.id, bytes.len(), piece.length);
                self.elsewhere(piece, &Error::damage(what));
            }
            Err(error) => self.elsewhere(piece, &error),
        }
    }

    /// Tries a piece at its next place; without one, the file cannot be had whole.
    fn elsewhere(&self, piece: &Piece, error: &Error) {
        let mut others = piece.others.clone();
        if let Some(place) = others.pop() {
            let job = Arc::clone(&piece.job);
            self.again.lock().push(Piece { job, place, others, ..*piece });
            return;
        }
        let place = match piece.job.extents.pieces(piece.contents_offset, u64::from(piece.length)).next() {
            Some(extent) => extent.file_offset,
            None => piece.contents_offset,
        };
        let lost = match error.kind() {
            ErrorKind::Target | ErrorKind::TargetFull => "cannot be had now",
            _ => "are lost",
        };
        let end = place + u64::from(piece.length);
        let what = format!("bytes {place} to {end} {lost}; the file is not restored");
        self.or_stop(piece.job.fail(Failure::Entry(error.clone().at(what)), self.report));
    }
}

/// Does a batch.
///
/// # Errors
/// Local, cancelled, destination: what ends the restore. Files that were begun and are not whole are the planner's to remove.
pub(super) fn run(
    batch: Batch,
    source: &dyn RestoreSource,
    options: &RestoreOptions,
    report: &Report<'_>,
    open_files: &OpenFiles,
) -> Result<()> {
    let shared =
        Shared { source, options, report, open_files, again: Mutex::default(), end: Mutex::default() };
    let Batch { mut pieces, mut bare } = batch;
    loop {
        round(&shared, &mut pieces, &bare);
        if let Some(error) = shared.end.lock().take() {
            return Err(error);
        }
        pieces = std::mem::take(&mut *shared.again.lock());
        bare.clear();
        if pieces.is_empty() {
            return Ok(());
        }
    }
}

/// The ranges of sorted pieces that lie in one frame.
fn units(pieces: &[Piece]) -> Vec<Range<usize>> {
    let mut units = Vec::new();
    let mut start = 0;
    for same in
        pieces.chunk_by(|a, b| (a.place.pack, a.place.frame.offset) == (b.place.pack, b.place.frame.offset))
    {
        units.push(start..start + same.len());
        start += same.len();
    }
    units
}

/// How many files without pieces are one unit of work.
const BARE_FILES_A_UNIT: usize = 32;

fn round(shared: &Shared<'_>, pieces: &mut [Piece], bare: &[Arc<FileJob>]) {
    pieces.sort_unstable_by_key(|piece| {
        (piece.place.pack, piece.place.frame.offset, piece.place.index, piece.id)
    });
    let pieces = &*pieces;
    let units = units(pieces);
    let bare_units: Vec<&[Arc<FileJob>]> = bare.chunks(BARE_FILES_A_UNIT).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut decompressor = Decompressor::new();
        while !shared.is_stopped() {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if let Some(range) = units.get(unit) {
                shared.frame(pieces.get(range.clone()).unwrap_or_default(), &mut decompressor);
            } else if let Some(jobs) = bare_units.get(unit - units.len()) {
                for job in *jobs {
                    shared.piece_done(job);
                }
            } else {
                break;
            }
        }
    };
    let threads = shared.options.thread_count().min(units.len() + bare_units.len());
    if threads <= 1 {
        work();
        return;
    }
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}
