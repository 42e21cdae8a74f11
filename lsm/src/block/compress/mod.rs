//! Compressing blocks. The codec is a byte of each block's trailer, so that one table may hold blocks of several.

mod lz4;
#[cfg_attr(not(feature = "zstd"), path = "without_zstd.rs")]
mod zstd;

use std::ops::Deref;

use crate::block::PAYLOAD_BYTES_MAX;
use crate::block::dictionary::DictionaryRef;
use crate::block::scratch::Scratch;
use crate::error::{Error, ErrorKind, Result};

pub(crate) use lz4::TIMES_MAX as LZ4_TIMES_MAX;
#[cfg(not(feature = "zstd"))]
pub(super) use zstd::no_zstd;

/// How blocks are compressed when they are written. One that does not shrink by an eighth is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: the quickest to make and to read.
    Lz4,
    /// zstd at this level: smaller, and slower. Needs the feature `zstd`.
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
    /// One LZ4 block.
    Lz4 = 4,
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
            4 => Ok(Self::Lz4),
            _ => Err(Error::new(
                ErrorKind::NewerFormat,
                format!("block codec {codec} is unknown to this version; a newer one wrote it"),
            )),
        }
    }
}

enum Encoder {
    Lz4(lz4::Encoder),
    Zstd(zstd::Encoder),
}

impl Encoder {
    /// Makes `out` the compressed bytes of `payload`.
    fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        match self {
            Self::Lz4(encoder) => encoder.compress(payload, out).map(|()| Codec::Lz4),
            Self::Zstd(encoder) => {
                encoder.compress(payload, out)?;
                Ok(if encoder.has_dictionary() { Codec::ZstdDictionary } else { Codec::Zstd })
            }
        }
    }

    /// Makes `out` again what was compressed.
    fn decompress(&self, stored: &[u8], payload_bytes: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Lz4(_) => {
                out.resize(payload_bytes, 0);
                lz4::decompress(stored, out)
            }
            Self::Zstd(encoder) => encoder.decompress(stored, payload_bytes, out),
        }
    }
}

/// Compresses the blocks of one writer, keeping its tables between them.
pub(crate) struct Compressor {
    /// `None`: blocks are stored as they are.
    encoder: Option<Encoder>,
    packed: Vec<u8>,
    unpacked: Vec<u8>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    fn of(encoder: Option<Encoder>) -> Self {
        Self { encoder, packed: Vec::new(), unpacked: Vec::new() }
    }

    /// # Errors
    /// InvalidArgument if this build has no such codec.
    pub(crate) fn new(compression: Compression) -> Result<Self> {
        Ok(Self::of(match compression {
            Compression::None => None,
            Compression::Lz4 => Some(Encoder::Lz4(lz4::Encoder::new())),
            Compression::Zstd(level) => Some(Encoder::Zstd(zstd::Encoder::new(level)?)),
        }))
    }

    /// One that compresses with a dictionary, by zstd at this level.
    ///
    /// # Errors
    /// Corruption if it is none; InvalidArgument if this build has no zstd.
    pub(crate) fn with_dictionary(level: i32, bytes: &[u8]) -> Result<Self> {
        Ok(Self::of(Some(Encoder::Zstd(zstd::Encoder::with_dictionary(level, bytes)?))))
    }

