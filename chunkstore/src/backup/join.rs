//! The merge-join: the walk on one side, what the catalog knows of the newest snapshot on the other, both in the order of keys.
//!
//! Nothing is looked up at random, and an entry that did not change costs two comparisons and no memory. Three rules close ways to
//! lose data:
//!
//! - *Unseen is not gone.* What lies below a directory that could not be read whole, or at a place that could not be looked
//!   at, stays as it was. Gone is only what a readable directory does not list.
//! - *A timestamp in the scan's own tick proves nothing*: such an entry was marked when it was stored, and is read again.
//! - *Only what is the same in everything that the system tells is unchanged*: kind, permissions, owner, size, both times,
//!   inode, number of names. The device's number is not among them: it changes when a machine starts anew.

use std::cmp::Ordering;
use std::iter::Peekable;

use super::reread::Reread;
use crate::catalog::CurrentEntry;
use crate::entry_key::{EntryKey, KeyRange};
use crate::error::{ErrorKind, Result};
use crate::metadata::Kind;
use crate::metadata::unix::Stat;
use crate::monitor::{Event, Fault, FaultSide, Monitor};
use crate::source::{Entry, Step, Unseen};
use crate::version::Marks;

/// What is to be done about an entry.
pub(super) enum Difference {
    /// It is new, or changed in something.
    Found {
        /// What was found.
        entry: Box<Entry>,
        /// What was known.
        previous: Option<Box<CurrentEntry>>,
    },
    /// It is gone.
    Gone {
        /// Where it was.
        key: EntryKey,
    },
    /// It stays as it was. Handed on only if wanted.
    Kept {
        /// Where it is.
        key: EntryKey,
    },
}

/// What the join looks at besides the two sides.
pub(super) struct Wanted {
    /// What differs though it did not change.
    pub(super) reread: Reread,
    /// Whether also what stays as it was is handed on.
    pub(super) kept: bool,
}

/// What the join saw and did not hand on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unchanged {
    pub(super) files: u64,
    pub(super) directories: u64,
    pub(super) others: u64,
    /// Bytes of the files.
    pub(super) bytes: u64,
    /// Entries that could not be seen and stay as they were.
    pub(super) unseen: u64,
    /// Places that could not be seen.
    pub(super) faults: u64,
}

/// Whether everything that the system tells of an entry is as it was, and can be trusted.
pub(super) fn is_unchanged(stat: &Stat, known: &CurrentEntry) -> bool {
    let sized = matches!(stat.kind, Kind::File | Kind::Symlink);
    stat.kind == known.kind
        && stat.mode == known.mode
        && (stat.uid, stat.gid) == (known.uid, known.gid)
        && (!sized || stat.size == known.size)
        && (stat.mtime, stat.ctime) == (known.mtime, known.ctime)
        && (stat.inode, stat.links) == (known.inode, known.links)
        && !known.marks.has(Marks::RACY)
}

/// Joins `walk` with `known`; hands on what differs, in the order of keys.
///
/// # Errors
/// The catalog's; what `hand_on` returns; cancelled.
pub(super) fn join(
    walk: impl Iterator<Item = Step>,
    known: impl Iterator<Item = Result<CurrentEntry>>,
    wanted: &Wanted,
    monitor: &dyn Monitor,
    mut hand_on: impl FnMut(Difference) -> Result<()>,
) -> Result<Unchanged> {
    let mut unchanged = Unchanged::default();
    let mut known = known.peekable();
    let mut unseen: Vec<KeyRange> = Vec::new();
    let names_wanted = monitor.wants_unchanged();
    let mut told = Told::default();
    let mut steps = 0u32;
    for step in walk {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(256) {
            if monitor.cancelled() {
                return Err(crate::pipeline::read::stopped());
            }
            told.tell(&unchanged, monitor);
        }
        match step {
            Step::Unseen(gap) => {
                report(&gap, monitor);
                unchanged.faults += 1;
                unseen.push(gap.key.below());
                if !gap.below_only {
                    pass(&mut known, Some(&gap.key), &mut unseen, &mut unchanged, wanted, &mut hand_on)?;
                    unseen.push(gap.key.only());
                }
            }
            Step::Entry(entry) => {
                pass(&mut known, Some(entry.key()), &mut unseen, &mut unchanged, wanted, &mut hand_on)?;
                let same_place = |known: &Result<CurrentEntry>| {
                    known.as_ref().is_ok_and(|known| known.key.cmp(entry.key()) == Ordering::Equal)
                };
                let previous = known.next_if(same_place).transpose()?;
                match &previous {
                    Some(previous)
                        if is_unchanged(entry.stat(), previous) && !wanted.reread.has(entry.key()) =>
                    {
                        match entry.stat().kind {
                            Kind::File => {
                                unchanged.files += 1;
                                unchanged.bytes += entry.stat().size;
                            }
                            Kind::Directory => unchanged.directories += 1,
                            _ => unchanged.others += 1,
                        }
                        if names_wanted {
                            monitor.event(Event::Item {
                                action: "unchanged",
                                item: &entry.key().to_string(),
                                bytes: if entry.stat().kind == Kind::File { entry.stat().size } else { 0 },
                            });
                        }
                        if wanted.kept {
                            hand_on(Difference::Kept { key: entry.key().clone() })?;
                        }
                    }
                    _ => hand_on(Difference::Found {
                        entry: Box::new(entry),
                        previous: previous.map(Box::new),
                    })?,
                }
            }
        }
    }
    pass(&mut known, None, &mut unseen, &mut unchanged, wanted, &mut hand_on)?;
    told.tell(&unchanged, monitor);
    Ok(unchanged)
}

