//! Compressing frames with zstd, and proving each one before it leaves.
//!
//! Encoders have had bugs that wrote what no decoder could read (restic#4523), noticed years later at a restore: so every compressed
//! frame is decompressed again and compared with what went in.
//!
//! Photographs and videos are half of what people keep, and do not compress. At the levels that are usual zstd itself skips through such
//! data at more than 1 GB/s, faster than it is hashed and sealed, so these frames are simply tried. Deciding by a sample was measured and refused: pieces
//! of 6 to 128 KiB, up to an eighth of a frame, called frames of small images and fonts incompressible that shrink by half, because what
//! repeats there repeats from one file to the next (/usr/share: 10 to 20 % more was stored). Dear levels first try the whole frame at a
//! cheap one: that decided every frame right.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, ResetDirective, compress_bound, get_error_name};

use super::writer::{CompressedFrame, RawFrame};
use super::{Codec, FRAME_RAW_BYTES_MAX};
use crate::error::{Error, ErrorKind, Result};

/// Binary logarithm of the farthest that a match may reach back: all of the largest frame. A smaller frame uses less.
const WINDOW_LOG_MAX: u32 = FRAME_RAW_BYTES_MAX.ilog2();
/// Above this level a frame is tried at [`PROBE_LEVEL`] first: up to here zstd skips what does not compress fast enough by itself.
const UNPROBED_LEVEL_MAX: i32 = 3;
/// The level that tells whether a frame compresses: what it cannot shrink at all, dear levels shrink by a fraction of a percent.
const PROBE_LEVEL: i32 = -1;
/// A frame that shrinks by less than one part in this many is stored as it is: not worth decompressing at every reading.
const GAIN_MIN: usize = 128;

/// Compresses frames. Keeps its contexts and buffers from one to the next: one for each thread.
pub struct Compressor {
    encoder: CCtx<'static>,
    decoder: DCtx<'static>,
    scratch: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

fn failed(during: &str, code: usize) -> Error {
    Error::new(ErrorKind::Local, format!("zstd failed while {during}: {}", get_error_name(code)))
}

impl Compressor {
    /// A compressor.
    pub fn new() -> Self {
        Self { encoder: CCtx::create(), decoder: DCtx::create(), scratch: Vec::new() }
    }

    /// Compresses a frame at zstd's `level` (below zero: faster than 1), or leaves its data as it is where that gains nothing.
    ///
    /// # Errors
    /// Local, if zstd fails, or what it wrote does not decompress to what went in: nothing of it may be stored then.
    ///
    /// # Panics
    /// If the frame is not one that [`super::Builder`] makes.
    pub fn compress(&mut self, frame: RawFrame, level: i32) -> Result<CompressedFrame> {
        let raw_bytes = frame.check();
        let RawFrame { chunks, data } = frame;
        let enough = data.len() - data.len() / GAIN_MIN;
        let mut compressed = Vec::with_capacity(compress_bound(data.len()));
        if level > UNPROBED_LEVEL_MAX {
            self.encode(&data, PROBE_LEVEL, &mut compressed)?;
        }
        if compressed.len() < enough {
            self.encode(&data, level, &mut compressed)?;
        }
        if compressed.len() >= enough {
            return Ok(CompressedFrame { chunks, codec: Codec::None, raw_bytes, data });
        }
        self.prove(&compressed, &data)?;
        // The bound is as long as the data: kept, it would be what many frames in flight take.
        compressed.shrink_to_fit();
        Ok(CompressedFrame { chunks, codec: Codec::Zstd, raw_bytes, data: compressed })
    }

    fn encode(&mut self, data: &[u8], level: i32, out: &mut Vec<u8>) -> Result<()> {
        let during = "compressing";
        let failed = |code| failed(during, code);
        self.encoder.reset(ResetDirective::SessionAndParameters).map_err(failed)?;
        self.encoder.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        self.encoder.set_parameter(CParameter::EnableLongDistanceMatching(false)).map_err(failed)?;
        let window_log = usize::BITS - data.len().saturating_sub(1).leading_zeros();
        self.encoder
            .set_parameter(CParameter::WindowLog(window_log.clamp(10, WINDOW_LOG_MAX)))
            .map_err(failed)?;
        self.encoder.compress2(out, data).map_err(failed)?;
        Ok(())
    }

