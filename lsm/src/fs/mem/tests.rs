use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;

const SITE: SyncSite = SyncSite::new("test");

fn root() -> &'static Path {
    Path::new("/")
}

fn contents(fs: &MemFs, path: &str) -> Option<Vec<u8>> {
    let file = fs.open_read(Path::new(path)).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(bytes)
}

fn every_crash(fs: &MemFs) -> impl Iterator<Item = (CrashPolicy, MemFs)> {
    let policies = CrashPolicy::ALL.into_iter().flat_map(|policy| (0..20).map(move |seed| (policy, seed)));
    policies.map(|(policy, seed)| (policy, fs.crash(policy, seed)))
}

#[test]
fn contents_and_names_are_durable_apart() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync_data(SITE).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), None, "no name");
    assert_eq!(contents(&fs.crash(CrashPolicy::NamesOnly, 0), "/a"), Some(b"abc".to_vec()));
    fs.sync_dir(root(), SITE).unwrap();
    file.write_all_at(b"xyz", 3).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), Some(b"abc".to_vec()), "no data");
    assert_eq!(contents(&fs.crash(CrashPolicy::LengthsOnly, 0), "/a"), Some(b"abc\0\0\0".to_vec()));
    assert_eq!(contents(&fs.crash(CrashPolicy::Everything, 0), "/a"), Some(b"abcxyz".to_vec()));
}

#[test]
fn synced_bytes_survive_every_crash() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    file.write_all_at(&[7; 1300], 0).unwrap();
    file.sync_data(SITE).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    file.write_all_at(&[8; 3000], 1300).unwrap();
    let mut lengths = BTreeSet::new();
    for (policy, after) in every_crash(&fs) {
        let bytes = contents(&after, "/a").unwrap();
        assert!(bytes.len() >= 1300, "{policy:?}");
        assert_eq!(bytes[..1300], [7; 1300], "{policy:?}");
        // The sector where the synced bytes end is old (and then zero behind them) or new, never garbage.
        let tail = &bytes[1300..bytes.len().min(1536)];
        assert!(tail.iter().all(|byte| *byte == 8) || tail.iter().all(|byte| *byte == 0), "{policy:?}");
        lengths.insert(bytes.len());
    }
    assert!(lengths.len() > 5, "any intermediate length: {lengths:?}");
}

#[test]
fn an_overwritten_sector_is_old_or_new() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    file.write_all_at(&[1; 2048], 0).unwrap();
    file.sync_data(SITE).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    file.write_all_at(&[2; 2048], 0).unwrap();
    file.write_all_at(&[3; 1024], 512).unwrap();
    let mut mixes = BTreeSet::new();
    for (policy, after) in every_crash(&fs) {
        let bytes = contents(&after, "/a").unwrap();
        let sectors: Vec<u8> = bytes
            .chunks(512)
            .map(|sector| {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "{policy:?}: a torn sector");
                sector[0]
            })
            .collect();
        assert!(sectors.iter().all(|byte| (1..=3).contains(byte)));
        mixes.insert(sectors);
    }
    assert!(mixes.len() > 10, "sectors are independent: {mixes:?}");
}

#[test]
fn what_is_written_during_a_sync_is_not_covered_by_it() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    let also = Arc::downgrade(&file);
    fs.set_sync_hook(move |_, _| also.upgrade().unwrap().write_all_at(b"during", 6).unwrap());
    file.sync_data(SITE).unwrap();
    assert_eq!(contents(&fs, "/a"), Some(b"beforeduring".to_vec()));
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), Some(b"before".to_vec()));
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    let fs = MemFs::new();
    for (name, bytes) in [("/old", b"old"), ("/new", b"new")] {
        let file = fs.create_new(Path::new(name)).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_data(SITE).unwrap();
    }
    fs.sync_dir(root(), SITE).unwrap();
    fs.rename(Path::new("/new"), Path::new("/old")).unwrap();
    fs.create_new(Path::new("/new")).unwrap();
    let mut seen = BTreeSet::new();
    for (policy, after) in every_crash(&fs) {
        let (old, new) = (contents(&after, "/old"), contents(&after, "/new"));
        let before = (Some(b"old".to_vec()), Some(b"new".to_vec()));
        let renamed = old == Some(b"new".to_vec()) && (new.is_none() || new == Some(vec![]));
        assert!((old.clone(), new.clone()) == before || renamed, "{policy:?}: {old:?} {new:?}");
        seen.insert((old, new));
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_removed_name_may_come_back_and_contents_with_it() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    file.write_all_at(b"abc", 0).unwrap();
    file.sync_data(SITE).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    fs.remove_file(Path::new("/a")).unwrap();
    assert_eq!(contents(&fs, "/a"), None);
    let mut back = [0; 3];
    file.read_exact_at(&mut back, 0).unwrap();
    drop(file);
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), Some(b"abc".to_vec()));
    fs.sync_dir(root(), SITE).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), None);
    assert!(fs.shared.state.lock().inodes.is_empty(), "nothing is kept that nobody can reach");
}

