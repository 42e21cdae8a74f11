//! Compressing frames on many threads, sealing and packing them on one, in order.
//!
//! Sealing and hashing a pack run at the memory's speed, compressing does not: so only that has many threads. A full pack goes to
//! the uploaders as it is, and word of what it holds to the committer.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::frame::{CompressedFrame, Compressor, RawFrame};
use crate::id::{IntentId, ObjectHash};
use crate::pack::{Toc, Writer};
use crate::pipeline::order::{InOrder, Work};
use crate::seal::Cipher;
use crate::secret::{Epoch, Secrets};

/// Compresses frames until no more come. Run on each of several threads.
pub(crate) fn compress(work: &Work<RawFrame, Result<CompressedFrame>>, level: i32) {
    let mut compressor = Compressor::new();
    while let Some((frame, out)) = work.take() {
        let result = compressor.compress(frame, level);
        let failed = result.is_err();
        // A packer that stopped has said why; an error ends this thread once it is handed on.
        if out.send(result).is_err() || failed {
            return;
        }
    }
}

/// What a pack is sealed with.
#[derive(Clone, Debug)]
pub(crate) struct Sealing {
    /// The repository's secrets.
    pub(crate) secrets: Arc<Secrets>,
    /// The epoch of new packs.
    pub(crate) epoch: Epoch,
    /// Encrypted or not.
    pub(crate) cipher: Cipher,
    /// The run's intent.
    pub(crate) intent: IntentId,
    /// A pack is full when it holds this many bytes.
    pub(crate) pack_bytes: usize,
}

/// A pack on its way: its bytes to the targets, the rest to the catalog.
pub(crate) struct Packed {
    /// Its name.
    pub(crate) name: ObjectHash,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// What it holds.
    pub(crate) toc: Toc,
}

/// Packs frames in order until no more come; `store` takes each pack that is full, and the last.
///
/// # Errors
/// The compressors', the sealer's, or `store`'s.
pub(crate) fn pack(
    frames: InOrder<Result<CompressedFrame>>,
    sealing: &Sealing,
    mut store: impl FnMut(Packed) -> Result<()>,
) -> Result<()> {
    let mut writer: Option<Writer> = None;
    for frame in frames {
        let frame = frame?;
        // Tiny chunks hardly fill a pack, but its table of contents.
        if let Some(full) = writer.take_if(|writer| !writer.has_room_for(&frame)) {
            store(finish(full))?;
        }
        let mut current = match writer.take() {
            Some(current) => current,
            None => {
                // Reserved pages cost nothing until they are written to; a frame and its tables may go beyond the target.
                let buffer = Vec::with_capacity(sealing.pack_bytes + sealing.pack_bytes / 8);
                Writer::new(&sealing.secrets, sealing.epoch, sealing.cipher, sealing.intent, buffer)?
            }
        };
        current.add(&frame)?;
        if current.stored_bytes() >= sealing.pack_bytes {
            store(finish(current))?;
        } else {
            writer = Some(current);
        }
    }
    match writer {
        Some(last) if !last.is_empty() => store(finish(last)),
        _ => Ok(()),
    }
}

fn finish(writer: Writer) -> Packed {
    let pack = writer.finish();
    Packed { name: pack.name, bytes: pack.bytes, toc: pack.toc }
}

/// The error of a run whose targets all failed.
pub(crate) fn no_target_left(last: Option<Error>) -> Error {
    let kind = last.as_ref().map_or(crate::error::ErrorKind::Target, Error::kind);
    match last {
        Some(error) => Error::new(kind, format!("no target is left to store to: {error}")),
        None => Error::new(kind, "no target is left to store to"),
    }
}
