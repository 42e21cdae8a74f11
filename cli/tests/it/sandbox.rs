//! A machine of its own for each test: a tree to back up, targets, a local state, and the binary run in a clean environment.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::run::{code, text, versions};

/// A folder with everything in it; gone at the end.
pub(crate) struct Sandbox {
    folder: tempfile::TempDir,
}

impl Sandbox {
    /// A new one, with an empty `tree`.
    pub(crate) fn new() -> Self {
        let sandbox = Self { folder: tempfile::Builder::new().prefix("versions-it.").tempdir().unwrap() };
        fs::create_dir(sandbox.tree()).unwrap();
        sandbox
    }

    /// A path in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is backed up.
    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    /// A target's folder.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.path(format!("target-{name}"))
    }

    /// The program on target `a`, with the password, on the machine whose state is in `state`.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.command_on("a", "state", args)
    }

    /// The program on a given target and machine.
    pub(crate) fn command_on<S: AsRef<OsStr>>(
        &self,
        target: &str,
        state: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = versions();
        command
            .env("VERSIONS_REPO", self.target(target))
            .env("VERSIONS_STATE_DIR", self.path(state))
            .env("VERSIONS_PASSWORD", "correct horse")
            .env("VERSIONS_HOST", "host-of-the-tests")
            .env("HOME", self.path("home"))
            .stdin(Stdio::null())
            .args(args);
        command
    }

    /// Runs it and expects an exit code.
    #[track_caller]
    pub(crate) fn expect<S: AsRef<OsStr>>(&self, expected: i32, args: impl IntoIterator<Item = S>) -> Output {
        expect(expected, self.command(args))
    }

    /// Runs it on a given target and machine and expects an exit code.
    #[track_caller]
    pub(crate) fn expect_on<S: AsRef<OsStr>>(
        &self,
        target: &str,
        state: &str,
        expected: i32,
        args: impl IntoIterator<Item = S>,
    ) -> Output {
        expect(expected, self.command_on(target, state, args))
    }

    /// Makes the repository on target `a` and some more.
    #[track_caller]
    pub(crate) fn init(&self, mirrors: &[&str]) {
        let mut args: Vec<std::ffi::OsString> = vec!["init".into()];
        for mirror in mirrors {
            args.push("--mirror".into());
            args.push(self.target(mirror).into());
        }
        self.expect(0, args);
    }

    /// Backs up the tree; the snapshot's id.
    #[track_caller]
    pub(crate) fn backup(&self) -> String {
        let output = self.expect(0, ["backup".into(), "--json".into(), self.tree()]);
        snapshot_id(&output)
    }

    /// All snapshots' ids, oldest first.
    #[track_caller]
    pub(crate) fn snapshots(&self) -> Vec<String> {
        snapshots_of(&self.expect(0, ["snapshots", "--json"]))
    }

    /// Restores a snapshot into a fresh folder; where the tree now is.
    #[track_caller]
    pub(crate) fn restore(&self, snapshot: &str) -> PathBuf {
        self.restore_on("a", "state", snapshot)
    }

    /// The same from a given target on a given machine.
    #[track_caller]
    pub(crate) fn restore_on(&self, target: &str, state: &str, snapshot: &str) -> PathBuf {
        let out = tempfile::Builder::new().prefix("restored.").tempdir_in(self.folder.path()).unwrap().keep();
        self.expect_on(
            target,
            state,
            0,
            ["restore".as_ref(), snapshot.as_ref(), "--target".as_ref(), out.as_os_str()],
        );
        below(&out, &self.tree())
    }
}

/// Runs a command and expects an exit code.
#[track_caller]
pub(crate) fn expect(expected: i32, mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(
        code(&output),
        expected,
        "{:?}\nstdout: {}\nstderr: {}",
        command.get_args().collect::<Vec<_>>(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Where an absolute path is once it is restored below a folder.
pub(crate) fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap())
}

/// Every line of standard output as JSON.
#[track_caller]
pub(crate) fn lines(bytes: &[u8]) -> Vec<Value> {
    text(bytes)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The line with this `message_type`.
#[track_caller]
pub(crate) fn message<'a>(lines: &'a [Value], message_type: &str) -> &'a Value {
    lines
        .iter()
        .find(|line| line["message_type"] == message_type)
        .unwrap_or_else(|| panic!("no {message_type} in {lines:?}"))
}

/// The new snapshot's id.
#[track_caller]
pub(crate) fn snapshot_id(output: &Output) -> String {
    let lines = lines(&output.stdout);
    message(&lines, "summary")["snapshot_id"].as_str().expect("a snapshot").to_owned()
}

/// The ids of `snapshots --json`.
#[track_caller]
pub(crate) fn snapshots_of(output: &Output) -> Vec<String> {
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    all.iter().map(|snapshot| snapshot["id"].as_str().expect("an id").to_owned()).collect()
}

/// Whether the tests run as root: permissions do not bind, devices can be made.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