#[test]
fn a_directory_that_is_lost_takes_everything_with_it() {
    let fs = MemFs::new();
    fs.create_dir(Path::new("/d")).unwrap();
    let file = fs.create_new(Path::new("/d/a")).unwrap();
    file.sync_data(SITE).unwrap();
    fs.sync_dir(Path::new("/d"), SITE).unwrap();
    assert!(!fs.crash(CrashPolicy::SyncedOnly, 0).exists(Path::new("/d/a")).unwrap());
    fs.create_dir_all(Path::new("/d"), SITE).unwrap();
    assert!(fs.crash(CrashPolicy::SyncedOnly, 0).exists(Path::new("/d/a")).unwrap());
}

#[test]
fn a_full_device_says_so_at_the_write() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    fs.set_capacity(Some(8192));
    assert!(file.write_at(&[1; 10_000], 0).unwrap() < 10_000, "a short write first");
    assert_eq!(file.write_all_at(&[1; 10_000], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(file.len().unwrap() <= 8192);
    file.write_all_at(&[2; 100], 0).unwrap();
    fs.set_capacity(None);
    file.write_all_at(&[1; 10_000], 0).unwrap();
}

#[test]
fn a_full_device_says_so_at_the_sync_and_the_next_one_passes() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    fs.sync_dir(root(), SITE).unwrap();
    fs.set_capacity_at_sync(Some(4096));
    file.write_all_at(&[1; 10_000], 0).unwrap();
    assert_eq!(file.sync_data(SITE).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.sync_data(SITE).unwrap();
    assert_eq!(contents(&fs.crash(CrashPolicy::SyncedOnly, 0), "/a"), Some(vec![]));
}

#[test]
fn a_write_may_be_short() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    fs.set_write_bytes_max(Some(3));
    assert_eq!(file.write_at(b"abcdef", 0).unwrap(), 3);
    file.write_all_vectored_at(&mut [io::IoSlice::new(b"abcd"), io::IoSlice::new(b"ef")], 0).unwrap();
    assert_eq!(contents(&fs, "/a"), Some(b"abcdef".to_vec()));
}

#[test]
fn without_power_nothing_works() {
    let fs = MemFs::new();
    let file = fs.create_new(Path::new("/a")).unwrap();
    fs.power_off_after(2);
    file.write_all_at(b"a", 0).unwrap();
    assert!(!fs.power_is_off());
    assert!(file.write_all_at(b"b", 0).is_err());
    assert!(fs.power_is_off());
    assert!(file.len().is_err() && file.sync_data(SITE).is_err() && fs.read_dir(root()).is_err());
    assert_eq!(fs.calls(), 2);
    assert_eq!(contents(&fs.crash(CrashPolicy::Everything, 0), "/a"), Some(b"a".to_vec()));
}

#[test]
fn each_mutating_call_leaves_a_snapshot() {
    let fs = MemFs::new();
    fs.record_snapshots();
    let file = fs.create_new(Path::new("/a")).unwrap();
    file.write_all_at(b"a", 0).unwrap();
    file.write_all_at(b"b", 1).unwrap();
    file.sync_data(SITE).unwrap();
    let snapshots = fs.take_snapshots();
    let seen: Vec<_> =
        snapshots.iter().map(|snapshot| (snapshot.call.to_string(), contents(&snapshot.fs, "/a"))).collect();
    assert_eq!(
        seen,
        [
            ("call 1: create_new /a".to_owned(), Some(vec![])),
            ("call 2: write_at /a".to_owned(), Some(b"a".to_vec())),
            ("call 3: write_at /a".to_owned(), Some(b"ab".to_vec())),
            ("call 4: sync_data test /a".to_owned(), Some(b"ab".to_vec())),
        ]
    );
}

#[test]
fn a_lock_belongs_to_its_handle_and_dies_with_the_machine() {
    let fs = MemFs::new();
    let path = Path::new("/LOCK");
    let lock = fs.try_lock(path, LockMode::Exclusive).unwrap().unwrap();
    assert!(fs.try_lock(path, LockMode::Shared).unwrap().is_none());
    assert!(fs.snapshot().try_lock(path, LockMode::Shared).unwrap().is_some());
    drop(lock);
    let shared = (fs.try_lock(path, LockMode::Shared).unwrap(), fs.try_lock(path, LockMode::Shared).unwrap());
    assert!(fs.try_lock(path, LockMode::Exclusive).unwrap().is_none());
    drop(shared);
    assert!(fs.try_lock(path, LockMode::Exclusive).unwrap().is_some());
}

