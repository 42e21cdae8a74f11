//! Logs that are damaged, missing, swapped, or of a newer version, in each mode.

use super::*;

#[test]
fn damage_to_what_is_in_tables_is_reported_and_passed_over() {
    let mut maker = Maker::new();
    maker.log(1, 4);
    maker.log(2, 2);
    maker.damage(2);
    let flushed = |every, any, mode| RecoverOptions { flushed: Flushed { every, any }, ..options(mode) };
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &flushed(2, 3, RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [3, 4, 5, 6], "what is wholly in tables is not visited");
    let hole = &recovery.logs[0].holes[0];
    assert!(hole.harmless && hole.sequences == Some((2, Some(2))) && hole.offset == maker.places[1].1);
    assert!(!recovery.is_lossy);
    refused(run(&maker.fs(), &named(&[1, 2]), &flushed(1, 6, RecoveryMode::Tail)), &["2 to 2"]);
    refused(run(&maker.fs(), &named(&[1, 2]), &flushed(2, 6, RecoveryMode::Strict)), &["2 to 2"]);
}

#[test]
fn the_log_before_the_first_named_one_was_removed() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    maker.log(2, 1);
    maker.mem.remove_file(&log_path(1)).unwrap();
    // A keyspace that was made behind the removal has nothing in tables yet.
    let flushed = |any| RecoverOptions { flushed: Flushed { every: 0, any }, ..options(RecoveryMode::Tail) };
    let (recovery, found) = run(&maker.fs(), &named(&[2]), &flushed(2)).unwrap();
    assert_eq!(found, [3]);
    assert!(!recovery.is_lossy && recovery.logs[0].holes.is_empty());
    refused(run(&maker.fs(), &named(&[2]), &flushed(1)), &["log 1 is missing"]);
    let found_in_the_directory = [ExpectedLog { identity: None, ..named(&[2])[0] }];
    refused(run(&maker.fs(), &found_in_the_directory, &flushed(2)), &["log 1 is missing"]);
}

#[test]
fn point_in_time_stops_before_damage_unless_tables_are_beyond() {
    let mut maker = Maker::new();
    maker.log(1, 3);
    maker.log(2, 2);
    maker.damage(2);
    let mode = RecoveryMode::PointInTime;
    let beyond = RecoverOptions { flushed: Flushed { every: 0, any: 2 }, ..options(mode) };
    refused(run(&maker.fs(), &named(&[1, 2]), &beyond), &["tables hold what came later, up to 2"]);
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &options(mode)).unwrap();
    assert_eq!(found, [1]);
    assert!(recovery.is_lossy);
    assert_eq!((recovery.last_sequence, recovery.next_sequence), (1, 6));
    let cut = Cut { offset: maker.places[1].1, last_sequence: 1 };
    let dropped = Cut { offset: 0, last_sequence: 1 };
    assert_eq!(recovery.cuts, [(1, cut), (2, dropped)]);
    assert!(recovery.logs.iter().all(|log| log.set_aside.is_some()), "both are kept aside");
    // With the cuts recorded, and the next log behind them, all is well, in every mode.
    maker.end = recovery.end;
    maker.next_sequence = recovery.next_sequence;
    let journal = maker.create(3);
    let batch = BatchRecord { first_sequence: 6, op_count: 1, sync: true, payload: &payload(6) };
    journal.append(batch).unwrap();
    journal.end(6).unwrap();
    let mut logs = named(&[1, 2, 3]);
    logs[0].cut = Some(cut);
    logs[1].cut = Some(dropped);
    for mode in [RecoveryMode::Strict, RecoveryMode::Tail, RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let (recovery, found) = run(&maker.fs(), &logs, &options(mode)).unwrap();
        assert_eq!(found, [1, 6], "{mode:?}");
        assert_eq!(recovery.next_sequence, 7);
        assert!(recovery.cuts.is_empty() && !recovery.is_lossy);
    }
}

#[test]
fn salvage_steps_over_damage_and_says_so() {
    let mut maker = Maker::new();
    maker.log(1, 4);
    maker.open_log(2, 4);
    maker.damage(2);
    maker.damage(6);
    let (recovery, found) = run(&maker.fs(), &named(&[1, 2]), &options(RecoveryMode::Salvage)).unwrap();
    assert_eq!(found, [1, 3, 4, 5, 7, 8]);
    assert!(recovery.is_lossy);
    let lost: Vec<_> = recovery.logs.iter().flat_map(|log| &log.holes).map(|hole| hole.sequences).collect();
    assert_eq!(lost, [Some((2, Some(2))), Some((6, Some(6)))]);
    assert_eq!(recovery.next_sequence, 9);
}

