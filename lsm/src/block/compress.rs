//! Compressing blocks. The codec is a byte of each block's trailer, so that one table may hold blocks of several.

#[cfg(feature = "zstd")]
use std::cell::RefCell;
use std::ops::Deref;

use crate::block::PAYLOAD_BYTES_MAX;
#[cfg(feature = "zstd")]
use crate::block::dictionary::Dictionary;
use crate::block::dictionary::DictionaryRef;
use crate::block::scratch::Scratch;
use crate::error::{Error, ErrorKind, Result};

/// How the blocks of a table are compressed when it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Stored as they are.
    #[default]
    None,
    /// zstd at this level; a block that does not shrink by an eighth is stored as it is.
    Zstd(i32),
}

/// How one block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    None = 1,
    /// One zstd frame.
    Zstd = 2,
    /// One zstd frame, made with the table's dictionary.
    ZstdDictionary = 3,
}

impl Codec {
    /// The codec with this number.
    ///
    /// # Errors
    /// NewerFormat if it is unknown.
    pub fn from_u8(codec: u8) -> Result<Self> {
        match codec {
            1 => Ok(Self::None),
            2 => Ok(Self::Zstd),
            3 => Ok(Self::ZstdDictionary),
            _ => Err(Error::new(
                ErrorKind::NewerFormat,
                format!("block codec {codec} is unknown to this version; a newer one wrote it"),
            )),
        }
    }
}

#[cfg(not(feature = "zstd"))]
pub(super) fn no_zstd() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "zstd compression is not part of this build; build it with the feature `zstd`",
    )
}

/// Compresses the blocks of one writer, keeping its tables between them.
pub(crate) struct Compressor {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Blocks of fewer bytes are stored as they are.
    #[cfg(feature = "zstd")]
    from_bytes: usize,
    #[cfg(feature = "zstd")]
    dictionary: Option<Dictionary>,
    #[cfg(feature = "zstd")]
    packed: Vec<u8>,
    #[cfg(feature = "zstd")]
    unpacked: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// # Errors
    /// InvalidArgument if this build has no such codec.
    #[cfg(feature = "zstd")]
    pub(crate) fn new(compression: Compression, from_bytes: usize) -> Result<Self> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd(level) => {
                Some(zstd::bulk::Compressor::new(level).map_err(|error| Error::io("set up zstd", error))?)
            }
        };
        Ok(Self { zstd, from_bytes, dictionary: None, packed: Vec::new(), unpacked: Vec::new() })
    }

    /// One that compresses with a dictionary, at this level.
    ///
    /// # Errors
    /// Corruption if it is none.
    #[cfg(feature = "zstd")]
    pub(crate) fn with_dictionary(level: i32, bytes: &[u8]) -> Result<Self> {
        let dictionary = Dictionary::new(bytes)?;
        let setup = |error| Error::io("set up zstd with a dictionary", error);
        let mut zstd = zstd::bulk::Compressor::new(level).map_err(setup)?;
        zstd.set_dictionary(level, bytes).map_err(setup)?;
        // A table has one: its number in each block would say nothing.
        zstd.set_parameter(zstd::zstd_safe::CParameter::DictIdFlag(false)).map_err(setup)?;
        let dictionary = Some(dictionary);
        Ok(Self { zstd: Some(zstd), from_bytes: 0, dictionary, packed: Vec::new(), unpacked: Vec::new() })
    }

    #[cfg(not(feature = "zstd"))]
    pub(crate) fn with_dictionary(_: i32, _: &[u8]) -> Result<Self> {
        Err(no_zstd())
    }

    #[cfg(not(feature = "zstd"))]
    pub(crate) fn new(compression: Compression, _from_bytes: usize) -> Result<Self> {
        match compression {
            Compression::None => Ok(Self {}),
            Compression::Zstd(_) => Err(no_zstd()),
        }
    }

    /// What to store for `payload`, and under which codec.
    ///
    /// # Panics
    /// If what was compressed does not decompress to what it was: encoders have had bugs, memory has them, and a stop beats a
    /// wrong write.
    #[cfg(feature = "zstd")]
    pub(crate) fn pack<'a>(&'a mut self, payload: &'a [u8]) -> Result<(Codec, &'a [u8])> {
        let Some(compressor) = self.zstd.as_mut().filter(|_| payload.len() >= self.from_bytes) else {
            return Ok((Codec::None, payload));
        };
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(payload.len()));
        compressor
            .compress_to_buffer(payload, &mut self.packed)
            .map_err(|error| Error::io("compress a block", error))?;
        if self.packed.len() > payload.len() - payload.len() / 8 {
            return Ok((Codec::None, payload));
        }
        let dictionary = self.dictionary.as_ref();
        unpack_zstd(
            &self.packed,
            payload.len(),
            dictionary.map(DictionaryRef::Digested),
            &mut self.unpacked,
        )?;
        assert!(self.unpacked == payload, "a compressed block decompresses to what it was");
        let codec = if dictionary.is_some() { Codec::ZstdDictionary } else { Codec::Zstd };
        Ok((codec, &self.packed))
    }

    #[cfg(not(feature = "zstd"))]
    pub(crate) fn pack<'a>(&'a mut self, payload: &'a [u8]) -> Result<(Codec, &'a [u8])> {
        Ok((Codec::None, payload))
    }
}

