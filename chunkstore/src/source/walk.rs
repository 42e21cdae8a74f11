//! The walk: every entry of some roots, in the order of their keys, one at a time.
//!
//! A directory is listed and its names sorted; each name is stat'ed and emitted; then its subdirectories are entered in the same order. What
//! is held in memory is the names of the directory that is listed now, a few dozen bytes each, and those of the
//! subdirectories still to be entered; a stat is made when its entry is taken. So a directory of a million entries costs some tens of MB while it
//! is gone through, and a tree of a billion no more than its widest directories.
//!
//! The directories that lead to the roots are entries too, without what else is in them: a restore makes them as they were.
//!
//! What cannot be seen is said and left unseen; it never ends the walk. A directory that could not be read whole is told of *before* the
//! entries below it, so that whoever compares with an earlier state never takes one of them for gone.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::ahead::WalkAhead;
use super::open::{self, SourceFile};
use super::rules::{Mark, Rules};
use crate::directory::{Directory, Opening};
use crate::entry_key::{ENTRY_KEY_BYTES_MAX, EntryKey, KeyPrefix};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Kind;
use crate::metadata::unix::{Captured, Owners, Place, Stat, capture, source_error};

/// An entry that was found, and the way to it.
pub struct Entry {
    key: EntryKey,
    /// The directory it is in; for `/`, itself.
    directory: Arc<Directory>,
    stat: Stat,
    opening: Opening,
}

/// Something that could not be seen: what was known of it before still stands.
#[derive(Clone, Debug)]
pub struct Unseen {
    /// Where it is.
    pub key: EntryKey,
    /// Whether the entry itself was seen (and emitted) and only what is below it was not, or not as a whole. If not, the entry
    /// and everything below it is unseen.
    pub below_only: bool,
    /// Why. `NotFound` if it vanished while the walk was there.
    pub error: Error,
}

/// One step of the walk. Keys ascend from one to the next; an [`Unseen`] of what is below a directory comes where the first entry below would.
#[derive(Debug)]
pub enum Step {
    /// An entry.
    Entry(Entry),
    /// A gap in what is seen.
    Unseen(Unseen),
}

impl Entry {
    /// Its place.
    pub fn key(&self) -> &EntryKey {
        &self.key
    }

    /// What it was seen to be.
    pub fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Its absolute path.
    pub fn path(&self) -> PathBuf {
        self.key.path()
    }

    fn name(&self) -> &CStr {
        if self.key.is_root() {
            return c".";
        }
        // A key ends with the name and a 00, behind another 00: just what a `CStr` is made of.
        let bytes = self.key.as_bytes();
        let start = bytes.len().saturating_sub(self.key.name().len() + 1);
        bytes.get(start..).and_then(|name| CStr::from_bytes_with_nul(name).ok()).unwrap_or(c".")
    }

