//! Many threads append; commits share syncs; what is published as durable is durable.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::checksum::Identity;
use crate::error::ErrorKind;
use crate::fs::CrashPolicy;

fn start() -> Start {
    Start {
        number: 1,
        identity: Identity::from_bytes([7; 16]),
        database: Identity::from_bytes([8; 16]),
        previous: None,
        next_sequence: 1,
    }
}

fn create(mem: &MemFs, options: JournalOptions) -> Journal {
    mem.create_dir_all(directory(), SITE).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    Journal::create(&fs, &log_path(1), start(), options).unwrap()
}

fn batch(first_sequence: u64, payload: &[u8]) -> BatchRecord<'_> {
    BatchRecord { first_sequence, op_count: 1, sync: true, payload }
}

#[test]
fn eight_threads_share_syncs_and_lose_nothing() {
    let mem = MemFs::new();
    // A sync takes a while, as on a disk; others come meanwhile.
    mem.set_sync_hook(|_, _| std::thread::sleep(Duration::from_millis(1)));
    let (journal, _, _) = open(Arc::new(mem.clone())).unwrap();
    let acknowledged = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let (journal, acknowledged) = (&journal, &acknowledged);
            scope.spawn(move || {
                for number in 0..20u8 {
                    let sequence = journal.append(&vec![thread, number], Durability::Synced).unwrap();
                    acknowledged.fetch_max(sequence, Ordering::SeqCst);
                }
            });
        }
        // Meanwhile the power is cut, again and again (on a copy).
        for _ in 0..20 {
            let before = acknowledged.load(Ordering::SeqCst);
            let (_, _, found) = open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap();
            let last = found.last().map_or(0, |(sequence, _)| *sequence);
            assert!(last >= before, "{before} was acknowledged, {last} is there");
            assert_eq!(found.len() as u64, last, "no gap");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let (_, _, found) = open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap();
    assert_eq!(found.len(), 160);
    for thread in 0..8 {
        let numbers: Vec<u8> =
            found.iter().filter(|(_, bytes)| bytes[0] == thread).map(|(_, bytes)| bytes[1]).collect();
        assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "each thread's in its order");
    }
}

#[test]
fn commits_that_come_together_share_a_sync() {
    let mem = MemFs::new();
    let journal = create(&mem, JournalOptions::default());
    mem.set_sync_hook(|_, _| std::thread::sleep(Duration::from_millis(2)));
    let next = crate::sync::Mutex::new(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let at = {
                        let mut next = next.lock();
                        let at = journal.append(batch(*next, b"x")).unwrap();
                        *next += 1;
                        at
                    };
                    journal.sync_through(at).unwrap();
                }
            });
        }
    });
    let syncs = journal.sync_count();
    assert!(syncs < 50, "{syncs} syncs for 80 commits by 8 threads");
}

#[test]
fn the_durable_offset_is_sampled_before_the_sync() {
    let mem = MemFs::new();
    let journal = Arc::new(create(&mem, JournalOptions::default()));
    let first = journal.append(batch(1, b"first")).unwrap();
    let (also, once) = (Arc::downgrade(&journal), AtomicBool::new(true));
    mem.set_sync_hook(move |_, _| {
        if once.swap(false, Ordering::SeqCst) {
            // Written while the sync runs: not covered by it.
            let also = also.upgrade().unwrap();
            let second = also.append(batch(2, b"second")).unwrap();
            also.write_through(second).unwrap();
        }
    });
    journal.sync_through(first).unwrap();
    assert_eq!(journal.durable(), first);
    assert_eq!(journal.durable_sequence(), 1);
    assert!(journal.written() > first);
    let cut = journal.durable_cut();
    assert_eq!((cut.offset, cut.last_sequence), (first.offset(), 1));
}

#[test]
fn the_watermark_advances_in_the_records() {
    let mem = MemFs::new();
    let journal = create(&mem, JournalOptions::default());
    for sequence in 1..=5 {
        let at = journal.append(batch(sequence, b"x")).unwrap();
        journal.sync_through(at).unwrap();
    }
    journal.mark().unwrap();
    let length = journal.position();
    journal.mark().unwrap();
    assert_eq!(journal.position(), length, "nothing new to say");
    let mut watermarks = Vec::new();
    let report =
        read_records(mem.open_read(&log_path(1)).unwrap(), &log_path(1), LogKind::Journal, &mut |record| {
            watermarks.push((record.header.kind, record.offset, record.header.durable_offset));
            Ok(())
        })
        .unwrap();
    let batches: Vec<_> = watermarks.iter().filter(|(kind, ..)| *kind == RecordKind::Batch).collect();
    assert_eq!(batches.len(), 5);
    assert!(
        batches.iter().all(|(_, offset, durable)| offset == durable),
        "all before each batch: {batches:?}"
    );
    let last = watermarks.last().unwrap();
    assert_eq!((last.0, last.2), (RecordKind::Mark, last.1), "the mark covers the last batch");
    assert_eq!(report.durable, last.1);
}

