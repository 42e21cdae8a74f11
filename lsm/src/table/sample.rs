//! The first data blocks of a table, held back until it is decided whether a dictionary for all of them pays.
//!
//! Most of them train it, the last ones try it: blocks that it has not seen show what the table will gain. It is stored twice, which the gain over a
//! few megabytes must be worth. What zstd makes nothing of without a dictionary is not tried.

use crate::block::{Compression, Compressor, train};
use crate::error::Result;
use crate::table::held::HeldBlock;
use crate::table::sealed::Packed;

/// So many times the bytes of the dictionary are sampled. The makers of zstd advise a hundred; from thirty on there was little to be gained.
const SAMPLE_TIMES: usize = 40;

/// One in so many blocks tries the dictionary.
const TRIAL_PART: usize = 5;

/// Fewer blocks than this say nothing.
const BLOCKS_MIN: usize = 24;

/// Of a larger block no more is looked at.
const LOOKED_AT_BYTES_MAX: usize = 16 << 10;

/// A dictionary pays if its two copies are worth it in a table of so many raw bytes: a table of a few megabytes.
const WORTH_WITHIN_BYTES: usize = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) blocks: Vec<HeldBlock>,
    bytes: usize,
    dictionary_bytes: usize,
    level: i32,
}

impl Sample {
    /// For tables with a dictionary of at most so many bytes; `None`: nothing is to be held back.
    pub(super) fn new(compression: Compression, dictionary_bytes: usize) -> Option<Self> {
        match compression {
            Compression::Zstd(level) if dictionary_bytes > 0 => {
                Some(Self { blocks: Vec::new(), bytes: 0, dictionary_bytes, level })
            }
            _ => None,
        }
    }

    pub(super) fn push(&mut self, block: HeldBlock) {
        self.bytes += block.payload.len();
        self.blocks.push(block);
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it can be decided.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.dictionary_bytes.saturating_mul(SAMPLE_TIMES)
    }

    /// A dictionary and its compressor, if it pays. `plain` compresses without one.
    pub(super) fn decide(&self, plain: &mut Compressor) -> Result<Option<(Compressor, Packed)>> {
        if !self.is_full() || self.blocks.len() < BLOCKS_MIN {
            return Ok(None);
        }
        let parts: Vec<&[u8]> = self
            .blocks
            .iter()
            .map(|block| block.payload.get(..LOOKED_AT_BYTES_MAX).unwrap_or(&block.payload))
            .collect();
        let (training, trial) = parts.split_at(parts.len() - parts.len() / TRIAL_PART);
        let (trial_bytes, without) =
            (trial.iter().map(|part| part.len()).sum::<usize>(), packed(plain, trial)?);
        if without > trial_bytes - trial_bytes / 16 {
            return Ok(None);
        }
        let Some(dictionary) = train(training, self.dictionary_bytes) else { return Ok(None) };
        let mut compressor = Compressor::with_dictionary(self.level, &dictionary)?;
        let saved = without.saturating_sub(packed(&mut compressor, trial)?) as u64;
        let dictionary = Packed::new(plain, &dictionary)?;
        let copies = 2 * dictionary.stored.len() as u64;
        let pays =
            saved.saturating_mul(WORTH_WITHIN_BYTES as u64) > copies.saturating_mul(trial_bytes as u64);
        Ok(pays.then_some((compressor, dictionary)))
    }
}

/// What these take together when they are compressed.
fn packed(compressor: &mut Compressor, payloads: &[&[u8]]) -> Result<usize> {
    payloads.iter().try_fold(0, |sum, payload| Ok(sum + compressor.pack(payload)?.1.len()))
}
