//! What goes on behind the callers: merges that cannot read, wake-ups that must not be missed, and writers who are not to run away from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lsm::clock::{Clock, ManualClock};
use lsm::fs::{CrashPolicy, Fault, FaultCall, FaultEffect, FaultFs, FileSystem, MemFs};
use lsm::{
    Background, Batch, Compression, Db, Durability, ErrorKind, Health, Keyspace, KeyspaceOptions, Progress,
    Tuning,
};

use crate::support::{self, Random};

fn keyspace(db: &Db) -> Keyspace {
    db.keyspace("a", KeyspaceOptions::sorted()).unwrap()
}

fn run_until_idle(db: &Db) {
    while db.step().unwrap() == Progress::Working {}
}

fn level0(db: &Db) -> usize {
    db.stats().keyspaces[0].level_tables[0]
}

/// A file system that fails, and a database on it whose time stands still.
fn faulty() -> (FaultFs, Arc<ManualClock>, Db) {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let clock = Arc::new(ManualClock::default());
    let db = Db::builder("/db")
        .file_system(Arc::new(fs.clone()))
        .clock(Arc::<ManualClock>::clone(&clock))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
        .open()
        .unwrap();
    (fs, clock, db)
}

#[test]
fn a_read_error_that_passes_costs_a_pause_and_no_more() {
    let (fs, clock, db) = faulty();
    let a = keyspace(&db);
    let round = |round: usize| {
        for number in 0..50 {
            a.put(format!("k{round} {number}"), "v").unwrap();
        }
        db.flush().unwrap();
    };
    (0..4).for_each(round);
    fs.inject(Fault::sticky(FaultCall::Read, 1, FaultEffect::Error).on(".table"));
    run_until_idle(&db);
    assert!(db.stats().compaction_error.is_some());
    fs.clear();
    // It is not tried again at once; what comes after it is merged meanwhile.
    for number in 4..40 {
        round(number);
        run_until_idle(&db);
        assert!(level0(&db) < 12, "round {number}: {:?}", db.stats().keyspaces);
    }
    assert!(db.stats().compaction_error.is_some());
    clock.sleep(Duration::from_secs(1));
    run_until_idle(&db);
    assert!(level0(&db) < 4, "{:?}", db.stats().keyspaces);
    assert!(db.stats().compaction_error.is_none());
    assert_eq!(a.iter().count(), 40 * 50);
    assert!(db.check().unwrap().is_clean());
}

#[test]
fn what_is_deleted_above_a_table_that_cannot_be_read_stays_deleted() {
    let (fs, clock, db) = faulty();
    let a = keyspace(&db);
    for key in ["one", "two", "three", "four"] {
        a.put(key, "old").unwrap();
    }
    db.flush().unwrap();
    let names = fs.read_dir(Path::new("/db")).unwrap();
    let table = names.iter().find(|name| name.extension().is_some_and(|end| end == "table")).unwrap();
    let name = table.file_name().unwrap().to_str().unwrap();
    fs.inject(Fault::sticky(FaultCall::Read, 1, FaultEffect::Error).on(name));
    a.delete("one").unwrap();
    db.flush().unwrap();
    a.delete_range("th".."tz").unwrap();
    db.flush().unwrap();
    for round in 0..6 {
        a.put("x", format!("{round}")).unwrap();
        db.flush().unwrap();
        run_until_idle(&db);
    }
    assert!(level0(&db) < 5, "the newer ones are one table: {:?}", db.stats().keyspaces);
    fs.clear();
    let keys = || -> Vec<Vec<u8>> { a.iter().map(|item| item.unwrap().0.to_vec()).collect() };
    assert_eq!(keys(), [b"four".to_vec(), b"x".to_vec()]);
    assert!(db.check().unwrap().is_clean());
    clock.sleep(Duration::from_secs(100));
    run_until_idle(&db);
    db.compact().unwrap();
    assert_eq!(keys(), [b"four".to_vec(), b"x".to_vec()]);
}

