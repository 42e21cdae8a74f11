//! In the place of zstd where it is not part of the build: what wants it is told how to get it.

use crate::block::dictionary::DictionaryRef;
use crate::error::{Error, ErrorKind, Result};

/// There is none.
pub(super) enum Encoder {}

impl Encoder {
    pub(super) fn new(_level: i32) -> Result<Self> {
        Err(no_zstd())
    }

    pub(super) fn with_dictionary(_level: i32, _bytes: &[u8]) -> Result<Self> {
        Err(no_zstd())
    }

    pub(super) fn has_dictionary(&self) -> bool {
        match *self {}
    }

    pub(super) fn compress(&mut self, _payload: &[u8], _out: &mut Vec<u8>) -> Result<()> {
        match *self {}
    }

    pub(super) fn decompress(&self, _stored: &[u8], _payload_bytes: usize, _out: &mut Vec<u8>) -> Result<()> {
        match *self {}
    }
}

pub(super) fn decompress(
    _stored: &[u8],
    _payload_bytes: usize,
    _dictionary: Option<DictionaryRef<'_>>,
    _out: &mut Vec<u8>,
) -> Result<()> {
    Err(no_zstd())
}

pub(in crate::block) fn no_zstd() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "zstd compression is not part of this build; build it with the feature `zstd`",
    )
}