#[test]
fn calls_that_cannot_be_fail_as_on_a_disk() {
    let fs = MemFs::new();
    fs.create_new(Path::new("/a")).unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(fs.create_new(Path::new("/a")).map(drop)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.create_new(Path::new("/b/a")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.create_new(Path::new("/a/a")).map(drop)), io::ErrorKind::NotADirectory);
    assert_eq!(kind(fs.open_read(Path::new("/b")).map(drop)), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.rename(Path::new("/b"), Path::new("/a"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.hard_link(Path::new("/a"), Path::new("/a"))), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(fs.remove_file(Path::new("/b"))), io::ErrorKind::NotFound);
    assert_eq!(kind(fs.sync_dir(Path::new("/a"), SITE)), io::ErrorKind::NotADirectory);
    assert_eq!(fs.calls(), 1, "what fails counts for nothing");
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize, u8),
    Cut(u64),
    Sync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..4000, 1usize..2000, 1u8..).prop_map(|(offset, count, byte)| Step::Write(offset, count, byte)),
        1 => (0u64..5000).prop_map(Step::Cut),
        1 => Just(Step::Sync),
    ];
    proptest::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a crash leaves of a sector is what it was at the last sync, or after some write since, or, where no synced
    /// byte lived, zeros or garbage.
    #[test]
    fn no_crash_invents_bytes(steps in steps(), seed in any::<u64>()) {
        static GARBAGE: AtomicU64 = AtomicU64::new(0);
        let fs = MemFs::new();
        let file = fs.create_new(Path::new("/a")).unwrap();
        fs.sync_dir(root(), SITE).unwrap();
        let padded = |bytes: &[u8], sector: usize| {
            let mut padded = [0; 512];
            let rest = bytes.get(sector * 512..).unwrap_or_default();
            let count = rest.len().min(512);
            padded[..count].copy_from_slice(&rest[..count]);
            padded
        };
        let mut history: Vec<Vec<u8>> = vec![vec![]];
        for step in &steps {
            match step {
                Step::Write(offset, count, byte) => file.write_all_at(&vec![*byte; *count], *offset).unwrap(),
                Step::Cut(length) => file.set_len(*length).unwrap(),
                Step::Sync => {
                    file.sync_data(SITE).unwrap();
                    history.clear();
                }
            }
            history.push(contents(&fs, "/a").unwrap());
        }
        for policy in CrashPolicy::ALL {
            let bytes = contents(&fs.crash(policy, seed), "/a").unwrap();
            let again = contents(&fs.crash(policy, seed), "/a").unwrap();
            prop_assert_eq!(&bytes, &again, "one seed, one crash");
            let (low, high) = (
                history.iter().map(Vec::len).min().unwrap(),
                history.iter().map(Vec::len).max().unwrap(),
            );
            prop_assert!((low..=high).contains(&bytes.len()));
            for sector in 0..bytes.len().div_ceil(512) {
                let found = padded(&bytes, sector);
                let length = (bytes.len() - sector * 512).min(512);
                let known = history.iter().any(|state| padded(state, sector)[..length] == found[..length]);
                let synced = sector * 512 < history[0].len();
                if !known && !synced {
                    GARBAGE.fetch_add(1, Ordering::Relaxed);
                }
                prop_assert!(known || !synced, "{:?}: sector {} holds what nobody wrote", policy, sector);
            }
        }
    }
}

#[test]
fn who_opens_a_file_while_another_takes_its_name_has_one_of_them() {
    let fs = MemFs::new();
    let make = |name: &str, byte: u8| {
        let file = fs.create_new(Path::new(name)).unwrap();
        file.write_all_at(&[byte; 10], 0).unwrap();
    };
    make("/a", 0);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for byte in (0..200).cycle() {
                if is_over.load(std::sync::atomic::Ordering::Acquire) {
                    return;
                }
                make("/b", byte);
                fs.rename(Path::new("/b"), Path::new("/a")).unwrap();
                fs.sync_dir(root(), SITE).unwrap();
            }
        });
        let found: Vec<_> =
            (0..20_000).map(|_| fs.open_read(Path::new("/a")).and_then(|file| file.len())).collect();
        is_over.store(true, std::sync::atomic::Ordering::Release);
        assert!(found.iter().all(|length| length.as_ref().is_ok_and(|length| *length == 10)));
    });
}
