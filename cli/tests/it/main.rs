//! The program as its users meet it: the real binary, on real trees.

mod help;
mod run;
