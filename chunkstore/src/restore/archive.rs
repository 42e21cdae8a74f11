//! A directory of a snapshot as a tar archive, in one pass to wherever bytes go.
//!
//! A member's size stands before its contents, so a file that turns out to be damaged in its middle cannot be taken back. Small files are therefore
//! put together before their header is written, and one that cannot be had whole is left out and told; with a large one the archive ends, cut short
//! for everyone to see.
//!
//! Entries come directory by directory: all that is in one, then what is in the first directory in it, and so on. Whoever unpacks an archive expects a
//! directory's member right before what is in it, and puts its time right when something else follows. So directories wait until it is their turn.

use std::collections::HashMap;
use std::io::Write;

use super::cat::{ContentsWriter, failed, zeros};
use super::names::{Moment, Moments};
use super::tar::{BLOCK_BYTES, END, Member};
use super::{RestoreSource, cancelled};
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::Kind;
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::version::Version;

/// Up to this size a file is put together in memory.
const SMALL_BYTES: u64 = 4 << 20;

/// Writes the entries of `sources`, one after the other, as one archive. Paths are whole, without the slash in front; `/` itself is not in it.
///
/// What cannot be in it is a fault, of side `Damage` where bytes are lost, else `Destination`; the rest goes on.
///
/// # Errors
/// Damage, not found or target, if a chunk of a large file cannot be had; destination if `out` fails; local; cancelled.
pub fn write_archive(
    sources: &[&dyn RestoreSource],
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut archive = Archive { out, monitor, first_names: HashMap::new(), moments: Moments::default() };
    let mut directories = Directories::default();
    for source in sources {
        let mut contents = ContentsWriter::new(*source);
        for entry in source.entries()? {
            let (key, version) = entry?;
            if monitor.cancelled() {
                return Err(cancelled());
            }
            for (key, version) in directories.before(&key) {
                archive.add(&key, &version, &mut contents)?;
            }
            match version.metadata.kind {
                // Where it is unpacked is no affair of the archive's.
                Kind::Directory if key.is_root() => {}
                Kind::Directory => directories.waiting.push((key, version)),
                _ => archive.add(&key, &version, &mut contents)?,
            }
        }
        for (key, version) in directories.take() {
            archive.add(&key, &version, &mut contents)?;
        }
    }
    archive.out.write_all(&END).map_err(failed)
}

/// Directories whose turn is yet to come.
#[derive(Default)]
struct Directories {
    /// The directory whose entries come now.
    at: Option<EntryKey>,
    /// Those in it, in their order.
    waiting: Vec<(EntryKey, Version)>,
    /// Those beside it and beside what it is in; the next one is the last.
    later: Vec<(EntryKey, Version)>,
}

impl Directories {
    /// Those whose turn it is before the entry at `key`: the one that it is in, and empty ones before that.
    fn before(&mut self, key: &EntryKey) -> Vec<(EntryKey, Version)> {
        let parent = key.parent();
        if parent == self.at {
            return Vec::new();
        }
        self.later.extend(self.waiting.drain(..).rev());
        let mut now = Vec::new();
        if let Some(parent) = &parent {
            let is_before = |(key, _): &mut (EntryKey, Version)| key.components().le(parent.components());
            while let Some(next) = self.later.pop_if(is_before) {
                now.push(next);
            }
        }
        self.at = parent;
        now
    }

    /// All that are left.
    fn take(&mut self) -> Vec<(EntryKey, Version)> {
        self.later.extend(self.waiting.drain(..).rev());
        self.at = None;
        self.later.drain(..).rev().collect()
    }
}

struct Archive<'a> {
    out: &'a mut dyn Write,
    monitor: &'a dyn Monitor,
    /// The first name of each inode that has more, and how many more may come.
    first_names: HashMap<Moment, (Vec<u8>, u64)>,
    moments: Moments,
}

impl Archive<'_> {
    fn add(&mut self, key: &EntryKey, version: &Version, contents: &mut ContentsWriter<'_>) -> Result<()> {
        let metadata = &version.metadata;
        let whole = key.path_bytes();
        let path = whole.strip_prefix(b"/").unwrap_or(&whole);
        let moment = self.moments.of(version).filter(|_| metadata.kind != Kind::Directory);
        let first = moment.and_then(|moment| self.first_names.get(&moment)).map(|(first, _)| first.clone());
        let member = Member { path, hard_link: first.as_deref(), metadata };
        let header = match member.header() {
            Ok(header) => header,
            Err(error) => return self.leave_out(key, error),
        };
        if !member.has_contents() {
            self.out.write_all(&header).map_err(failed)?;
        } else if metadata.size <= SMALL_BYTES {
            let mut bytes = Vec::new();
            match contents.write(version, &mut bytes) {
                Ok(_) => {}
                Err(error) if is_lost(&error) => return self.leave_out(key, error),
                Err(error) => return Err(error),
            }
            self.out.write_all(&header).and_then(|()| self.out.write_all(&bytes)).map_err(failed)?;
        } else {
            self.out.write_all(&header).map_err(failed)?;
            contents.write(version, self.out).map_err(|error| match is_lost(&error) {
                true => error.at(format!("{key}: the archive ends here")),
                false => error,
            })?;
        }
        if member.has_contents() {
            zeros(self.out, (BLOCK_BYTES - metadata.size % BLOCK_BYTES) % BLOCK_BYTES)?;
        }
        if let Some(moment) = moment {
            self.name_was_written(moment, path, metadata.links);
        }
        Ok(())
    }

    /// Remembers the first name, until the last one has come.
    fn name_was_written(&mut self, moment: Moment, path: &[u8], links: u64) {
        let (_, left) = self.first_names.entry(moment).or_insert_with(|| (path.to_vec(), links));
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.first_names.remove(&moment);
        }
    }

    fn leave_out(&self, key: &EntryKey, error: Error) -> Result<()> {
        let side = if is_lost(&error) { FaultSide::Damage } else { FaultSide::Destination };
        self.monitor.fault(Fault { side, item: key.to_string(), during: "archive", error });
        Ok(())
    }
}

/// Whether bytes are lost, rather than that they cannot be written or had just now.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damage | ErrorKind::NotFound)
}
