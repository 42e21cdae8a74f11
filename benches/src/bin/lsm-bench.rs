//! `lsm-bench`: the engine beside its peers.

use std::process::ExitCode;

fn main() -> ExitCode {
    versions_bench::main()
}
