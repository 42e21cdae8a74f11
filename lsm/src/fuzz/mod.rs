//! The bodies of the fuzz targets: bytes that may be anything go in; a verdict comes out, or an assertion fails.
//!
//! They stand here so that the same code runs under the fuzzer and, over the kept seeds, in `cargo test`. Not a part of the
//! public interface.

mod database;
mod journal;
pub mod seeds;

pub use crate::table::fixed::fuzz::rows;
pub use crate::table::fuzz::{block, table};
pub use database::{batch, database, manifest};
pub use journal::{journal_mutate, journal_read};

/// Decisions taken from a fuzzer's bytes, front to back; zeros when they run out.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number from 0 up to but without `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        let choice = usize::from(self.word());
        if bound == 0 {
            0
        } else if bound > usize::from(u16::MAX) {
            choice * (bound >> 16).max(1) % bound
        } else {
            choice % bound
        }
    }
}

#[cfg(test)]
mod tests;
