//! What is to be done for each entry, as it comes; and when there is enough of it, doing it.
//!
//! Directories, links and the like are made at once, files are gathered. A batch is bounded by what it holds in memory, not by the files' bytes: one
//! large file may take many batches, a batch may hold many thousands of small ones.
//!
//! Names of one inode ([`names`](super::names)): the first that comes is restored, the others are made names of it when the batch is done. If that
//! cannot be, they are restored as files of their own, and it is said.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use super::batch::{self, Batch, Piece};
use super::file::{FileJob, InPlace, OpenFiles, look};
use super::names::{Leader, Leaders, Moment};
use super::report::{Count, Failure, Report, destination};
use super::select::{Decision, Selection};
use super::special::{self, c_name};
use super::tree::{Place, Tree};
use super::unlike::Unlike;
use super::{Overwrite, RestoreOptions, RestoreSource};
use crate::directory::Directory;
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::unix::Stat;
use crate::metadata::{Extents, Kind, Metadata};
use crate::version::Version;

/// A batch is done when it has this many pieces: some 15 MB of memory, some GB of files.
const PIECES_MAX: usize = 1 << 16;
/// A batch is done when it has this many files, further names, and directories to be put right. Few for the tests, whose trees are small.
const ENTRIES_MAX: usize = if cfg!(test) { 1 << 9 } else { 1 << 13 };

/// A further name, to be made when the first is there.
struct Link {
    key: EntryKey,
    directory: Arc<Directory>,
    name: CString,
    moment: Moment,
    version: Version,
}

/// Plans and does.
pub(super) struct Planner<'a> {
    source: &'a dyn RestoreSource,
    options: &'a RestoreOptions,
    selection: &'a Selection,
    report: &'a Report<'a>,
    tree: Tree<'a>,
    batch: Batch,
    links: Vec<Link>,
    leaders: Leaders,
    open_files: OpenFiles,
    unlike: Unlike,
    /// Those of the batch, until it is known whether they came out whole.
    jobs: Vec<Arc<FileJob>>,
}

