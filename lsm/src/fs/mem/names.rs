//! Which names lead to which files: what is seen, what is durable, and the operations on their way between them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::crash::Fate;

/// The number of a file, whatever its names.
pub(super) type InodeNumber = u64;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(InodeNumber),
    Directory,
}

#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, Node),
    Unset(PathBuf),
    Move { from: PathBuf, to: PathBuf, node: Node },
}

impl Change {
    fn paths(&self) -> [&Path; 2] {
        match self {
            Self::Set(path, _) | Self::Unset(path) => [path, path],
            Self::Move { from, to, .. } => [from, to],
        }
    }

    fn touches(&self, other: &Self) -> bool {
        self.paths().iter().any(|path| other.paths().contains(path))
    }

    fn is_in(&self, directory: &Path) -> bool {
        self.paths().iter().any(|path| parent_of(path) == directory)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Self::Set(path, node) => {
                names.insert(path.clone(), *node);
            }
            Self::Unset(path) => {
                names.remove(path);
            }
            Self::Move { from, to, node } => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Pending {
    sequence: u64,
    change: Change,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    live: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    pending: Vec<Pending>,
}

/// A path in one spelling: absolute, without `.` and `..`.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    normal
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file or directory: {}", path.display()))
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if path == Path::new("/") { Some(Node::Directory) } else { self.live.get(path).copied() }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<InodeNumber> {
        match self.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Directory) => {
                Err(io::Error::new(io::ErrorKind::IsADirectory, format!("a directory: {}", path.display())))
            }
            None => Err(not_found(path)),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => {
                Err(io::Error::new(io::ErrorKind::NotADirectory, format!("no directory: {}", path.display())))
            }
            None => Err(not_found(path)),
        }
    }

    /// Succeeds if `path` could be made now.
    pub(super) fn vacant(&self, path: &Path) -> io::Result<()> {
        self.directory(parent_of(path))?;
        if self.get(path).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("exists: {}", path.display())));
        }
        Ok(())
    }

    fn change(&mut self, change: Change, sequence: u64) {
        change.apply(&mut self.live);
        self.pending.push(Pending { sequence, change });
    }

    pub(super) fn add(&mut self, path: &Path, node: Node, sequence: u64) -> io::Result<()> {
        self.vacant(path)?;
        self.change(Change::Set(path.to_owned(), node), sequence);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, sequence: u64) -> io::Result<()> {
        let inode = self.file(from)?;
        self.directory(parent_of(to))?;
        if self.get(to) == Some(Node::Directory) {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!("a directory: {}", to.display()),
            ));
        }
        // Two names of one file: POSIX says that nothing happens.
        if self.get(to) != Some(Node::File(inode)) {
            let node = Node::File(inode);
            self.change(Change::Move { from: from.to_owned(), to: to.to_owned(), node }, sequence);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path, sequence: u64) -> io::Result<InodeNumber> {
        let inode = self.file(path)?;
        self.change(Change::Unset(path.to_owned()), sequence);
        Ok(inode)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.directory(path)?;
        let children = self.live.keys().filter(|name| parent_of(name) == path);
        Ok(children.filter_map(|name| name.file_name().map(OsStr::to_owned)).map(PathBuf::from).collect())
    }

    /// Makes durable the operations in one directory that were done up to and with call `through`, and the earlier ones
    /// on the same names: a file system's own journal keeps those in order.
    pub(super) fn sync(&mut self, path: &Path, through: u64) -> io::Result<()> {
        self.directory(path)?;
        let chosen: Vec<bool> = self
            .pending
            .iter()
            .map(|pending| pending.sequence <= through && pending.change.is_in(path))
            .collect();
        let chosen = self.with_earlier(chosen);
        let mut index = 0;
        let durable = &mut self.durable;
        self.pending.retain(|pending| {
            let apply = chosen.get(index).copied().unwrap_or(false);
            index += 1;
            if apply {
                pending.change.apply(durable);
            }
            !apply
        });
        Ok(())
    }

    /// Adds to a choice of pending operations each earlier one that has a name in common with one that is chosen.
    fn with_earlier(&self, mut chosen: Vec<bool>) -> Vec<bool> {
        let mut later: Vec<&Change> = Vec::new();
        for (pending, chosen) in self.pending.iter().zip(&mut chosen).rev() {
            if *chosen || later.iter().any(|change| change.touches(&pending.change)) {
                *chosen = true;
                later.push(&pending.change);
            }
        }
        chosen
    }

    /// Whether any name that is seen, durable, or on its way leads to the file.
    pub(super) fn refers_to(&self, inode: InodeNumber) -> bool {
        let node = Node::File(inode);
        self.live.values().chain(self.durable.values()).any(|other| *other == node)
            || self.pending.iter().any(|pending| match pending.change {
                Change::Set(_, other) | Change::Move { node: other, .. } => other == node,
                Change::Unset(_) => false,
            })
    }

    /// The first call whose change is not durable.
    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.pending.first().map(|pending| pending.sequence)
    }

    /// The names after a power loss.
    pub(super) fn crash(&self, fate: &mut Fate) -> Self {
        let chosen = self.pending.iter().map(|pending| fate.name(pending.sequence)).collect();
        let chosen = self.with_earlier(chosen);
        let mut names = self.durable.clone();
        for (pending, _) in self.pending.iter().zip(chosen).filter(|(_, chosen)| *chosen) {
            pending.change.apply(&mut names);
        }
        // A name in a directory that is gone is gone. Parents sort before their children.
        let mut kept = BTreeMap::new();
        for (path, node) in names {
            let parent = parent_of(&path);
            if parent == Path::new("/") || kept.get(parent) == Some(&Node::Directory) {
                kept.insert(path, node);
            }
        }
        Self { live: kept.clone(), durable: kept, pending: Vec::new() }
    }
}
