//! Every knob, with its unit, what more of it does and what less, and its default.

use std::sync::Arc;
use std::time::Duration;

use crate::block::{Compression, DICTIONARY_BYTES_MAX};
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Events, Listener};
use crate::fs::{FileSystem, OsFs};
use crate::journal::{JournalOptions, RecoveryMode};
use crate::row::{KeyspaceKind, Widths};
use crate::table::TableOptions;

/// Least memory of a database, in bytes. With less, what nobody counts ([`crate::budget`]) would be more than a third of it and a tenth, and the budget would not hold.
pub const MEMORY_BYTES_MIN: usize = 32 << 20;

/// The same where the sizes are set one by one, which may be any: then it is up to whoever sets them that they fit.
const TUNED_MEMORY_BYTES_MIN: usize = 1 << 20;

/// Largest raw size of a block, in bytes: a block is read and kept whole.
pub const BLOCK_BYTES_MAX: usize = 16 << 20;

/// The shallowest of the levels of sorted keyspaces in which entries stay.
pub(crate) const DEEP_LEVEL: usize = 2;

/// A dictionary is at most one part in so many of what a table may become.
const DICTIONARY_TABLE_PART: u64 = 64;

/// Who flushes and compacts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Background {
    /// One thread that flushes, and one that merges and lets others go first ([`Tuning::merge_niceness`]; beside it one for what of that cannot wait). The default.
    #[default]
    Threads,
    /// Nobody: the caller runs steps with [`Db::step`](crate::Db::step), and a writer that would have to wait runs them itself. For
    /// tests that must be repeatable, and for programs that lend their own threads.
    Manual,
}

/// How one keyspace keeps its entries.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyspaceOptions {
    pub(crate) kind: KeyspaceKind,
}

impl KeyspaceOptions {
    /// Keys and values of any length.
    pub fn sorted() -> Self {
        Self { kind: KeyspaceKind::Sorted }
    }

    /// Keys and values of fixed widths, in bytes: keys of 1 to 256, values of 0 to 1,024. Made for keys that are spread evenly, such as
    /// hashes: then a lookup computes where a key is instead of searching. Right, and slower, for any others. Entries of other widths are refused.
    ///
    /// # Errors
    /// InvalidArgument for widths beyond those.
    pub fn fixed(key_bytes: usize, value_bytes: usize) -> Result<Self> {
        Ok(Self { kind: KeyspaceKind::Fixed(Widths::new(key_bytes, value_bytes)?) })
    }
}

