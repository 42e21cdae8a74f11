//! Keeping what is cut: evidence, for whoever wants to know what a crash took, and for salvage by hand.

use std::path::{Path, PathBuf};

use super::reader::RecordReader;
use super::sites;
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber, cut_tail};
use crate::fs::FileSystem;

/// How much is copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// More copies than this of one tail, all different, are somebody's mistake.
const COPIES_MAX: u32 = 1000;

/// Copies the bytes `from..to` of a log into `lost/`, durably; returns where, or `None` if there are none. A copy that
/// is there already (from an earlier opening that was interrupted) serves.
///
/// # Errors
/// Those of reading, creating, writing and syncing.
pub fn set_aside(
    fs: &dyn FileSystem,
    directory: &Path,
    number: FileNumber,
    reader: &mut RecordReader,
    from: u64,
    to: u64,
) -> Result<Option<PathBuf>> {
    if from >= to {
        return Ok(None);
    }
    let lost = FileName::Lost.path(directory);
    fs.create_dir_all(&lost, sites::SET_ASIDE_DIRECTORY).context("create the directory", &lost)?;
    for copy in 0..COPIES_MAX {
        let path = lost.join(cut_tail(number, from, copy));
        match fs.create_new(&path) {
            Ok(file) => {
                let mut at = from;
                while at < to {
                    let bytes = reader.bytes(at, (to - at).min(COPY_BYTES))?;
                    file.write_all_at(bytes, at - from).context("write", &path)?;
                    at += bytes.len() as u64;
                }
                file.sync_data(sites::SET_ASIDE).context("sync", &path)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                if !is_copy(fs, &path, reader, from, to)? {
                    continue;
                }
                // It may have been made by a process that was killed before it synced.
                fs.open_read(&path)
                    .and_then(|file| file.sync_data(sites::SET_ASIDE))
                    .context("sync", &path)?;
            }
            Err(error) => return Err(Error::io("create", error).at(&path)),
        }
        fs.sync_dir(&lost, sites::SET_ASIDE_DIRECTORY).context("sync the directory", &lost)?;
        return Ok(Some(path));
    }
    Err(Error::new(ErrorKind::Io, format!("{COPIES_MAX} other copies are in the way")).at(lost))
}

/// As [`set_aside`], all of a log, whatever is in it; `None` if it is not there.
///
/// # Errors
/// As [`set_aside`].
pub fn set_aside_whole(fs: &dyn FileSystem, directory: &Path, number: FileNumber) -> Result<Option<PathBuf>> {
    let path = FileName::Log(number).path(directory);
    let file = match fs.open_read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.context("open", &path)?,
    };
    // Its bytes alone are wanted: it may have no identity any more.
    let mut reader = RecordReader::with_identity(file, &path, Identity::from_bytes([0; 16]))?;
    let end = reader.file_bytes();
    set_aside(fs, directory, number, &mut reader, 0, end)
}

/// Whether the file at `path` holds exactly these bytes of the log.
fn is_copy(fs: &dyn FileSystem, path: &Path, reader: &mut RecordReader, from: u64, to: u64) -> Result<bool> {
    let file = fs.open_read(path).context("open", path)?;
    if file.len().context("read the length", path)? != to - from {
        return Ok(false);
    }
    let mut copy = Vec::new();
    let mut at = from;
    while at < to {
        let bytes = reader.bytes(at, (to - at).min(COPY_BYTES))?;
        copy.resize(bytes.len(), 0);
        file.read_exact_at(&mut copy, at - from).context("read", path)?;
        if copy != bytes {
            return Ok(false);
        }
        at += bytes.len() as u64;
    }
    Ok(true)
}
