//! From what was found to what is recorded: a new Version, the same Version seen again, or nothing.

use crate::catalog::{Catalog, CurrentEntry, NewEntry, RunWriter};
use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::id::TimelineId;
use crate::metadata::{Kind, Metadata};
use crate::monitor::{Event, Monitor};
use crate::version::{Contents, FileOrigin, Marks, Version};

/// An entry that was looked at and, if it is a file, read.
pub(super) struct Observed {
    /// Its place.
    pub(super) key: EntryKey,
    /// What it is; the size and times of the moment it was read.
    pub(super) metadata: Metadata,
    /// How the reading went.
    pub(super) marks: Marks,
    /// What was known of it.
    pub(super) previous: Option<Box<CurrentEntry>>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// A place where nothing was.
    New,
    /// Another Version.
    Changed,
    /// The same in all that a restore gives back.
    Same,
}

impl Recorded {
    /// Tells what became of an entry.
    pub(super) fn tell(self, observed: &Observed, monitor: &dyn Monitor) {
        let action = match self {
            Self::New => "new",
            Self::Changed => "modified",
            Self::Same => "unchanged",
        };
        let metadata = &observed.metadata;
        monitor.event(Event::Item {
            action,
            item: &observed.key.to_string(),
            bytes: if metadata.kind == Kind::File { metadata.size } else { 0 },
        });
    }
}

/// Writes what was observed into the run, which has been given its chunks.
///
/// # Errors
/// The catalog's.
pub(super) fn record(
    catalog: &Catalog,
    run: &mut RunWriter,
    observed: &Observed,
    has_parent: bool,
) -> Result<Recorded> {
    let timeline = run.timeline();
    let contents = run.contents()?;
    let Observed { key, metadata, marks, previous } = observed;
    let before = match previous {
        Some(_) => catalog.latest(timeline, key)?,
        None => None,
    };
    if let Some(before) = &before
        && before.contents == contents
        && before.metadata.same_restored(metadata)
        && metadata.links <= 1
        && !marks.has(Marks::CHANGED_WHILE_READ)
        && !before.marks.has(Marks::CHANGED_WHILE_READ)
    {
        // A racy timestamp settled, a mode changed there and back. Not for an inode of several names: what happens to one name shows at all
        // of them, and names whose Versions are born together are what a restore links together.
        run.seen(key, metadata.ctime, metadata.inode, metadata.device, *marks)?;
        return Ok(Recorded::Same);
    }
    let file = match &before {
        Some(before) if before.metadata.kind == metadata.kind => FileOrigin::SameAsPredecessor,
        Some(_) => FileOrigin::New,
        None if has_parent => renamed(catalog, timeline, key, metadata, &contents)?,
        None => FileOrigin::New,
    };
    run.entry(&NewEntry { key, file, metadata, contents, marks: *marks })?;
    Ok(if before.is_some() { Recorded::Changed } else { Recorded::New })
}

/// The File that came here from another place, if inode, birth and contents say so.
///
/// The inode alone says nothing, it may be reused; nor do equal contents, which a copy has too. A file with one name only cannot still be
/// at the other place.
fn renamed(
    catalog: &Catalog,
    timeline: TimelineId,
    key: &EntryKey,
    metadata: &Metadata,
    contents: &Contents,
) -> Result<FileOrigin> {
    let can_tell = metadata.kind == Kind::File
        && metadata.links == 1
        && metadata.birth.is_some()
        && *contents != Contents::None;
    if !can_tell {
        return Ok(FileOrigin::New);
    }
    let same_file = |version: &Version| {
        version.metadata.kind == Kind::File
            && version.metadata.links == 1
            && version.metadata.birth == metadata.birth
            && version.contents == *contents
    };
    let candidates = catalog.by_inode(timeline, metadata.device, metadata.inode)?;
    let mut matching = candidates.into_iter().filter(|found| found.key != *key && same_file(&found.version));
    Ok(match (matching.next(), matching.next()) {
        (Some(found), None) => FileOrigin::Explicit(found.version.file),
        _ => FileOrigin::New,
    })
}