#[test]
fn the_thread_that_merges_misses_no_wake_up() {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.level0_tables = 2;
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .memory_bytes(1 << 20)
        .tuning(tuning)
        .open()
        .unwrap();
    let a = keyspace(&db);
    for round in 0..300 {
        for key in ["one", "two"] {
            a.put(key, format!("{round}")).unwrap();
            db.flush().unwrap();
        }
        // Nothing else will wake it.
        let begun = Instant::now();
        while level0(&db) >= 2 {
            assert!(begun.elapsed() < Duration::from_secs(60), "round {round}: nobody merges");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// Sizes at which each batch of [`write`] is a table, and merging one takes many steps.
fn small() -> Tuning {
    let mut tuning = Tuning::for_memory(1 << 20);
    tuning.write_buffer_bytes = 4000;
    tuning.level0_tables = 2;
    tuning.level0_tables_slow = 6;
    tuning.level1_bytes = 100_000;
    tuning.step_entries = 20;
    tuning
}

fn write(db: &Db, a: &Keyspace, random: &mut Random) {
    let mut batch = Batch::new();
    while batch.encoded_bytes() < 5000 {
        batch.put(a, random.next().to_be_bytes(), [b'v'; 40]);
    }
    db.commit(batch, Durability::Process).unwrap();
}

#[test]
fn level_0_is_bounded_where_the_writer_merges() {
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &small()).unwrap();
    let mut random = Random(1);
    for round in 0..100 {
        write(&db, &keyspaces[0], &mut random);
        // Twice the mark, and what was waiting to be flushed then.
        assert!(level0(&db) <= 2 * 6 + 2 + 1, "round {round}: {:?}", db.stats().keyspaces);
    }
    assert!(db.stats().compactions > 0);
}

#[test]
fn pressure_grows_with_what_waits_in_level_0_and_is_gone_when_it_is_merged() {
    let mut tuning = small();
    (tuning.level0_tables, tuning.level0_tables_slow) = (40, 40);
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &tuning).unwrap();
    let mut random = Random(1);
    let mut before = 0.0;
    assert_eq!(db.write_pressure(), 0.0);
    // With this many a writer would merge before it writes.
    while level0(&db) <= 40 {
        write(&db, &keyspaces[0], &mut random);
        db.flush().unwrap();
        let now = db.write_pressure();
        assert!((0.0..=1.0).contains(&now) && now >= before, "{before} {now}");
        before = now;
    }
    assert!(before > 0.0 && db.stats().write_pressure == before);
    db.compact().unwrap();
    assert_eq!(db.write_pressure(), 0.0);
}

#[test]
fn pressure_grows_while_memtables_wait_for_their_flush_and_is_gone_behind_it() {
    let mut tuning = small();
    tuning.frozen_max = 2;
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &tuning).unwrap();
    let mut random = Random(1);
    let mut before = 0.0;
    for _ in 0..100_000 {
        if before > 0.5 {
            break;
        }
        keyspaces[0].put(random.next().to_be_bytes(), [7; 20]).unwrap();
        let now = db.write_pressure();
        assert!((0.0..=1.0).contains(&now) && now >= before, "{before} {now}");
        before = now;
    }
    assert!(before > 0.5 && level0(&db) == 0, "nothing was flushed, so nothing waits to be merged");
    assert_eq!(db.stats().write_pressure, before);
    db.flush().unwrap();
    assert_eq!((db.write_pressure(), db.stats().write_pressure), (0.0, 0.0));
}

#[test]
fn level_0_is_bounded_where_threads_merge() {
    const WRITERS: usize = 3;
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .memory_bytes(1 << 20)
        .tuning(small())
        .open()
        .unwrap();
    let a = keyspace(&db);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (db, a) = (&db, &a);
            scope.spawn(move || {
                let mut random = Random(writer as u64);
                for round in 0..60 {
                    write(db, a, &mut random);
                    // Besides, each writer may have been let in already.
                    assert!(level0(db) <= 2 * 6 + 2 + WRITERS, "round {round}: {:?}", db.stats().keyspaces);
                }
            });
        }
    });
    assert!(db.check().unwrap().is_clean());
}

