//! Chunks: where a file's bytes are cut ([`Cutter`]), and what names the pieces ([`Hasher`]).
//!
//! Both depend on secrets of the repository: where a known file would be cut, and under which ids its pieces would be stored, is
//! nothing that an outsider can compute. FORMAT.md, chunks.

mod cut;
mod hash;

pub use cut::{ChunkSizes, Cutter};
pub use hash::Hasher;

/// The largest chunk that any repository may have, in bytes: what a frame must be able to hold.
pub const CHUNK_BYTES_MAX: u32 = 8 << 20;
