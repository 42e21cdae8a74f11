//! What a piece of work takes: time, processor time, memory, bytes; and how long its calls take.

mod latency;
mod process;
mod turns;

pub(crate) use latency::{Latency, Recorder};
pub(crate) use process::{Watch, cpu_time, disk_bytes};

use std::path::Path;
use std::time::Instant;

use crate::error::{Result, fault};
use process::Sample;

/// What was measured of one piece of work.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    /// Counted by the work: entries written, keys looked up or passed in a scan.
    pub(crate) operations: u64,
    pub(crate) latency: Latency,
    /// Bytes that the process caused to be written to the disk.
    pub(crate) written_bytes: u64,
    /// Bytes that it fetched from the disk.
    pub(crate) fetched_bytes: u64,
    /// Bytes that it read by system calls, from the page cache or the disk.
    pub(crate) read_bytes: u64,
    /// Read system calls.
    pub(crate) reads: u64,
    /// Page faults that had to wait for the disk: a mapped file's reads.
    pub(crate) major_faults: u64,
    /// The most memory that the process had, mapped files included, where the system lets the mark be reset.
    pub(crate) peak_bytes: u64,
    /// The most memory of its own that it had, of samples every 20 ms.
    pub(crate) peak_anonymous_bytes: u64,
    /// What the database takes on the disk afterwards.
    pub(crate) disk_bytes: u64,
}

/// Measures work, and what became of the database by it.
pub(crate) fn measure(
    watch: &Watch,
    database: &Path,
    work: impl FnOnce() -> Result<Recorder>,
) -> Result<Measured> {
    watch.reset_peak();
    let before = Sample::now(watch);
    let start = Instant::now();
    let recorded = work()?;
    let seconds = start.elapsed().as_secs_f64();
    let after = Sample::now(watch);
    let memory = watch.memory();
    Ok(Measured {
        seconds,
        cpu_seconds: after.cpu_time.saturating_sub(before.cpu_time).as_secs_f64(),
        operations: recorded.operations(),
        latency: recorded.latency(),
        written_bytes: after.io.write_bytes.saturating_sub(before.io.write_bytes),
        fetched_bytes: after.io.read_bytes.saturating_sub(before.io.read_bytes),
        read_bytes: after.io.rchar.saturating_sub(before.io.rchar),
        reads: after.io.syscr.saturating_sub(before.io.syscr),
        major_faults: after.major_faults.saturating_sub(before.major_faults),
        peak_bytes: memory.peak_bytes,
        peak_anonymous_bytes: memory.peak_anonymous_bytes,
        disk_bytes: disk_bytes(database),
    })
}

/// Work of one of several threads, told its number.
pub(crate) type ThreadWork<'w> = &'w (dyn Fn(usize, &mut Recorder) -> Result<()> + Sync);

/// Runs work on some threads, on this one if there is but one. Every `every`-th call is timed, with or without the waits for a processor.
pub(crate) fn on_threads(threads: usize, every: u32, turns: bool, work: ThreadWork<'_>) -> Result<Recorder> {
    let recorded = |thread| -> Result<Recorder> {
        let mut recorder = Recorder::with_turns(every, turns);
        work(thread, &mut recorder)?;
        Ok(recorder)
    };
    if threads == 1 {
        return recorded(0);
    }
    let ended: Vec<Result<Recorder>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || recorded(thread))).collect();
        // All are waited for, whichever fails first.
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| fault("a thread panicked")))
            .collect()
    });
    let mut all = Recorder::new(every);
    for recorder in ended {
        all.add(&recorder?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_count_and_a_failure_of_one_is_the_failure_of_all() {
        let (watch, directory) = (Watch::start(), tempfile::tempdir().unwrap());
        std::fs::write(directory.path().join("file"), vec![1; 100_000]).unwrap();
        let work: ThreadWork<'_> = &|thread, recorder| {
            for _ in 0..10 {
                recorder.time(thread as u64 + 1, || Ok(()))?;
            }
            Ok(())
        };
        let measured = measure(&watch, directory.path(), || on_threads(3, 1, false, work)).unwrap();
        assert_eq!(measured.operations, 60);
        assert_eq!(measured.latency.calls, 30);
        assert!(measured.disk_bytes >= 100_000, "{}", measured.disk_bytes);

        let work: ThreadWork<'_> = &|thread, _| if thread == 1 { fault("the second fails") } else { Ok(()) };
        let failed = on_threads(3, 1, false, work);
        assert_eq!(failed.unwrap_err().to_string(), "the second fails");
    }
}
