//! Where a log ends: in order, torn, in zeros, or where it was killed.

use super::*;

#[test]
fn clean_logs_end_clean_in_every_mode() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    maker.log(2, 0);
    maker.log(5, 2);
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let (recovery, found) = run(&maker.fs(), &named(&[1, 2, 5]), &options(mode)).unwrap();
        assert_eq!(found, [1, 2, 3, 4, 5]);
        assert!(recovery.logs.iter().all(|log| log.verdict == Verdict::CleanEnd && log.holes.is_empty()));
        assert!(recovery.cuts.is_empty() && !recovery.is_lossy);
        assert_eq!((recovery.last_sequence, recovery.next_sequence), (5, 6));
        assert_eq!(recovery.end, maker.end);
    }
}

#[test]
fn no_logs_are_a_beginning() {
    let maker = Maker::new();
    let (recovery, found) = run(&maker.fs(), &[], &options(RecoveryMode::Strict)).unwrap();
    assert!(found.is_empty() && recovery.end.is_none());
    assert_eq!(recovery.next_sequence, 1);
    let flushed = RecoverOptions { flushed: Flushed { every: 7, any: 9 }, ..options(RecoveryMode::Strict) };
    assert_eq!(run(&maker.fs(), &[], &flushed).unwrap().0.next_sequence, 10);
}

#[test]
fn a_torn_tail_is_cut_and_set_aside_and_its_numbers_are_not_given_again() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, false);
    maker.append(&journal, false);
    let whole = contents(&maker.mem, &log_path(1)).unwrap();
    let (_, second, third) = (maker.places[0], maker.places[1], maker.places[2]);
    maker.damage(2);
    refused(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Strict)), &["00000001.log", "not closed"]);
    let before = maker.mem.snapshot();
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1]);
    let log = &recovery.logs[0];
    assert_eq!(log.verdict, Verdict::Torn { at: second.1 }, "no sync was asked for what is cut");
    assert_eq!(
        (recovery.last_sequence, recovery.next_sequence),
        (1, 4),
        "3 was seen, and is never given again"
    );
    let cut = Cut { offset: second.1, last_sequence: 1 };
    assert_eq!(recovery.cuts, [(1, cut)]);
    assert!(!recovery.is_lossy);
    let aside = contents(&maker.mem, log.set_aside.as_ref().unwrap()).unwrap();
    assert_eq!(aside.len() as u64, log.cut_end - second.1);
    assert_eq!(
        aside[200..],
        whole[usize::try_from(second.1).unwrap() + 200..usize::try_from(log.cut_end).unwrap()]
    );
    assert!(log.cut_end > third.1);

    // Interrupted before the cut was recorded: the same again, and no second copy.
    let again = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().0;
    assert_eq!(again.logs[0].set_aside, log.set_aside);
    assert_eq!(maker.mem.read_dir(&directory().join("lost")).unwrap().len(), 1);
    // Another tail at the same place gets another name.
    replace(&maker.mem, log.set_aside.as_ref().unwrap(), b"somebody else's");
    let other = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().0;
    assert_ne!(other.logs[0].set_aside, log.set_aside);

    // Once recorded, the cut holds in every mode, whatever stands behind it.
    let fs: Arc<dyn FileSystem> = Arc::new(before);
    replace(&maker.mem, &log_path(1), &whole);
    for fs in [fs, maker.fs()] {
        for mode in
            [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage]
        {
            let logs = [ExpectedLog { cut: Some(cut), ..named(&[1])[0] }];
            let (recovery, found) = run(&fs, &logs, &options(mode)).unwrap();
            assert_eq!(found, [1], "{mode:?}");
            assert!(recovery.cuts.is_empty() && recovery.logs[0].set_aside.is_none());
        }
    }
}

#[test]
fn a_torn_tail_for_which_a_sync_was_asked_is_said_to_be_one() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, true);
    // The last group that was synced: no later record says that it is durable.
    let at = maker.places[1].1;
    maker.damage(2);
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!((found, recovery.logs[0].verdict), (vec![1], Verdict::TornMaybeAcknowledged { at }));
    // With a mark behind it, it is damage.
    let mut maker = Maker::new();
    maker.open_log(1, 2);
    maker.damage(2);
    refused(
        run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)),
        &["Sequence numbers 2 to 2 are lost", "payload", "PointInTime", "Salvage"],
    );
}

#[test]
fn all_of_a_log_that_was_ended_in_order_was_durable() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    for _ in 0..5 {
        maker.append(&journal, false);
    }
    maker.end(&journal);
    for sequence in 1..=5 {
        maker.damage(sequence);
        let lost = format!("Sequence numbers {sequence} to {sequence} are lost");
        refused(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)), &[&lost]);
        maker.damage(sequence);
    }
    assert_eq!(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().1, [1, 2, 3, 4, 5]);
}

#[test]
fn zeros_are_damage_below_what_is_durable_and_the_end_above() {
    let mut maker = Maker::new();
    maker.open_log(1, 3);
    let bytes = contents(&maker.mem, &log_path(1)).unwrap();
    let (_, offset, end) = maker.places[1];
    let (offset, end) = (usize::try_from(offset).unwrap(), usize::try_from(end).unwrap());
    let mut hole = bytes.clone();
    hole[offset..end].fill(0);
    replace(&maker.mem, &log_path(1), &hole);
    refused(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)), &["zeros", "2 to 2"]);
    // Everything from there on, with all that told of it: that is how a log ends.
    hole[offset..].fill(0);
    replace(&maker.mem, &log_path(1), &hole);
    let (recovery, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!((found, recovery.logs[0].verdict), (vec![1], Verdict::Torn { at: offset as u64 }));
    assert_eq!(recovery.logs[0].set_aside, None, "there is nothing to keep");
}

#[test]
fn a_killed_process_loses_only_what_it_had_not_written() {
    let mem = MemFs::new();
    let (journal, _, _) = open(Arc::new(mem.clone())).unwrap();
    journal.append(&b"written".to_vec(), Durability::System).unwrap();
    journal.append(&b"in memory".to_vec(), Durability::Process).unwrap();
    drop(journal);
    let (journal, _, found) = open(Arc::new(mem.clone())).unwrap();
    assert_eq!(found, [(1, b"written".to_vec())]);
    drop(journal);
    // And what it had written is durable since.
    let (_, _, found) = open(Arc::new(mem.crash(CrashPolicy::SyncedOnly, 0))).unwrap();
    assert_eq!(found, [(1, b"written".to_vec())]);
}

#[test]
fn a_recorded_end_that_does_not_fit_the_log_is_refused() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    for cut in [
        Cut { offset: maker.places[1].1 + 8, last_sequence: 2 },
        Cut { offset: maker.places[1].1, last_sequence: 2 },
        Cut { offset: 1 << 40, last_sequence: 3 },
    ] {
        let logs = [ExpectedLog { cut: Some(cut), ..named(&[1])[0] }];
        refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["00000001.log"]);
    }
    maker.log(2, 1);
    let mut logs = named(&[1, 2]);
    logs[0].cut = Some(Cut { offset: maker.places[1].1, last_sequence: 1 });
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["the next log says"]);
}