#[test]
fn a_missing_log_is_noticed_wherever_it_was() {
    let mut maker = Maker::new();
    for number in 1..=3 {
        maker.log(number, 2);
    }
    for missing in 1..=3 {
        let mem = maker.mem.snapshot();
        mem.remove_file(&log_path(missing)).unwrap();
        let fs: Arc<dyn FileSystem> = Arc::new(mem);
        let what = format!("{missing:08}.log: the log is missing");
        refused(run(&fs, &named(&[1, 2, 3]), &options(RecoveryMode::Tail)), &[&what]);
        let (recovery, found) = run(&fs, &named(&[1, 2, 3]), &options(RecoveryMode::Salvage)).unwrap();
        assert_eq!(found.len(), 4);
        assert!(recovery.is_lossy);
        // Even where nobody expects it, the next log does.
        let others: Vec<u64> = (1..=3).filter(|number| *number != missing).collect();
        let result = run(&fs, &named(&others), &options(RecoveryMode::Tail));
        if missing < 3 {
            refused(result, &[&format!("log {missing} is missing")]);
        } else {
            result.unwrap();
        }
        // What is in tables may be missing: that is how logs go.
        let every = 2 * missing;
        let flushed =
            RecoverOptions { flushed: Flushed { every, any: every }, ..options(RecoveryMode::Tail) };
        let (_, found) = run(&fs, &named(&others), &flushed).unwrap();
        assert!(found.iter().all(|sequence| *sequence > every));
    }
}

#[test]
fn logs_in_each_others_place_are_refused() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    maker.log(2, 2);
    let bytes: Vec<_> = (1..=2).map(|number| contents(&maker.mem, &log_path(number)).unwrap()).collect();
    let swapped = maker.mem.snapshot();
    replace(&swapped, &log_path(1), &bytes[1]);
    replace(&swapped, &log_path(2), &bytes[0]);
    let fs: Arc<dyn FileSystem> = Arc::new(swapped.clone());
    refused(run(&fs, &named(&[1, 2]), &options(RecoveryMode::Tail)), &["another log in the place"]);
    refused(open(Arc::new(swapped)).map(|_| unreachable!()), &["says that it is log"]);
    let other = RecoverOptions { database: identity(99), ..options(RecoveryMode::Tail) };
    refused(run(&maker.fs(), &named(&[1, 2]), &other), &["another database"]);
    // A record of the log in another place of it is none.
    let mut bytes = bytes[0].clone();
    let (_, first, second) = maker.places[0];
    let (first, second) = (usize::try_from(first).unwrap(), usize::try_from(second).unwrap());
    let copy = bytes[first..second].to_vec();
    bytes[second..second + copy.len()].copy_from_slice(&copy);
    replace(&maker.mem, &log_path(1), &bytes);
    refused(run(&maker.fs(), &named(&[1, 2]), &options(RecoveryMode::Tail)), &["checksum", "2 to 2"]);
}

#[test]
fn a_damaged_header_costs_nothing_where_the_identity_is_known() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    maker.flip(1, 30);
    let (_, found) = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1, 2]);
    refused(open(maker.fs()).map(|_| unreachable!()), &["header is damaged"]);
}

#[test]
fn a_log_that_was_never_begun_is_none_unless_it_was_named() {
    let mut maker = Maker::new();
    maker.log(1, 2);
    replace(&maker.mem, &log_path(2), &[0; 100]);
    let mut logs = named(&[1, 2]);
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["00000002.log"]);
    logs[1].identity = None;
    let (recovery, found) = run(&maker.fs(), &logs, &options(RecoveryMode::Tail)).unwrap();
    assert_eq!(found, [1, 2]);
    assert_eq!(recovery.logs[1].verdict, Verdict::NeverBegun);
    assert_eq!(recovery.end, maker.end);
    // The same length, but the next log knows it: it was begun.
    let end = LogEnd { number: 2, identity: identity(2), offset: 500, last_sequence: 4 };
    maker.end = Some(end);
    maker.next_sequence = 5;
    maker.log(3, 1);
    logs.push(named(&[3])[0]);
    refused(run(&maker.fs(), &logs, &options(RecoveryMode::Tail)), &["log 2 is missing"]);
}

