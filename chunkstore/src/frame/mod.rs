//! Frames: chunks gathered, compressed together, sealed.
//!
//! Small chunks deduplicate well and compress badly one by one; so they are compressed together, in frames of a bounded raw size, and
//! one read gets back all of a frame. [`Builder`] gathers, [`Compressor`] compresses (on any thread: it needs to know nothing
//! of the pack), [`crate::pack::Writer`] seals, [`Decompressor`] gets the chunks back. FORMAT.md, frames.

mod compress;
mod header;
mod reader;
mod seal;
mod writer;

pub use compress::Compressor;
pub use reader::{DecodedFrame, Decompressor};
pub use writer::{Builder, CompressedFrame, RawFrame};

#[cfg(test)]
pub(crate) use header::FRAME_HEADER_FIELDS;
pub(crate) use header::{FRAME_BODY_BYTES_MAX, FrameHeader, FrameKind};
pub(crate) use reader::{decode, decode_plain};
pub(crate) use seal::{
    FrameSize, header_box_bytes, open_body, open_header, seal_frame, seal_plain, try_open_header,
};

/// The largest raw size of a frame in any repository, in bytes: what a reader must be ready to reserve for one.
pub const FRAME_RAW_BYTES_MAX: u32 = 16 << 20;
/// The most chunks of one frame.
pub const FRAME_CHUNKS_MAX: u32 = 1 << 16;
/// The raw size at which a frame of a new repository is full, in bytes.
pub const FRAME_RAW_BYTES_DEFAULT: u32 = 2 << 20;

const _: () =
    assert!(crate::chunk::CHUNK_BYTES_MAX <= FRAME_RAW_BYTES_MAX, "a frame must hold the largest chunk");

/// How a frame's data is compressed. The numbers are a part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Not at all.
    None = 1,
    /// One zstd frame (RFC 8878).
    Zstd = 2,
}
