//! The contents of one Version, in order, to wherever bytes go.

use std::io::Write;

use super::RestoreSource;
use crate::catalog::{ChunkPlace, ChunkSpan};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{DecodedFrame, Decompressor};
use crate::id::ObjectHash;
use crate::metadata::Extents;
use crate::version::Version;

/// The zeros that a hole is written as.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How many frames are kept: a file's chunks lie in one or two, and so do those of its neighbours; of files that were changed between, in a few.
const FRAMES_MAX: usize = 4;

/// Writes contents of one file after the other, with the frames that were read last at hand: the next chunk is in one of them more often than not.
pub(super) struct ContentsWriter<'a> {
    source: &'a dyn RestoreSource,
    decompressor: Decompressor,
    /// The one that was needed last is the last.
    frames: Vec<(ObjectHash, u64, DecodedFrame)>,
}

impl<'a> ContentsWriter<'a> {
    pub(super) fn new(source: &'a dyn RestoreSource) -> Self {
        Self { source, decompressor: Decompressor::new(), frames: Vec::new() }
    }

    /// The bytes of a chunk, compared with its id.
    fn chunk(&mut self, span: &ChunkSpan, place: &ChunkPlace) -> Result<&[u8]> {
        let wanted = (place.pack, place.frame.offset);
        let frame = match self.frames.iter().position(|(pack, offset, _)| (*pack, *offset) == wanted) {
            Some(index) => self.frames.remove(index),
            None => {
                if self.frames.len() >= FRAMES_MAX {
                    self.frames.remove(0);
                }
                let frame = self.source.frame(&place.pack, &place.frame, &mut self.decompressor)?;
                (place.pack, place.frame.offset, frame)
            }
        };
        self.frames.push(frame);
        let Some((_, _, frame)) = self.frames.last() else { return Err(Error::damage("no frame")) };
        let bytes = frame.chunk(place.index as usize, &span.id, self.source.hasher())?;
        if bytes.len() == span.length as usize {
            Ok(bytes)
        } else {
            let what = format!("chunk {} has {} bytes, {} were expected", span.id, bytes.len(), span.length);
            Err(Error::damage(what))
        }
    }

    /// As [`write_contents`].
    pub(super) fn write(&mut self, version: &Version, out: &mut dyn Write) -> Result<u64> {
        let extents = Extents::of(&version.metadata);
        let mut at = 0u64;
        let mut contents_offset = 0u64;
        for span in self.source.spans(&version.contents)? {
            let span = span?;
            let mut error = None;
            let mut written = false;
            for place in &span.places {
                match self.chunk(&span, place) {
                    Ok(bytes) => {
                        let mut rest = bytes;
                        for piece in extents.pieces(contents_offset, u64::from(span.length)) {
                            zeros(out, piece.file_offset - at)?;
                            let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
                            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
                            out.write_all(now).map_err(failed)?;
                            rest = later;
                            at = piece.file_offset + piece.length;
                        }
                        written = true;
                        break;
                    }
                    Err(found) => error = error.or(Some(found)),
                }
            }
            if !written {
                let error =
                    error.unwrap_or_else(|| Error::damage(format!("chunk {} is stored nowhere", span.id)));
                return Err(error.at(format!("byte {at} and what follows")));
            }
            contents_offset += u64::from(span.length);
        }
        if contents_offset != extents.data_bytes() {
            let expected = extents.data_bytes();
            return Err(Error::damage(format!(
                "its chunks hold {contents_offset} bytes where {expected} were expected"
            )));
        }
        zeros(out, version.metadata.size.saturating_sub(at))?;
        Ok(version.metadata.size)
    }
}

/// Writes the contents of a file, holes as zeros, each byte after it was compared with its chunk's id. Returns how many.
///
/// # Errors
/// Damage, not found or target if a chunk cannot be had: everything before it was written; destination if `out` fails.
pub fn write_contents(source: &dyn RestoreSource, version: &Version, out: &mut dyn Write) -> Result<u64> {
    ContentsWriter::new(source).write(version, out)
}

pub(super) fn zeros(out: &mut dyn Write, mut count: u64) -> Result<()> {
    while count > 0 {
        let now = count.min(ZEROS.len() as u64);
        let zeros = usize::try_from(now).ok().and_then(|now| ZEROS.get(..now)).unwrap_or(&ZEROS);
        out.write_all(zeros).map_err(failed)?;
        count -= now;
    }
    Ok(())
}

pub(super) fn failed(error: std::io::Error) -> Error {
    Error::caused(ErrorKind::Destination, "the contents cannot be written", error)
}
