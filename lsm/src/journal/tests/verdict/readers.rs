//! Who reads: beside a writer, after a failure, twice, from a disk that fails.

use super::*;

#[test]
fn a_read_that_fails_is_an_error_and_not_the_end() {
    let mut maker = Maker::new();
    maker.open_log(1, 3);
    let faulty = FaultFs::new(maker.fs());
    for nth in 1..=2 {
        faulty.inject(Fault::once(FaultCall::Read, nth, FaultEffect::Error));
        let fs: Arc<dyn FileSystem> = Arc::new(faulty.clone());
        match run(&fs, &named(&[1]), &options(RecoveryMode::Salvage)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Io),
            Ok(_) => assert_eq!(faulty.fired(), nth - 1),
        }
        faulty.clear();
    }
    assert!(faulty.fired() > 0);
}

#[test]
fn reading_only_changes_nothing_and_may_stand_beside_a_writer() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    maker.damage(2);
    let read_only = RecoverOptions { access: Access::ReadOnly, ..options(RecoveryMode::Tail) };
    let calls = maker.mem.calls();
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &read_only).unwrap();
    assert_eq!(found, [1]);
    assert_eq!(recovery.logs[0].set_aside, None);
    assert_eq!(maker.mem.calls(), calls, "no mutating call");
}

/// A reader that opens while another process commits: what it reads later is newer than what it read before, and must not
/// make that look like damage.
#[test]
fn a_reader_beside_a_busy_writer_never_sees_damage() {
    let mem = MemFs::new();
    mem.create_dir_all(directory(), SITE).unwrap();
    let fs: Arc<dyn FileSystem> = Arc::new(mem.clone());
    let maker = Maker { mem, next_sequence: 1, end: None, places: Vec::new() };
    let journal = maker.create(1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut sequence = 1;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && sequence < 3000 {
                let payload = vec![1; 4000];
                let at = journal
                    .append(BatchRecord {
                        first_sequence: sequence,
                        op_count: 1,
                        sync: true,
                        payload: &payload,
                    })
                    .unwrap();
                journal.sync_through(at).unwrap();
                sequence += 1;
            }
        });
        let mut last = 0;
        for _ in 0..60 {
            let options = RecoverOptions { access: Access::ReadOnly, ..options(RecoveryMode::Tail) };
            let before = journal.durable_sequence();
            let recovery = recover(&fs, directory(), &named(&[1]), &options, &mut |_| Ok(())).unwrap();
            assert!(recovery.last_sequence >= before.max(last));
            last = recovery.last_sequence;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn reopening_after_a_failure_replays_nothing_at_or_above_what_is_durable() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    let logs = [ExpectedLog { cut: Some(journal.durable_cut()), ..named(&[1])[0] }];
    let (recovery, found) = run(&maker.fs(), &logs, &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1]);
    assert_eq!(recovery.end.unwrap().offset, journal.durable().offset());
}

#[test]
fn two_openings_conflict() {
    let mem = MemFs::new();
    let (journal, _, _) = open(Arc::new(mem.clone())).unwrap();
    assert_eq!(open(Arc::new(mem.clone())).unwrap_err().kind(), ErrorKind::Locked);
    drop(journal);
    open(Arc::new(mem)).unwrap();
}
