//! A repository: its objects by name, its keys, its targets, who is at work, what is whole.

pub mod layout;
