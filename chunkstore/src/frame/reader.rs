//! Getting the chunks of a frame back.

use std::fmt;

use zstd::zstd_safe::{DCtx, get_error_name};

use super::Codec;
use super::header::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::chunk::Hasher;
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// Decompresses frames. Keeps its context from one to the next: one for each thread.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }
}

/// The chunks of one frame, decoded. Its seal was whole; that a chunk is the one asked for is for [`DecodedFrame::chunk`] to check.
pub struct DecodedFrame {
    /// The chunks' bytes follow each other from `data_start` on.
    data: Vec<u8>,
    data_start: usize,
    /// Where each chunk ends, counted from `data_start`.
    ends: Vec<u32>,
}

impl fmt::Debug for DecodedFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodedFrame({} chunks, {} bytes)", self.ends.len(), self.data().len())
    }
}

impl DecodedFrame {
    /// How many chunks it holds.
    pub fn chunk_count(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of all its chunks, one after the other.
    pub fn data(&self) -> &[u8] {
        self.data.get(self.data_start..).unwrap_or_default()
    }

    /// The bytes of its chunk at `index`, unchecked; `None` if it has none there.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.data().get(start..end)
    }

    /// The bytes of its chunk at `index`, which must be the chunk `id`: hashed now, so that no wrong byte is ever handed out.
    ///
    /// # Errors
    /// Damage if there is no such chunk or it is another one.
    pub fn chunk(&self, index: usize, id: &ChunkId, hasher: &Hasher) -> Result<&[u8]> {
        let bytes = self.bytes(index).ok_or_else(|| {
            Error::damage(format!(
                "chunk {id}: expected at place {index} of a frame of {} chunks",
                self.ends.len()
            ))
        })?;
        hasher.check(id, bytes)?;
        Ok(bytes)
    }

    /// The bytes of its chunks, in order, unchecked.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).filter_map(|index| self.bytes(index))
    }
}

/// Decodes the `body` of a frame with this `header`: lengths are checked before memory is reserved for what they say.
pub(crate) fn decode(
    decompressor: &mut Decompressor,
    header: &FrameHeader,
    body: Vec<u8>,
) -> Result<DecodedFrame> {
    if header.kind != FrameKind::Solid {
        return Err(Error::damage(format!(
            "a frame of chunks expected, one of kind {:?} found",
            header.kind
        )));
    }
    if body.len() != header.body_bytes as usize {
        return Err(Error::damage(format!(
            "frame body: {} bytes expected, {} found",
            header.body_bytes,
            body.len()
        )));
    }
    let (table, stored) = body
        .split_at_checked(header.table_bytes as usize)
        .ok_or_else(|| Error::damage("frame body: its table is cut short"))?;
    let ends = decode_table(table, header)?;
    let (data, data_start) = match header.codec {
        Codec::None => {
            if stored.len() != header.raw_bytes as usize {
                return Err(Error::damage(format!(
                    "frame data: {} bytes expected, {} found",
                    header.raw_bytes,
                    stored.len()
                )));
            }
            (body, header.table_bytes as usize)
        }
        Codec::Zstd => {
            let mut data = Vec::with_capacity(header.raw_bytes as usize);
            let length = decompressor.context.decompress(&mut data, stored).map_err(|code| {
                Error::damage(format!("frame data: zstd cannot decompress it: {}", get_error_name(code)))
            })?;
            if length != header.raw_bytes as usize {
                return Err(Error::damage(format!(
                    "frame data: {} bytes expected, {length} decompressed",
                    header.raw_bytes
                )));
            }
            (data, 0)
        }
    };
    Ok(DecodedFrame { data, data_start, ends })
}

/// Decodes `bytes` as the header and body of a frame that was opened: for the fuzzer.
pub(crate) fn decode_plain(bytes: &[u8], decompressor: &mut Decompressor) {
    let Some((header, body)) = bytes.split_at_checked(FRAME_HEADER_BYTES) else { return };
    let Ok(header) = FrameHeader::decode(header) else { return };
    if let Ok(frame) = decode(decompressor, &header, body.to_vec()) {
        assert_eq!(frame.data().len(), header.raw_bytes as usize, "as long as the header says");
        assert_eq!(frame.iter().map(<[u8]>::len).sum::<usize>(), frame.data().len(), "chunks fill it");
    }
}

