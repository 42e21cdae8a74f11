//! A log-structured-merge storage engine: ordered byte keys and values, several keyspaces, one journal.

pub mod block;
pub mod cache;
pub mod checksum;
pub mod codec;
pub mod error;
pub mod filename;
pub mod filter;
pub mod fs;
pub mod iter;
pub mod journal;
pub mod key;
pub mod layout;
pub mod merge;
#[cfg(test)]
mod model;
pub mod range;
pub mod range_tombstone;
pub mod table;
pub mod value;

pub use error::{Error, ErrorKind, Result};
pub use key::SequenceNumber;
pub use value::Value;
