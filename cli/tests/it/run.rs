//! Running the binary, in an environment that holds nothing of the one who runs the tests.

use std::process::{Command, Output};

/// The binary with a clean environment.
pub(crate) fn versions() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_versions"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC");
    command
}

/// What it printed, as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the program prints text")
}

/// Its exit code.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {:?}\n{}", output.status, text(&output.stderr)))
}
