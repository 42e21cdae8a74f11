//! Merging tables downward: what to merge ([`pick`], a pure function), doing it ([`job`]), what may vanish on the way ([`drop`]), and
//! slowing writers while it lags ([`pace`]).

pub mod drop;
pub(crate) mod job;
pub mod pace;
pub mod pick;

pub(crate) use job::CompactionState;
