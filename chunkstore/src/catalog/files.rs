//! Files that were at more than one place: a File whose id was derived where it still stands needs no row.

use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::id::{FileId, TimelineId};

use super::Catalog;
use super::store::{FILE_FRONT_BYTES, TimelineNumber, bad_row, entry_key_behind};

impl Catalog {
    pub(super) fn places_in(&self, file: FileId) -> Result<Vec<(TimelineNumber, EntryKey)>> {
        let mut places = Vec::new();
        for row in self.inner.spaces.files.prefix(file.as_bytes()) {
            let (key, _) = row?;
            let timeline = key.get(16..20).and_then(|bytes| bytes.first_chunk::<4>());
            let timeline = timeline.ok_or_else(|| bad_row("files", "its key is too short"))?;
            let place = entry_key_behind(&key, FILE_FRONT_BYTES, "files")?;
            places.push((TimelineNumber(u32::from_be_bytes(*timeline)), place));
        }
        Ok(places)
    }

    /// Where a File was, if it was ever renamed; nothing for one that stayed where it was born.
    ///
    /// # Errors
    /// Local.
    pub fn places_of(&self, file: FileId) -> Result<Vec<(TimelineId, EntryKey)>> {
        let places = self.places_in(file)?;
        places.into_iter().map(|(timeline, key)| Ok((self.timeline_row(timeline)?.id, key))).collect()
    }
}