/// The sizes at which the engine acts. All of them follow from the memory budget; tests and measurements set them one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Bytes of all memtables together at which they are frozen and flushed. More: fewer, larger tables, less merged in total; less: less
    /// memory, less replayed after a crash. Default: an eighth of the budget, from 128 KiB to 64 MiB. Leave it, and give more memory instead, unless restarts
    /// must be quicker than that much log is replayed.
    pub write_buffer_bytes: usize,
    /// How many times more bytes memtables of keyspaces of fixed widths may have than [`Self::write_buffer_bytes`]. More: fewer runs, less merged in total; less:
    /// less memory, less replayed after a crash. Default: 1, from 2 GiB of budget on 3, from 4 GiB on 4. Leave it.
    pub fixed_buffer_factor: usize,
    /// Frozen generations that may wait before writers do. More: bursts are taken without a wait, at the cost of so many write buffers of memory; less:
    /// less memory. Default: 2. Leave it.
    pub frozen_max: usize,
    /// Tables in level 0 from which on they are merged. More: less merging, slower reads (each may have to ask each table); less: the reverse. Default: 4.
    /// More for what is written much and read little.
    pub level0_tables: usize,
    /// Tables in level 0 from which on writers are slowed; from twice as many on they wait. Of keyspaces of fixed widths: runs, beyond twice [`Self::tier_runs`]. More: longer bursts, slower reads behind them; less: smoother.
    /// Default: 12. Leave it.
    pub level0_tables_slow: usize,
    /// Bytes of level 1; each further level has [`Self::level_growth`] times more. More: larger merges into it, fewer levels; less: the reverse. Default: four
    /// write buffers, which is about what level 0 holds when it is merged. Leave it.
    pub level1_bytes: u64,
    /// How many times larger each level is than the one above. More: fewer levels to ask and less space for what was replaced, but each byte is written
    /// more often on its way down; less: less writing, more levels. Default: 10. 6 to 8 for what is mostly written.
    pub level_growth: u64,
    /// Bytes at which a merge starts its next table. More: fewer files; less: smaller steps of merging, space that is free sooner, and a
    /// little less memory for each that is written. Default: an eighth of the budget, from 4 to 32 MiB. Leave it, but for databases of terabytes (an open table costs a file descriptor).
    pub table_bytes: u64,
    /// Raw bytes of a block, at most 16 MiB. More: better compression, fewer index entries, faster scans; less: less read, decoded and cached for one
    /// key. Default: 4 KiB (with 16 KiB a lookup that misses the cache takes half as long again, a database of small values 3 % less space). More where scans
    /// are most of the work and values are large.
    pub block_bytes: usize,
    /// Entries between two whole keys in a block; where entries are large there are fewer between. More: smaller blocks where keys are alike; less: faster
    /// point reads. Default: 16. Leave it.
    pub restart_interval: usize,
    /// Bits of filter a key; 0: no filters. In keyspaces of fixed widths two more, in their smaller runs half as many more. More: fewer useless reads for keys
    /// that are not there (10: one in a hundred, 16: one in a thousand), more memory; less: the reverse. Default: 10. 0 where nothing absent is ever looked
    /// up and there are only scans.
    pub filter_bits_per_key: u32,
    /// How the blocks of levels 2 and below are compressed, where nearly all of a large database lies. [`Compression::Zstd`]: smaller, slower to merge and to read
    /// (of benchmarks' data 3 to 18 % at level 1); [`Compression::None`]: nothing to decompress, and the largest. Default: LZ4. None for values that are
    /// compressed or encrypted already; zstd for what is written once and rarely read. Tables that overlap nothing go down as they are and stay
    /// so until they are merged, those excepted that were [in haste](Self::shallow_compression). Keyspaces of fixed widths are never compressed.
    pub compression: Compression,
    /// How those of levels 0 and 1 are compressed, which are soon merged away. As above; zstd would be done several times for each entry. What is
    /// flushed while [`Self::frozen_max`] memtables wait (two at least) is not compressed, in haste; it is when it is merged, when nobody has written for
    /// [long](Self::idle_after), or [on request](crate::Db::compact). Default: LZ4.
    /// None where the disk is far quicker than the processors.
    pub shallow_compression: Compression,
    /// Bytes of a dictionary with which the blocks of each table of levels 2 and below are compressed, where that pays, up to 256 KiB; 0: none. More: blocks are
    /// somewhat smaller; less: less memory for each open table (28 KiB and itself), less held back by each that is written (forty times as much, and
    /// some 10 MiB for a moment while it is trained, which no budget counts). Default: 0.
    /// 16 KiB for small values that are alike in random order. Without effect where [`Self::compression`] is not zstd, and where [`Self::table_bytes`] is less than
    /// sixty-four times as much.
    pub dictionary_bytes: usize,
    /// In keyspaces of fixed widths: how many runs of about one size are merged into one. More: less merging, more runs that a lookup may have to
    /// ask (a filter each); less: the reverse. Default: 12. 4 where there is little memory beside the filters, and few entries are absent.
    pub tier_runs: usize,
    /// In keyspaces of fixed widths: what a load in any order ([`Keyspace::bulk`](crate::Keyspace::bulk)) may keep in memory, in bytes, as far as the budget has
    /// room. More: larger loads are written once instead of twice, and fewer runs are merged; less: more is left to others. Default: five eighths of the
    /// budget. Leave it.
    pub bulk_buffer_bytes: usize,
    /// In keyspaces of fixed widths: how many threads take part in a merge while nobody writes, and in a load in any order; in others, with 2 or more, a thread beside the one
    /// that loads compresses some of it ([`Background::Threads`] alone, and only what has no dictionary). More: it is done sooner; less: more is left to others. Default: the processors, at most 4; with [`Background::Manual`] as many. 1 where the program needs all its processors.
    pub merge_threads: usize,
    /// How readily the thread that merges leaves the processors to others, as of `nice(2)`, up to 19. More: where they are scarce readers and writers are faster, and
    /// merges lag further behind, until writers are slowed: then they are as quick as all else. Less: the reverse; 0: merges are like any other thread. Default: 10.
    /// 0 where other programs keep all processors busy. Without effect but on Linux.
    pub merge_niceness: u8,
    /// After so long without a commit, merges begin at half of the limits above; after six times as long, tables below level 0 that were flushed
    /// [in haste](Self::shallow_compression) and not merged since are compressed (all that was loaded in order, at worst): a merge more now, fewer tables and runs to ask later. More: less is written
    /// in the pauses between bursts; less: reads are fast sooner behind a burst; `None`: never. Default: 10 seconds. `None` where the disk is to rest.
    pub idle_after: Option<Duration>,
    /// Entries that one step of a flush or a merge handles. More: a little less overhead; less: whoever waits for a step (closing, a writer without threads)
    /// waits less. Default: 4,096. Leave it.
    pub step_entries: usize,
    /// Bytes of a manifest from which on a fresh one is begun, if it is also four times as long as that. More: begun less often; less: opened faster. Default:
    /// 1 MiB. Leave it.
    pub manifest_bytes: u64,
    /// The knobs of the journal.
    pub journal: JournalTuning,
}

