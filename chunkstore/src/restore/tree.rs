//! The directories of the destination: made as their entries come, put right when everything below them is done.
//!
//! Entries come in the order of a walk, so the directories that still matter are those on the way from the top to where the restore is, and
//! those that were named in them and not entered yet. When the restore has left a directory for good, it goes to a list, after all that were below it;
//! once the files planned so far are written, the directories of the list get their permissions and times, in that order.
//!
//! A directory that is only passed, because something below it may be wanted, is made when that something comes.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::report::{Count, Failure, Report, destination};
use super::special::c_name;
use super::{Overwrite, RestoreOptions};
use crate::directory::{Directory, Opening};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::apply::{Opened, apply};
use crate::metadata::unix::{Stat, proc_path};
use crate::metadata::{Kind, Metadata};

/// Whether a directory is there.
enum State {
    /// It is, and can be filled.
    Made(Arc<Directory>),
    /// Not yet: it is made when something comes into it.
    Wanted,
    /// It is not, and nothing is made on a dry run.
    Imagined,
    /// It cannot be, or is left out: nothing below it is restored.
    Lost,
}

/// What is to be done with a directory when everything below it is done.
enum Ending {
    Nothing,
    /// It gets its metadata, and counts as restored.
    Apply(Box<Metadata>),
    /// It gets its metadata only if it is made on the way.
    ApplyIfMade(Box<Metadata>),
    /// It was made writable for the time being and gets its own mode back.
    Mode(u16),
}

/// A directory of the destination.
struct Node {
    state: State,
    ending: Ending,
    /// Whether it was taken for its own sake, so that what is below it is taken with it.
    taken: bool,
}

/// A directory on the way to where the restore is.
struct Level {
    key: EntryKey,
    node: Node,
    /// Those named in it and not entered yet.
    children: BTreeMap<Vec<u8>, Node>,
}

/// The destination.
pub(super) struct Tree<'a> {
    options: &'a RestoreOptions,
    report: &'a Report<'a>,
    levels: Vec<Level>,
    finished: Vec<(EntryKey, Node)>,
    /// Those that cannot be made, which was told.
    lost: Vec<EntryKey>,
}

/// Where the restore is, after [`Tree::enter`].
pub(super) enum Place {
    /// Nothing here is restored.
    Lost,
    /// In a directory that was taken, or is only passed.
    Here { taken: bool },
}

impl<'a> Tree<'a> {
    /// The tree below the target directory, which is made with all that leads to it if it is not there.
    ///
    /// # Errors
    /// Destination, if that cannot be done.
    pub(super) fn new(options: &'a RestoreOptions, report: &'a Report<'a>) -> Result<Self> {
        let at = |error: std::io::Error| {
            let what = format!("the target directory {} cannot be used", options.target.display());
            Error::caused(ErrorKind::Destination, what, error)
        };
        if !options.dry_run {
            std::fs::create_dir_all(&options.target).map_err(at)?;
        }
        let state = match open_top(&options.target) {
            Ok(directory) => State::Made(directory),
            Err(Errno::NOENT) if options.dry_run => State::Imagined,
            Err(errno) => return Err(at(errno.into())),
        };
        let node = Node { state, ending: Ending::Nothing, taken: false };
        let top = Level { key: options.base.clone(), node, children: BTreeMap::new() };
        Ok(Self { options, report, levels: vec![top], finished: Vec::new(), lost: Vec::new() })
    }

    /// Gives the top the metadata of the base.
    pub(super) fn set_top(&mut self, metadata: Metadata, taken: bool) {
        if let Some(top) = self.levels.first_mut() {
            top.node.taken |= taken;
            if self.options.top && taken {
                top.node.ending = Ending::Apply(Box::new(metadata));
            }
        }
    }

