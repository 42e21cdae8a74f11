//! The bodies of the fuzz targets: bytes that may be anything go in; a verdict comes out, or an assertion fails.
//!
//! They stand here so that the same code runs under the fuzzer and, over the kept seeds, in `cargo test`. Not a part of the
//! public interface.

mod journal;

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
mod tests {
    use proptest::prelude::*;

    /// A damaged first record, which loses nothing, and a torn tail in one log: two faults that are to be told apart.
    #[test]
    fn a_torn_tail_behind_a_damaged_first_record_is_cut() {
        super::journal_mutate(&[
            0, 0, 220, 233, 99, 89, 138, 99, 1, 36, 81, 161, 95, 131, 157, 235, 3, 0, 0, 40, 34, 0, 0, 42, 0,
            160, 0, 63, 0, 0, 216, 0, 5,
        ]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_bytes_get_a_verdict(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            super::journal_read(&data);
        }

        #[test]
        fn damage_is_told_from_a_torn_tail(data in proptest::collection::vec(any::<u8>(), 0..120)) {
            super::journal_mutate(&data);
        }
    }
}
