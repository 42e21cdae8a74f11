//! Compressing frames with zstd, and proving each one before it leaves.
//!
//! Encoders have had bugs that wrote what no decoder could read (restic#4523), noticed years later at a restore: so every compressed
//! frame is decompressed again and compared with what went in. Data that does not compress is found by a sample and stored as it is:
//! photographs and videos are half of what people keep.

use std::fmt;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, ResetDirective, compress_bound, get_error_name};

use super::writer::{CompressedFrame, RawFrame};
use super::{Codec, FRAME_RAW_BYTES_MAX};
use crate::error::{Error, ErrorKind, Result};

/// Binary logarithm of the farthest that a match may reach back: all of the largest frame. A smaller frame uses less.
const WINDOW_LOG_MAX: u32 = FRAME_RAW_BYTES_MAX.ilog2();
/// Frames shorter than this are always tried: a sample would be the frame.
const SAMPLED_BYTES_MIN: usize = 64 << 10;
/// How many pieces a sample has, spread over the frame, and how long each is: 5 % of a frame of 1 MiB, enough to see text between photographs.
const SAMPLE_PIECES: usize = 8;
const SAMPLE_PIECE_BYTES: usize = 6 << 10;
/// zstd's level for the sample: a fast one; what it cannot shrink at all, slower ones shrink by a few percent at most.
const SAMPLE_LEVEL: i32 = -1;

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
        let RawFrame { chunks, data } = frame;
        let raw_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
        assert!(raw_bytes > 0 && raw_bytes <= FRAME_RAW_BYTES_MAX, "a frame of {raw_bytes} bytes");
        let sum: u64 = chunks.iter().map(|(_, length)| u64::from(*length)).sum();
        assert!(sum == u64::from(raw_bytes), "chunks of {sum} bytes in a frame of {raw_bytes}");

        if data.len() >= SAMPLED_BYTES_MIN && !self.sample_compresses(&data)? {
            return Ok(CompressedFrame { chunks, codec: Codec::None, raw_bytes, data });
        }
        let mut compressed = Vec::with_capacity(compress_bound(data.len()));
        self.encode(&data, level, &mut compressed)?;
        if compressed.len() >= data.len() {
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

    /// Whether a sample of `data` shrinks: quick, against all the time that compressing what does not compress would take.
    fn sample_compresses(&mut self, data: &[u8]) -> Result<bool> {
        let mut sample = Vec::with_capacity(SAMPLE_PIECES * SAMPLE_PIECE_BYTES);
        let stride = (data.len() - SAMPLE_PIECE_BYTES) / (SAMPLE_PIECES - 1);
        for piece in 0..SAMPLE_PIECES {
            let start = piece * stride;
            sample.extend_from_slice(data.get(start..start + SAMPLE_PIECE_BYTES).unwrap_or_default());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.reserve(compress_bound(sample.len()));
        let encoded = self.encode(&sample, SAMPLE_LEVEL, &mut scratch);
        let length = scratch.len();
        self.scratch = scratch;
        encoded?;
        // One part in 64: less is not worth the time of decompressing it at every reading.
        Ok(length < sample.len() - sample.len() / 64)
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