/// The knobs of the journal's logs; see [`JournalOptions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalTuning {
    /// What a killed process may lose at [`Durability::Process`](crate::Durability::Process), in bytes. More: fewer calls of the system; less: less to lose.
    /// Default: 256 KiB. Without effect on other durabilities.
    pub buffer_bytes: usize,
    /// How far ahead of synced commits zeros are written, in bytes; 0: not. More: fewer syncs that have to write the file's metadata too; less: less written for
    /// short bursts. Default: 1 MiB. 0 on file systems that copy on write, where it gains nothing.
    pub zero_ahead_bytes_max: u64,
    /// What each sync is filled up to, in bytes, a power of two from 64 to 1 MiB; 0: not. Only for media that may lose a whole sector when a write into it is
    /// torn: then the size of their sector. More: more space for each synced commit. Default: 0.
    pub pad_synced_bytes: u64,
}

impl JournalTuning {
    pub(crate) fn options(&self) -> JournalOptions {
        JournalOptions {
            buffer_bytes: self.buffer_bytes,
            zero_ahead_bytes_max: self.zero_ahead_bytes_max,
            pad_synced_bytes: self.pad_synced_bytes,
        }
    }
}

impl Tuning {
    /// What follows from a memory budget.
    pub fn for_memory(memory_bytes: usize) -> Self {
        let write_buffer_bytes = (memory_bytes / 8).clamp(128 << 10, 64 << 20);
        let journal = JournalOptions::default();
        Self {
            write_buffer_bytes,
            fixed_buffer_factor: match memory_bytes >> 30 {
                0..2 => 1,
                2..4 => 3,
                _ => 4,
            },
            frozen_max: 2,
            level0_tables: 4,
            level0_tables_slow: 12,
            level1_bytes: 4 * write_buffer_bytes as u64,
            level_growth: 10,
            table_bytes: (memory_bytes as u64 / 8).clamp(4 << 20, 32 << 20),
            block_bytes: 4 << 10,
            restart_interval: 16,
            filter_bits_per_key: 10,
            compression: Compression::Lz4,
            shallow_compression: Compression::Lz4,
            dictionary_bytes: 0,
            tier_runs: 12,
            bulk_buffer_bytes: memory_bytes / 8 * 5,
            merge_threads: std::thread::available_parallelism().map_or(1, usize::from).min(4),
            merge_niceness: 10,
            idle_after: Some(Duration::from_secs(10)),
            step_entries: 4096,
            manifest_bytes: 1 << 20,
            journal: JournalTuning {
                buffer_bytes: journal.buffer_bytes,
                zero_ahead_bytes_max: journal.zero_ahead_bytes_max,
                pad_synced_bytes: journal.pad_synced_bytes,
            },
        }
    }

