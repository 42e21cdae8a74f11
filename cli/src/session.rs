//! What every verb needs before it can begin: which repository, which password, which place for this machine's state.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use chunkstore::catalog::{Access, Catalog, CatalogOptions};
use chunkstore::monitor::{Event, Monitor};
use chunkstore::repository::config::Mode;
use chunkstore::repository::state::StateDirectory;
use chunkstore::repository::{OpenOptions, Repository, Unlock};
use chunkstore::target::url::TargetUrl;
use chunkstore::{Error, ErrorKind};

use crate::args::Global;
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
        let mut ask = |attempt: u32| {
            // A person may mistype; a file says the same thing every time.
            if let Some(password) = given.take() {
                return Ok(Some(password));
            }
            let attempts = if self.password == Source::Prompt { PROMPTS } else { 1 };
            if attempt > attempts {
                return Ok(None);
            }
            let prompt =
                if attempt == 1 { "enter the repository's password: " } else { "wrong password; again: " };
            reporter.above(|| self.password.get(prompt)).map_err(|why| {
                let error = Error::new(ErrorKind::InvalidArgument, why.to_string());
                failure = Some(why);
                error
            })
        };
        let opened = Repository::open(&url, &options, Unlock::Password(&mut ask), reporter);
        match (opened, failure) {
            (Ok(repository), _) => Ok(repository),
            (Err(_), Some(failure)) => Err(failure),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// Opens the repository for a verb that can do much of its work without the password: if none is given, and nobody is there to be
    /// asked or answers with nothing, without it. And the catalog, where it can be had.
    ///
    /// # Errors
    /// As [`Session::open_repository`]; locked, if the catalog is needed and another process has it.
    pub(crate) fn open_with_or_without_secrets(
        &self,
        access: CatalogAccess,
        reporter: &Reporter,
    ) -> Result<(Repository, Option<Catalog>), Failure> {
        let given = match self.password {
            Source::Prompt if password::can_ask() => Some(reporter.above(|| {
                password::ask("enter the repository's password (or nothing, to do without it): ")
            })?),
            _ => None,
        };
        let asked_in_vain = given.as_ref().is_some_and(|password| password.is_empty());
        if asked_in_vain || (self.password == Source::Prompt && given.is_none()) {
            let url = target_url(self.repo()?)?;
            let options = OpenOptions { expect: None, ..self.open_options()? };
            reporter.event(Event::Note(
                "without the password: objects are checked, but it cannot be told which files a damaged one belongs to",
            ));
            return Ok((Repository::open(&url, &options, Unlock::Nothing, reporter)?, None));
        }
        let repository = self.open_repository_after(given, reporter)?;
        let catalog = match Catalog::open(&catalog_options(&repository, Access::Write)?) {
            Ok(catalog) => catalog,
            Err(error) if error.kind() == ErrorKind::Locked && access == CatalogAccess::IfFree => {
                reporter.event(Event::Note(
                    "another process uses the catalog: what is found now is reported, but not remembered",
                ));
                return Ok((repository, None));
            }
            Err(error) => return Err(error.into()),
        };
        catch_up(&repository, &catalog, reporter)?;
        Ok((repository, Some(catalog)))
    }

    /// The catalog of an open repository, brought up to date.
    ///
    /// # Errors
    /// Locked, if another process has it; local; cancelled.
    pub(crate) fn open_catalog(
        &self,
        repository: Repository,
        reporter: &Reporter,
    ) -> Result<Opened, Failure> {
        repository.notice_ages(reporter)?;
        let catalog = Catalog::open(&catalog_options(&repository, Access::Write)?)?;
        catch_up(&repository, &catalog, reporter)?;
        Ok(Opened { repository, catalog })
    }

    /// Opens the repository and its catalog, whatever is in it, to be made again.
    ///
    /// # Errors
    /// As [`Session::open_repository`]; locked, if another process has it.
    pub(crate) fn open_for_rebuilding(&self, reporter: &Reporter) -> Result<Opened, Failure> {
        let repository = self.open_repository(reporter)?;
        let catalog = Catalog::open(&catalog_options(&repository, Access::Write)?)?;
        Ok(Opened { repository, catalog })
    }

    /// Opens the repository and its catalog for a verb that only looks: brought up to date if nobody else is at it, else as it was when the other
    /// one opened it.
    ///
    /// # Errors
    /// As [`Session::open_repository`]; local; cancelled.
    pub(crate) fn open_for_reading(&self, reporter: &Reporter) -> Result<Opened, Failure> {
        let repository = self.open_repository(reporter)?;
        let catalog = match Catalog::open(&catalog_options(&repository, Access::Write)?) {
            Ok(catalog) => {
                catch_up(&repository, &catalog, reporter)?;
                catalog
            }
            Err(error) if error.kind() == ErrorKind::Locked => {
                Catalog::open(&catalog_options(&repository, Access::Read)?)?
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Opened { repository, catalog })
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

/// Whether a verb can do without the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CatalogAccess {
    /// It can, while another process uses it.
    IfFree,
    /// It cannot.
    Needed,
}

/// A repository and its catalog, open.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The repository.
    pub(crate) repository: Repository,
    /// Its catalog.
    pub(crate) catalog: Catalog,
}

/// What the engine may use for its own: enough for a million entries to be walked and looked up without waiting for the disk.
const CATALOG_MEMORY_BYTES: usize = 64 << 20;

fn catalog_options(repository: &Repository, access: Access) -> Result<CatalogOptions, Failure> {
    let config = repository.config();
    Ok(CatalogOptions {
        dir: repository.state().path().to_owned(),
        repository: repository.id(),
        secrets: repository.secrets()?.clone(),
        cipher: config.mode.cipher(),
        epoch: config.epoch,
        access,
        memory_bytes: CATALOG_MEMORY_BYTES,
    })
}

/// Applies what other machines did, and everything where the catalog was lost. One target that answers is enough, but only all of them together
/// know what was written while one of them was away.
fn catch_up(repository: &Repository, catalog: &Catalog, reporter: &Reporter) -> Result<(), Failure> {
    let mut last = None;
    let mut answered = false;
    // A second time if it was made anew on the way, from one target: what only those before it have is missing again then.
    for _ in 0..2 {
        let mut rebuilt = false;
        let mut stuck = None;
        for (entry, target) in repository.reachable() {
            match catalog.catch_up(&**target, reporter) {
                Ok(done) => {
                    answered = true;
                    rebuilt |= done.rebuilt;
                    // One after it may have what is missing.
                    stuck = done.stuck.then_some(target);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Target | ErrorKind::TargetFull | ErrorKind::NotFound
                    ) =>
                {
                    reporter.target_failed(entry, "open", &error);
                    last = Some(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(target) = stuck {
            reporter.event(Event::Note(
                "a snapshot that was taken over by half cannot be finished, as the target that has it is away: the local catalog is made again from the others",
            ));
            catalog.rebuild(&**target, reporter)?;
            rebuilt = true;
        }
        if !rebuilt {
            break;
        }
    }
    match last {
        Some(error) if !answered && catalog.is_empty() => Err(error.into()),
        _ => Ok(()),
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
