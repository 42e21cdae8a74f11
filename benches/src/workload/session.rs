//! One engine's time: its open database, what is known to be in it, and the rows that come of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arguments::RunArguments;
use crate::convert::float;
use crate::engines::{self, Engine};
use crate::error::{Context as _, Result, fault};
use crate::generate::{Presence, Values};
use crate::measure::{Measured, Recorder, Watch, cpu_time, measure, on_threads};
use crate::report::Row;
use crate::store::{Configuration, Counts, Durability, Store, Widths};

/// Of reads and scans every sixteenth is timed; of writes and batches each is.
pub(crate) const SOME: u32 = 16;
pub(crate) const EACH: u32 = 1;

/// Between two looks at whether the engine is quiet.
const QUIET_INTERVAL: Duration = Duration::from_millis(50);
/// So many in a row must be quiet, that is, take less than a twentieth of one core: half a second, longer than a merge waits for the disk.
const QUIET_INTERVALS: u32 = 10;
/// Longest wait for it.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(900);

/// Least address space for a mapped database, and how many times its data it may become.
const MAP_BYTES_MIN: u64 = 4 << 30;
const MAP_TIMES_DATA: u64 = 8;

/// What numbered entries the database holds.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) values: Values,
    /// `None`: what is there is not known, since it was there before.
    pub(crate) presence: Option<Presence>,
    /// What makes each write's value new.
    nonce: AtomicU64,
}

impl Contents {
    /// Nothing is known but what its values look like.
    pub(crate) fn unknown(values: Values) -> Self {
        Self { values, presence: None, nonce: AtomicU64::new(1) }
    }

    pub(crate) fn next_nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }
}

/// Sends a row to whoever gathers them.
pub(crate) type Emit = Box<dyn FnMut(Row) -> Result<()>>;

/// Work of some threads on a store; each is told its number.
pub(crate) type Work<'w> = &'w (dyn Fn(&dyn Store, usize, &mut Recorder) -> Result<()> + Sync);