impl Drop for Planner<'_> {
    /// Leaves nothing half done if the restore was cut short: files that are not whole go, directories get what is theirs.
    fn drop(&mut self) {
        for job in &self.jobs {
            job.abandon();
        }
        self.tree.close();
        self.tree.put_right();
    }
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        source: &'a dyn RestoreSource,
        options: &'a RestoreOptions,
        selection: &'a Selection,
        report: &'a Report<'a>,
    ) -> Result<Self> {
        Ok(Self {
            source,
            options,
            selection,
            report,
            tree: Tree::new(options, report)?,
            batch: Batch::default(),
            links: Vec::new(),
            leaders: Leaders::default(),
            open_files: OpenFiles::default(),
            unlike: Unlike::new(options.verify && !options.dry_run),
            jobs: Vec::new(),
        })
    }

    /// The next entry.
    ///
    /// # Errors
    /// What ends the restore.
    pub(super) fn entry(&mut self, key: EntryKey, version: Version) -> Result<()> {
        self.place(key, version)?;
        let entries = self.jobs.len() + self.links.len() + self.tree.finished();
        let full = self.batch.pieces.len() >= PIECES_MAX || entries >= ENTRIES_MAX;
        if full { self.flush() } else { Ok(()) }
    }

    /// Ends the restore. Returns what need not be compared.
    ///
    /// # Errors
    /// What ends the restore.
    pub(super) fn finish(mut self) -> Result<Unlike> {
        self.tree.close();
        self.flush()?;
        if self.options.sync && !self.options.dry_run {
            let synced = rustix::fs::open(
                &self.options.target,
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .and_then(rustix::fs::syncfs);
            if let Err(errno) = synced {
                return Err(destination(
                    "what was restored may not be durable: the file system cannot be synced",
                    errno,
                ));
            }
        }
        Ok(std::mem::take(&mut self.unlike))
    }

    fn decide(&self, key: &EntryKey, is_directory: bool, parent_is_taken: bool) -> Decision {
        if self.selection.is_everything() {
            return Decision::Take;
        }
        self.selection.decide(&key.path(), is_directory, parent_is_taken)
    }

    fn place(&mut self, key: EntryKey, version: Version) -> Result<()> {
        let is_directory = version.metadata.kind == Kind::Directory;
        if key == self.options.base && is_directory {
            let taken = self.decide(&key, true, false) == Decision::Take;
            self.tree.set_top(version.metadata, taken);
            return Ok(());
        }
        let Some(parent) = key.parent().filter(|parent| parent.is_within(&self.options.base)) else {
            // On the way to the base, or beside it: not asked for.
            return Ok(());
        };
        let Place::Here { taken } = self.tree.enter(&parent) else { return Ok(()) };
        match (self.decide(&key, is_directory, taken), is_directory) {
            (Decision::Leave, true) => {
                self.tree.leave_out(&key);
                Ok(())
            }
            (Decision::Leave | Decision::Pass, false) => Ok(()),
            (decision, true) => self.tree.add_directory(&key, version.metadata, decision == Decision::Take),
            (Decision::Take, false) => match self.tree.here()? {
                Some(directory) => {
                    let name = c_name(key.name());
                    match self.other(&key, directory, name, version) {
                        Ok(()) => Ok(()),
                        Err(failure) => self.fail(&key, failure),
                    }
                }
                None if self.options.dry_run => {
                    self.would(&key, &version, None);
                    Ok(())
                }
                None => {
                    self.unlike.note(&key);
                    Ok(())
                }
            },
        }
    }

    fn fail(&mut self, key: &EntryKey, failure: Failure) -> Result<()> {
        self.unlike.note(key);
        failure.report(self.report, key)
    }

    /// What a dry run says of an entry that is no directory.
    fn would(&self, key: &EntryKey, version: &Version, there: Option<&Stat>) {
        let count = match (version.metadata.kind, there) {
            (Kind::File, None) => Count::FileRestored,
            (Kind::File, Some(there)) if self.is_unchanged(&version.metadata, there) => Count::FileUnchanged,
            (Kind::File, Some(_)) => Count::FileUpdated,
            _ => Count::Other,
        };
        let written = Extents::of(&version.metadata).data_bytes();
        self.report.done(count, key, written);
        if version.metadata.kind == Kind::File {
            self.report.spared(version.metadata.size.saturating_sub(written));
        }
    }

    fn is_unchanged(&self, metadata: &Metadata, there: &Stat) -> bool {
        self.options.overwrite == Overwrite::IfChanged
            && there.kind == Kind::File
            && (there.size, there.mtime) == (metadata.size, metadata.mtime)
            // Another name of it may lie elsewhere, and would get the metadata too.
            && there.links == 1
    }

    /// An entry that is no directory.
    fn other(
        &mut self,
        key: &EntryKey,
        directory: Arc<Directory>,
        name: CString,
        version: Version,
    ) -> Result<(), Failure> {
        let open = directory
            .open()
            .map_err(|errno| Failure::of("the directory it is in is not there any more", errno))?;
        let make_room = !self.options.dry_run && self.options.overwrite != Overwrite::Never;
        let there = match look(&open, &name, make_room)? {
            InPlace::Nothing => None,
            InPlace::Something(stat) => Some(stat),
        };
        if there.is_some() && self.options.overwrite == Overwrite::Never {
            self.report.done(Count::Skipped, key, 0);
            self.unlike.note(key);
            return Ok(());
        }
        if self.options.dry_run {
            self.would(key, &version, there.as_ref());
            return Ok(());
        }
        let moment = self.leaders.moment(&version);
        if let Some(moment) = moment {
            if self.leaders.get(&moment).is_some() {
                self.links.push(Link { key: key.clone(), directory, name, moment, version });
                return Ok(());
            }
            if let Some(other) = self.leaders.of_another_moment(&moment) {
                let what = format!(
                    "restored as a file of its own and not as another name of {other}, which the snapshot has as it was at another moment"
                );
                self.report.fault(key, "restore", Error::new(ErrorKind::Destination, what));
            }
        }
        let mut job = None;
        if version.metadata.kind == Kind::File {
            job = self.file(key, &directory, &name, &version, there.as_ref())?;
        } else {
            let made =
                special::make(&open, &name, &version.metadata, there.as_ref(), self.options.ownership)?;
            self.report.shortfalls(key, made);
            self.report.done(Count::Other, key, 0);
        }
        if let Some(moment) = moment {
            self.leaders.lead(moment, Leader::new(key.clone(), directory, job, &version));
        }
        Ok(())
    }

    /// A file: gathered, unless it is there already.
    fn file(
        &mut self,
        key: &EntryKey,
        directory: &Arc<Directory>,
        name: &CStr,
        version: &Version,
        there: Option<&Stat>,
    ) -> Result<Option<Arc<FileJob>>, Failure> {
        if let Some(there) = there
            && self.is_unchanged(&version.metadata, there)
        {
            self.put_right(key, directory, name, version)?;
            return Ok(None);
        }
        let job = FileJob::new(
            key.clone(),
            Arc::clone(directory),
            name.to_owned(),
            version.metadata.clone(),
            there.is_some(),
        );
        self.jobs.push(Arc::clone(&job));
        match self.pieces(&job, version) {
            Ok(0) => self.batch.bare.push(Arc::clone(&job)),
            // The planning was the one more that the file waited for.
            Ok(_) => {
                if job.piece_done() {
                    job.finish(self.options.ownership, self.report, &self.open_files)
                        .map_err(Failure::Everything)?;
                }
            }
            Err(Failure::Entry(error)) => {
                job.fail(Failure::Entry(error), self.report).map_err(Failure::Everything)?;
            }
            Err(everything) => return Err(everything),
        }
        Ok(Some(job))
    }

    /// Gathers the pieces of a file. Returns how many.
    fn pieces(&mut self, job: &Arc<FileJob>, version: &Version) -> Result<u64, Failure> {
        let sort = |error: Error| match error.kind() {
            ErrorKind::Damage | ErrorKind::NotFound => Failure::Entry(error),
            _ => Failure::Everything(error),
        };
        let (mut offset, mut count) = (0u64, 0);
        let source = self.source;
        for span in source.spans(&version.contents).map_err(sort)? {
            let span = span.map_err(sort)?;
            let mut others = span.places;
            others.reverse();
            let Some(place) = others.pop() else {
                let what = format!("chunk {} is stored nowhere: the file is not restored", span.id);
                return Err(Failure::Entry(Error::damage(what)));
            };
            job.expect_piece();
            self.batch.pieces.push(Piece {
                job: Arc::clone(job),
                id: span.id,
                contents_offset: offset,
                length: span.length,
                place,
                others,
            });
            offset += u64::from(span.length);
            count += 1;
            if self.batch.pieces.len() >= PIECES_MAX {
                self.run_batch().map_err(Failure::Everything)?;
            }
        }
        if offset != job.extents.data_bytes() {
            let what = format!(
                "its chunks hold {offset} bytes where {} were expected: the file is not restored",
                job.extents.data_bytes()
            );
            return Err(Failure::Entry(Error::damage(what)));
        }
        Ok(count)
    }

    /// Puts the metadata of a file right that is there and the same.
    fn put_right(
        &mut self,
        key: &EntryKey,
        directory: &Arc<Directory>,
        name: &CStr,
        version: &Version,
    ) -> Result<(), Failure> {
        use crate::metadata::apply::{Opened, apply};
        use rustix::fs::{Mode, OFlags};
        use std::os::fd::AsFd;
        let open = directory
            .open()
            .map_err(|errno| Failure::of("the directory it is in is not there any more", errno))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&open, name, flags, Mode::empty())
            .map_err(|errno| Failure::of("the file that is there cannot be opened", errno))?;
        let result = apply(Opened::ByPath(file.as_fd()), &version.metadata, self.options.ownership);
        self.report.shortfalls(key, result);
        self.report.done(Count::FileUnchanged, key, 0);
        self.report.spared(version.metadata.size);
        Ok(())
    }

    fn run_batch(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        batch::run(batch, self.source, self.options, self.report, &self.open_files)
    }

    /// Does what was gathered, then the further names, then the directories that are complete.
    fn flush(&mut self) -> Result<()> {
        // Names that cannot be made come back as files, and may be the first of their group then: as long as there are any.
        loop {
            self.run_batch()?;
            for job in std::mem::take(&mut self.jobs) {
                if !job.is_whole() {
                    self.unlike.note(&job.key);
                }
            }
            self.leaders.settle();
            let links = std::mem::take(&mut self.links);
            if links.is_empty() {
                break;
            }
            for link in links {
                self.link(link)?;
            }
        }
        self.tree.put_right();
        for key in self.tree.lost() {
            self.unlike.note(&key);
        }
        Ok(())
    }

    fn link(&mut self, link: Link) -> Result<()> {
        if self.leaders.get(&link.moment).is_some_and(|leader| leader.job.is_some()) {
            // The first name failed a moment ago, and another took its place that is yet to be written.
            self.links.push(link);
            return Ok(());
        }
        let Link { key, directory, name, moment, version } = link;
        match self.try_link(&directory, &name, &moment) {
            Ok(true) => {
                if version.metadata.kind == Kind::File {
                    self.report.done(Count::FileLink, &key, 0);
                    self.report.spared(version.metadata.size);
                } else {
                    self.report.done(Count::OtherLink, &key, 0);
                }
                self.leaders.linked(&moment, &version);
                return Ok(());
            }
            // The first name failed, which was told: this one may be luckier, for instance if it lies in another directory.
            Ok(false) => {}
            Err(Failure::Entry(error)) => {
                let first =
                    self.leaders.get(&moment).map(|leader| leader.key.to_string()).unwrap_or_default();
                let error =
                    error.at(format!("restored as a file of its own and not as another name of {first}"));
                self.report.fault(&key, "restore", error);
            }
            Err(Failure::Everything(error)) => return Err(error.at(key)),
        }
        self.leaders.forget(&moment);
        match self.other(&key, directory, name, version) {
            Ok(()) => Ok(()),
            Err(failure) => self.fail(&key, failure),
        }
    }

    /// Makes a further name; `false` if the first one is not there.
    fn try_link(
        &mut self,
        directory: &Arc<Directory>,
        name: &CStr,
        moment: &Moment,
    ) -> Result<bool, Failure> {
        let Some(leader) = self.leaders.get(moment) else { return Ok(false) };
        let gone = |errno| Failure::of("the directory it is in is not there any more", errno);
        let from = leader.directory.open().map_err(gone)?;
        let to = directory.open().map_err(gone)?;
        let there = match look(&to, name, true)? {
            InPlace::Nothing => None,
            InPlace::Something(stat) => Some(stat),
        };
        special::link((&from, &c_name(leader.key.name())), (&to, name), there.as_ref())?;
        Ok(true)
    }
}