fn decode_table(table: &[u8], header: &FrameHeader) -> Result<Vec<u32>> {
    let mut decoder = Decoder::new(table);
    let mut ends = Vec::with_capacity(header.chunk_count as usize);
    let mut end = 0u32;
    for _ in 0..header.chunk_count {
        let length = decoder.varint_u32("length of a chunk")?;
        end = match end.checked_add(length) {
            Some(end) if length > 0 && end <= header.raw_bytes => end,
            _ => {
                return Err(Error::damage(format!(
                    "chunk of {length} bytes after {end} of {}",
                    header.raw_bytes
                )));
            }
        };
        ends.push(end);
    }
    decoder.finish("table of a frame")?;
    if end != header.raw_bytes {
        return Err(Error::damage(format!("chunks of {end} bytes in a frame of {}", header.raw_bytes)));
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::testing::{frame_header, frames, noise, secrets, text};

    fn parts(codec: Option<i32>, pieces: &[Vec<u8>]) -> (FrameHeader, Vec<u8>) {
        let frame = frames(&[pieces.to_vec()], codec).remove(0);
        (frame_header(&frame, pieces.len()), [frame.table(), frame.data].concat())
    }

    #[test]
    fn chunks_come_back_and_are_checked() {
        let pieces = [text(1, 5_000), noise(2, 1), text(1, 700)];
        let hasher = Hasher::new(&secrets());
        for codec in [None, Some(3)] {
            let (header, body) = parts(codec, &pieces);
            let frame = decode(&mut Decompressor::new(), &header, body).unwrap();
            assert_eq!(frame.iter().collect::<Vec<_>>(), pieces);
            assert_eq!(frame.data(), pieces.concat());
            for (index, piece) in pieces.iter().enumerate() {
                assert_eq!(frame.chunk(index, &hasher.id(piece), &hasher).unwrap(), piece);
                assert_eq!(
                    frame.chunk(index, &hasher.id(b"x"), &hasher).unwrap_err().kind(),
                    ErrorKind::Damage
                );
            }
            assert_eq!(frame.bytes(3), None);
            assert!(frame.chunk(3, &hasher.id(b"x"), &hasher).is_err());
        }
    }

    /// Seals keep such bytes out; but a decoder that trusts a seal is one bug of a writer away from handing out garbage.
    #[test]
    fn bodies_that_do_not_fit_their_header_are_damage() {
        let (header, body) = parts(Some(3), &[text(1, 5_000), text(2, 1_000)]);
        let mut decompressor = Decompressor::new();
        let mut refused = |header: FrameHeader, body: &[u8]| {
            let error = decode(&mut decompressor, &header, body.to_vec()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
        };
        let mut zero = body.clone();
        zero[1] = 0;
        refused(header, &zero);
        refused(header, &body[..body.len() - 1]);
        refused(FrameHeader { raw_bytes: 5_999, ..header }, &body);
        refused(FrameHeader { raw_bytes: 6_001, ..header }, &body);
        refused(FrameHeader { codec: Codec::None, ..header }, &body);
        refused(FrameHeader { kind: FrameKind::Padding, ..header }, &body);
        refused(FrameHeader { chunk_count: 1, ..header }, &body);
        refused(FrameHeader { table_bytes: header.body_bytes + 1, ..header }, &body);
        for index in 0..body.len() {
            let mut bad = body.clone();
            bad[index] ^= 0x10;
            // Lengths that still add up, data that decodes to something else of the same length: chunk ids are the last line.
            let hasher = Hasher::new(&secrets());
            if let Ok(frame) = decode(&mut Decompressor::new(), &header, bad) {
                let good = frame.chunk(0, &hasher.id(&text(1, 5_000)), &hasher).is_ok()
                    && frame.chunk(1, &hasher.id(&text(2, 1_000)), &hasher).is_ok();
                assert!(!good || frame.data() == [text(1, 5_000), text(2, 1_000)].concat());
            }
        }
    }
}