#[test]
fn nobody_waits_for_a_merge_that_cannot_be() {
    let fs = MemFs::new();
    let open = |tuning: Tuning| {
        let builder = Db::builder("/db").file_system(Arc::new(fs.clone())).memory_bytes(1 << 20);
        builder.tuning(tuning).open().unwrap()
    };
    // More tables in level 0 than writers wait for, and the newest is damaged.
    let mut lazy = small();
    (lazy.level0_tables, lazy.level0_tables_slow) = (1000, 1000);
    let db = open(lazy);
    let a = keyspace(&db);
    let mut random = Random(1);
    for _ in 0..40 {
        write(&db, &a, &mut random);
        db.flush().unwrap();
    }
    let mut names = fs.read_dir(Path::new("/db")).unwrap();
    names.retain(|name| name.extension().is_some_and(|end| end == "table"));
    names.sort();
    let newest = &Path::new("/db").join(names.last().unwrap());
    drop(a);
    db.close().unwrap();
    let file = fs.open_read(newest).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    // In its first block.
    bytes[100] ^= 1;
    fs.remove_file(newest).unwrap();
    fs.create_new(newest).unwrap().write_all_at(&bytes, 0).unwrap();
    let db = open(small());
    let a = keyspace(&db);
    for _ in 0..40 {
        write(&db, &a, &mut random);
    }
    assert_eq!(db.stats().compaction_error.unwrap().kind(), ErrorKind::Corruption);
    assert!(level0(&db) < 40 + 2 * 6 + 2 + 1, "{:?}", db.stats().keyspaces);
}

#[test]
fn what_is_not_due_is_merged_when_nobody_writes() {
    let clock = Arc::new(ManualClock::default());
    let db = Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .clock(Arc::<ManualClock>::clone(&clock))
        .background(Background::Manual)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
        .open()
        .unwrap();
    let a = keyspace(&db);
    for round in 0..3 {
        a.put(format!("k{round}"), "v").unwrap();
        db.flush().unwrap();
        run_until_idle(&db);
    }
    assert_eq!(level0(&db), 3, "four are due");
    clock.sleep(Duration::from_secs(9));
    a.put("between", "v").unwrap();
    run_until_idle(&db);
    clock.sleep(Duration::from_secs(9));
    run_until_idle(&db);
    assert_eq!(level0(&db), 3, "somebody wrote not so long ago");
    clock.sleep(Duration::from_secs(2));
    run_until_idle(&db);
    assert_eq!(level0(&db), 0, "two are enough");
    let written = db.stats().keyspaces[0].level_tables.clone();
    clock.sleep(Duration::from_secs(100));
    run_until_idle(&db);
    assert_eq!(db.stats().keyspaces[0].level_tables, written, "and that was all");
    assert_eq!(a.iter().count(), 4);
    assert!(db.check().unwrap().is_clean());
}

#[test]
fn what_others_wait_for_is_flushed_as_it_is() {
    let mut tuning = Tuning::for_memory(4 << 20);
    (tuning.write_buffer_bytes, tuning.step_entries) = (200_000, 100);
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &tuning).unwrap();
    let keyspace = &keyspaces[0];
    let put = |number: u32| keyspace.put(format!("key {number:08}"), [b'v'; 100]).unwrap();
    // Bytes an entry of what is flushed next.
    let flushed = || {
        let before = db.stats();
        loop {
            let now = db.stats();
            if now.flushes > before.flushes {
                let entries = now.keyspaces[0].table_entries - before.keyspaces[0].table_entries;
                break (now.flushed_bytes - before.flushed_bytes) / entries;
            }
            assert_eq!(db.step().unwrap(), Progress::Working);
        }
    };
    let numbers = 0..100_000;
    let last = numbers.clone().find(|number| {
        put(*number);
        db.write_pressure() > 0.0
    });
    assert!(last.is_some_and(|last| last > 1000), "as many wait as may: {last:?}");
    let (hurried, again) = (flushed(), flushed());
    assert!(hurried > 100, "{hurried} bytes an entry");
    assert!(again < 50, "nobody waits behind it: {again} bytes an entry");
    assert!(db.check().unwrap().is_clean());
}

/// A tuning with which little is flushed in haste.
fn hasty() -> Tuning {
    let mut tuning = Tuning::for_memory(4 << 20);
    (tuning.write_buffer_bytes, tuning.step_entries, tuning.table_bytes) = (200_000, 100, 150_000);
    tuning
}

