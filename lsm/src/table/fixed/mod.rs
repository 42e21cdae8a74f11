//! A table of rows: entries of one width, sorted, immutable, found by their numbers instead of by decoding.
//!
//! ```text
//! header             64 bytes, then zeros to the length of a block
//! rows               blocks of 4 KiB (more where rows are wide): rows by columns, the first eight bytes of each key apart (`layout.rs`)
//! filter             blocks of 63 lines
//! fences             blocks of 508 numbers: the first prefix of each block of rows
//! rows section       widths, columns, how many blocks of each: one block
//! properties, directory, footer      as in every table
//! ```
//!
//! Every block has the trailer of all blocks; where each stands follows from its number. A table of rows has no range tombstones.

mod check;
mod cursor;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod index;
mod layout;
mod reader;
mod region;
mod resident;
mod shared;
#[cfg(test)]
mod tests;
mod writer;

pub use cursor::FixedTableIter;
pub(crate) use cursor::{AHEAD_BLOCKS, RowCursor};
pub use layout::Columns;
pub(in crate::table) use layout::{Plan, RowLayout};
pub use reader::FixedTable;
pub(crate) use reader::Search;
pub(crate) use resident::Resident;
pub(crate) use shared::SharedFilter;
pub use writer::FixedWriter;
