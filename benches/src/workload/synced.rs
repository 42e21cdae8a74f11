//! Synced commits: each of one small entry, by one thread and by eight at once; beside them what the disk itself does in a second, when a page that has been written
//! before is written again and synced.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use crate::error::{Context as _, Result};
use crate::generate::{Values, numbered_key};
use crate::store::{Durability, Operation};
use crate::workload::Session;
use crate::workload::session::{EACH, share};

const COMMITS: u64 = 4000;
const THREADS_MANY: usize = 8;
const PAGE_BYTES: usize = 4096;
const PAGES: u64 = 256;

pub(super) fn run(session: &mut Session<'_>) -> Result<()> {
    let commits = session.num_or(COMMITS);
    let (key_bytes, value_bytes) = (session.arguments.key_size, session.arguments.value_size.unwrap_or(100));
    let values = Values::new(session.arguments.seed, value_bytes);
    let mut configuration = session.configuration(commits.saturating_mul((key_bytes + value_bytes) as u64));
    configuration.durability = Durability::Synced;
    session.open_fresh(&configuration)?;
    for (round, threads) in [1, THREADS_MANY].into_iter().enumerate() {
        let base = commits * round as u64;
        session.measure("commits", threads, EACH, &|store, thread, recorder| {
            let (mut key, mut value) = (Vec::new(), Vec::new());
            for index in share(commits, thread, threads) {
                numbered_key(base + index, key_bytes, &mut key);
                values.fill(base + index, 0, &mut value);
                recorder.time(1, || store.write(&[Operation::Put(&key, &value)], Durability::Synced))?;
            }
            Ok(())
        })?;
    }
    disk(session, commits)
}

/// The disk's own: one writer that syncs pages of a file which has them all.
fn disk(session: &mut Session<'_>, commits: u64) -> Result<()> {
    let path = session.database().join("lsm-bench-disk");
    let what = || format!("writing {}", path.display());
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).context(what)?;
    let page = [1; PAGE_BYTES];
    for number in 0..PAGES {
        file.write_all_at(&page, number * PAGE_BYTES as u64).context(what)?;
    }
    file.sync_all().context(what)?;
    session.measure("the disk: a page and a sync", 1, EACH, &|_, _, recorder| {
        for index in 0..commits {
            recorder.time(1, || {
                file.write_all_at(&page, index % PAGES * PAGE_BYTES as u64).context(what)?;
                file.sync_data().context(what)
            })?;
        }
        Ok(())
    })?;
    std::fs::remove_file(&path).context(what)
}