#[test]
fn what_a_newer_version_wrote_is_refused_and_never_cut() {
    let mut maker = Maker::new();
    let journal = maker.create(1);
    maker.append(&journal, true);
    maker.append(&journal, true);
    let clean = contents(&maker.mem, &log_path(1)).unwrap();
    let at = usize::try_from(maker.places[1].1).unwrap();
    // A kind, a flag and a reserved byte of the future, and a kind that is zero: each with a checksum that holds.
    for (offset, value) in [(32, 6), (32, 0), (33, 2), (39, 1)] {
        let mut bytes = clean.clone();
        bytes[at + offset] = value;
        let crc = salted_crc32(identity(1), at as u64, &[&bytes[at + 4..at + 40]]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        for mode in [RecoveryMode::Tail, RecoveryMode::Salvage] {
            let error = run(&maker.fs(), &named(&[1]), &options(mode)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
            assert_eq!(error.offset(), Some(at as u64));
        }
    }
    // The same behind bad bytes, torn or damaged ones: it is not taken for more of them.
    for (damaged, kind) in [(0, 6), (0, 2), (1, 6)] {
        let mut maker = Maker::new();
        let journal = maker.create(1);
        for _ in 0..3 {
            maker.append(&journal, false);
        }
        let mut bytes = contents(&maker.mem, &log_path(1)).unwrap();
        let at = usize::try_from(maker.places[2].1).unwrap();
        // A kind of the future; or a batch of no operations, which is none.
        bytes[at + 32] = kind;
        bytes[at + 12] = 0;
        let crc = salted_crc32(identity(1), at as u64, &[&bytes[at + 4..at + 40]]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        bytes[usize::try_from(maker.places[damaged].1).unwrap()] ^= 1;
        replace(&maker.mem, &log_path(1), &bytes);
        for mode in [RecoveryMode::Tail, RecoveryMode::Salvage] {
            let error = run(&maker.fs(), &named(&[1]), &options(mode)).unwrap_err();
            let expected = if kind == 6 { ErrorKind::NewerFormat } else { ErrorKind::Corruption };
            assert_eq!((error.kind(), error.offset()), (expected, Some(at as u64)), "{error}");
        }
    }
    for (offset, value) in [(8, 2), (12, 1), (20, 1), (40, 1)] {
        let mut bytes = clean.clone();
        bytes[offset] = value;
        let crc = salted_crc32(identity(1), 0, &[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        let error = run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Salvage)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
    }
    // An optional feature of the future, and an unused byte: passed over.
    for offset in [10, 16] {
        let mut bytes = clean.clone();
        bytes[offset] = 1;
        let crc = salted_crc32(identity(1), 0, &[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        replace(&maker.mem, &log_path(1), &bytes);
        assert_eq!(run(&maker.fs(), &named(&[1]), &options(RecoveryMode::Tail)).unwrap().1, [1, 2]);
    }
}

#[test]
fn the_manifest_is_read_with_the_same_verdicts() {
    let mem = MemFs::new();
    let path = Path::new("/MANIFEST");
    let mut writer = RecordWriter::create(&mem, path, LogKind::Manifest, identity(3)).unwrap();
    mem.sync_dir(Path::new("/"), SITE).unwrap();
    for edit in 1..=3u64 {
        writer.append(RecordKind::Batch, true, edit, 1, &payload(edit)).unwrap();
        writer.sync(SITE).unwrap();
    }
    writer.append(RecordKind::Batch, true, 4, 1, &payload(4)).unwrap();
    writer.write().unwrap();
    let read = |mem: &MemFs| {
        let mut edits = Vec::new();
        let report = read_records(mem.open_read(path).unwrap(), path, LogKind::Manifest, &mut |record| {
            edits.push(record.header.first_sequence);
            Ok(())
        });
        report.map(|report| (report.verdict, edits))
    };
    assert_eq!(read(&mem).unwrap().1, [1, 2, 3, 4]);
    let (verdict, edits) = read(&mem.crash(CrashPolicy::LengthsOnly, 0)).unwrap();
    assert_eq!((verdict, edits), (Verdict::Torn { at: writer.durable() }, vec![1, 2, 3]));
    let mut bytes = contents(&mem, path).unwrap();
    bytes[200] ^= 1;
    replace(&mem, path, &bytes);
    assert_eq!(read(&mem).unwrap_err().kind(), ErrorKind::Corruption);
    let error =
        read_records(mem.open_read(path).unwrap(), path, LogKind::Journal, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("no log of the journal"), "{error}");
}
