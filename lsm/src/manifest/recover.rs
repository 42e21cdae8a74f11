//! Reading a manifest back.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, IoContext, Result};
use crate::filename::FileName;
use crate::fs::FileSystem;
use crate::journal::{LogKind, RecordKind, Verdict, read_records};
use crate::levels::{Change, Edit, Levels};

/// What kind of directory a manifest stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A database.
    Database,
    /// A database, made by a checkpoint, that nobody has written to since.
    Checkpoint,
    /// What was to become a checkpoint, and is nothing yet.
    Unfinished,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct ManifestReport {
    /// What the manifest says.
    pub levels: Levels,
    /// Of what.
    pub standing: Standing,
    /// Edits in it.
    pub edits: u64,
    /// Whether it ends right behind an edit. If not, an edit was cut off that nothing acted on, or that was damaged: then files
    /// that nobody names are not taken for leftovers (and a log among them may prove the damage).
    pub ends_clean: bool,
    /// Where what counts of it ends.
    pub end: u64,
}

/// Reads the manifest in `directory`; `None` if there is none.
///
/// # Errors
/// Io; Corruption, naming the offset; NewerFormat for edits that must be understood.
pub fn read(fs: &Arc<dyn FileSystem>, directory: &Path) -> Result<Option<ManifestReport>> {
    let path = FileName::Manifest.path(directory);
    if !fs.exists(&path).context("look for the manifest", &path)? {
        return Ok(None);
    }
    let file = fs.open_read(&path).context("open the manifest", &path)?;
    let mut levels: Option<Levels> = None;
    let mut standing = Standing::Database;
    let mut edits = 0;
    let report = read_records(file, &path, LogKind::Manifest, &mut |record| {
        if record.header.kind != RecordKind::Batch {
            return Ok(());
        }
        let place = |error: Error| error.at(&path).at_offset(record.offset);
        let edit = Edit::decode(record.payload).map_err(place)?;
        let next = match &levels {
            None => {
                for change in &edit.changes {
                    match change {
                        Change::Checkpoint => standing = Standing::Checkpoint,
                        Change::Unfinished => standing = Standing::Unfinished,
                        _ => {}
                    }
                }
                Levels::begin(&edit)
            }
            Some(levels) => levels.apply(&edit),
        };
        levels = Some(next.map_err(place)?);
        edits += 1;
        Ok(())
    })?;
    let Some(levels) = levels else {
        return Err(Error::corruption(
            "the manifest holds no edit: its first record is damaged. Restore the file from a copy, or repair the database (`lsm::repair`, \
             `lsm-tool repair`)",
        )
        .at(&path)
        .at_offset(report.end));
    };
    let ends_clean = match report.verdict {
        Verdict::CleanEnd => true,
        Verdict::Torn { at } => report.cut_end <= at,
        _ => false,
    };
    Ok(Some(ManifestReport { levels, standing, edits, ends_clean, end: report.end }))
}
