//! What opening a table of any kind begins with: that it is the one expected, whole, and where its parts are.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::block::BlockKind;
use crate::cache::BlockCache;
use crate::error::{Error, IoContext, Result};
use crate::fs::FileSystem;
use crate::table::file::TableFile;
use crate::table::footer::{Directory, Footer};
use crate::table::header::{Header, REQUIRED_DICTIONARY, TableKind};
use crate::table::index::Handle;
use crate::table::{ExpectedTable, FOOTER_BYTES, HEADER_BYTES, TableOrigin, TableSummary, properties};

/// Read from the end when a table is opened: mostly all sections lie in it.
const TAIL_BYTES: u64 = 16 << 10;

/// A file whose header, footer, directory and properties were verified.
pub(super) struct Opening {
    pub(super) file: TableFile,
    pub(super) tail: Tail,
    pub(super) directory: Directory,
    pub(super) directory_handle: Handle,
    pub(super) header: Header,
    pub(super) summary: TableSummary,
    pub(super) origin: Option<TableOrigin>,
}

/// The kind of the table at `path`, by its header.
///
/// # Errors
/// Io; Corruption if it is no table; NewerFormat.
pub(crate) fn kind_of(fs: &Arc<dyn FileSystem>, path: &Path) -> Result<TableKind> {
    let file = fs.open_read(path).context("open a table", path)?;
    let file_bytes = file.len().context("ask a table for its length", path)?;
    if file_bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
        return Err(too_short(file_bytes, path));
    }
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).context("read the header of a table", path)?;
    Ok(Header::decode(&header).map_err(|error| error.at_offset(0).at(path))?.kind)
}

fn too_short(file_bytes: u64, path: &Path) -> Error {
    Error::corruption(format!("{file_bytes} bytes are too few for a table")).at(path)
}

impl Opening {
    /// Reads and verifies the ends of a table.
    ///
    /// # Errors
    /// Io; NotFound; Corruption where something differs from what is expected; NewerFormat for unknown required features.
    pub(super) fn read(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        expected: Option<ExpectedTable>,
        kind: TableKind,
        cache: &BlockCache,
    ) -> Result<Self> {
        let file = fs.open_read(path).context("open a table", path)?;
        let file_bytes = file.len().context("ask a table for its length", path)?;
        if let Some(expected) = expected
            && expected.file_bytes != file_bytes
        {
            return Err(Error::corruption(format!(
                "the table has {file_bytes} bytes where the manifest expects {}",
                expected.file_bytes
            ))
            .at(path));
        }
        if file_bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(too_short(file_bytes, path));
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0).context("read the header of a table", path)?;
        let header = Header::decode(&header).map_err(|error| error.at_offset(0).at(path))?;
        if let Some(expected) = expected
            && (expected.identity, expected.database) != (header.identity, header.database)
        {
            return Err(Error::corruption(format!(
                "the table is {:?} of database {:?} where the manifest expects {:?} of {:?}",
                header.identity, header.database, expected.identity, expected.database
            ))
            .at(path));
        }
        if header.kind != kind {
            return Err(Error::corruption(format!(
                "the table is of kind {:?} where one of kind {kind:?} is expected",
                header.kind
            ))
            .at(path));
        }
        let file = TableFile {
            file,
            path: path.to_owned(),
            identity: header.identity,
            file_bytes,
            buffers: cache.buffers(),
            dictionary: None,
        };
        let tail = Tail::read(&file)?;
        let footer = tail.footer(&file)?;
        let payload = tail.payload(&file, footer.directory, BlockKind::Directory)?;
        let directory =
            Directory::decode(&payload).map_err(|error| file.locate(error, footer.directory.offset))?;
        let has_dictionary = directory.dictionary.is_some();
        let told = header.required & REQUIRED_DICTIONARY != 0;
        if has_dictionary != told || (has_dictionary && kind != TableKind::Sorted) {
            let error = Error::corruption(if has_dictionary != told {
                "header and directory disagree whether the table has a dictionary"
            } else {
                "a table of rows has a dictionary"
            });
            return Err(file.locate(error, footer.directory.offset));
        }
        let Some(handle) = directory.properties else {
            let error = Error::corruption("the table has no properties");
            return Err(file.locate(error, footer.directory.offset));
        };
        let payload = tail.payload(&file, handle, BlockKind::Properties)?;
        let (summary, origin) = properties::decode(&payload, header.identity, file_bytes)
            .map_err(|error| file.locate(error, handle.offset))?;
        Ok(Self { file, tail, directory, directory_handle: footer.directory, header, summary, origin })
    }
}

/// The end of a file, read at once.
pub(super) struct Tail {
    bytes: Vec<u8>,
    offset: u64,
}

impl Tail {
    fn read(file: &TableFile) -> Result<Self> {
        let length = file.file_bytes.min(TAIL_BYTES);
        let offset = file.file_bytes - length;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(FOOTER_BYTES)];
        file.file.read_exact_at(&mut bytes, offset).context("read the end of a table", &file.path)?;
        Ok(Self { bytes, offset })
    }

    fn footer(&self, file: &TableFile) -> Result<Footer> {
        let offset = file.file_bytes - FOOTER_BYTES as u64;
        let Some((_, footer)) = self.bytes.split_last_chunk::<FOOTER_BYTES>() else {
            return Err(file.locate(Error::corruption("the table is too short for a footer"), offset));
        };
        Footer::decode(footer, file.identity, file.file_bytes).map_err(|error| file.locate(error, offset))
    }

    pub(super) fn bytes(&self, file: &TableFile, handle: Handle) -> Result<Cow<'_, [u8]>> {
        file.check_handle(handle)?;
        let here = handle.offset.checked_sub(self.offset).and_then(|start| usize::try_from(start).ok());
        match here.and_then(|start| self.bytes.get(start..start.checked_add(handle.bytes as usize)?)) {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => Ok(Cow::Owned(file.read(handle)?.into_vec())),
        }
    }

    pub(super) fn payload(&self, file: &TableFile, handle: Handle, kind: BlockKind) -> Result<Vec<u8>> {
        Ok(file.open(&self.bytes(file, handle)?, handle, kind)?.into_owned())
    }
}
