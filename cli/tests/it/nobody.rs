//! The program run by somebody who may not do everything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::sandbox::{Sandbox, is_root};

/// The program run as nobody, who may write in the sandbox but cannot read all of it.
pub(crate) fn as_nobody(sandbox: &Sandbox, args: Vec<std::ffi::OsString>) -> Command {
    let program = sandbox.path("program");
    if !program.exists() {
        fs::copy(env!("CARGO_BIN_EXE_versions"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(sandbox.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let model = sandbox.command(args);
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).args(model.get_args());
    for (name, value) in model.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    if is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}
