//! Keys, values and draws, all from a seed, cheap beside what the engines do with them (the workload `generate` measures how cheap).
//!
//! An entry has a number; its key follows from the number, its value from the number and a nonce that stands in the value: so whoever reads a value
//! can tell whether it is one that was written for that key, without any record of what was written.

mod keys;
mod paths;
mod presence;
mod random;
mod values;
mod zipf;

pub(crate) use keys::{chunk_key, missing_key, numbered_key, user_key};
pub(crate) use paths::{FILES_PER_DIRECTORY, directory_prefix, path_key};
pub(crate) use presence::Presence;
pub(crate) use random::{Random, Shuffle};
pub(crate) use values::Values;
pub(crate) use zipf::{Latest, Scrambled};
