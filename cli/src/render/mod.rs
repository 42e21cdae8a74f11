//! How things are shown: text for people, JSON for programs.

pub(crate) mod json;
pub(crate) mod margin;
pub(crate) mod mode;
pub(crate) mod node;
pub(crate) mod path;
pub(crate) mod progress;
pub(crate) mod size;
pub(crate) mod snapshot;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod version;
pub(crate) mod words;