    /// Goes to the directory `parent`, leaving those that it is not below of.
    pub(super) fn enter(&mut self, parent: &EntryKey) -> Place {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| !parent.is_within(&level.key)) {
            self.leave();
        }
        let Some(last) = self.levels.last() else { return Place::Lost };
        if !parent.is_within(&last.key) {
            return Place::Lost;
        }
        // One level in all but odd cases: a source that does not name every directory on the way.
        let depth = last.key.depth();
        for name in parent.components().skip(depth) {
            let Some(last) = self.levels.last_mut() else { return Place::Lost };
            let Ok(key) = last.key.child(name) else { return Place::Lost };
            let node = last.children.remove(name).unwrap_or_else(|| Node {
                state: if matches!(last.node.state, State::Lost) { State::Lost } else { State::Wanted },
                ending: Ending::Nothing,
                taken: last.node.taken,
            });
            self.levels.push(Level { key, node, children: BTreeMap::new() });
        }
        match self.levels.last() {
            Some(Level { node: Node { state: State::Lost, .. }, .. }) | None => Place::Lost,
            Some(level) => Place::Here { taken: level.node.taken },
        }
    }

    /// Leaves the last level: those in it that were never entered are done first, then itself.
    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        for (name, node) in level.children {
            if let (State::Made(_), Ok(key)) = (&node.state, level.key.child(&name)) {
                self.finished.push((key, node));
            }
        }
        if matches!(level.node.state, State::Made(_)) {
            self.finished.push((level.key, level.node));
        }
    }

    /// The directory where the restore is, made by now; `None` if it cannot be (told already), or on a dry run.
    ///
    /// # Errors
    /// What ends everything.
    pub(super) fn here(&mut self) -> Result<Option<Arc<Directory>>> {
        let mut parent: Option<Arc<Directory>> = None;
        // From the last one that is made down to here.
        let made = self.levels.iter().rposition(|level| matches!(level.node.state, State::Made(_)));
        for level in self.levels.iter_mut().skip(made.unwrap_or(0)) {
            if matches!(level.node.state, State::Wanted) {
                let name = c_name(level.key.name());
                level.node.state = match &parent {
                    Some(parent) => make_or_report(
                        self.options,
                        self.report,
                        parent,
                        &name,
                        &level.key,
                        &mut level.node.ending,
                    )?,
                    None => State::Imagined,
                };
                if matches!(level.node.state, State::Lost) {
                    self.lost.push(level.key.clone());
                }
            }
            match &level.node.state {
                State::Made(directory) => parent = Some(Arc::clone(directory)),
                State::Imagined => parent = None,
                State::Wanted | State::Lost => return Ok(None),
            }
        }
        Ok(parent)
    }

    /// Notes a directory that was named where the restore is.
    ///
    /// # Errors
    /// What ends everything.
    pub(super) fn add_directory(&mut self, key: &EntryKey, metadata: Metadata, taken: bool) -> Result<()> {
        let name = c_name(key.name());
        let metadata = Box::new(metadata);
        let mut node = Node { state: State::Wanted, ending: Ending::Nothing, taken };
        if taken {
            node.ending = Ending::Apply(metadata);
            match self.here()? {
                Some(parent) => {
                    node.state =
                        make_or_report(self.options, self.report, &parent, &name, key, &mut node.ending)?;
                    if matches!(node.state, State::Lost) {
                        self.lost.push(key.clone());
                    }
                }
                None if self.options.dry_run => node.state = State::Imagined,
                None => node.state = State::Lost,
            }
            if self.options.dry_run {
                self.report.done(Count::Directory, key, 0);
            }
        } else {
            node.ending = Ending::ApplyIfMade(metadata);
        }
        self.insert(key, node);
        Ok(())
    }

    /// Notes a directory that is left out with everything below it.
    pub(super) fn leave_out(&mut self, key: &EntryKey) {
        self.insert(key, Node { state: State::Lost, ending: Ending::Nothing, taken: false });
    }

    fn insert(&mut self, key: &EntryKey, node: Node) {
        if let Some(last) = self.levels.last_mut() {
            last.children.insert(key.name().to_vec(), node);
        }
    }

    /// The directories that could not be made, since this was asked last.
    pub(super) fn lost(&mut self) -> impl Iterator<Item = EntryKey> {
        self.lost.drain(..)
    }

    /// How many directories wait for [`Tree::put_right`].
    pub(super) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Leaves everything.
    pub(super) fn close(&mut self) {
        while !self.levels.is_empty() {
            self.leave();
        }
    }

    /// Puts right the directories that the restore has left. Only when all files planned so far are written: writing into a directory
    /// changes its time.
    pub(super) fn put_right(&mut self) {
        for (key, node) in self.finished.drain(..) {
            let State::Made(directory) = &node.state else { continue };
            let opened = match directory.open() {
                Ok(opened) => opened,
                Err(errno) => {
                    self.report.fault(
                        &key,
                        "restore",
                        destination("the directory is not there any more", errno),
                    );
                    continue;
                }
            };
            match node.ending {
                Ending::Nothing | Ending::ApplyIfMade(_) => {}
                Ending::Apply(metadata) => {
                    put_on(&opened, &metadata, self.options, self.report, &key);
                    self.report.done(Count::Directory, &key, 0);
                }
                Ending::Mode(mode) => {
                    if let Err(errno) = set_mode(&opened, mode) {
                        self.report.fault(
                            &key,
                            "restore",
                            destination("its permissions cannot be put back", errno),
                        );
                    }
                }
            }
        }
    }
}

/// Opens the target directory, by whatever links lead to it.
pub(super) fn open_top(target: &Path) -> rustix::io::Result<Arc<Directory>> {
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::INVAL)?;
    Directory::at(&path, Opening::Fill)
}

