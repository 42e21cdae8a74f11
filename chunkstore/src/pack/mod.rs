//! Packs: the objects that hold the chunks.
//!
//! A pack is a header, frames, a table of contents twice, and a trailer; its name is BLAKE3 of its bytes, so that anyone can tell
//! a good one from a bad one. Everything behind the header is sealed. The trailer says where the tables of contents are; without it
//! they are found by walking or searching, without them the frames tell what they hold (FORMAT.md, packs). So each good frame of
//! a damaged pack can be read, whatever else of it is lost.

mod header;
mod reader;
mod toc;
mod trailer;
mod walk;
mod writer;

pub(crate) use header::PACK_HEADER_BYTES;
#[cfg(test)]
pub(crate) use header::PACK_HEADER_FIELDS;
pub use header::PackHeader;
pub use reader::{PackCheck, ReadAt, ReadRanges, Reader, TocOrigin, TocRead};
pub(crate) use toc::contents_bytes;
pub use toc::{ChunkEntry, FrameEntry, FramePlace, Toc};
#[cfg(test)]
pub(crate) use trailer::TRAILER_FIELDS;
pub use writer::{FinishedPack, Writer};

/// The longest pack, in bytes: what a reader must be ready to take.
pub const PACK_BYTES_MAX: u64 = 512 << 20;
/// The size at which a pack of a new repository is full, in bytes.
pub const PACK_BYTES_DEFAULT: u32 = 16 << 20;
/// The most bytes of a table of contents: a pack of tiny chunks that hardly take room is full by this, so that a segment can always tell what a
/// pack holds, beside others.
pub const CONTENTS_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(
    contents_bytes(1, crate::frame::FRAME_CHUNKS_MAX as usize) <= CONTENTS_BYTES_MAX,
    "an empty pack takes any frame"
);

use crate::seal::BoxNumber;

/// Numbers of frames that are none of chunks: above every frame's, so that they can be searched for in a damaged pack.
const CONTENTS: [BoxNumber; 2] = [BoxNumber(1 << 32), BoxNumber((1 << 32) + 1)];
const TRAILER: BoxNumber = BoxNumber((1 << 32) + 2);

/// The smallest size of at least `bytes` that is padded: Padmé (Nikitin and others, 2019). Costs at most 12 %, and leaves of a length
/// of L only about log log L bits.
fn padded(bytes: usize) -> usize {
    let Some(exponent) = bytes.checked_ilog2().filter(|exponent| *exponent > 0) else { return bytes };
    let kept = exponent.ilog2() + 1;
    let mask = (1usize << exponent.saturating_sub(kept)) - 1;
    (bytes + mask) & !mask
}

#[cfg(test)]
mod tests;