fn open_at_a_time(fs: &Arc<dyn FileSystem>, clock: &Arc<ManualClock>, tuning: &Tuning) -> Db {
    let builder = Db::builder("/db").file_system(Arc::clone(fs)).tuning(tuning.clone());
    let builder = builder.clock(Arc::<ManualClock>::clone(clock)).background(Background::Manual);
    builder.memory_bytes(4 << 20).open().unwrap()
}

/// Writes, until five memtables were flushed in haste, and so many times behind them.
fn write_in_haste(db: &Db, behind: usize, mut write: impl FnMut()) {
    let flushed = db.stats().flushes;
    for flushes in 1..=5 {
        while db.write_pressure() == 0.0 {
            write();
        }
        while db.stats().flushes < flushed + flushes {
            assert_eq!(db.step().unwrap(), Progress::Working);
        }
    }
    (0..behind).for_each(|_| write());
    db.flush().unwrap();
    run_until_idle(db);
}

/// A database that was loaded in order, faster than it is compressed: all lies in level 2 as it was flushed, but for the last of it. How many entries it has.
fn loaded_in_haste(
    fs: &Arc<dyn FileSystem>,
    clock: &Arc<ManualClock>,
    value: impl Fn(usize) -> Vec<u8>,
) -> (Db, usize) {
    let mut tuning = hasty();
    (tuning.level1_bytes, tuning.level_growth) = (1, 1 << 40);
    let db = open_at_a_time(fs, clock, &tuning);
    let a = keyspace(&db);
    let mut entries = 0;
    write_in_haste(&db, 1000, || {
        a.put(format!("key {entries:08}"), value(entries)).unwrap();
        entries += 1;
    });
    drop(a);
    // It is a property of the tables, and not only in memory.
    db.close().unwrap();
    let db = open_at_a_time(fs, clock, &tuning);
    run_until_idle(&db);
    let stats = db.stats();
    let levels = &stats.keyspaces[0].level_tables;
    assert!(levels[2] > 5 && levels.iter().sum::<usize>() == levels[2], "{levels:?}");
    assert!(stats.table_bytes > 5 * 150_000, "{} bytes", stats.table_bytes);
    (db, entries)
}

fn random(number: usize, bytes: usize) -> impl Iterator<Item = u8> {
    let mut random = Random(number as u64 + 1);
    std::iter::repeat_with(move || random.next().to_le_bytes()[0]).take(bytes)
}

/// Something that takes half of its space when it is compressed.
fn half(number: usize) -> Vec<u8> {
    random(number, 25).chain([b'v'; 75]).collect()
}

#[test]
fn what_was_flushed_in_haste_is_compressed_when_there_is_time() {
    for on_request in [false, true] {
        let clock = Arc::new(ManualClock::default());
        let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
        let (db, entries) = loaded_in_haste(&fs, &clock, half);
        let (hurried, hurried_tables) = (db.stats().table_bytes, db.stats().keyspaces[0].level_tables[2]);
        if on_request {
            db.compact().unwrap();
        } else {
            clock.sleep(Duration::from_secs(59));
            run_until_idle(&db);
            assert_eq!(db.stats().table_bytes, hurried, "it is too early");
            clock.sleep(Duration::from_secs(1));
            run_until_idle(&db);
        }
        let stats = db.stats();
        assert!(stats.table_bytes < hurried / 3 * 2, "{} of {hurried} bytes", stats.table_bytes);
        let tables = stats.keyspaces[0].level_tables[2];
        assert!(tables < hurried_tables, "{tables}: neighbours go together");
        assert!(stats.compaction_read_bytes < hurried, "what is compressed already is left alone");
        db.compact().unwrap();
        clock.sleep(Duration::from_secs(100));
        run_until_idle(&db);
        assert_eq!(db.stats().compaction_written_bytes, stats.compaction_written_bytes, "and that was all");
        assert_eq!(keyspace(&db).iter().count(), entries);
        assert!(db.check().unwrap().is_clean());
    }
}