pub(crate) struct Session<'a> {
    engine: &'static Engine,
    pub(crate) arguments: &'a RunArguments,
    database: PathBuf,
    emit: Emit,
    watch: Arc<Watch>,
    store: Option<Box<dyn Store>>,
    pub(crate) contents: Contents,
    workload: &'static str,
    /// Bytes written since the database was made.
    written_bytes: u64,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        engine: &'static Engine,
        arguments: &'a RunArguments,
        database: PathBuf,
        emit: Emit,
    ) -> Self {
        let values = Values::new(arguments.seed, arguments.value_size.unwrap_or(100));
        Self {
            engine,
            arguments,
            database,
            emit,
            watch: Arc::new(Watch::start()),
            store: None,
            contents: Contents::unknown(values),
            workload: "",
            written_bytes: 0,
        }
    }

    /// What follows belongs to this benchmark.
    pub(crate) fn begin(&mut self, workload: &'static str) {
        self.workload = workload;
    }

    pub(crate) fn engine(&self) -> &'static Engine {
        self.engine
    }

    /// The folder of the database.
    pub(crate) fn database(&self) -> &std::path::Path {
        &self.database
    }

    /// How many entries, if the command line does not say it.
    pub(crate) fn num_or(&self, default: u64) -> u64 {
        self.arguments.num.unwrap_or(default)
    }

    pub(crate) fn threads(&self) -> usize {
        usize::from(self.arguments.threads)
    }

    /// What commits ask for.
    pub(crate) fn durability(&self) -> Durability {
        if self.arguments.sync { Durability::Synced } else { Durability::System }
    }

    /// How to open a database that will hold so many bytes of keys and values.
    pub(crate) fn configuration(&self, data_bytes: u64) -> Configuration {
        Configuration {
            path: self.database.clone(),
            memory_bytes: self.arguments.memory,
            write_buffer_bytes: None,
            durability: self.durability(),
            fixed: None,
            size_bytes_max: data_bytes.saturating_mul(MAP_TIMES_DATA).max(MAP_BYTES_MIN),
        }
    }

    /// The same for keys and values of one width each, the keys uniformly random.
    pub(crate) fn fixed_configuration(&self, count: u64, widths: Widths) -> Configuration {
        let data_bytes = count.saturating_mul((widths.key + widths.value) as u64);
        Configuration { fixed: Some(widths), ..self.configuration(data_bytes) }
    }

    /// Opens an empty database, in the place of what was there; with `--use_existing_db`, what is there.
    pub(crate) fn open_fresh(&mut self, configuration: &Configuration) -> Result<()> {
        self.close()?;
        if !self.arguments.use_existing_db {
            self.remove_database()?;
            self.written_bytes = 0;
        }
        self.open(configuration)
    }

    /// Opens what is there.
    pub(crate) fn open(&mut self, configuration: &Configuration) -> Result<()> {
        self.store = Some(engines::open(self.engine.name, configuration)?);
        Ok(())
    }

    /// Removes the files of the database, which is closed.
    pub(crate) fn remove_database(&self) -> Result<()> {
        let what = || format!("emptying {}", self.database.display());
        for entry in std::fs::read_dir(&self.database).context(what)? {
            let path = entry.context(what)?.path();
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.context(|| format!("removing {}", path.display()))?;
        }
        Ok(())
    }

    /// Closes the database, if it is open.
    pub(crate) fn close(&mut self) -> Result<()> {
        match self.store.take() {
            Some(store) => store.close().context(|| format!("closing {}", self.engine.name)),
            None => Ok(()),
        }
    }

    /// The open database. Of a benchmark that needs one and comes first, what `--use_existing_db` finds.
    pub(crate) fn store(&mut self) -> Result<&mut dyn Store> {
        if self.store.is_none() {
            if !self.arguments.use_existing_db {
                return fault(
                    "there is no database: begin with a benchmark that fills one, or give --use_existing_db",
                );
            }
            let configuration = self.configuration(0);
            self.open(&configuration)?;
        }
        match &mut self.store {
            Some(store) => Ok(&mut **store),
            None => fault("there is no database"),
        }
    }

    /// From now on the database holds numbered entries with values of this length, none yet.
    pub(crate) fn begin_contents(&mut self, count: u64, value_bytes: usize) {
        let presence = (!self.arguments.use_existing_db).then(|| Presence::new(count));
        let values = Values::new(self.arguments.seed, value_bytes);
        self.contents = Contents { presence, ..Contents::unknown(values) };
    }

    /// Has everything synced that was written, and waits until the engine has no work left in the background, that is, until the process takes no
    /// processor time.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.arguments.no_settle {
            return Ok(());
        }
        if let Some(store) = &self.store {
            store.sync()?;
        }
        let (start, mut quiet, mut last) = (Instant::now(), 0, cpu_time());
        while quiet < QUIET_INTERVALS && start.elapsed() < QUIET_WAIT_MAX {
            std::thread::sleep(QUIET_INTERVAL);
            let now = cpu_time();
            quiet = if now.saturating_sub(last) < QUIET_INTERVAL / 20 { quiet + 1 } else { 0 };
            last = now;
        }
        Ok(())
    }

    /// Measures work of one thread or more on the open database, and emits it as a row.
    pub(crate) fn measure(&mut self, part: &str, threads: usize, every: u32, work: Work<'_>) -> Result<()> {
        let row = self.measured(part, threads, every, work)?;
        self.emit(row)
    }

    /// The same without emitting it, for a row to which something is added.
    pub(crate) fn measured(&mut self, part: &str, threads: usize, every: u32, work: Work<'_>) -> Result<Row> {
        self.store()?;
        let Some(store) = &self.store else { return fault("there is no database") };
        let store: &dyn Store = &**store;
        let (before, turns) = (store.counts(), self.arguments.own_max);
        let measured = measure(&self.watch, &self.database, || {
            on_threads(threads, every, turns, &|thread, recorder| work(store, thread, recorder))
        })?;
        let after = store.counts();
        let mut row = self.row(part, threads, &measured);
        add_counts(&mut row, before, after);
        Ok(row)
    }

    /// Measures work that changes the session itself, as one call; it says how many operations it did.
    pub(crate) fn measured_alone(
        &mut self,
        part: &str,
        work: impl FnOnce(&mut Self) -> Result<u64>,
    ) -> Result<Row> {
        let (watch, database) = (Arc::clone(&self.watch), self.database.clone());
        let before = self.store.as_ref().and_then(|store| store.counts());
        let measured = measure(&watch, &database, || {
            let mut recorder = Recorder::new(EACH);
            let operations = recorder.time(0, || work(self))?;
            recorder.count(operations);
            Ok(recorder)
        })?;
        let mut row = self.row(part, 1, &measured);
        add_counts(&mut row, before, self.store.as_ref().and_then(|store| store.counts()));
        Ok(row)
    }

    /// A row of what was measured.
    fn row(&mut self, part: &str, threads: usize, measured: &Measured) -> Row {
        self.written_bytes += measured.written_bytes;
        let mut row =
            Row::new([self.engine.name, self.workload, part], threads, self.arguments.child_run, measured);
        row.total_written_bytes = self.written_bytes;
        row
    }

    /// Sends a row.
    pub(crate) fn emit(&mut self, row: Row) -> Result<()> {
        (self.emit)(row)
    }

    /// The end: what is open is closed.
    pub(crate) fn end(mut self) -> Result<()> {
        self.close()
    }
}

/// What the engine counted meanwhile; of one that was opened meanwhile, nothing.
fn add_counts(row: &mut Row, before: Option<Counts>, after: Option<Counts>) {
    let (Some(before), Some(after)) = (before, after) else { return };
    let counts = [
        ("engine wrote", before.written_bytes, after.written_bytes),
        ("stalls", before.stalls, after.stalls),
    ];
    for (name, before, after) in counts {
        if after > before {
            row.extra.insert(name.to_owned(), float(after - before));
        }
    }
}

/// Which of `count` things belong to one of some threads.
pub(crate) fn share(count: u64, thread: usize, threads: usize) -> std::ops::Range<u64> {
    let (thread, threads) = (thread as u64, threads as u64);
    let at = |thread: u64| {
        u64::try_from(u128::from(count) * u128::from(thread) / u128::from(threads)).unwrap_or(count)
    };
    at(thread)..at(thread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threads_share_all_of_it() {
        assert_eq!(share(10, 0, 3), 0..3);
        assert_eq!(share(10, 1, 3), 3..6);
        assert_eq!(share(10, 2, 3), 6..10);
        assert_eq!(share(u64::MAX, 0, 1), 0..u64::MAX);
    }
}
