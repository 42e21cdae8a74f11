//! Paths and names from disk, as text and exactly.

use std::fmt::Write as _;

pub(crate) use chunkstore::shown::{show, show_path};

/// `bytes` in hexadecimal, for programs that must have them exactly.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut digits, byte| {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}
