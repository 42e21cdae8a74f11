//! The engine as its users see it: one binary, a module a subject.

mod basics;
mod threads;