/// What of the unchanged files the monitor has heard of.
#[derive(Default)]
struct Told {
    files: u64,
    bytes: u64,
}

impl Told {
    fn tell(&mut self, unchanged: &Unchanged, monitor: &dyn Monitor) {
        let (bytes, items) = (unchanged.bytes - self.bytes, unchanged.files - self.files);
        if items > 0 {
            monitor.event(Event::Advance { bytes, items });
        }
        *self = Self { files: unchanged.files, bytes: unchanged.bytes };
    }
}

/// Everything known before `limit` that the walk did not come by is gone, or was not seen.
fn pass(
    known: &mut Peekable<impl Iterator<Item = Result<CurrentEntry>>>,
    limit: Option<&EntryKey>,
    unseen: &mut Vec<KeyRange>,
    unchanged: &mut Unchanged,
    wanted: &Wanted,
    hand_on: &mut impl FnMut(Difference) -> Result<()>,
) -> Result<()> {
    while let Some(entry) = known.next_if(|entry| match (entry, limit) {
        (Ok(entry), Some(limit)) => entry.key < *limit,
        _ => true,
    }) {
        let entry = entry?;
        // Ranges that end before this key can never hold a later one.
        unseen.retain(|range| range.end.as_ref().is_none_or(|end| entry.key.as_bytes() < end.as_slice()));
        if unseen.iter().any(|range| range.contains(&entry.key)) {
            unchanged.unseen += 1;
            if wanted.kept {
                hand_on(Difference::Kept { key: entry.key })?;
            }
        } else {
            hand_on(Difference::Gone { key: entry.key })?;
        }
    }
    Ok(())
}

