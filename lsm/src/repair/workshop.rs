//! Where repair writes new tables: in `lost/`, under names that nobody takes for a table, until all of them are there.
//!
//! So whatever a crash leaves of them is not taken for a damaged table the next time: unfinished ones hold nothing that is not in other files, and are
//! removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cache::BlockCache;
use crate::checksum::Identity;
use crate::error::{Error, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::flush::add_tombstones;
use crate::fs::FileSystem;
use crate::iter::InternalIterator;
use crate::journal::random_identity;
use crate::key::{SequenceNumber, parse_trailer, split};
use crate::levels::{OpenTable, TableReference};
use crate::memtable::Memtable;
use crate::options::Tuning;
use crate::ordered::OrderedMap;
use crate::range::KeyRange;
use crate::range_tombstone::{RangeTombstone, RangeTombstones};
use crate::repair::place::{Piece, merged};
use crate::repair::sites;
use crate::row::KeyspaceKind;
use crate::table::fixed::{Columns, FixedWriter};
use crate::table::{
    AnyTable, AnyTableWriter, ExpectedTable, TableOptions, TableOrigin, TableScan, TableWriter,
};
use crate::visible::Source;

/// The end of an unfinished table's name.
const UNFINISHED: &str = ".unfinished";

/// Entries written and not yet looked at are at most so many bytes: as a write buffer.
const TUNING_MEMORY_BYTES: usize = 128 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Workshop {
    fs: Arc<dyn FileSystem>,
    lost: PathBuf,
    database: Identity,
    tuning: Tuning,
    cache: Arc<BlockCache>,
    next_number: FileNumber,
    made: OrderedMap<FileNumber, PathBuf>,
}

impl Workshop {
    /// A workshop in a directory; files get numbers from `next_number` on.
    ///
    /// # Errors
    /// Those of making `lost/` and of removing what an earlier repair left in it.
    pub(super) fn open(
        fs: &Arc<dyn FileSystem>,
        directory: &Path,
        database: Identity,
        next_number: FileNumber,
    ) -> Result<Self> {
        let lost = FileName::Lost.path(directory);
        fs.create_dir_all(&lost, sites::ASIDE).context("create the directory", &lost)?;
        for name in fs.read_dir(&lost).context("list the directory", &lost)? {
            let path = match name.file_name() {
                Some(name) => lost.join(name),
                None => continue,
            };
            if path.to_str().is_some_and(|path| path.ends_with(UNFINISHED)) {
                fs.remove_file(&path).context("remove an unfinished table", &path)?;
            }
        }
        Ok(Self {
            fs: Arc::clone(fs),
            lost,
            database,
            tuning: Tuning::for_memory(TUNING_MEMORY_BYTES),
            cache: Arc::new(BlockCache::new(0)),
            next_number,
            made: OrderedMap::new(),
        })
    }

    /// The number behind those that were given out.
    pub(super) fn next_number(&self) -> FileNumber {
        self.next_number
    }

    /// The tables that were made: their numbers, and where they are.
    pub(super) fn made(&self) -> &OrderedMap<FileNumber, PathBuf> {
        &self.made
    }

    /// Begins a table. `rows` says what the rows of one with fixed widths have: columns, and the range of sequence numbers that they lie in.
    fn begin(&mut self, origin: &TableOrigin, rows: Rows) -> Result<Job> {
        let number = self.next_number;
        self.next_number =
            number.checked_add(1).ok_or_else(|| Error::corruption("the numbers of files are used up"))?;
        let path = self.lost.join(format!("{}{UNFINISHED}", FileName::Table(number)));
        let level = usize::try_from(origin.level).unwrap_or(0);
        let identity = random_identity()?;
        let writer = match origin.kind {
            KeyspaceKind::Sorted => {
                let options =
                    TableOptions { origin: Some(origin.clone()), ..self.tuning.table_options(level) };
                AnyTableWriter::Sorted(TableWriter::create(
                    &self.fs,
                    &path,
                    identity,
                    self.database,
                    options,
                )?)
            }
            KeyspaceKind::Fixed(widths) => {
                let mut writer = FixedWriter::create(
                    &self.fs,
                    &path,
                    (identity, self.database),
                    widths,
                    rows.columns,
                    rows.sequences,
                    self.tuning.fixed_filter_bits(level),
                )?;
                writer.set_origin(Some(origin.clone()));
                AnyTableWriter::Fixed(writer)
            }
        };
        Ok(Job { number, path, writer, origin: origin.clone(), last: None })
    }

    fn finish(&mut self, job: Job) -> Result<Piece> {
        let summary = job.writer.finish()?;
        let expected = ExpectedTable {
            identity: summary.identity,
            database: self.database,
            file_bytes: summary.file_bytes,
        };
        let table = AnyTable::open(&self.fs, &job.path, job.origin.kind, expected, &self.cache)?;
        let reference = TableReference::whole(job.number, &summary, job.origin.epoch);
        self.made.insert(job.number, job.path);
        let level = usize::try_from(job.origin.level).unwrap_or(0);
        Ok(Piece { open: OpenTable::new(Arc::new(reference), table), level })
    }

    /// Writes what can be read of a damaged table, within the bounds of the reference to it; `None` where that is nothing.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn salvage(
        &mut self,
        scan: &TableScan,
        bounds: &KeyRange,
        origin: &TableOrigin,
    ) -> Result<Option<Piece>> {
        let tombstones = scan.tombstones.clipped(bounds);
        // Columns and numbers as they were: what a row without a number says hangs on them.
        let columns = scan.rows().map_or_else(Columns::default, |(_, columns)| columns);
        let rows = Rows { columns, sequences: scan.sequences() };
        let mut job = None;
        scan.entries(&mut |key, value| {
            if bounds.contains(split(key)?.0) {
                let job = match &mut job {
                    Some(job) => job,
                    None => job.insert(self.begin(origin, rows)?),
                };
                job.add(key, value)?;
            }
            Ok(())
        })?;
        if !tombstones.is_empty() {
            let job = match &mut job {
                Some(job) => job,
                None => job.insert(self.begin(origin, rows)?),
            };
            job.add_tombstones(&tombstones)?;
        }
        job.map(|job| self.finish(job)).transpose()
    }

    /// Writes a memtable.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn flush(&mut self, memtable: &Memtable, origin: &TableOrigin) -> Result<Piece> {
        let columns = Columns { sequences: true, kinds: true };
        let rows = Rows { columns, sequences: (memtable.sequence_min(), memtable.sequence_max()) };
        let mut job = self.begin(origin, rows)?;
        job.add_tombstones(&memtable.range_tombstones().unwrap_or_default())?;
        let mut entries = match memtable {
            Memtable::Sorted(memtable) => Source::Memtable(memtable.iter(), memtable.sequence_max()),
            Memtable::Fixed(memtable) => Source::Rows(memtable.sorted_iter()),
        };
        entries.seek_to_first()?;
        while entries.valid() {
            job.add(entries.key(), entries.value())?;
            entries.next()?;
        }
        self.finish(job)
    }

    /// Merges tables into one run. Nothing is dropped but what is there twice.
    ///
    /// # Errors
    /// Those of reading and writing.
    pub(super) fn merge(&mut self, pieces: &[Piece], origin: &TableOrigin) -> Result<Vec<Piece>> {
        let sets = pieces.iter().filter_map(|piece| piece.open.tombstones.as_ref());
        let mut tombstones: Vec<RangeTombstone> =
            sets.flat_map(|set| set.iter().map(|tombstone| tombstone.to_owned())).collect();
        tombstones.sort_unstable();
        tombstones.dedup();
        let tombstones = RangeTombstones::new(tombstones);
        let numbers = || pieces.iter().map(|piece| &piece.open.reference);
        let rows = Rows {
            columns: Columns { sequences: true, kinds: true },
            sequences: (
                numbers().map(|table| table.sequence_min).min().unwrap_or(1),
                numbers().map(|table| table.sequence_max).max().unwrap_or(1),
            ),
        };
        let mut merge = merged(pieces);
        merge.seek_to_first()?;
        let mut outputs = Vec::new();
        let mut output: Option<Job> = None;
        let (mut lower, mut last): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
        while merge.valid() {
            if merge.key() != last.as_slice() {
                let (user, _) = split(merge.key())?;
                let is_new_user = last.is_empty() || split(&last)?.0 != user;
                let is_full = |job: &Job| job.writer.estimated_bytes() >= self.tuning.table_bytes;
                if is_new_user && output.as_ref().is_some_and(is_full) {
                    let cut = user.to_vec();
                    let range = KeyRange::until(std::mem::replace(&mut lower, cut.clone()), Some(cut));
                    if let Some(mut job) = output.take() {
                        job.add_tombstones(&tombstones.clipped(&range))?;
                        outputs.push(self.finish(job)?);
                    }
                }
                let job = match &mut output {
                    Some(job) => job,
                    None => output.insert(self.begin(origin, rows)?),
                };
                job.add(merge.key(), merge.value())?;
                last.clear();
                last.extend_from_slice(merge.key());
            }
            merge.next()?;
        }
        let rest = tombstones.clipped(&KeyRange::until(lower, None));
        if output.is_none() && !rest.is_empty() {
            output = Some(self.begin(origin, rows)?);
        }
        if let Some(mut job) = output {
            job.add_tombstones(&rest)?;
            outputs.push(self.finish(job)?);
        }
        Ok(outputs)
    }

    /// Removes a table that was made and is not needed after all.
    ///
    /// # Errors
    /// Io.
    pub(super) fn discard(&mut self, number: FileNumber) -> Result<()> {
        match self.made.remove(&number) {
            Some(path) => self.fs.remove_file(&path).context("remove an unfinished table", &path),
            None => Ok(()),
        }
    }
}

/// What the rows of a table with fixed widths have.
#[derive(Clone, Copy, Debug)]
struct Rows {
    columns: Columns,
    sequences: (SequenceNumber, SequenceNumber),
}

#[derive(Debug)]
struct Job {
    number: FileNumber,
    path: PathBuf,
    writer: AnyTableWriter,
    origin: TableOrigin,
    /// The user key and the sequence number of the last entry.
    last: Option<(Vec<u8>, SequenceNumber)>,
}

impl Job {
    /// Adds an entry; what comes behind one of the same key must be older, or it is passed over: it is there already.
    fn add(&mut self, internal: &[u8], value: &[u8]) -> Result<()> {
        let (user, trailer) = split(internal)?;
        let (sequence, _) = parse_trailer(trailer)?;
        if self.last.as_ref().is_some_and(|(last, newest)| last == user && sequence >= *newest) {
            return Ok(());
        }
        self.writer.add(internal, value)?;
        let (last, newest) = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(user);
        *newest = sequence;
        Ok(())
    }

    fn add_tombstones(&mut self, tombstones: &RangeTombstones) -> Result<()> {
        add_tombstones(&mut self.writer, tombstones)
    }
}