    fn prove(&mut self, compressed: &[u8], data: &[u8]) -> Result<()> {
        self.scratch.clear();
        self.scratch.reserve(data.len());
        let decoded = self.decoder.decompress(&mut self.scratch, compressed);
        let same =
            decoded.map_err(|code| failed("proving a frame", code))? == data.len() && self.scratch == data;
        if same {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Local,
            "a compressed frame does not decompress to what went in: this machine's memory or zstd is at fault; nothing of it was stored",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use crate::testing::{noise, text};

    fn frame(data: Vec<u8>) -> RawFrame {
        let length = u32::try_from(data.len()).unwrap();
        RawFrame { chunks: vec![(ChunkId::from_bytes([1; 32]), length)], data }
    }

    #[test]
    fn what_compresses_is_compressed_and_the_rest_is_left() {
        let mut compressor = Compressor::new();
        for length in [1, 100, 5_000, 100_000, 1 << 20] {
            let noise = compressor.compress(frame(noise(1, length)), 3).unwrap();
            assert_eq!((noise.codec, noise.data_bytes()), (Codec::None, length));
            let zeros = compressor.compress(frame(vec![0; length]), 3).unwrap();
            assert_eq!(zeros.codec, if length < 20 { Codec::None } else { Codec::Zstd });
            if length >= 5_000 {
                let text = compressor.compress(frame(text(1, length)), 3).unwrap();
                assert!(text.codec == Codec::Zstd && text.data_bytes() < length / 2);
            }
        }
    }

    /// Noise that repeats from one file to the next: no sample of it shrinks, the frame does.
    #[test]
    fn what_repeats_far_away_is_found_at_every_level() {
        let piece = noise(1, 300 << 10);
        for level in [1, 3, 9] {
            let compressed = Compressor::new().compress(frame([&piece[..], &piece].concat()), level).unwrap();
            assert!(compressed.codec == Codec::Zstd && compressed.data_bytes() < 310 << 10, "level {level}");
        }
    }

    #[test]
    fn a_little_text_among_noise_is_compressed_and_too_little_is_not() {
        for level in [3, 9] {
            let with = |text_bytes| {
                let data = [noise(1, 512 << 10), text(1, text_bytes), noise(2, 256 << 10)].concat();
                let length = data.len();
                let compressed = Compressor::new().compress(frame(data), level).unwrap();
                (compressed.codec, length - compressed.data_bytes())
            };
            let (codec, gain) = with(64 << 10);
            assert!(codec == Codec::Zstd && gain > 30 << 10, "{gain}");
            assert_eq!(with(2 << 10), (Codec::None, 0));
        }
    }

    #[test]
    fn levels_are_zstds() {
        let mut compressor = Compressor::new();
        let mut size = |level| compressor.compress(frame(text(3, 300_000)), level).unwrap().data_bytes();
        let (fast, usual, best) = (size(-5), size(3), size(19));
        assert!(best < usual && usual < fast, "{fast} {usual} {best}");
    }

    #[test]
    fn a_frame_that_does_not_decompress_to_what_went_in_never_leaves() {
        let mut compressor = Compressor::new();
        let data = text(1, 10_000);
        let mut compressed = Vec::with_capacity(compress_bound(data.len()));
        compressor.encode(&data, 3, &mut compressed).unwrap();
        compressor.prove(&compressed, &data).unwrap();
        let mut other = data.clone();
        other[5_000] ^= 1;
        for (compressed, data) in [
            (&compressed[..], &other[..]),
            (&compressed[..], &data[..9_999]),
            (&compressed[..compressed.len() - 1], &data[..]),
        ] {
            assert_eq!(compressor.prove(compressed, data).unwrap_err().kind(), ErrorKind::Local);
        }
        compressor.prove(&compressed, &data).unwrap();
    }

    #[test]
    #[should_panic(expected = "chunks of 3 bytes in a frame of 4")]
    fn chunks_that_do_not_add_up_stop_the_program() {
        let frame = RawFrame { chunks: vec![(ChunkId::from_bytes([1; 32]), 3)], data: vec![0; 4] };
        let _ = Compressor::new().compress(frame, 3);
    }
}
