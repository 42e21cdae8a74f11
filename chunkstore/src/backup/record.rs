//! From what was found to what is recorded: a new Version, the same Version seen again, or nothing. In a run that builds on nothing each
//! entry is recorded, also one that stays as it was.

use xxhash_rust::xxh3::xxh3_64;

use crate::catalog::{Catalog, CurrentEntry, NewEntry, RunWriter};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
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

/// The snapshot that a run is compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compared {
    /// Its timeline.
    pub(super) timeline: TimelineId,
    /// Whether there is one: the timeline may have none yet.
    pub(super) exists: bool,
    /// Whether the run builds on it. If not, what stays as it was is said again.
    pub(super) is_basis: bool,
}

/// Writes what was observed into the run, which has been given its chunks.
///
/// # Errors
/// The catalog's.
pub(super) fn record(
    catalog: &Catalog,
    run: &mut RunWriter,
    observed: &Observed,
    compared: Compared,
) -> Result<Recorded> {
    let timeline = compared.timeline;
    let contents = run.contents()?;
    let Observed { key, metadata, marks, previous } = observed;
    let before = match previous {
        Some(_) => catalog.latest(timeline, key)?,
        None => None,
    };
    let stays = before.as_ref().is_some_and(|before| {
        before.contents == contents
            && before.metadata.same_restored(metadata)
            && metadata.links <= 1
            && !marks.has(Marks::CHANGED_WHILE_READ)
            && !before.marks.has(Marks::CHANGED_WHILE_READ)
    });
    if stays && compared.is_basis {
        // A racy timestamp settled, a mode changed there and back. Not for an inode of several names: what happens to one name shows at all
        // of them, and names whose Versions are born together are what a restore links together.
        run.seen(key, metadata.ctime, metadata.inode, metadata.device, *marks)?;
        return Ok(Recorded::Same);
    }
    let file = match &before {
        Some(before) if before.metadata.kind != metadata.kind => FileOrigin::New,
        Some(_) if compared.is_basis => FileOrigin::SameAsPredecessor,
        Some(before) => FileOrigin::Explicit(before.file),
        None if compared.exists => renamed(catalog, timeline, key, metadata, &contents)?,
        None => FileOrigin::New,
    };
    run.entry(&NewEntry { key, file, metadata, contents, marks: *marks })?;
    Ok(match before {
        Some(_) if stays => Recorded::Same,
        Some(_) => Recorded::Changed,
        None => Recorded::New,
    })
}

/// Chunk ids that are handed on at once.
const IDS_AT_ONCE: usize = 1024;

/// Says an entry again that stays as it was, in a run that builds on nothing: the same File, a Version that is like the last.
///
/// # Errors
/// The catalog's; also if it does not have all of the entry's lists, or no such entry.
pub(super) fn keep(catalog: &Catalog, run: &mut RunWriter, key: &EntryKey, compared: Compared) -> Result<()> {
    let version = catalog.latest(compared.timeline, key)?;
    let Version { file, mut metadata, contents, marks, birth, .. } = version.ok_or_else(|| {
        Error::new(ErrorKind::Local, format!("the local catalog: {key} was there and is not any more"))
    })?;
    let mut ids = Vec::with_capacity(IDS_AT_ONCE);
    for id in catalog.contents(&contents)? {
        ids.push(id?);
        if ids.len() == IDS_AT_ONCE {
            run.chunks(&ids)?;
            ids.clear();
        }
    }
    run.chunks(&ids)?;
    let contents = run.contents()?;
    if metadata.links > 1 {
        // Names of one inode are those whose Versions were born together. Now all are born together; and of two inodes that were seen at
        // different times, on devices that had one number after the other, the numbers may be the same.
        let seen = [&birth.0.to_le_bytes()[..], &metadata.device.to_le_bytes()].concat();
        metadata.device = xxh3_64(&seen);
    }
    run.entry(&NewEntry { key, file: FileOrigin::Explicit(file), metadata: &metadata, contents, marks })?;
    Ok(())
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
