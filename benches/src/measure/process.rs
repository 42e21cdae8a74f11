//! What the system says of this process (Linux's /proc; elsewhere zeros), and of a folder.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Between two looks at the memory.
const INTERVAL: Duration = Duration::from_millis(20);

const PAGE_BYTES: u64 = 4096;

/// Processor time of all threads, those that ended included.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes on the disk of all files in a folder: blocks, not lengths, since some engines reserve more than they use.
pub(crate) fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    // A file that goes away meanwhile takes nothing.
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// The lines of /proc/self/io.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Io {
    pub(super) rchar: u64,
    pub(super) syscr: u64,
    pub(super) read_bytes: u64,
    pub(super) write_bytes: u64,
}

/// The process's counts as of now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) cpu_time: Duration,
    pub(super) io: Io,
    pub(super) major_faults: u64,
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn major_faults() -> u64 {
    // The fields behind the program's name, which may hold anything and ends with the last parenthesis: state is the 3rd, majflt the 12th.
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    rest.split_whitespace().nth(9).and_then(|field| field.parse().ok()).unwrap_or(0)
}

impl Sample {
    /// Without the reads of the watch itself.
    pub(super) fn now(watch: &Watch) -> Self {
        let cpu_time = cpu_time();
        let major_faults = major_faults();
        let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let watched = watch.shared.reads.load(Ordering::Relaxed);
        let io = Io {
            rchar: field(&text, "rchar").saturating_sub(watched * 32),
            syscr: field(&text, "syscr").saturating_sub(watched),
            read_bytes: field(&text, "read_bytes"),
            write_bytes: field(&text, "write_bytes"),
        };
        Self { cpu_time, io, major_faults }
    }
}

/// Peaks of memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) peak_bytes: u64,
    pub(super) peak_anonymous_bytes: u64,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    anonymous_bytes: AtomicU64,
    /// Reads that the watch made, so that they are not counted as the engine's.
    reads: AtomicU64,
}

/// A thread that looks at the process's memory.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Memory of the process that is no file's.
fn anonymous_bytes(statm: &File) -> Option<u64> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(text.get(..length)?).ok()?;
    let mut pages = text.split_whitespace().map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, of_files) = (pages.nth(1)?, pages.next()?);
    Some(resident.saturating_sub(of_files) * PAGE_BYTES)
}

impl Watch {
    /// Begins to look.
    pub(crate) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let watching = move || {
            let Ok(statm) = File::open("/proc/self/statm") else { return };
            while !seen.stop.load(Ordering::Relaxed) {
                seen.reads.fetch_add(1, Ordering::Relaxed);
                let bytes = anonymous_bytes(&statm).unwrap_or(0);
                seen.anonymous_bytes.fetch_max(bytes, Ordering::Relaxed);
                std::thread::sleep(INTERVAL);
            }
        };
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(watching).ok();
        Self { shared, thread }
    }

    /// Forgets the peaks so far.
    pub(super) fn reset_peak(&self) {
        // Where it is not allowed the mark is the process's, which the report shows as it is.
        let _ = fs::write("/proc/self/clear_refs", "5");
        self.shared.anonymous_bytes.store(0, Ordering::Relaxed);
    }

    /// The peaks since.
    pub(super) fn memory(&self) -> Memory {
        let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let now = field(&text, "RssAnon") * 1024;
        Memory {
            peak_bytes: field(&text, "VmHWM") * 1024,
            peak_anonymous_bytes: self.shared.anonymous_bytes.load(Ordering::Relaxed).max(now),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_and_written_is_counted() {
        let watch = Watch::start();
        let before = Sample::now(&watch);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let open = File::open(file.path()).unwrap();
        let mut part = [0; 100];
        for place in 0..50 {
            open.read_at(&mut part, place).unwrap();
        }
        let after = Sample::now(&watch);
        if cfg!(target_os = "linux") {
            assert!(after.io.syscr - before.io.syscr >= 50);
            assert!(after.io.rchar - before.io.rchar >= 5000);
        }
    }

    #[test]
    fn memory_that_is_used_shows_in_the_peaks() {
        let watch = Watch::start();
        watch.reset_peak();
        let large = std::hint::black_box(vec![1_u8; 64 << 20]);
        std::thread::sleep(3 * INTERVAL);
        let memory = watch.memory();
        drop(large);
        if cfg!(target_os = "linux") {
            assert!(memory.peak_anonymous_bytes >= 64 << 20, "{memory:?}");
            assert!(memory.peak_bytes >= 64 << 20, "{memory:?}");
        }
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "rchar: 7\nread_bytes: 8\nVmHWM:\t  12 kB\n";
        assert_eq!((field(text, "rchar"), field(text, "read_bytes"), field(text, "VmHWM")), (7, 8, 12));
        assert_eq!(field(text, "read"), 0);
    }

    #[test]
    fn processor_time_goes_on() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_time() > before);
    }
}
