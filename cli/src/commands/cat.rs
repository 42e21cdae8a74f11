//! `versions cat`: the contents of one Version of a file, on standard output.

use std::io::{self, Write};
use std::path::Path;

use chunkstore::metadata::Kind;
use chunkstore::restore::{self, RepositorySource};

use super::ls::missing;
use crate::args;
use crate::exit::{Exit, Failure};
use crate::paths::entry_key;
use crate::render::mode;
use crate::render::path::show_path;
use crate::selection::{self, Chosen};
use crate::session::Session;

pub(super) fn run(session: &Session, args: &args::Cat) -> Result<Exit, Failure> {
    let mut key = entry_key(&args.file)?;
    let reporter = session.reporter_of_question();
    let opened = session.open_for_reading(&reporter)?;
    let (repository, catalog) = (&opened.repository, &opened.catalog);
    let version = match selection::choose(catalog, &args.selection, &args.id, Some(&key))? {
        Chosen::Version(_, version) => *version,
        Chosen::Snapshot(snapshot) => {
            let mut found = catalog.entry(&snapshot, &key)?;
            if found.is_none() && args.file.is_relative() {
                // What came from standard input has its name at the top, and is asked for by it.
                key = entry_key(&Path::new("/").join(&args.file))?;
                found = catalog.entry(&snapshot, &key)?;
            }
            found.ok_or_else(|| missing(&snapshot, &args.file))?
        }
    };
    if version.metadata.kind != Kind::File {
        let word = mode::word(version.metadata.kind);
        return Err(Failure::Usage(format!(
            "{} is no file but a {word}: it has no contents",
            show_path(&args.file)
        )));
    }
    reporter.finish();
    let source = RepositorySource::version(repository, catalog, key, version.clone(), &reporter)?;
    let mut page = session.output.page();
    let mut out = Out { page: &mut page, error: None };
    let written = restore::write_contents(&source, &version, &mut out);
    match (written, out.error) {
        (Ok(_), None) => page.finish()?,
        // Whoever reads us went away, or the disk is full: that is no fault of the repository's.
        (_, Some(error)) => return Err(Failure::Output(error)),
        (Err(error), None) => {
            // What came before the damage is good.
            page.finish()?;
            return Err(error.into());
        }
    }
    Ok(reporter.exit_of_reading())
}

/// Standard output that remembers why it failed.
struct Out<'a> {
    page: &'a mut crate::output::Page,
    error: Option<io::Error>,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
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
