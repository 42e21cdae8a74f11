//! What every verb needs before it can begin: which repository, which password, which place for this machine's state.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chunkstore::catalog::Catalog;
use chunkstore::monitor::{Event, Monitor};
use chunkstore::repository::config::Mode;
use chunkstore::repository::state::StateDirectory;
use chunkstore::repository::{OpenOptions, Repository, Unlock};
use chunkstore::target::url::TargetUrl;
use chunkstore::{Error, ErrorKind};

use crate::args::Global;
use crate::catalog::{Catalogs, Readable, ToWrite};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::password::{self, Password, Source};
use crate::reporter::Reporter;

/// The answers, before anything is opened.
#[derive(Debug)]
pub(crate) struct Session {
    /// The target that was named.
    repo: Option<OsString>,
    state_dir: Option<PathBuf>,
    /// Where the password is to be had.
    pub(crate) password: Source,
    /// How to speak.
    pub(crate) output: Output,
    /// Whether to stop.
    pub(crate) interrupt: Interrupt,
    catalogs: Catalogs,
    /// The password that opened the repository: a file or a command may give it only once.
    opened_with: RefCell<Option<Password>>,
    /// The snapshot that was chosen, should the verb begin again.
    chosen: RefCell<Option<String>>,
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
            // Read here and not by the parser, whose error messages would name what stands in the environment among what was typed.
            repo: global.repo.clone().or_else(|| env::var_os("VERSIONS_REPO")),
            state_dir: global
                .state_dir
                .clone()
                .or_else(|| env::var_os("VERSIONS_STATE_DIR").map(PathBuf::from)),
            password,
            output,
            interrupt,
            catalogs: Catalogs::default(),
            opened_with: RefCell::default(),
            chosen: RefCell::default(),
        })
    }

    /// The target that was named.
    ///
    /// # Errors
    /// If none was.
    pub(crate) fn repo(&self) -> Result<&OsStr, Failure> {
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

    /// How repositories are opened.
    ///
    /// # Errors
    /// As [`Session::state_dir`].
    pub(crate) fn open_options(&self) -> Result<OpenOptions, Failure> {
        let mut options = OpenOptions::new(StateDirectory::new(self.state_dir()?));
        // Whoever did not say that there is no password means a repository that has one: no other may take its place.
        options.expect = Some(match self.password {
            Source::None => Mode::Unencrypted,
            _ => Mode::Encrypted,
        });
        Ok(options)
    }

    /// Opens the repository, with its password.
    ///
    /// # Errors
    /// Those of the library; if the password cannot be had.
    pub(crate) fn open_repository(&self, reporter: &Reporter) -> Result<Repository, Failure> {
        self.open_repository_after(None, reporter)
    }

    /// The same with a password that the person has given already, to be tried first.
    fn open_repository_after(
        &self,
        mut given: Option<Password>,
        reporter: &Reporter,
    ) -> Result<Repository, Failure> {
        let url = target_url(self.repo()?)?;
        let options = self.open_options()?;
        let mut failure = None;
        given = given.or_else(|| self.opened_with.take());
        let mut last = None;
        let mut ask = |attempt: u32| {
            // A person may mistype; a file says the same thing every time.
            if let Some(password) = given.take() {
                last = Some(password.clone());
                return Ok(Some(password));
            }
            let attempts = if self.password == Source::Prompt { PROMPTS } else { 1 };
            if attempt > attempts {
                return Ok(None);
            }
            let prompt =
                if attempt == 1 { "enter the repository's password: " } else { "wrong password; again: " };
            let password = reporter.above(|| self.password.get(prompt)).map_err(|why| {
                let error = Error::new(ErrorKind::InvalidArgument, why.to_string());
                failure = Some(why);
                error
            })?;
            last.clone_from(&password);
            Ok(password)
        };
        let opened = Repository::open(&url, &options, Unlock::Password(&mut ask), reporter);
        match (opened, failure) {
            (Ok(repository), _) => {
                self.opened_with.replace(last);
                Ok(repository)
            }
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Opens the repository for a verb that can do much of its work without the password: if none is given, and nobody is there to be
    /// asked or answers with nothing, without it. Whether it has its secrets.
    ///
    /// # Errors
    /// As [`Session::open_repository`].
    pub(crate) fn open_with_or_without_secrets(
        &self,
        reporter: &Reporter,
    ) -> Result<(Repository, bool), Failure> {
        let is_known = self.opened_with.borrow().is_some();
        let given = match self.password {
            Source::Prompt if !is_known && password::can_ask() => Some(reporter.above(|| {
                password::ask("enter the repository's password (or nothing, to do without it): ")
            })?),
            _ => None,
        };
        let asked_in_vain = given.as_ref().is_some_and(|password| password.is_empty());
        if asked_in_vain || (self.password == Source::Prompt && !is_known && given.is_none()) {
            let url = target_url(self.repo()?)?;
            let options = OpenOptions { expect: None, ..self.open_options()? };
            reporter.event(Event::Note(
                "without the password: objects are checked, but it cannot be told which files a damaged one belongs to",
            ));
            return Ok((Repository::open(&url, &options, Unlock::Nothing, reporter)?, false));
        }
        Ok((self.open_repository_after(given, reporter)?, true))
    }

    /// The catalog of an open repository, brought up to date, to be changed.
    ///
    /// # Errors
    /// Locked, if another process has it; local; cancelled.
    pub(crate) fn writable(&self, repository: &Repository, reporter: &Reporter) -> Result<Catalog, Failure> {
        self.catalogs.to_write(repository, PATIENCE, &self.interrupt, reporter)
    }

    /// The catalog of an open repository to be read, as far up to date as it can be.
    ///
    /// # Errors
    /// Local; cancelled.
    pub(crate) fn readable(&self, repository: &Repository, reporter: &Reporter) -> Result<Readable, Failure> {
        self.catalogs.to_read(repository, reporter)
    }

    /// An empty catalog of an open repository, to be filled.
    ///
    /// # Errors
    /// Locked, if another process has it; local.
    pub(crate) fn anew(&self, repository: &Repository, reporter: &Reporter) -> Result<Catalog, Failure> {
        self.catalogs.anew(repository, PATIENCE, &self.interrupt, reporter)
    }

    /// The catalog of an open repository, to be written in at moments.
    ///
    /// # Errors
    /// If the repository is open without its secrets.
    pub(crate) fn at_moments(&self, repository: &Repository) -> Result<ToWrite, Failure> {
        self.catalogs.at_moments(repository)
    }

    /// Opens the repository and its catalog for a verb that only looks.
    ///
    /// # Errors
    /// As [`Session::open_repository`]; local; cancelled.
    pub(crate) fn open_for_reading(&self, reporter: &Reporter) -> Result<Opened, Failure> {
        let repository = self.open_repository(reporter)?;
        let readable = self.readable(&repository, reporter)?;
        Ok(Opened { repository, readable })
    }

    /// After the catalog turned out to be damaged: see [`Catalogs::give_up`].
    pub(crate) fn give_up_catalog(&self, error: &Error) -> bool {
        self.catalogs.give_up(error, &self.reporter())
    }

    /// Which snapshot a verb is about that asked for `id`: the one that was chosen before, if it begins again, since another may be the latest by then.
    pub(crate) fn chosen_before(&self, id: &str) -> String {
        self.chosen.borrow().clone().unwrap_or_else(|| id.to_owned())
    }

    /// Remembers which snapshot a verb is about.
    pub(crate) fn choose(&self, snapshot: String) {
        self.chosen.replace(Some(snapshot));
    }

    /// The label of a key: who, where.
    pub(crate) fn label(&self, user: Option<&str>, host: Option<&str>) -> String {
        let user = user.map_or_else(user_name, ToOwned::to_owned);
        let host = host.map_or_else(host_name, ToOwned::to_owned);
        format!("{user}@{host}")
    }

    /// One to watch something that is done.
    pub(crate) fn reporter(&self) -> Reporter {
        Reporter::of_work(self.output, &self.interrupt)
    }

    /// One to watch something that is looked up.
    pub(crate) fn reporter_of_question(&self) -> Reporter {
        Reporter::of_question(self.output, &self.interrupt)
    }
}

/// How often a person is asked before a wrong password is final.
const PROMPTS: u32 = 3;

/// The one way to write the URL of the target that a person means.
///
/// # Errors
/// If it is none.
pub(crate) fn target_url(text: &OsStr) -> Result<String, Failure> {
    Ok(TargetUrl::parse(text)?.to_string())
}

/// This machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The host's name in new snapshots: the given one, the environment's, this machine's.
pub(crate) fn snapshot_host(given: Option<&str>) -> String {
    let set = || env::var_os("VERSIONS_HOST").filter(|host| !host.is_empty());
    given
        .map(ToOwned::to_owned)
        .or_else(|| set().map(|host| host.to_string_lossy().into_owned()))
        .unwrap_or_else(host_name)
}

/// The name of the one who runs the program; the number, where it has none.
pub(crate) fn user_name() -> String {
    let id = rustix::process::geteuid().as_raw();
    uzers::get_user_by_uid(id)
        .map_or_else(|| id.to_string(), |user| user.name().to_string_lossy().into_owned())
}

/// How long a verb that changes the catalog waits for another process to be done: one that only brings it up to date or writes down what it saw has it for a
/// moment.
const PATIENCE: Duration = Duration::from_secs(5);

/// A repository and its catalog, open to be read.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The repository.
    pub(crate) repository: Repository,
    readable: Readable,
}

impl Opened {
    /// The catalog.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.readable.catalog
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
