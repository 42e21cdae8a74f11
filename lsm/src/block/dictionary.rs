//! A table's dictionary: what its data blocks have in common, so that each of them, small as it is, compresses as a part of all.
//!
//! It is a zstd dictionary (RFC 8878, section 5): content to refer to, and the tables of the entropy coder, which then stand once in the file and not in
//! each block. A writer trains it on the first blocks of a table ([`train`]); to read, it is digested once, or used
//! as it is where there is no memory to keep that.

use crate::error::{Error, Result};

/// Largest dictionary, in bytes.
pub const DICTIONARY_BYTES_MAX: usize = 256 << 10;

/// What it begins with. zstd takes any other bytes for content without tables; here they are refused.
const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];

/// That `bytes` may be a dictionary, before anything is made of them.
///
/// # Errors
/// Corruption.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.starts_with(&MAGIC) && (8..=DICTIONARY_BYTES_MAX).contains(&bytes.len()) {
        return Ok(());
    }
    Err(Error::corruption(format!("the {} bytes of the table's dictionary are none", bytes.len())))
}

#[cfg(feature = "zstd")]
mod zstd_dictionary {
    use zstd::zstd_safe::DDict;

    use crate::error::{Error, Result};

    /// A dictionary made ready for decompression.
    pub(crate) struct Dictionary {
        pub(in crate::block) digested: DDict<'static>,
    }

    impl Dictionary {
        /// # Errors
        /// Corruption if the bytes are no dictionary.
        pub(crate) fn new(bytes: &[u8]) -> Result<Self> {
            super::check(bytes)?;
            let digested = DDict::try_create(bytes)
                .ok_or_else(|| Error::corruption("the table's dictionary cannot be digested"))?;
            Ok(Self { digested })
        }

        /// Bytes of memory that one of `bytes` takes at most: what zstd says of its own, and the tables of the entropy coder.
        pub(crate) fn memory_bytes_for(bytes: usize) -> usize {
            (28 << 10) + bytes
        }
    }

    /// A dictionary of at most so many bytes for blocks like these; `None` if they are too few, or have nothing in common.
    pub(crate) fn train(blocks: &[&[u8]], dictionary_bytes: usize) -> Option<Vec<u8>> {
        let bytes = zstd::dict::from_samples(blocks, dictionary_bytes).ok()?;
        Dictionary::new(&bytes).is_ok().then_some(bytes)
    }
}

#[cfg(not(feature = "zstd"))]
mod zstd_dictionary {
    use crate::error::Result;

    /// There are none in this build.
    pub(crate) enum Dictionary {}

    impl Dictionary {
        pub(crate) fn new(_: &[u8]) -> Result<Self> {
            Err(crate::block::compress::no_zstd())
        }

        pub(crate) fn memory_bytes_for(_: usize) -> usize {
            0
        }
    }

    pub(crate) fn train(_: &[&[u8]], _: usize) -> Option<Vec<u8>> {
        None
    }
}

pub(crate) use zstd_dictionary::{Dictionary, train};

impl std::fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dictionary").finish_non_exhaustive()
    }
}

/// A dictionary in one of its two forms.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "zstd"),
    expect(
        dead_code,
        reason = "a build without zstd refuses what is compressed with a dictionary, and never looks"
    )
)]
pub(crate) enum DictionaryRef<'a> {
    /// The faster one.
    Digested(&'a Dictionary),
    /// As it is stored.
    Bytes(&'a [u8]),
}

#[cfg(feature = "zstd")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Codec, Compressor, unpack_with};

    fn blocks() -> Vec<Vec<u8>> {
        let line = |block: u32, line: u32| {
            let number = (block * 40 + line).wrapping_mul(2_654_435_761);
            format!(
                "{{\"id\":{number},\"name\":\"user {}\",\"email\":\"{}@example.org\"}}\n",
                number % 997,
                number % 89
            )
        };
        (0..64)
            .map(|block| (0..40).map(|number| line(block, number)).collect::<String>().into_bytes())
            .collect()
    }

    fn trained() -> Vec<u8> {
        let blocks = blocks();
        train(&blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(), 4096).unwrap()
    }

    #[test]
    fn blocks_come_back_with_either_form_and_with_no_other_dictionary() {
        let bytes = trained();
        let mut plain = Compressor::new(crate::block::Compression::Zstd(1)).unwrap();
        let mut compressor = Compressor::with_dictionary(1, &bytes).unwrap();
        let dictionary = Dictionary::new(&bytes).unwrap();
        assert!(dictionary.digested.sizeof() <= Dictionary::memory_bytes_for(bytes.len()));
        for payload in blocks() {
            let without = plain.pack(&payload).unwrap().1.len();
            let (codec, stored) = compressor.pack(&payload).unwrap();
            assert_eq!(codec, Codec::ZstdDictionary);
            assert!(stored.len() < without, "{} bytes with, {without} without", stored.len());
            for form in [DictionaryRef::Digested(&dictionary), DictionaryRef::Bytes(&bytes)] {
                assert_eq!(*unpack_with(form, stored, payload.len()).unwrap(), *payload);
                assert!(unpack_with(form, stored, payload.len() + 1).is_err());
            }
        }
    }

    #[test]
    fn what_is_no_dictionary_is_refused() {
        let bytes = trained();
        assert!(Dictionary::new(b"").is_err());
        assert!(Dictionary::new(&bytes[1..]).is_err());
        assert!(check(&[&bytes[..], &vec![0; DICTIONARY_BYTES_MAX]].concat()).is_err());
        // Cut within its tables it is none; behind them it is another one.
        let least = (0..bytes.len()).find(|end| Dictionary::new(&bytes[..*end]).is_ok()).unwrap();
        assert!(least > 64, "its tables are said to end before {least}");
        assert!((least..bytes.len()).all(|end| Dictionary::new(&bytes[..end]).is_ok()));
        // With other bytes for its tables it may be either; what is made with the one is never taken for what the other makes, or more than was asked for.
        let blocks = blocks();
        let payload = &blocks[1];
        let mut compressor = Compressor::with_dictionary(1, &bytes).unwrap();
        let stored = compressor.pack(payload).unwrap().1.to_vec();
        let mut refused = 0;
        for at in 4..least {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            match Dictionary::new(&changed) {
                Ok(other) => {
                    let found = unpack_with(DictionaryRef::Digested(&other), &stored, payload.len());
                    assert!(found.is_err() || found.is_ok_and(|found| found.len() == payload.len()));
                }
                Err(error) => {
                    assert_eq!(error.kind(), crate::error::ErrorKind::Corruption);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
    }

    #[test]
    fn too_little_to_train_on_gives_none() {
        assert_eq!(train(&[], 4096), None);
        assert_eq!(train(&[b"one block"], 4096), None);
    }
}