    /// What all memtables may take when all that may wait are waiting.
    pub(crate) fn write_bytes_max(&self, has_fixed: bool) -> usize {
        let factor = if has_fixed { self.fixed_buffer_factor } else { 1 };
        self.write_buffer_bytes.saturating_mul(factor).saturating_mul(self.frozen_max.saturating_add(1))
    }

    /// How tables of a level are written.
    pub(crate) fn table_options(&self, level: usize) -> TableOptions {
        let deep = level >= DEEP_LEVEL;
        TableOptions {
            block_bytes: self.block_bytes,
            restart_interval: self.restart_interval,
            compression: if deep { self.compression } else { self.shallow_compression },
            filter_bits_per_key: self.filter_bits_per_key,
            dictionary_bytes: if deep
                && self.table_bytes / DICTIONARY_TABLE_PART >= self.dictionary_bytes as u64
            {
                self.dictionary_bytes
            } else {
                0
            },
            ..TableOptions::default()
        }
    }

    /// Bytes at which a table of rows ends: a whole write buffer goes into one, for a run of few tables is asked faster, and a large filter lies in huge pages.
    pub(crate) fn fixed_table_bytes(&self) -> u64 {
        self.table_bytes.max(self.write_buffer_bytes.saturating_mul(self.fixed_buffer_factor) as u64)
    }

    /// Bits of filter a row in a level: the last run is the largest by far, and what it saves there is memory.
    pub(crate) fn fixed_filter_bits(&self, level: usize) -> u32 {
        match self.filter_bits_per_key {
            0 => 0,
            bits if level == 0 => bits + bits / 2,
            bits => bits + 2,
        }
    }

    fn check(&self) -> Result<()> {
        let at_least_one = [
            ("write_buffer_bytes", self.write_buffer_bytes as u64),
            ("fixed_buffer_factor", self.fixed_buffer_factor as u64),
            ("frozen_max", self.frozen_max as u64),
            ("level0_tables", self.level0_tables as u64),
            ("level1_bytes", self.level1_bytes),
            ("table_bytes", self.table_bytes),
            ("block_bytes", self.block_bytes as u64),
            ("restart_interval", self.restart_interval as u64),
            ("tier_runs", self.tier_runs.saturating_sub(1) as u64),
            ("bulk_buffer_bytes", self.bulk_buffer_bytes as u64),
            ("merge_threads", self.merge_threads as u64),
            ("step_entries", self.step_entries as u64),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("{name} is 0: at least 1 is needed"),
                ));
            }
        }
        for (name, compression) in
            [("compression", self.compression), ("shallow_compression", self.shallow_compression)]
        {
            if cfg!(not(feature = "zstd")) && matches!(compression, Compression::Zstd(_)) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "{name} is zstd, which is not part of this build; build it with the feature `zstd`"
                    ),
                ));
            }
        }
        if self.block_bytes > BLOCK_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("block_bytes is {}: at most {BLOCK_BYTES_MAX} are allowed", self.block_bytes),
            ));
        }
        if self.dictionary_bytes > DICTIONARY_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "dictionary_bytes is {}: at most {DICTIONARY_BYTES_MAX} are allowed",
                    self.dictionary_bytes
                ),
            ));
        }
        if self.level_growth < 2 || self.level0_tables_slow < self.level0_tables {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "level_growth must be 2 or more, level0_tables_slow no less than level0_tables",
            ));
        }
        Ok(())
    }
}