fn put_on(
    opened: &OwnedFd,
    metadata: &Metadata,
    options: &RestoreOptions,
    report: &Report<'_>,
    key: &EntryKey,
) {
    // Opened for reading it needs no `/proc`; where it cannot be, that is the other way.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let result = match rustix::fs::openat(opened, c".", flags, Mode::empty()) {
        Ok(fully) => apply(Opened::Fully(fully.as_fd()), metadata, options.ownership),
        Err(_) => apply(Opened::ByPath(opened.as_fd()), metadata, options.ownership),
    };
    report.shortfalls(key, result);
}

fn set_mode(opened: &OwnedFd, mode: u16) -> rustix::io::Result<()> {
    let path = proc_path(opened.as_fd(), c".");
    rustix::fs::chmodat(rustix::fs::CWD, path, Mode::from_raw_mode(u32::from(mode)), AtFlags::empty())
}

fn make_or_report(
    options: &RestoreOptions,
    report: &Report<'_>,
    parent: &Arc<Directory>,
    name: &CStr,
    key: &EntryKey,
    ending: &mut Ending,
) -> Result<State> {
    match make(options, parent, name) {
        Ok((state, found)) => {
            *ending = match (std::mem::replace(ending, Ending::Nothing), found) {
                // What was there before and is not wanted for its own sake stays as it was.
                (Ending::ApplyIfMade(_), Found::Existing { restore_mode: Some(mode) }) => Ending::Mode(mode),
                (Ending::ApplyIfMade(_), Found::Existing { restore_mode: None }) => Ending::Nothing,
                (Ending::ApplyIfMade(metadata), Found::Fresh) => Ending::Apply(metadata),
                (Ending::Apply(_), Found::Existing { restore_mode })
                    if options.overwrite == Overwrite::Never =>
                {
                    report.done(Count::Skipped, key, 0);
                    restore_mode.map_or(Ending::Nothing, Ending::Mode)
                }
                (ending, _) => ending,
            };
            Ok(state)
        }
        Err(failure) => {
            failure.report(report, key)?;
            Ok(State::Lost)
        }
    }
}

enum Found {
    /// It was made.
    Fresh,
    /// It was there; with the mode it had, if that had to be changed to work in it.
    Existing { restore_mode: Option<u16> },
}

/// Makes a directory, or finds it. What stands in its place goes, if anything may be overwritten.
fn make(options: &RestoreOptions, parent: &Arc<Directory>, name: &CStr) -> Result<(State, Found), Failure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |errno| Failure::of(what, errno)
    };
    let open = parent.open().map_err(failed("the directory it is in is not there any more"))?;
    let mut found = Found::Fresh;
    match Stat::at(&open, name) {
        Ok(stat) if stat.kind == Kind::Directory => {
            found = Found::Existing { restore_mode: None };
            let user = rustix::process::geteuid();
            if !options.dry_run && !user.is_root() && user.as_raw() == stat.uid && stat.mode & 0o700 != 0o700
            {
                let child = parent.child(name, stat, Opening::Fill);
                let opened = child.open().map_err(failed("the directory cannot be opened"))?;
                set_mode(&opened, stat.mode | 0o700)
                    .map_err(failed("the directory cannot be made writable"))?;
                found = Found::Existing { restore_mode: Some(stat.mode) };
            }
        }
        Ok(_) if options.overwrite == Overwrite::Never => {
            let what = "something that is no directory is in its place and is not to be overwritten: nothing below it is restored";
            return Err(Failure::Entry(Error::new(ErrorKind::Destination, what)));
        }
        Ok(_) if options.dry_run => return Ok((State::Imagined, Found::Fresh)),
        Ok(_) => {
            rustix::fs::unlinkat(&open, name, AtFlags::empty())
                .map_err(failed("what is in its place cannot be removed"))?;
            make_new(&open, name)?;
        }
        Err(Errno::NOENT) if options.dry_run => return Ok((State::Imagined, Found::Fresh)),
        Err(Errno::NOENT) => make_new(&open, name)?,
        Err(errno) => return Err(Failure::of("its place cannot be looked at", errno)),
    }
    let seen = Stat::at(&open, name).map_err(failed("the directory cannot be looked at"))?;
    if seen.kind != Kind::Directory {
        let what = "something else took the directory's place while it was made";
        return Err(Failure::Entry(Error::new(ErrorKind::Destination, what)));
    }
    Ok((State::Made(parent.child(name, seen, Opening::Fill)), found))
}

fn make_new(open: &OwnedFd, name: &CStr) -> Result<(), Failure> {
    // Nobody else comes in before it has the permissions that it is to have.
    rustix::fs::mkdirat(open, name, Mode::from_raw_mode(0o700))
        .map_err(|errno| Failure::of("the directory cannot be made", errno))
}
