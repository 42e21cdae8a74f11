//! What is left when a pack lost its trailer or its tables of contents: searching for them, and going from frame to frame.
//!
//! Frames are numbered, and a seal opens only under its own number. So a frame, or a table, can be looked for at each offset: that a box
//! opens there proves that it begins there.

use super::CONTENTS;
use super::header::PACK_HEADER_BYTES;
use super::reader::{ReadAt, Reader, is_damage};
use super::toc::{ChunkEntry, FrameEntry, FramePlace, Toc};
use crate::error::{Error, Result};
use crate::frame::{Decompressor, FrameHeader, FrameKind, FrameSize, header_box_bytes, try_open_header};
use crate::seal::BoxNumber;

/// How many frames in a row may have lost their headers before a walk gives up: each costs a search to the end of the pack.
const LOST_HEADERS_MAX: u32 = 4;

impl<S: ReadAt + ?Sized> Reader<'_, S> {
    /// A table of contents, found without the trailer: by going from header to header, or, where one of these is lost too, by a search from
    /// the end.
    pub(super) fn search_contents(&self) -> Result<Option<Toc>> {
        let mut offset = PACK_HEADER_BYTES as u64;
        let mut number = 0;
        while let Ok(header) = self.header_at(BoxNumber(number), offset) {
            offset += FrameSize::of(self.sealer.cipher(), header.body_bytes as usize) as u64;
            number += 1;
        }
        let [first, second] = CONTENTS;
        if let Some(toc) = found(self.read_contents(first, offset, None))? {
            return Ok(Some(toc));
        }
        if let Ok(header) = self.header_at(first, offset) {
            offset += FrameSize::of(self.sealer.cipher(), header.body_bytes as usize) as u64;
            if let Some(toc) = found(self.read_contents(second, offset, None))? {
                return Ok(Some(toc));
            }
        }
        let bytes = self.read_exactly(0, self.source.length())?;
        for offset in (0..bytes.len()).rev() {
            for number in CONTENTS {
                if self.opens_at(number, &bytes, offset).is_some()
                    && let Some(toc) = found(self.read_contents(number, offset as u64, None))?
                {
                    return Ok(Some(toc));
                }
            }
        }
        Ok(None)
    }

    /// What the frames themselves say: each is decoded, its chunks are hashed again.
    pub(super) fn walk(&self, decompressor: &mut Decompressor, faults: &mut Vec<Error>) -> Result<Toc> {
        let bytes = self.read_exactly(0, self.source.length())?;
        let cipher = self.sealer.cipher();
        let mut toc = Toc::default();
        let (mut offset, mut number) = (PACK_HEADER_BYTES, 0u32);
        while let Some((header, at, found)) = self.next_frame(&bytes, offset, number) {
            if (at, found) != (offset, number) {
                faults.push(Error::damage(format!(
                    "frame {number} at offset {offset}: its header is lost; frame {found} begins at {at}"
                )));
            }
            let length = FrameSize::of(cipher, header.body_bytes as usize);
            number = found;
            if header.kind == FrameKind::Solid {
                let stored = bytes.get(at..at.saturating_add(length)).unwrap_or_default();
                match self.decode_stored(number, stored, decompressor) {
                    Ok(frame) => toc.frames.push(FrameEntry {
                        place: FramePlace {
                            number,
                            offset: at as u64,
                            stored_bytes: u32::try_from(length).unwrap_or(u32::MAX),
                        },
                        raw_bytes: header.raw_bytes,
                        chunks: frame
                            .iter()
                            .map(|bytes| ChunkEntry {
                                id: self.hasher.id(bytes),
                                length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                            })
                            .collect(),
                    }),
                    Err(error) if is_damage(&error) => {
                        faults.push(error.at(format!("frame {number} at offset {at}")));
                    }
                    Err(error) => return Err(error),
                }
            }
            let Some(next) = number.checked_add(1) else { break };
            number = next;
            offset = at.saturating_add(length);
        }
        Ok(toc)
    }

    /// The header of frame `number` at `offset`; or, if that is lost, the nearest one of the next few frames behind it.
    fn next_frame(&self, bytes: &[u8], offset: usize, number: u32) -> Option<(FrameHeader, usize, u32)> {
        if let Some(header) = self.opens_at(BoxNumber(number.into()), bytes, offset) {
            return Some((header, offset, number));
        }
        // A table where the next frame should be: the pack's frames have ended, nothing is lost.
        if self.opens_at(CONTENTS[0], bytes, offset).is_some()
            || self.opens_at(CONTENTS[1], bytes, offset).is_some()
        {
            return None;
        }
        (1..=LOST_HEADERS_MAX).find_map(|lost| {
            let number = number.checked_add(lost)?;
            (offset..bytes.len()).find_map(|at| {
                self.opens_at(BoxNumber(number.into()), bytes, at).map(|header| (header, at, number))
            })
        })
    }

    fn opens_at(&self, number: BoxNumber, bytes: &[u8], offset: usize) -> Option<FrameHeader> {
        let head = bytes.get(offset..offset.checked_add(header_box_bytes(self.sealer.cipher()))?)?;
        try_open_header(&self.sealer, number, head)
    }
}

/// `None` for what is damaged: the search goes on.
fn found(result: Result<Toc>) -> Result<Option<Toc>> {
    match result {
        Ok(toc) => Ok(Some(toc)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