/// All options of a database.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) memory_bytes: usize,
    pub(crate) read_only: bool,
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) background: Background,
    pub(crate) recovery: RecoveryMode,
    pub(crate) tuning: Option<Tuning>,
    pub(crate) listener: Option<Listener>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            read_only: false,
            fs: Arc::new(OsFs),
            clock: Arc::new(SystemClock::new()),
            background: Background::Threads,
            recovery: RecoveryMode::default(),
            tuning: None,
            listener: None,
        }
    }
}

impl Options {
    /// Whoever is to be told what happens; by a thread, where there are threads.
    pub(crate) fn events(&self) -> Arc<Events> {
        let has_threads = self.background == Background::Threads && !self.read_only;
        Arc::new(Events::new(self.listener.clone(), has_threads))
    }

    /// The tuning in force, checked.
    pub(crate) fn checked_tuning(&self) -> Result<Tuning> {
        let least = if self.tuning.is_some() { TUNED_MEMORY_BYTES_MIN } else { MEMORY_BYTES_MIN };
        if self.memory_bytes < least {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "memory_bytes is {}: at least {least} ({} MiB) are needed",
                    self.memory_bytes,
                    least >> 20
                ),
            ));
        }
        let tuning = self.tuning.clone().unwrap_or_else(|| Tuning::for_memory(self.memory_bytes));
        tuning.check()?;
        Ok(tuning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_any_budget_is_allowed() {
        for shift in 20..40 {
            let memory_bytes = 1 << shift;
            let tuning = Some(Tuning::for_memory(memory_bytes));
            let options = Options { memory_bytes, tuning, ..Options::default() };
            let tuning = options.checked_tuning().unwrap();
            let write_buffers = tuning.write_buffer_bytes * (tuning.frozen_max + 1);
            assert!(
                write_buffers <= options.memory_bytes / 2,
                "the rest is for the cache, and for what nobody counts"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |change: fn(&mut Tuning)| {
            let mut tuning = Tuning::for_memory(1 << 20);
            change(&mut tuning);
            let options = Options { tuning: Some(tuning), ..Options::default() };
            options.checked_tuning().unwrap_err()
        };
        assert!(refused(|tuning| tuning.frozen_max = 0).to_string().contains("frozen_max"));
        let error = refused(|tuning| tuning.dictionary_bytes = DICTIONARY_BYTES_MAX + 1);
        assert!(error.to_string().contains("dictionary_bytes"));
        assert!(refused(|tuning| tuning.block_bytes = usize::MAX).to_string().contains("block_bytes"));
        #[cfg(not(feature = "zstd"))]
        for refused in [
            refused(|tuning| tuning.compression = Compression::Zstd(1)),
            refused(|tuning| tuning.shallow_compression = Compression::Zstd(1)),
        ] {
            assert!(refused.to_string().contains("compression is zstd"), "{refused}");
        }
        assert_eq!(refused(|tuning| tuning.level_growth = 1).kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn a_budget_that_would_not_hold_is_refused() {
        let open =
            |memory_bytes, tuning| Options { memory_bytes, tuning, ..Options::default() }.checked_tuning();
        assert!(open(MEMORY_BYTES_MIN, None).is_ok());
        let refused = open(MEMORY_BYTES_MIN - 1, None).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
        assert!(
            refused.to_string().contains("memory_bytes is 33554431")
                && refused.to_string().contains("32 MiB")
        );
        let tuning = || Some(Tuning::for_memory(1 << 20));
        assert!(open(1 << 20, tuning()).is_ok());
        assert!(open((1 << 20) - 1, tuning()).unwrap_err().to_string().contains("1 MiB"));
    }
}
