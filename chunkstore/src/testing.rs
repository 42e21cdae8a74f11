//! Fixed secrets and deterministic data for tests and fuzzing.

use crate::chunk::{ChunkSizes, Cutter, Hasher};
use crate::frame::{Builder, CompressedFrame, Compressor};
use crate::secret::{Epoch, Secret, Secrets};

/// Secrets that every test may know.
pub(crate) fn secrets() -> Secrets {
    Secrets::fixed(Secret::from_bytes([0x11; 32]), Epoch::FIRST, Secret::from_bytes([0x22; 32]))
}

/// Other secrets.
pub(crate) fn other_secrets() -> Secrets {
    Secrets::fixed(Secret::from_bytes([0x33; 32]), Epoch::FIRST, Secret::from_bytes([0x44; 32]))
}

/// A folder for local state, in memory where the system has a place for that: a catalog is synced at every step, and tests make hundreds
/// of them. That syncs are where they must be is tested where they are made, on a file system that loses power.
pub(crate) fn state_dir() -> tempfile::TempDir {
    let in_memory = tempfile::Builder::new().prefix("versions-test-").tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Bytes that look random, the same ones for the same seed: the stream of its BLAKE3.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Bytes that compress: words out of a small vocabulary.
pub(crate) fn text(seed: u64, length: usize) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "the ",
        "version ",
        "of ",
        "a ",
        "file ",
        "is ",
        "kept ",
        "in ",
        "chunks, ",
        "frames ",
        "and ",
        "packs; ",
        "none ",
        "is lost\n",
        "ever ",
        "again. ",
    ];
    let mut out = Vec::with_capacity(length + 16);
    for byte in noise(seed, length) {
        if out.len() >= length {
            break;
        }
        out.extend_from_slice(WORDS[usize::from(byte % 16)].as_bytes());
    }
    out.truncate(length);
    out
}

/// Frames of the pieces, one frame for each list of pieces, compressed at `level`; `None` leaves them uncompressed.
pub(crate) fn frames(pieces: &[Vec<Vec<u8>>], level: Option<i32>) -> Vec<CompressedFrame> {
    let hasher = Hasher::new(&secrets());
    let mut compressor = Compressor::new();
    let mut out = Vec::new();
    for pieces in pieces {
        let mut builder = Builder::new(u32::MAX);
        for piece in pieces {
            assert!(builder.add(hasher.id(piece), piece).is_none());
        }
        let raw = builder.take().expect("each test gives at least one piece");
        out.push(match level {
            Some(level) => compressor.compress(raw, level).unwrap(),
            None => CompressedFrame::uncompressed(raw),
        });
    }
    out
}

/// A cutter with small sizes.
pub(crate) fn small_cutter() -> Cutter {
    Cutter::new(&secrets(), ChunkSizes::new(64, 256, 1024).unwrap())
}
