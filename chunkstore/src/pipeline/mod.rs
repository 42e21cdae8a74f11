//! The stages of a backup, joined by bounded channels: memory is bounded, and a network can stand between any two.
//!
//! ```text
//! walk ─► merge-join ─► read, cut, hash ─► look up, gather ─► compress ─► seal, pack ─► one uploader a target ─► commit
//!  1          1               n                  1                n           1                 t                  1
//! ```
//!
//! The two stages of many threads hand their results on in the order of the work ([`order`]), so what a backup stores does not
//! depend on which thread was faster: small files of one directory stand together in one frame.

pub(crate) mod gather;
pub(crate) mod order;
pub(crate) mod pack;
pub(crate) mod read;
pub(crate) mod upload;

#[cfg(test)]
mod tests;
