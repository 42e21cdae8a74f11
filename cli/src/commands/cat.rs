//! `versions cat`: the contents of one Version of a file on standard output; of a directory, a tar archive of it.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use chunkstore::entry_key::EntryKey;
use chunkstore::metadata::Kind;
use chunkstore::restore::{self, RepositorySource, RestoreSource};
use chunkstore::version::{Snapshot, Version};

use super::ls::missing;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::Page;
use crate::paths::entry_key;
use crate::render::mode;
use crate::render::path::show_path;
use crate::reporter::Reporter;
use crate::selection::{self, Chosen};
use crate::session::{Opened, Session};

pub(super) fn run(session: &Session, args: &args::Cat) -> Result<Exit, Failure> {
    let key = entry_key(&args.file)?;
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let (repository, catalog) = (&opened.repository, opened.catalog());
    match find(&opened, args, key)? {
        Found::File(key, version) => {
            reporter.finish();
            let source = RepositorySource::version(repository, catalog, key, *version.clone(), &reporter)?;
            write(session, |out| restore::write_contents(&source, &version, out).map(|_| ()))?;
        }
        Found::Directory(key, snapshot) => {
            if io::stdout().is_terminal() {
                return Err(Failure::Usage(format!(
                    "{} is a directory: its tar archive goes into a file or a pipe, not to a terminal",
                    show_path(&args.file)
                )));
            }
            reporter.finish();
            archive(session, &opened, &key, &snapshot, &reporter)?;
        }
    }
    Ok(reporter.exit_of_reading())
}

/// What is asked for.
enum Found {
    File(EntryKey, Box<Version>),
    Directory(EntryKey, Box<Snapshot>),
}

fn find(opened: &Opened, args: &args::Cat, key: EntryKey) -> Result<Found, Failure> {
    let catalog = opened.catalog();
    let (key, version, snapshot) = match selection::choose(catalog, &args.selection, &args.id, Some(&key))? {
        Chosen::Version(key, version) => (key, *version, None),
        Chosen::Snapshot(snapshot) => {
            let mut key = key;
            let mut found = catalog.entry(&snapshot, &key)?;
            if found.is_none() && catalog.state(&snapshot, &key.below())?.next().is_some() {
                // A directory above the roots has no Version of its own, but what is below it has.
                return Ok(Found::Directory(key, snapshot));
            }
            if found.is_none() && args.file.is_relative() {
                // What came from standard input has its name at the top, and is asked for by it.
                key = entry_key(&Path::new("/").join(&args.file))?;
                found = catalog.entry(&snapshot, &key)?;
            }
            (key, found.ok_or_else(|| missing(&snapshot, &args.file))?, Some(snapshot))
        }
    };
    let shown = show_path(&args.file);
    match (version.metadata.kind, snapshot) {
        (Kind::File, _) => Ok(Found::File(key, Box::new(version))),
        (Kind::Directory, Some(snapshot)) => Ok(Found::Directory(key, snapshot)),
        (Kind::Directory, None) => Err(Failure::Usage(format!(
            "{shown} is a directory: what was in it is told by a snapshot, not by a Version of it alone"
        ))),
        (kind, _) => {
            let word = mode::word(kind);
            Err(Failure::Usage(format!("{shown} is no file but a {word}: it has no contents")))
        }
    }
}

/// The directory and all that is below it.
fn archive(
    session: &Session,
    opened: &Opened,
    key: &EntryKey,
    snapshot: &Snapshot,
    reporter: &Reporter,
) -> Result<(), Failure> {
    let source =
        |range| RepositorySource::snapshot(&opened.repository, opened.catalog(), snapshot, range, reporter);
    let (itself, below) = (source(key.only())?, source(key.below())?);
    let sources: [&dyn RestoreSource; 2] = [&itself, &below];
    write(session, |out| restore::write_archive(&sources, out, reporter))
}

/// Has something written on standard output.
fn write(
    session: &Session,
    write: impl FnOnce(&mut dyn Write) -> Result<(), chunkstore::Error>,
) -> Result<(), Failure> {
    let mut page = session.output.page();
    let mut out = Out { page: &mut page, interrupt: &session.interrupt, error: None };
    let written = write(&mut out);
    match (written, out.error) {
        _ if session.interrupt.asked() => Err(Failure::Interrupted),
        (Ok(()), None) => page.finish(),
        // Whoever reads us went away, or the disk is full: that is no fault of the repository's.
        (_, Some(error)) => Err(Failure::Output(error)),
        (Err(error), None) => {
            // What came before the damage is good. If it is the catalog's, it comes once more.
            if !error.is_catalog_damage() {
                page.finish()?;
            }
            Err(error.into())
        }
    }
}

/// Standard output that remembers why it failed, and looks for a signal.
struct Out<'a> {
    page: &'a mut Page,
    interrupt: &'a Interrupt,
    error: Option<io::Error>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.interrupt.asked() {
            // Not `Interrupted`: writers take that for a reason to try again.
            return Err(io::Error::other("interrupted"));
        }
        match self.page.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Failure::Output(error)) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
            Err(other) => Err(io::Error::other(other.to_string())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