#[cfg(feature = "zstd")]
fn unpack_zstd(
    stored: &[u8],
    payload_bytes: usize,
    dictionary: Option<DictionaryRef<'_>>,
    out: &mut Vec<u8>,
) -> Result<()> {
    use zstd::zstd_safe::{DCtx, get_error_name};

    thread_local! {
        // A context is 150 KB to set up: one for each thread that reads, not for each block.
        static DECOMPRESSOR: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
    }
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

#[cfg(feature = "zstd")]
#[cold]
fn no_context() -> Error {
    Error::io("set up zstd for decompression", std::io::ErrorKind::OutOfMemory.into())
}

/// The frame says how long it will be: what disagrees is refused before memory is reserved for it.
#[cfg(feature = "zstd")]
fn check_frame(stored: &[u8], payload_bytes: usize) -> Result<()> {
    if zstd::zstd_safe::get_frame_content_size(stored).ok().flatten() == Some(payload_bytes as u64) {
        return Ok(());
    }
    Err(Error::corruption("a compressed block disagrees about its length"))
}

/// What a block holds.
#[derive(Debug)]
pub enum Payload<'a> {
    /// As it is stored.
    Stored(&'a [u8]),
    /// Decompressed.
    Unpacked(Scratch),
}

impl Deref for Payload<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Stored(bytes) => bytes,
            Self::Unpacked(bytes) => bytes,
        }
    }
}

impl Payload<'_> {
    /// The bytes, for good.
    pub fn into_owned(self) -> Vec<u8> {
        match self {
            Self::Stored(bytes) => bytes.to_vec(),
            Self::Unpacked(bytes) => bytes.into_vec(),
        }
    }
}

/// The payload of a block that was compressed with the table's dictionary.
///
/// # Errors
/// Corruption; InvalidArgument if this build has no zstd.
#[cfg(feature = "zstd")]
pub(crate) fn unpack_with(
    dictionary: DictionaryRef<'_>,
    stored: &[u8],
    payload_bytes: usize,
) -> Result<Scratch> {
    check_frame(stored, payload_bytes)?;
    let mut payload = Scratch::new();
    unpack_zstd(stored, payload_bytes, Some(dictionary), payload.buffer())?;
    Ok(payload)
}

#[cfg(not(feature = "zstd"))]
pub(crate) fn unpack_with(_: DictionaryRef<'_>, _: &[u8], _: usize) -> Result<Scratch> {
    Err(no_zstd())
}

/// The payload of a block from what is stored. `with_dictionary` is asked where it takes the table's dictionary ([`unpack_with`]).
///
/// # Errors
/// Corruption; InvalidArgument if this build lacks the codec; those of `with_dictionary`.
pub(crate) fn unpack(
    codec: Codec,
    stored: &[u8],
    payload_bytes: usize,
    with_dictionary: impl FnOnce(&[u8], usize) -> Result<Scratch>,
) -> Result<Payload<'_>> {
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(Error::corruption(format!(
            "a block of {payload_bytes} bytes is above the limit of {PAYLOAD_BYTES_MAX}"
        )));
    }
    match codec {
        Codec::None if stored.len() == payload_bytes => Ok(Payload::Stored(stored)),
        Codec::None => Err(Error::corruption(format!(
            "a block stored as it is has {} bytes where {payload_bytes} are expected",
            stored.len()
        ))),
        #[cfg(feature = "zstd")]
        Codec::Zstd => {
            check_frame(stored, payload_bytes)?;
            let mut payload = Scratch::new();
            unpack_zstd(stored, payload_bytes, None, payload.buffer())?;
            Ok(Payload::Unpacked(payload))
        }
        #[cfg(not(feature = "zstd"))]
        Codec::Zstd => Err(no_zstd()),
        Codec::ZstdDictionary => with_dictionary(stored, payload_bytes).map(Payload::Unpacked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(codec: Codec, stored: &[u8], payload_bytes: usize) -> Result<Payload<'_>> {
        super::unpack(codec, stored, payload_bytes, |_, _| panic!("there is no dictionary"))
    }

    #[test]
    fn unknown_codecs_are_refused() {
        for codec in [0, 4, 255] {
            assert_eq!(Codec::from_u8(codec).unwrap_err().kind(), ErrorKind::NewerFormat);
        }
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn without_zstd_the_error_says_what_to_do() {
        let error = Compressor::new(Compression::Zstd(3), 0).unwrap_err();
        assert!(error.to_string().contains("feature `zstd`"), "{error}");
        assert!(unpack(Codec::Zstd, b"x", 1).unwrap_err().to_string().contains("feature `zstd`"));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn what_shrinks_is_compressed_and_comes_back() {
        let mut compressor = Compressor::new(Compression::Zstd(3), 0).unwrap();
        for payload in [vec![7u8; 5000], (0..=255).collect(), b"short".to_vec()] {
            let (codec, stored) = compressor.pack(&payload).unwrap();
            assert_eq!(codec == Codec::Zstd, payload.len() == 5000);
            assert_eq!(*unpack(codec, stored, payload.len()).unwrap(), *payload);
            assert!(unpack(codec, stored, payload.len() + 1).is_err());
        }
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn what_is_not_large_may_be_left_alone() {
        let mut compressor = Compressor::new(Compression::Zstd(-5), 1000).unwrap();
        for bytes in [999, 1000, 100_000] {
            let payload = vec![7u8; bytes];
            let (codec, stored) = compressor.pack(&payload).unwrap();
            assert_eq!(codec == Codec::Zstd, bytes >= 1000, "{bytes}");
            assert_eq!(*unpack(codec, stored, bytes).unwrap(), *payload);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_memory_is_reserved() {
        assert!(unpack(Codec::Zstd, b"(\xb5/\xfd", PAYLOAD_BYTES_MAX).is_err());
        assert!(unpack(Codec::None, b"", usize::MAX).is_err());
    }
}
