//! Damage of any kind, anywhere.

use super::*;

#[test]
fn a_manifest_damaged_anywhere_loses_nothing() {
    let mut damaged_in_the_middle = 0;
    for seed in 0..4 {
        let mut tuning = many_levels();
        tuning.manifest_bytes = 1 << 20;
        let written = write(seed, 150, &tuning, seed % 2 == 0);
        let bytes = bytes_of(&written.fs, Path::new(MANIFEST));
        let mut random = Random(seed);
        for case in 0..60 {
            let fs = settled(&written.fs);
            let mut damaged = bytes.clone();
            let at = random.below(bytes.len());
            let end = (at + 1 + random.below(300)).min(bytes.len());
            match case % 3 {
                0 => damaged[at] ^= 1 << random.below(8),
                1 => damaged[at..end].fill(0),
                _ => damaged.truncate(at),
            }
            replace(&fs, Path::new(MANIFEST), &damaged);
            let place = format!("seed {seed}, case {case}, at {at} to {end} of {}", bytes.len());
            if builder(&fs).read_only(true).open().is_err() {
                damaged_in_the_middle += 1;
            }
            let report = run(&fs).unwrap_or_else(|error| panic!("{place}: {error}"));
            compare(&place, &written, &fs, &report);
            assert!(report.is_lossless(), "{place}: {report:#?}");
        }
    }
    assert!(damaged_in_the_middle > 100, "{damaged_in_the_middle}");
}

/// Any damage to any files.
fn damage(fs: &MemFs, random: &mut Random, log: &mut Vec<String>) {
    let names = fs.read_dir(Path::new(DIRECTORY)).unwrap();
    let names = names.iter().map(|name| Path::new(DIRECTORY).join(name.file_name().unwrap()));
    let mut paths: Vec<PathBuf> = names
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with("MANIFEST") || name.ends_with(".log") || name.ends_with(".table")
        })
        .collect();
    paths.sort();
    let path = paths[random.below(paths.len())].clone();
    let mut bytes = bytes_of(fs, &path);
    let at = random.below(bytes.len().max(1));
    let end = (at + 1 + random.below(200)).min(bytes.len());
    let what = random.below(7);
    if files(fs, ".log").last() == Some(&path) {
        log.push("the newest log:".to_owned());
    }
    log.push(format!("{what} of {} at {at} to {end} of {}", path.display(), bytes.len()));
    match what {
        0 => {
            log.push(format!("{} is gone", path.display()));
            return fs.remove_file(&path).unwrap();
        }
        1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at..end].fill(0),
        3 => {
            bytes.truncate(at);
            if at == 0 {
                log.push(format!("{} is gone", path.display()));
            }
        }
        4 => bytes[at..end].iter_mut().for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap()),
        5 => bytes.extend([b'x'; 70]),
        _ => {
            let other = &paths[random.below(paths.len())];
            let theirs = bytes_of(fs, other);
            replace(fs, other, &bytes);
            bytes = theirs;
        }
    }
    replace(fs, &path, &bytes);
}

