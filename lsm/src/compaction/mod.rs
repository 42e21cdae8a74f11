//! Merging tables downward: what to merge ([`pick`], `tiered`, pure functions), doing it (`run`, `job`, `input`; `rows`; all on request: `whole`), what may vanish on the way ([`mod@drop`]),
//! what goes unread (`covered`), what to keep away from (`avoid`), what to do when nobody writes (`idle`, `late`), and slowing writers while it lags ([`pace`]).

pub(crate) mod avoid;
mod covered;
pub mod drop;
mod idle;
mod input;
pub(crate) mod job;
mod late;
pub mod pace;
pub mod pick;
pub(crate) mod rows;
mod run;
pub(crate) mod tiered;
mod whole;

pub(crate) use avoid::Avoided;
pub(crate) use idle::Idle;
pub(crate) use job::Job;