fn report(gap: &Unseen, monitor: &dyn Monitor) {
    let error = match gap.error.kind() {
        ErrorKind::NotFound => gap.error.clone().with_kind(ErrorKind::Source),
        _ => gap.error.clone(),
    };
    let item = gap.key.to_string();
    monitor.fault(Fault { side: FaultSide::Source, item, during: "scan", error });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::metadata::Timestamp;
    use crate::monitor::Collector;
    use crate::source::{Rules, Walk};
    use crate::version::SnapshotNumber;
    use std::path::Path;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b", "b/c", "b/d"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        for name in ["1", "a/2", "b/3", "b/c/4", "b/d/5", "z"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    fn walk(dir: &Path) -> Walk {
        Walk::new(&[dir.to_owned()], Rules::none()).unwrap()
    }

    fn known(dir: &Path) -> Vec<CurrentEntry> {
        let row = |step| match step {
            Step::Entry(entry) => CurrentEntry {
                key: entry.key().clone(),
                kind: entry.stat().kind,
                mode: entry.stat().mode,
                uid: entry.stat().uid,
                gid: entry.stat().gid,
                size: entry.stat().size,
                mtime: entry.stat().mtime,
                ctime: entry.stat().ctime,
                device: entry.stat().device,
                inode: entry.stat().inode,
                links: entry.stat().links,
                marks: Marks::NONE,
                birth: SnapshotNumber(1),
            },
            Step::Unseen(gap) => panic!("{gap:?}"),
        };
        walk(dir).map(row).collect()
    }

    fn these(keys: impl IntoIterator<Item = EntryKey>) -> Wanted {
        Wanted { reread: Reread::These(keys.into_iter().collect()), kept: false }
    }

    fn nothing() -> Wanted {
        these([])
    }

    /// The names of what was found and of what is gone, below `dir`.
    fn joined(
        dir: &Path,
        walk: impl Iterator<Item = Step>,
        known: Vec<CurrentEntry>,
        wanted: &Wanted,
    ) -> (Vec<String>, Vec<String>, Unchanged) {
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        let below = |key: &EntryKey| {
            key.path()
                .strip_prefix(dir)
                .ok()
                .map(|path| path.to_string_lossy().into_owned())
                .filter(|path| !path.is_empty())
        };
        let unchanged = join(walk, known.into_iter().map(Ok), wanted, &Collector::default(), |difference| {
            match difference {
                Difference::Found { entry, .. } => found.extend(below(entry.key())),
                Difference::Gone { key } => gone.extend(below(&key)),
                Difference::Kept { key } => assert!(wanted.kept, "{key}"),
            }
            Ok(())
        })
        .unwrap();
        (found, gone, unchanged)
    }

    #[test]
    fn without_a_parent_all_is_new() {
        let dir = tree();
        let (found, gone, unchanged) = joined(dir.path(), walk(dir.path()), Vec::new(), &nothing());
        assert_eq!(found, ["1", "a", "b", "z", "a/2", "b/3", "b/c", "b/d", "b/c/4", "b/d/5"]);
        assert!(gone.is_empty());
        assert_eq!(unchanged, Unchanged::default());
    }

    #[test]
    fn what_stayed_is_counted_and_what_differs_is_handed_on() {
        let dir = tree();
        let before = known(dir.path());
        let (found, gone, unchanged) = joined(dir.path(), walk(dir.path()), before.clone(), &nothing());
        assert_eq!((found.len(), gone.len(), unchanged.files, unchanged.bytes), (0, 0, 6, 18));
        std::fs::write(dir.path().join("b/3"), "longer").unwrap();
        std::fs::remove_file(dir.path().join("z")).unwrap();
        std::fs::remove_dir_all(dir.path().join("b/c")).unwrap();
        std::fs::create_dir(dir.path().join("b/bb")).unwrap();
        let (found, gone, _) = joined(dir.path(), walk(dir.path()), before.clone(), &nothing());
        assert_eq!(found, ["b", "b/3", "b/bb"], "the directory itself has another mtime");
        assert_eq!(gone, ["z", "b/c", "b/c/4"]);
        let (found, ..) =
            joined(dir.path(), walk(dir.path()), before, &Wanted { reread: Reread::All, kept: false });
        assert_eq!(found.len(), 8, "all, when it is forced");
        let one = EntryKey::from_path(dir.path().join("a/2")).unwrap();
        let (found, ..) = joined(dir.path(), walk(dir.path()), known(dir.path()), &these([one]));
        assert_eq!(found, ["a/2"]);
    }

    #[test]
    fn any_single_stamp_that_differs_is_a_difference_but_the_device() {
        let dir = tree();
        let row = known(dir.path()).into_iter().find(|row| row.kind == Kind::File).unwrap();
        let step =
            walk(dir.path()).find(|step| matches!(step, Step::Entry(entry) if *entry.key() == row.key));
        let Some(Step::Entry(entry)) = step else { panic!("the file is there") };
        let stat = entry.stat();
        assert!(is_unchanged(stat, &row));
        assert!(is_unchanged(stat, &CurrentEntry { device: row.device + 1, ..row.clone() }));
        let other = Timestamp { seconds: 1, nanoseconds: 1 };
        for differs in [
            CurrentEntry { kind: Kind::Fifo, ..row.clone() },
            CurrentEntry { mode: row.mode ^ 1, ..row.clone() },
            CurrentEntry { uid: row.uid + 1, ..row.clone() },
            CurrentEntry { gid: row.gid + 1, ..row.clone() },
            CurrentEntry { size: row.size + 1, ..row.clone() },
            CurrentEntry { mtime: other, ..row.clone() },
            CurrentEntry { ctime: other, ..row.clone() },
            CurrentEntry { inode: row.inode + 1, ..row.clone() },
            CurrentEntry { links: row.links + 1, ..row.clone() },
            CurrentEntry { marks: Marks::RACY, ..row.clone() },
        ] {
            assert!(!is_unchanged(stat, &differs), "{differs:?}");
        }
    }

    #[test]
    fn unseen_is_not_gone() {
        let dir = tree();
        let before = known(dir.path());
        let key = |name: &str| EntryKey::from_path(dir.path().join(name)).unwrap();
        let gap = |name: &str, below_only| {
            let error = Error::new(ErrorKind::Source, "permission denied");
            Step::Unseen(Unseen { key: key(name), below_only, error })
        };
        // `b` cannot be listed, and `z` cannot be looked at; `a/2` is really gone.
        let mut steps: Vec<Step> = walk(dir.path())
            .filter(|step| match step {
                Step::Entry(entry) => {
                    !key("b").below().contains(entry.key())
                        && *entry.key() != key("z")
                        && *entry.key() != key("a/2")
                }
                Step::Unseen(_) => true,
            })
            .collect();
        steps.push(gap("b", true));
        let place = steps
            .iter()
            .position(|step| matches!(step, Step::Entry(entry) if *entry.key() == key("b")))
            .unwrap();
        steps.insert(place + 1, gap("z", false));
        let (found, gone, unchanged) = joined(dir.path(), steps.into_iter(), before, &nothing());
        assert_eq!((found.len(), gone), (0, vec!["a/2".to_owned()]));
        assert_eq!((unchanged.unseen, unchanged.faults), (6, 2), "z; 3, c, d, 4, 5");
    }

    #[test]
    fn a_cancelled_join_says_so() {
        let dir = tree();
        for index in 0..300 {
            std::fs::write(dir.path().join(format!("a/{index}")), "").unwrap();
        }
        let monitor = Collector::default();
        monitor.cancel();
        let error = join(walk(dir.path()), std::iter::empty(), &nothing(), &monitor, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
}
