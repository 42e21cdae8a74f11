//! What every verb needs before it can begin: which repository, which password, which place for this machine's state.

use std::env;
use std::path::{Path, PathBuf};

use crate::args::Global;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::password::Source;
use crate::reporter::Reporter;

/// The answers, before anything is opened.
#[derive(Debug)]
pub(crate) struct Session {
    /// The target that was named.
    repo: Option<String>,
    state_dir: Option<PathBuf>,
    /// Where the password is to be had.
    pub(crate) password: Source,
    /// How to speak.
    pub(crate) output: Output,
    /// Whether to stop.
    pub(crate) interrupt: Interrupt,
}

impl Session {
    /// As flags and environment say.
    ///
    /// # Errors
    /// If they contradict each other.
    pub(crate) fn new(global: &Global, output: Output, interrupt: Interrupt) -> Result<Self, Failure> {
        let password = Source::choose(
            global.insecure_no_password,
            global.password_file.as_deref(),
            global.password_command.as_deref(),
            |name| env::var_os(name),
        )?;
        Ok(Self {
            repo: global.repo.clone(),
            state_dir: global.state_dir.clone(),
            password,
            output,
            interrupt,
        })
    }

    /// The target that was named.
    ///
    /// # Errors
    /// If none was.
    pub(crate) fn repo(&self) -> Result<&str, Failure> {
        self.repo.as_deref().filter(|url| !url.is_empty()).ok_or_else(|| {
            Failure::Usage("which repository? Say -r URL or set VERSIONS_REPO to one of its targets".into())
        })
    }

    /// Where this machine keeps its catalogs.
    ///
    /// # Errors
    /// If nothing tells where home is.
    pub(crate) fn state_dir(&self) -> Result<PathBuf, Failure> {
        state_dir(self.state_dir.as_deref(), |name| env::var_os(name).map(PathBuf::from))
    }

    /// One to watch an operation.
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter::new(self.output, &self.interrupt)
    }
}

fn state_dir(
    given: Option<&Path>,
    environment: impl Fn(&str) -> Option<PathBuf>,
) -> Result<PathBuf, Failure> {
    if let Some(given) = given.filter(|dir| !dir.as_os_str().is_empty()) {
        return Ok(given.to_owned());
    }
    // The base directory specification: a relative path counts as none.
    let absolute = |name| environment(name).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("versions"))
        .ok_or_else(|| {
            Failure::Usage(
                "where should this machine's catalog live? HOME is not set: say --state-dir or set VERSIONS_STATE_DIR".into(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_lives_where_it_was_told_to() {
        let environment = |set: &'static [(&str, &str)]| {
            move |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| PathBuf::from(value))
        };
        let home = &[("HOME", "/home/a")];
        assert_eq!(state_dir(Some(Path::new("x")), environment(home)).unwrap(), Path::new("x"));
        assert_eq!(state_dir(None, environment(home)).unwrap(), Path::new("/home/a/.local/state/versions"));
        let both = &[("HOME", "/home/a"), ("XDG_STATE_HOME", "/s")];
        assert_eq!(state_dir(None, environment(both)).unwrap(), Path::new("/s/versions"));
        assert!(state_dir(None, environment(&[("HOME", "relative")])).is_err());
    }
}