#[test]
fn any_damage_leaves_what_verifies_and_nothing_that_never_was() {
    let (mut repaired, mut lossless) = (0, 0);
    let seeds = std::env::var("LSM_REPAIR_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(20);
    for seed in 0..seeds {
        let written = write(seed, 200, &many_levels(), seed % 3 == 0);
        for case in 0..12 {
            let fs = settled(&written.fs);
            let mut random = Random(seed * 1000 + case);
            let mut log = Vec::new();
            for _ in 0..1 + random.below(4) {
                damage(&fs, &mut random, &mut log);
            }
            let place = format!("seed {seed}, case {case}: {log:?}");
            let dry = repair(DIRECTORY, &RepairOptions::new().file_system(shared(&fs)).dry_run(true));
            let report = match run(&fs) {
                Ok(report) => report,
                Err(error) => {
                    // Nothing was left that says anything.
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{place}: {error}");
                    assert!(error.to_string().contains("nothing here verifies"), "{place}: {error}");
                    continue;
                }
            };
            let dry = dry.unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(dry.losses.len() <= report.losses.len(), "{place}: {dry:#?} {report:#?}");
            repaired += 1;
            lossless += u32::from(report.is_lossless());
            compare(&place, &written, &fs, &report);
            let again = run(&fs).unwrap();
            assert!(again.was_sound, "{place}: {report:#?} {again:#?}");
            assert!(!builder(&fs).recovery(RecoveryMode::Tail).open().unwrap().recovery_report().is_lossy);
        }
    }
    assert!(repaired > 200 && lossless > 20, "{repaired} {lossless}");
}

/// One damaged data block costs its own keys and no others.
#[test]
fn a_damaged_block_costs_its_keys_and_they_are_named() {
    let fs = MemFs::new();
    let mut tuning = tiny(1 << 20);
    tuning.table_bytes = 1 << 20;
    let (db, keyspaces) = support::open(&shared(&fs), &tuning).unwrap();
    let key = |number: usize| format!("key {number:04}").into_bytes();
    let ops: Vec<Op> = (0..200).map(|number| Op::Put(0, key(number), b"some value".to_vec())).collect();
    commit(&db, &keyspaces, &ops, Durability::Synced).unwrap();
    db.flush().unwrap();
    drop(keyspaces);
    db.close().unwrap();
    let table = files(&fs, ".table").pop().unwrap();
    let bytes = bytes_of(&fs, &table);
    let pristine = settled(&fs);
    for (place, change) in [
        ("its contents", bytes.len() / 3),
        // The last byte of the trailer before the first restart of some block.
        ("header", 30),
        ("footer", bytes.len() - 20),
    ] {
        let fs = settled(&pristine);
        let mut damaged = bytes.clone();
        damaged[change] ^= 4;
        replace(&fs, &table, &damaged);
        let report = run(&fs).unwrap();
        assert!(matches!(report.manifest, ManifestCondition::Whole));
        assert!(report.check.as_ref().unwrap().is_clean(), "{place}: {report:#?}");
        let found = contents(&fs).remove("one").unwrap();
        let missing: Vec<usize> = (0..200).filter(|number| !found.contains_key(&key(*number))).collect();
        match place {
            "its contents" => {
                assert!((1..10).contains(&missing.len()), "{missing:?}");
                let [loss] = report.losses.as_slice() else { panic!("{report:#?}") };
                assert_eq!((loss.kind, loss.keyspace.as_deref()), (LossKind::Entries, Some("one")));
                assert_eq!(loss.entries, Some(missing.len() as u64));
                let range = loss.range.as_ref().unwrap();
                assert!(missing.iter().all(|number| range.contains(&key(*number))), "{range:?} {missing:?}");
                let inside = (0..200).filter(|number| range.contains(&key(*number))).count();
                assert!(inside <= missing.len() + 2, "{range:?} {missing:?}");
            }
            _ => assert!(missing.is_empty() && report.is_lossless(), "{place}: {report:#?}"),
        }
        assert_eq!(report.tables.iter().filter(|table| table.fate == TableFate::Salvaged).count(), 1);
        let aside = Path::new("/db/lost").join(table.file_name().unwrap());
        assert_eq!(bytes_of(&fs, &aside), damaged, "{place}: the damaged file is kept");
        assert!(report.set_aside.contains(&aside), "{report:#?}");
    }
}

/// Bad sectors are no reason to give up: what they held is lost, and nothing else.
#[test]
fn what_the_disk_cannot_read_is_lost_and_nothing_else() {
    let written = write(5, 200, &many_levels(), false);
    let table = files(&written.fs, ".table").pop().unwrap();
    let log = files(&written.fs, ".log").pop().unwrap();
    for path in [table, log, PathBuf::from(MANIFEST)] {
        for call in [FaultCall::Read, FaultCall::Open] {
            let mem = settled(&written.fs);
            let faulty = FaultFs::new(Arc::new(mem.clone()));
            faulty.inject(Fault::sticky(call, 1, FaultEffect::Error).on(path.to_str().unwrap()));
            let options = RepairOptions::new().file_system(Arc::new(faulty)).verify(false);
            let place = format!("{call:?} of {}", path.display());
            let mut report = repair(DIRECTORY, &options).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert_eq!(report.is_lossless(), path == Path::new(MANIFEST), "{place}: {report:#?}");
            report.check = Some(builder(&mem).open().unwrap().check().unwrap());
            compare(&place, &written, &mem, &report);
            assert!(mem.exists(&Path::new("/db/lost").join(path.file_name().unwrap())).unwrap(), "{place}");
        }
    }
}