#[test]
fn a_sync_that_no_batch_asked_for_says_so_in_the_log() {
    let mem = MemFs::new();
    let journal = create(&mem, JournalOptions::default());
    let at = journal.append(BatchRecord { sync: false, ..batch(1, b"x") }).unwrap();
    journal.sync_through(at).unwrap();
    let mut asked = Vec::new();
    read_records(mem.open_read(&log_path(1)).unwrap(), &log_path(1), LogKind::Journal, &mut |record| {
        asked.push((record.header.kind, record.header.sync_asked));
        Ok(())
    })
    .unwrap();
    assert_eq!(asked, [(RecordKind::Start, false), (RecordKind::Batch, false), (RecordKind::Mark, true)]);
}

#[test]
fn zeros_run_ahead_of_synced_commits_only() {
    let mem = MemFs::new();
    let options = JournalOptions { zero_ahead_bytes_max: 64 << 10, ..JournalOptions::default() };
    let journal = create(&mem, options);
    let length = |mem: &MemFs| mem.open_read(&log_path(1)).unwrap().len().unwrap();
    let mut sequence = 0;
    let mut append = |sync: bool, count: u64| {
        for _ in 0..count {
            sequence += 1;
            let at = journal.append(batch(sequence, &[1; 1000])).unwrap();
            if sync { journal.sync_through(at).unwrap() } else { journal.write_through(at).unwrap() }
        }
    };
    append(false, 50);
    assert_eq!(length(&mem), journal.position().offset(), "no zeros without syncs");
    append(true, 1);
    assert_eq!(length(&mem), journal.position().offset(), "one sync is no stream of them");
    let mut ahead = Vec::new();
    for _ in 0..200 {
        let before = length(&mem);
        append(true, 1);
        if length(&mem) != before {
            ahead.push(length(&mem) - journal.position().offset());
        }
    }
    assert_eq!(&ahead[..4], &[16 << 10, 32 << 10, 64 << 10, 64 << 10], "small at first, then twice as much");
    let (_, _, found) = {
        drop(journal);
        open(Arc::new(mem.clone())).unwrap()
    };
    assert_eq!(found.len() as u64, sequence);
}

#[test]
fn synced_groups_can_be_filled_up_to_sectors() {
    let mem = MemFs::new();
    let options = JournalOptions { pad_synced_bytes: 512, ..JournalOptions::default() };
    let journal = create(&mem, options);
    for sequence in 1..=40u64 {
        let payload = vec![1; usize::try_from(sequence * 13).unwrap()];
        let at = journal.append(batch(sequence, &payload)).unwrap();
        journal.sync_through(at).unwrap();
        assert!(journal.durable().offset().is_multiple_of(512));
    }
    // The last record too comes behind what is synced.
    journal.append(BatchRecord { sync: false, ..batch(41, b"x") }).unwrap();
    let end = journal.end(41).unwrap();
    let last = (RECORD_HEADER_BYTES + END_PAYLOAD_BYTES) as u64;
    assert!((end.offset - last).is_multiple_of(512), "{end:?}");
    drop(journal);
    let (_, _, found) = open(Arc::new(mem)).unwrap();
    assert_eq!(found.len(), 41);
}

#[test]
fn wrong_arguments_are_refused_and_change_nothing() {
    let mem = MemFs::new();
    let journal = create(&mem, JournalOptions::default());
    let at = journal.append(BatchRecord { op_count: 3, ..batch(5, b"x") }).unwrap();
    let refused = |result: Result<Position>| result.unwrap_err().kind() == ErrorKind::InvalidArgument;
    assert!(refused(journal.append(batch(7, b"x"))), "5, 6 and 7 are taken");
    assert!(refused(journal.append(BatchRecord { op_count: 0, ..batch(8, b"x") })));
    assert!(refused(journal.append(batch(crate::key::SEQUENCE_MAX + 1, b"x"))));
    assert!(refused(journal.append(BatchRecord { op_count: u32::MAX, ..batch(u64::MAX - 1, b"x") })));
    assert_eq!(journal.position(), at);
    assert_eq!(journal.end(6).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let end = journal.end(9).unwrap();
    assert_eq!((end.last_sequence, end.offset), (9, journal.durable().offset()));
    assert_eq!(journal.append(batch(10, b"x")).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(journal.end(9).unwrap_err().kind(), ErrorKind::Closed);
    for pad in [1, 63, 100, 1 << 30] {
        let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
        let options = JournalOptions { pad_synced_bytes: pad, ..JournalOptions::default() };
        let error = Journal::create(&fs, &log_path(2), start(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
    assert!(!mem.exists(&log_path(2)).unwrap());
}

#[test]
fn a_full_buffer_is_written() {
    let mem = MemFs::new();
    let journal = create(&mem, JournalOptions { buffer_bytes: 1000, ..JournalOptions::default() });
    let first = journal.append(batch(1, &[1; 500])).unwrap();
    assert!(journal.written() < first, "in our memory");
    let second = journal.append(batch(2, &[1; 500])).unwrap();
    assert_eq!(journal.written(), second);
}