#[test]
fn what_was_flushed_in_haste_and_cannot_be_read_is_left_for_later() {
    let fs = FaultFs::new(Arc::new(MemFs::new()));
    let clock = Arc::new(ManualClock::default());
    let (db, entries) = loaded_in_haste(&(Arc::new(fs.clone()) as Arc<dyn FileSystem>), &clock, half);
    let hurried = db.stats().table_bytes;
    let faults = [
        (Fault::sticky(FaultCall::Read, 1, FaultEffect::Error), ErrorKind::Io),
        (Fault::sticky(FaultCall::Write, 1, FaultEffect::NoSpace), ErrorKind::OutOfSpace),
    ];
    for (fault, kind) in faults {
        fs.inject(fault.on(".table"));
        clock.sleep(Duration::from_secs(100));
        run_until_idle(&db);
        assert_eq!(db.compact().unwrap_err().kind(), kind);
        let stats = db.stats();
        assert_eq!(stats.table_bytes, hurried);
        assert_eq!(stats.compaction_error.map(|error| error.kind()), Some(kind));
        assert!(matches!(db.health(), Health::Ok), "nobody asked for it");
        fs.clear();
    }
    db.compact().unwrap();
    assert!(db.stats().table_bytes < hurried / 3 * 2);
    assert_eq!(keyspace(&db).iter().count(), entries);
    assert!(db.check().unwrap().is_clean());
}

#[test]
fn a_crash_while_it_is_compressed_loses_nothing() {
    let clock = Arc::new(ManualClock::default());
    let mem = MemFs::new();
    let (db, entries) = loaded_in_haste(&(Arc::new(mem.clone()) as Arc<dyn FileSystem>), &clock, half);
    let hurried = db.stats().table_bytes;
    mem.record_snapshots();
    clock.sleep(Duration::from_secs(100));
    run_until_idle(&db);
    assert!(db.stats().table_bytes < hurried / 3 * 2);
    let snapshots = mem.take_snapshots();
    assert!(snapshots.len() > 10, "{}", snapshots.len());
    for (number, snapshot) in snapshots.iter().enumerate() {
        let between = CrashPolicy::ALL[2 + number % (CrashPolicy::ALL.len() - 2)];
        for policy in [CrashPolicy::SyncedOnly, CrashPolicy::Everything, between] {
            let what = format!("{policy:?}, after {}", snapshot.call);
            let crashed: Arc<dyn FileSystem> = Arc::new(snapshot.fs.crash(policy, snapshot.call.number));
            let db = open_at_a_time(&crashed, &Arc::new(ManualClock::default()), &hasty());
            let expected = (0..entries).map(|number| (format!("key {number:08}").into_bytes(), half(number)));
            let found = keyspace(&db)
                .iter()
                .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
            assert!(found.eq(expected), "{what}");
            assert!(db.check().unwrap().is_clean(), "{what}");
        }
    }
}

#[test]
fn the_thread_that_merges_wakes_up_in_a_long_pause() {
    let clock = Arc::new(ManualClock::default());
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let (db, entries) = loaded_in_haste(&fs, &clock, half);
    let hurried = db.stats().table_bytes;
    db.close().unwrap();
    let mut tuning = hasty();
    (tuning.level1_bytes, tuning.level_growth) = (1, 1 << 40);
    tuning.idle_after = Some(Duration::from_millis(10));
    let builder = Db::builder("/db").file_system(fs).tuning(tuning).background(Background::Threads);
    let db = builder.memory_bytes(4 << 20).open().unwrap();
    let begun = Instant::now();
    while db.stats().table_bytes > hurried / 3 * 2 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", db.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(keyspace(&db).iter().count(), entries);
    db.close().unwrap();
}

#[test]
fn what_would_not_shrink_is_not_written_again() {
    let clock = Arc::new(ManualClock::default());
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let (db, entries) = loaded_in_haste(&fs, &clock, |number| random(number, 100).collect());
    clock.sleep(Duration::from_secs(100));
    run_until_idle(&db);
    db.compact().unwrap();
    assert_eq!(db.stats().compaction_written_bytes, 0);
    assert_eq!(keyspace(&db).iter().count(), entries);
}

