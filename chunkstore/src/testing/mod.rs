//! Fixed secrets, deterministic data, and places to put them, for tests.

mod forged;
mod places;

use crate::catalog::{Access, Catalog, CatalogOptions};
use crate::chunk::{ChunkSizes, Cutter, Hasher};
use crate::error::Result;
use crate::frame::{Builder, CompressedFrame, Compressor, FrameHeader, FrameKind};
use crate::monitor::Collector;
use crate::repository::Repository;
use crate::secret::{Epoch, Secret, Secrets};

pub(crate) use forged::{renew_checksum, renew_hash, with_pack_header};
pub(crate) use places::{scratch, state_dir, unprivileged};

/// Secrets that every test may know.
pub(crate) fn secrets() -> Secrets {
    Secrets::fixed(Secret::from_bytes([0x11; 32]), Epoch::FIRST, Secret::from_bytes([0x22; 32]))
}

/// Other secrets.
pub(crate) fn other_secrets() -> Secrets {
    Secrets::fixed(Secret::from_bytes([0x33; 32]), Epoch::FIRST, Secret::from_bytes([0x44; 32]))
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

/// The header of a pack's frame that holds so many pieces.
pub(crate) fn frame_header(frame: &CompressedFrame, pieces: usize) -> FrameHeader {
    let length = |bytes: usize| u32::try_from(bytes).unwrap();
    FrameHeader {
        kind: FrameKind::Solid,
        codec: frame.codec,
        chunk_count: length(pieces),
        table_bytes: length(frame.table().len()),
        raw_bytes: frame.raw_bytes,
        body_bytes: length(frame.table().len() + frame.data.len()),
    }
}

fn catalog_options(repository: &Repository, access: Access) -> Result<CatalogOptions> {
    Ok(CatalogOptions {
        dir: repository.state().path().to_owned(),
        repository: repository.id(),
        secrets: repository.secrets()?.clone(),
        cipher: repository.config().mode.cipher(),
        epoch: repository.config().epoch,
        access,
        memory_bytes: 32 << 20,
    })
}

/// The catalog of a repository on this machine, to be read.
pub(crate) fn catalog_to_read(repository: &Repository) -> Result<Catalog> {
    Catalog::open(&catalog_options(repository, Access::Read)?)
}

/// The catalog of a repository on this machine, caught up with every target that can be reached.
pub(crate) fn caught_up_catalog(repository: &Repository) -> Result<Catalog> {
    catalog_of(repository, Catalog::open)
}

/// As [`caught_up_catalog`], opened in another way.
pub(crate) fn catalog_of(
    repository: &Repository,
    open: impl FnOnce(&CatalogOptions) -> Result<Catalog>,
) -> Result<Catalog> {
    let catalog = open(&catalog_options(repository, Access::Write)?)?;
    for (_, target) in repository.reachable() {
        catalog.catch_up(&**target, &Collector::default())?;
    }
    Ok(catalog)
}

/// A cutter with small sizes.
pub(crate) fn small_cutter() -> Cutter {
    Cutter::new(&secrets(), ChunkSizes::new(64, 256, 1024).unwrap())
}
