//! How things are shown: text for people, JSON for programs.

pub(crate) mod json;
pub(crate) mod path;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod table;
pub(crate) mod time;