/// What deletes something stays as long as what it deletes lies below it, or somebody may see that.
#[test]
fn what_is_compressed_later_still_deletes() {
    const OLD: usize = 30_000;
    let clock = Arc::new(ManualClock::default());
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let mut tuning = hasty();
    tuning.level1_bytes = 100 << 20;
    let db = open_at_a_time(&fs, &clock, &tuning);
    let a = keyspace(&db);
    let key = |number: usize| format!("key {number:08}");
    for number in 0..OLD {
        a.put(key(number), "old").unwrap();
    }
    db.compact().unwrap();
    let before = db.snapshot();
    // What a reader sees of a key in the end.
    let now = |number: usize, written: usize| match number % 10 {
        _ if number >= written => Some(b"old".to_vec()),
        0..=5 => Some(half(number)),
        _ => None,
    };
    let mut written = 0;
    write_in_haste(&db, 1400, || {
        match written % 10 {
            0..=5 => a.put(key(written), half(written)).unwrap(),
            6..=7 => a.delete(key(written)).unwrap(),
            8 => a.delete_range(key(written)..key(written + 2)).unwrap(),
            _ => 0,
        };
        written += 1;
    });
    assert!(written < OLD);
    let levels = db.stats().keyspaces[0].level_bytes.clone();
    assert!(levels[0] == 0 && levels[1] > 5 * 100_000 && levels[2] > 0, "{levels:?}");
    let is_right = || {
        let all = |number: usize| now(number, written).map(|value| (key(number).into_bytes(), value));
        let found = a.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
        assert!(found.eq((0..OLD).filter_map(all)));
        for number in 0..OLD {
            assert_eq!(a.get(key(number)).unwrap().map(|value| value.to_vec()), now(number, written));
        }
    };
    is_right();
    clock.sleep(Duration::from_secs(100));
    run_until_idle(&db);
    let later = db.stats().keyspaces[0].level_bytes.clone();
    assert!(
        later[0] == 0 && later[1] < levels[1] / 3 * 2 && later[2] == levels[2],
        "{levels:?} and {later:?}"
    );
    is_right();
    assert_eq!(before.iter(&a).count(), OLD);
    drop(before);
    db.compact().unwrap();
    is_right();
    assert!(db.check().unwrap().is_clean());
}

/// However little there is: whoever asks for it wants the least space.
#[test]
fn what_is_compacted_on_request_is_compressed() {
    let mut tuning = Tuning::for_memory(4 << 20);
    tuning.shallow_compression = Compression::None;
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &tuning).unwrap();
    let keyspace = &keyspaces[0];
    for number in 0..2000 {
        keyspace.put(format!("key {number:08}"), [b'v'; 100]).unwrap();
    }
    db.flush().unwrap();
    let before = db.stats().table_bytes;
    db.compact().unwrap();
    let after = db.stats().table_bytes;
    assert!(before > 200_000 && after < before / 4, "{before} and {after} bytes");
    db.compact().unwrap();
    assert_eq!(db.stats().compaction_written_bytes, after, "there was nothing more to do");
    assert_eq!(keyspace.iter().count(), 2000);
}

/// A merge ends its outputs where they overlap much of what lies below, and not at every key.
#[test]
fn merges_above_a_large_level_write_tables_of_their_size() {
    const TABLE_BYTES: u64 = 4000;
    let mut tuning = Tuning::for_memory(1 << 20);
    (tuning.write_buffer_bytes, tuning.level1_bytes, tuning.level_growth) = (8000, 16_000, 4);
    (tuning.table_bytes, tuning.block_bytes) = (TABLE_BYTES, 500);
    (tuning.compression, tuning.shallow_compression) = (Compression::None, Compression::None);
    let (db, keyspaces) = support::open(&(Arc::new(MemFs::new()) as Arc<dyn FileSystem>), &tuning).unwrap();
    let mut random = Random(7);
    for _ in 0..600 {
        let mut batch = Batch::new();
        for _ in 0..30 {
            batch.put(&keyspaces[0], random.next().to_be_bytes(), [0; 60]);
        }
        db.commit(batch, Durability::System).unwrap();
        run_until_idle(&db);
        let stats = db.stats();
        for keyspace in &stats.keyspaces {
            for (level, (tables, bytes)) in
                keyspace.level_tables.iter().zip(&keyspace.level_bytes).enumerate().skip(1)
            {
                let tables = *tables as u64;
                // A merge of a few tables ends with a small one.
                assert!(
                    tables < 8 || bytes / tables > TABLE_BYTES / 3,
                    "level {level}: {tables} tables of {bytes} bytes"
                );
            }
        }
    }
    let stats = db.stats();
    let deepest = stats.keyspaces.iter().flat_map(|keyspace| keyspace.level_bytes.get(3)).max();
    assert!(deepest.is_some_and(|bytes| *bytes > 25 * TABLE_BYTES), "deep enough to be cut: {deepest:?}");
}

