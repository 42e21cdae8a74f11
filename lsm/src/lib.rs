//! A log-structured-merge storage engine: ordered byte keys and values, several keyspaces, one journal.

pub mod checksum;
pub mod codec;
pub mod error;
pub mod fs;
pub mod key;

pub use error::{Error, ErrorKind, Result};