    /// What to store for `payload`, and under which codec.
    ///
    /// # Panics
    /// If what was compressed does not decompress to what it was: encoders have had bugs, memory has them, and a stop beats a
    /// wrong write.
    pub(crate) fn pack<'a>(&'a mut self, payload: &'a [u8]) -> Result<(Codec, &'a [u8])> {
        let Some(encoder) = &mut self.encoder else { return Ok((Codec::None, payload)) };
        let codec = encoder.compress(payload, &mut self.packed)?;
        if self.packed.len() > payload.len() - payload.len() / 8 {
            return Ok((Codec::None, payload));
        }
        let unpacked = encoder.decompress(&self.packed, payload.len(), &mut self.unpacked);
        let is_whole = unpacked.is_ok() && self.unpacked == payload;
        assert!(is_whole, "a compressed block decompresses to what it was");
        Ok((codec, &self.packed))
    }
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
pub(crate) fn unpack_with(
    dictionary: DictionaryRef<'_>,
    stored: &[u8],
    payload_bytes: usize,
) -> Result<Scratch> {
    let mut payload = Scratch::new();
    zstd::decompress(stored, payload_bytes, Some(dictionary), payload.buffer())?;
    Ok(payload)
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
        Codec::Lz4 => {
            lz4::check_length(stored, payload_bytes)?;
            let mut payload = Scratch::with_bytes(payload_bytes);
            lz4::decompress(stored, &mut payload)?;
            Ok(Payload::Unpacked(payload))
        }
        Codec::Zstd => {
            let mut payload = Scratch::new();
            zstd::decompress(stored, payload_bytes, None, payload.buffer())?;
            Ok(Payload::Unpacked(payload))
        }
        Codec::ZstdDictionary => with_dictionary(stored, payload_bytes).map(Payload::Unpacked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(codec: Codec, stored: &[u8], payload_bytes: usize) -> Result<Payload<'_>> {
        super::unpack(codec, stored, payload_bytes, |_, _| panic!("there is no dictionary"))
    }

    /// What this build has.
    fn codecs() -> Vec<(Compression, Codec)> {
        let zstd = [(Compression::Zstd(3), Codec::Zstd), (Compression::Zstd(-5), Codec::Zstd)];
        let zstd = zstd.into_iter().filter(|_| cfg!(feature = "zstd"));
        zstd.chain([(Compression::Lz4, Codec::Lz4)]).collect()
    }

    #[test]
    fn unknown_codecs_are_refused() {
        for codec in [0, 5, 255] {
            assert_eq!(Codec::from_u8(codec).unwrap_err().kind(), ErrorKind::NewerFormat);
        }
    }

    #[cfg(not(feature = "zstd"))]
    #[test]
    fn without_zstd_the_error_says_what_to_do() {
        let error = Compressor::new(Compression::Zstd(3)).unwrap_err();
        assert!(error.to_string().contains("feature `zstd`"), "{error}");
        assert!(unpack(Codec::Zstd, b"x", 1).unwrap_err().to_string().contains("feature `zstd`"));
    }

    #[test]
    fn what_shrinks_is_compressed_and_comes_back() {
        for (compression, expected) in codecs() {
            let mut compressor = Compressor::new(compression).unwrap();
            let large: Vec<u8> = (0..300_000_u32).flat_map(|number| (number / 50).to_le_bytes()).collect();
            for payload in
                [vec![7; 5000], large, (0..=255).collect(), b"short".to_vec(), Vec::new(), vec![7; 70_000]]
            {
                let (codec, stored) = compressor.pack(&payload).unwrap();
                assert_eq!(codec == expected, payload.len() >= 5000, "{compression:?}");
                assert_eq!(*unpack(codec, stored, payload.len()).unwrap(), *payload);
                for other in [payload.len() + 1, payload.len().saturating_sub(1)] {
                    if other != payload.len() {
                        assert_eq!(unpack(codec, stored, other).unwrap_err().kind(), ErrorKind::Corruption);
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_is_changed_in_what_is_stored_is_an_error_or_other_bytes_of_the_same_length() {
        let payload: Vec<u8> = (0..600_u16).flat_map(|number| (number / 7).to_le_bytes()).collect();
        for (compression, expected) in codecs() {
            let mut compressor = Compressor::new(compression).unwrap();
            let stored = compressor.pack(&payload).unwrap().1.to_vec();
            for place in 0..stored.len() {
                for value in [0, 1, 0x7f, 0xf0, 0xff] {
                    let mut changed = stored.clone();
                    changed[place] = value;
                    for part in [&changed[..], &changed[..place]] {
                        match unpack(expected, part, payload.len()) {
                            Ok(unpacked) => assert_eq!(unpacked.len(), payload.len()),
                            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
                        }
                    }
                }
            }
        }
    }

    /// Buffers are used again: no bytes of what was in them may come out, whatever is decompressed.
    #[test]
    fn nothing_of_what_was_in_the_buffer_comes_out() {
        let payload: Vec<u8> = (0..600_u16).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let stored = Compressor::new(Compression::Lz4).unwrap().pack(&payload).unwrap().1.to_vec();
        let into = |filled: u8, stored: &[u8]| {
            let mut out = vec![filled; payload.len()];
            lz4::decompress(stored, &mut out).ok().map(|()| out)
        };
        for place in 0..stored.len() {
            for value in 0..=255 {
                let mut changed = stored.clone();
                changed[place] = value;
                assert_eq!(into(0, &changed), into(0xff, &changed), "{value} at {place}");
            }
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_memory_is_reserved() {
        assert!(unpack(Codec::Zstd, b"(\xb5/\xfd", PAYLOAD_BYTES_MAX).is_err());
        assert!(unpack(Codec::Lz4, &[0xff; 1000], PAYLOAD_BYTES_MAX).is_err());
        assert!(unpack(Codec::None, b"", usize::MAX).is_err());
    }
}