#[test]
fn files_that_nobody_needs_any_more_go_in_the_background() {
    let fs = Arc::new(MemFs::new());
    let files = || fs.read_dir(Path::new("/db")).unwrap().len();
    let db = Db::builder("/db")
        .file_system(Arc::<MemFs>::clone(&fs))
        .background(Background::Threads)
        .memory_bytes(1 << 20)
        .tuning(Tuning::for_memory(1 << 20))
        .open()
        .unwrap();
    let a = keyspace(&db);
    let mut most = 0;
    for round in 0..20 {
        for number in 0..500 {
            a.put(format!("k{number}"), format!("{round} {number:0>100}")).unwrap();
        }
        db.flush().unwrap();
        most = most.max(files());
    }
    db.compact().unwrap();
    let tables = db.stats().keyspaces[0].level_tables.iter().sum::<usize>();
    // Manifest, its name, the lock files, a log and the next one.
    let enough = tables + 6;
    assert!(most > enough, "{most} files, and {tables} tables in the end");
    let begun = Instant::now();
    while files() > enough || db.stats().obsolete_files > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", fs.read_dir(Path::new("/db")).unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    // A reader of a table that is gone goes on, and what it held goes with it.
    let mut scan = a.iter();
    assert!(scan.next().unwrap().is_ok());
    a.put("k1", "new").unwrap();
    db.flush().unwrap();
    db.compact().unwrap();
    assert_eq!(scan.filter(|entry| entry.is_ok()).count(), 499);
    db.close().unwrap();
}

/// Whatever is merged beside, handed over, or under way when the next one is asked for.
#[test]
fn everything_is_merged_again_and_again_beside_writers() {
    const ROUNDS: u64 = 60;
    let fs: Arc<dyn FileSystem> = Arc::new(MemFs::new());
    let mut tuning = support::tiny(4000);
    (tuning.step_entries, tuning.level0_tables, tuning.level0_tables_slow) = (20, 2, 4);
    let open = || {
        Db::builder("/db").file_system(Arc::clone(&fs)).memory_bytes(1 << 20).tuning(tuning.clone()).open()
    };
    let db = open().unwrap();
    let keyspaces = [
        db.keyspace("sorted", KeyspaceOptions::sorted()).unwrap(),
        db.keyspace("rows", KeyspaceOptions::fixed(8, 8).unwrap()).unwrap(),
    ];
    let key = |number: u64| (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 500).to_be_bytes();
    let is_over = AtomicBool::new(false);
    let models: Vec<BTreeMap<[u8; 8], u64>> = std::thread::scope(|scope| {
        let writers: Vec<_> = keyspaces
            .iter()
            .map(|keyspace| {
                scope.spawn(move || {
                    let mut model = BTreeMap::new();
                    for number in 0..ROUNDS * 200 {
                        if number % 7 == 3 {
                            keyspace.delete(key(number)).unwrap();
                            model.remove(&key(number));
                        } else {
                            keyspace.put(key(number), number.to_be_bytes()).unwrap();
                            model.insert(key(number), number);
                        }
                    }
                    model
                })
            })
            .collect();
        let merger = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                db.compact().unwrap();
            }
        });
        let models = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        is_over.store(true, Ordering::Relaxed);
        merger.join().unwrap();
        models
    });
    let hold = |keyspaces: &[Keyspace; 2]| {
        for (keyspace, model) in keyspaces.iter().zip(&models) {
            let found = keyspace
                .iter()
                .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
            assert!(
                found.eq(model.iter().map(|(key, number)| (key.to_vec(), number.to_be_bytes().to_vec())))
            );
        }
    };
    hold(&keyspaces);
    db.compact().unwrap();
    hold(&keyspaces);
    let report = db.check().unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(db.stats().keyspaces.iter().all(|keyspace| keyspace.level_tables[0] == 0));
    drop(keyspaces);
    db.close().unwrap();
    let db = open().unwrap();
    hold(&[
        db.keyspace("sorted", KeyspaceOptions::sorted()).unwrap(),
        db.keyspace("rows", KeyspaceOptions::fixed(8, 8).unwrap()).unwrap(),
    ]);
}
