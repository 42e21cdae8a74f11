//! A repository: what it is ([`config`]), who may open it ([`key`]), its objects by name, its targets, who is at work, what is whole.

pub mod config;
pub mod key;
pub mod layout;