    /// Reads everything about it but the contents.
    ///
    /// # Errors
    /// `NotFound` if it vanished, `Source` if it cannot be read.
    pub fn capture(&self, owners: &Owners) -> Result<Captured> {
        let directory =
            self.directory.open().map_err(|errno| source_error("its directory is not there", errno))?;
        let place = match self.opening {
            Opening::List | Opening::Fill => Place::Named(directory.as_fd(), self.name()),
            Opening::Pass => Place::Followed(directory.as_fd(), self.name()),
        };
        capture(place, &self.stat, owners)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound` if it vanished; `Source` if it cannot be opened, or is no file any more.
    pub fn open(&self) -> Result<SourceFile> {
        let directory =
            self.directory.open().map_err(|errno| source_error("its directory is not there", errno))?;
        open::open(&directory, self.name(), &self.stat)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {:?})", self.key, self.stat.kind)
    }
}

/// The roots as a tree: what leads to them, and where they are.
#[derive(Debug, Default)]
struct Roots {
    is_root: bool,
    children: BTreeMap<Vec<u8>, Roots>,
}

impl Roots {
    fn add(&mut self, path: &Path) -> Result<()> {
        let invalid =
            |why: &str| Error::new(ErrorKind::InvalidArgument, format!("{}: {why}", path.display()));
        if !path.is_absolute() {
            return Err(invalid("not an absolute path"));
        }
        EntryKey::from_path(path)?;
        let mut at = self;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => at = at.children.entry(name.as_bytes().to_vec()).or_default(),
                _ => return Err(invalid("`..` in the path of a root")),
            }
        }
        at.is_root = true;
        Ok(())
    }
}

/// The longest name that Linux lets an entry have.
const NAME_BYTES_MAX: usize = 255;

/// Names, one behind the other, each ended by 00.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    items: Vec<Name>,
}

/// Where a name is among the [`Names`].
struct Name {
    start: usize,
    /// Behind its 00.
    end: usize,
    /// What the directory says it is; unknown on some file systems.
    file_type: FileType,
}

impl Names {
    fn push(&mut self, name: &CStr, file_type: FileType) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.items.push(Name { start, end: self.bytes.len(), file_type });
    }

    /// The name without its 00.
    fn at(&self, name: &Name) -> &[u8] {
        self.bytes.get(name.start..name.end.saturating_sub(1)).unwrap_or_default()
    }

    fn get(&self, index: usize) -> Option<(&CStr, FileType)> {
        let name = self.items.get(index)?;
        let bytes = self.bytes.get(name.start..name.end).unwrap_or_default();
        Some((CStr::from_bytes_with_nul(bytes).unwrap_or(c""), name.file_type))
    }

    fn sort(&mut self) {
        let mut items = std::mem::take(&mut self.items);
        items.sort_unstable_by(|a, b| self.at(a).cmp(self.at(b)));
        // Some file systems give a name twice when the directory changes while it is read.
        items.dedup_by(|a, b| self.at(a) == self.at(b));
        self.items = items;
    }

    /// Reads every name of an open directory. Returns why these are not all.
    fn read(&mut self, open: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> Option<Error> {
        let mut raw = RawDir::new(open, buffer);
        while let Some(entry) = raw.next() {
            match entry {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => self.push(entry.file_name(), entry.file_type()),
                Err(Errno::INTR) => {}
                Err(errno) => return Some(source_error("the directory cannot be read to its end", errno)),
            }
        }
        None
    }

    /// Drops names that are longer. Returns how many.
    fn leave_out_longer_than(&mut self, name_bytes_max: usize) -> usize {
        let before = self.items.len();
        if name_bytes_max < NAME_BYTES_MAX {
            self.retain(|name| name.len() <= name_bytes_max);
        }
        before - self.items.len()
    }

    /// Keeps the names that `keep` says yes to.
    fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let mut items = std::mem::take(&mut self.items);
        items.retain(|name| keep(self.at(name)));
        self.items = items;
    }

    /// Adds those of `wanted` that are not there; all stay sorted.
    fn add_missing<'a>(&mut self, wanted: impl Iterator<Item = &'a Vec<u8>>) {
        let missing: Vec<CString> = wanted
            .filter(|name| !self.contains(name))
            .filter_map(|name| CString::new(name.as_slice()).ok())
            .collect();
        for name in &missing {
            self.push(name, FileType::Unknown);
        }
        if !missing.is_empty() {
            self.sort();
        }
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.items.binary_search_by(|item| self.at(item).cmp(name)).is_ok()
    }
}

/// A subdirectory still to be entered.
struct Pending {
    name: CString,
    seen: Stat,
    /// Roots below it.
    roots: Roots,
    /// Whether it is backed up, or only passed on the way to a root.
    whole: bool,
}

/// A directory on the way down to where the walk is.
struct Frame {
    directory: Arc<Directory>,
    key: EntryKey,
    /// How long `Walk::path` was before this directory's name came to it.
    path_length: usize,
    /// Those to be entered: in order while the directory is listed, then the next one last.
    pending: Vec<Pending>,
}

/// The directory whose entries are emitted now: always that of the last frame.
struct Listing {
    open: Option<Arc<OwnedFd>>,
    names: Names,
    /// What the keys of its entries begin with.
    prefix: KeyPrefix,
    next: usize,
    /// Roots in this directory or below it.
    roots: Roots,
    /// Whether entries come from the directory itself, or only those that lead to roots.
    whole: bool,
}

/// The stream of entries; an iterator that never fails, for what fails is a [`Step::Unseen`].
pub struct Walk {
    rules: Rules,
    /// File systems of the roots, if the walk is to stay on them.
    devices: Vec<u64>,
    /// The path of the directory that is listed, for the patterns; ends with a slash.
    path: Vec<u8>,
    frames: Vec<Frame>,
    listing: Option<Listing>,
    /// The roots, until the first step.
    start: Option<Roots>,
    /// What comes before the next entry.
    gap: Option<Step>,
    buffer: Vec<MaybeUninit<u8>>,
}

/// Room for one call that lists a directory: a thousand entries or so.
const LIST_BYTES: usize = 64 << 10;

impl Walk {
    /// A walk through `roots`: absolute paths. A root inside another one is part of it, though no rule leaves it out.
    ///
    /// # Errors
    /// Invalid argument if there is no root, or one is not absolute or holds `..`.
    pub fn new(roots: &[PathBuf], rules: Rules) -> Result<Self> {
        if roots.is_empty() {
            return Err(Error::new(ErrorKind::InvalidArgument, "nothing to back up: no path was given"));
        }
        let mut tree = Roots::default();
        let mut devices = Vec::new();
        for root in roots {
            tree.add(root)?;
            if rules.one_file_system() {
                devices.extend(device_of(root));
            }
        }
        Ok(Self {
            rules,
            devices,
            path: vec![b'/'],
            frames: Vec::new(),
            listing: None,
            start: Some(tree),
            gap: None,
            buffer: vec![MaybeUninit::uninit(); LIST_BYTES],
        })
    }

    /// The same steps, made on another thread before they are asked for.
    pub fn ahead(self) -> WalkAhead {
        WalkAhead::new(self)
    }

    fn begin(&mut self, roots: Roots) -> Step {
        let opening = if roots.is_root { Opening::List } else { Opening::Pass };
        let key = EntryKey::root();
        match Directory::root(opening) {
            Ok(directory) => {
                let stat = *directory.seen();
                let entry = Entry { key: key.clone(), directory: Arc::clone(&directory), stat, opening };
                let whole = roots.is_root;
                self.gap = self.descend(directory, key, roots, whole);
                Step::Entry(entry)
            }
            Err(errno) => unseen(key, false, source_error("cannot be opened", errno)),
        }
    }

    /// The next entry of the listing, or `None` at its end.
    fn emit(&mut self) -> Option<Step> {
        let Self { listing, frames, rules, devices, path, .. } = self;
        let Listing { open, names, prefix, next, roots: below, whole } = listing.as_mut()?;
        let open = open.as_ref()?;
        let frame = frames.last_mut()?;
        loop {
            let (name, file_type) = names.get(*next)?;
            *next += 1;
            let roots = if below.children.is_empty() { None } else { below.children.remove(name.to_bytes()) };
            let is_root = roots.as_ref().is_some_and(|roots| roots.is_root);
            // What leads to a root may be reached through links, in a directory that is not backed up itself.
            let passing = !*whole && !is_root;
            let patterns = rules.have_patterns() && roots.is_none();
            let listed_as_directory = file_type == FileType::Directory;
            // Asked before it is looked at: a person leaves out what cannot be looked at.
            if patterns && file_type != FileType::Unknown && excluded(rules, path, name, listed_as_directory)
            {
                continue;
            }
            let Ok(key) = prefix.with_name(name.to_bytes()) else { continue };
            let seen = if passing { Stat::at_followed(open, name) } else { Stat::at(open, name) };
            let stat = match seen {
                Ok(stat) => stat,
                // It vanished since its name was read: gone is what it is. A root that is not there is another matter.
                Err(Errno::NOENT) if roots.is_none() => continue,
                Err(errno) => return Some(unseen(key, false, source_error("cannot be looked at", errno))),
            };
            let is_directory = stat.kind == Kind::Directory;
            if patterns
                && (file_type == FileType::Unknown || is_directory != listed_as_directory)
                && excluded(rules, path, name, is_directory)
            {
                continue;
            }
            if roots.is_none() && stat.kind == Kind::File && rules.exclude_size(stat.size) {
                continue;
            }
            if passing && !is_directory {
                let what = "is no directory, and a path that is to be backed up leads through it";
                return Some(unseen(key, false, Error::new(ErrorKind::NotFound, what)));
            }
            let foreign = rules.one_file_system() && !devices.contains(&stat.device);
            let leads_to_root = roots.as_ref().is_some_and(|roots| !roots.children.is_empty());
            // What leads to a root is entered even if it is no directory, to find out that it cannot be and say so.
            if leads_to_root || is_directory && (is_root || !foreign) && !rules.exclude_tree(&stat) {
                let roots = roots.unwrap_or_default();
                let whole = *whole || is_root;
                frame.pending.push(Pending { name: name.to_owned(), seen: stat, roots, whole });
            }
            let opening = if passing { Opening::Pass } else { Opening::List };
            return Some(Step::Entry(Entry { key, directory: Arc::clone(&frame.directory), stat, opening }));
        }
    }

    /// Enters a subdirectory. `None`: go on; a step if it could not be read whole.
    fn enter(&mut self, pending: Pending) -> Option<Step> {
        let parent = self.frames.last()?;
        let key = parent.key.child(pending.name.to_bytes()).ok()?;
        let opening = if pending.whole { Opening::List } else { Opening::Pass };
        let directory = parent.directory.child(&pending.name, pending.seen, opening);
        self.descend(directory, key, pending.roots, pending.whole)
    }

    /// Makes a directory the one that is listed now.
    fn descend(
        &mut self,
        directory: Arc<Directory>,
        key: EntryKey,
        roots: Roots,
        whole: bool,
    ) -> Option<Step> {
        let path_length = self.path.len();
        if !key.is_root() {
            self.path.extend_from_slice(key.name());
            self.path.push(b'/');
        }
        let mut names = Names::default();
        let mut fault = None;
        let open = match directory.open() {
            Ok(open) => {
                if whole {
                    fault = names.read(&open, &mut self.buffer);
                    let left_out = names
                        .leave_out_longer_than(ENTRY_KEY_BYTES_MAX.saturating_sub(key.as_bytes().len() + 2));
                    if left_out > 0 {
                        let what = format!(
                            "{left_out} of its entries are left out: their paths are longer than {ENTRY_KEY_BYTES_MAX} bytes"
                        );
                        fault = Some(Error::new(ErrorKind::Source, what));
                    }
                    names.sort();
                    self.leave_out_marked(&open, &mut names);
                }
                names.add_missing(roots.children.keys());
                Some(open)
            }
            Err(errno) => {
                fault = Some(source_error("the directory cannot be opened", errno));
                None
            }
        };
        let step = fault.map(|error| unseen(key.clone(), true, error));
        let prefix = key.prefix();
        self.frames.push(Frame { directory, key, path_length, pending: Vec::new() });
        self.listing = Some(Listing { open, names, prefix, next: 0, roots, whole });
        step
    }

    /// Leaves out everything but the mark, if one of the rules' marks is there.
    fn leave_out_marked(&self, open: &OwnedFd, names: &mut Names) {
        let present: Vec<&Mark> = self
            .rules
            .marks()
            .iter()
            .filter(|mark| names.contains(&mark.name) && open::begins_with(open, &mark.name, &mark.header))
            .collect();
        if !present.is_empty() {
            names.retain(|name| present.iter().any(|mark| mark.name == name));
        }
    }
}

#[cfg(test)]
impl Walk {
    /// Whether a subdirectory of this name waits to be entered.
    pub(super) fn is_to_enter(&self, name: &[u8]) -> bool {
        self.frames.iter().flat_map(|frame| &frame.pending).any(|pending| pending.name.to_bytes() == name)
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(roots) = self.start.take() {
            return Some(self.begin(roots));
        }
        if let Some(gap) = self.gap.take() {
            return Some(gap);
        }
        loop {
            if let Some(step) = self.emit() {
                return Some(step);
            }
            let frame = self.frames.last_mut()?;
            if self.listing.take().is_some() {
                frame.pending.reverse();
            }
            match frame.pending.pop() {
                Some(pending) => {
                    if let Some(step) = self.enter(pending) {
                        return Some(step);
                    }
                }
                None => {
                    self.path.truncate(frame.path_length);
                    self.frames.pop();
                }
            }
        }
    }
}

impl std::iter::FusedIterator for Walk {}

impl fmt::Debug for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Walk(in {}, {} deep)", String::from_utf8_lossy(&self.path), self.frames.len())
    }
}

fn unseen(key: EntryKey, below_only: bool, error: Error) -> Step {
    Step::Unseen(Unseen { key, below_only, error })
}

/// Whether the patterns leave out `name` in the directory at `path`, which is as it was afterwards.
fn excluded(rules: &Rules, path: &mut Vec<u8>, name: &CStr, is_directory: bool) -> bool {
    let length = path.len();
    path.extend_from_slice(name.to_bytes());
    let excluded = rules.exclude_path(Path::new(OsStr::from_bytes(path)), is_directory);
    path.truncate(length);
    excluded
}

/// The file system that a root is on, if it can be seen.
fn device_of(root: &Path) -> Option<u64> {
    let path = CString::new(root.as_os_str().as_bytes()).ok()?;
    Some(Stat::at(rustix::fs::CWD, &path).ok()?.device)
}
