//! The program from outside. The module says `cfg(test)` so that its helpers too may unwrap and index: a panic is how a test fails.

#[cfg(test)]
mod program;
