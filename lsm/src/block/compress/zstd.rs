//! zstd: one frame a block, which says how long it will be, made with the table's dictionary or without.

use std::cell::RefCell;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, DCtx, compress_bound, get_error_name, get_frame_content_size};

use crate::block::dictionary::{Dictionary, DictionaryRef};
use crate::error::{Error, Result};

/// Compresses blocks, keeping its tables between them.
pub(super) struct Encoder {
    zstd: Compressor<'static>,
    dictionary: Option<Dictionary>,
}

impl Encoder {
    pub(super) fn new(level: i32) -> Result<Self> {
        let zstd = Compressor::new(level).map_err(|error| Error::io("set up zstd", error))?;
        Ok(Self { zstd, dictionary: None })
    }

    /// # Errors
    /// Corruption if the bytes are no dictionary.
    pub(super) fn with_dictionary(level: i32, bytes: &[u8]) -> Result<Self> {
        let dictionary = Dictionary::new(bytes)?;
        let setup = |error| Error::io("set up zstd with a dictionary", error);
        let mut zstd = Compressor::new(level).map_err(setup)?;
        zstd.set_dictionary(level, bytes).map_err(setup)?;
        // A table has one: its number in each block would say nothing.
        zstd.set_parameter(CParameter::DictIdFlag(false)).map_err(setup)?;
        Ok(Self { zstd, dictionary: Some(dictionary) })
    }

    pub(super) fn has_dictionary(&self) -> bool {
        self.dictionary.is_some()
    }

    /// Makes `out` the compressed bytes of `payload`.
    pub(super) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.reserve(compress_bound(payload.len()));
        self.zstd
            .compress_to_buffer(payload, out)
            .map(|_| ())
            .map_err(|error| Error::io("compress a block", error))
    }

    /// Makes `out` again what was compressed.
    pub(super) fn decompress(&self, stored: &[u8], payload_bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        decompress(stored, payload_bytes, self.dictionary.as_ref().map(DictionaryRef::Digested), out)
    }
}

/// Makes `out` what `stored` decompresses to.
///
/// # Errors
/// Corruption unless it says that it is as long as expected, and is.
pub(super) fn decompress(
    stored: &[u8],
    payload_bytes: usize,
    dictionary: Option<DictionaryRef<'_>>,
    out: &mut Vec<u8>,
) -> Result<()> {
    thread_local! {
        // A context is 150 KB to set up: one for each thread that reads, not for each block.
        static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }
    check_frame(stored, payload_bytes)?;
    out.clear();
    out.reserve_exact(payload_bytes);
    let written = DECOMPRESSOR.with_borrow_mut(|slot| {
        let context = match slot {
            Some(context) => context,
            None => slot.insert(DCtx::try_create().ok_or_else(no_context)?),
        };
        match dictionary {
            None => context.decompress(out, stored),
            Some(DictionaryRef::Digested(dictionary)) => {
                context.decompress_using_ddict(out, stored, &dictionary.digested)
            }
            Some(DictionaryRef::Bytes(bytes)) => context.decompress_using_dict(out, stored, bytes),
        }
        .map_err(|code| Error::corruption(format!("a block does not decompress: {}", get_error_name(code))))
    })?;
    if written != payload_bytes {
        return Err(Error::corruption(format!(
            "a block decompresses to {written} bytes where {payload_bytes} are expected"
        )));
    }
    Ok(())
}

#[cold]
fn no_context() -> Error {
    Error::io("set up zstd for decompression", std::io::ErrorKind::OutOfMemory.into())
}

/// What disagrees is refused before memory is reserved for it.
fn check_frame(stored: &[u8], payload_bytes: usize) -> Result<()> {
    if get_frame_content_size(stored).ok().flatten() == Some(payload_bytes as u64) {
        return Ok(());
    }
    Err(Error::corruption("a compressed block disagrees about its length"))
}
