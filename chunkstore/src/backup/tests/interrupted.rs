//! What an interrupted run leaves: packs that the next one takes over, pieces in the outbox that it builds on.

use std::sync::atomic::{AtomicI64, Ordering};

use super::*;

/// What an interrupted run stored is not stored again, and its intent is gone.
fn assert_took_over(world: &World, summary: &BackupSummary) {
    let truth = world.truth();
    let whole: u64 =
        truth.values().filter_map(|(_, bytes)| bytes.as_ref()).map(|bytes| bytes.len() as u64).sum();
    assert!(summary.bytes_new < whole * 4 / 5, "{} of {whole} bytes were new", summary.bytes_new);
    assert!(world.mem[0].list("intents").unwrap().is_empty());
}

#[test]
fn when_no_target_is_left_nothing_is_committed_and_the_next_run_goes_on() {
    let world = World::new(1);
    populate(&world);
    {
        let open = world.open().unwrap();
        world.faults[0].add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(4) });
        let error = world.backup_with(&open, &Collector::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Target);
        assert!(open.catalog.snapshots().unwrap().is_empty());
    }
    world.faults[0].clear();
    let packs = |world: &World| world.mem[0].list("packs").unwrap().len();
    let before = packs(&world);
    assert!(before >= 2, "{before} packs were stored");
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert_took_over(&world, &summary);
    world.assert_holds(&open, &open.first(), &world.mem[0]);
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A run that may put so many objects on each target, and leaves the local state as it was before, as a process does that is killed.
fn kill_a_run(world: &World, puts: [u64; 2]) {
    let before = tempfile::tempdir().unwrap();
    copy_tree(world.state.path(), before.path());
    {
        let open = world.open().unwrap();
        for (fault, puts) in world.faults.iter().zip(puts) {
            fault.add(Rule { operation: Some(Operation::Put), ..Rule::dies_after(puts) });
        }
        world.backup_with(&open, &Collector::default()).unwrap_err();
    }
    std::fs::remove_dir_all(world.state.path()).unwrap();
    copy_tree(before.path(), world.state.path());
    for fault in &world.faults {
        fault.clear();
    }
}

#[test]
fn packs_of_a_killed_run_are_taken_over() {
    let world = World::new(2);
    world.write("first", noise(77, 1000));
    world.backup();
    populate(&world);
    kill_a_run(&world, [4, 4]);
    for mem in &world.mem {
        assert!(mem.list("packs").unwrap().len() > 2, "some packs were stored");
    }
    let open = world.open().unwrap();
    let monitor = Collector::default();
    let summary = world.backup_with(&open, &monitor).unwrap();
    assert!(monitor.notes().iter().any(|note| note.contains("taken over")), "{:?}", monitor.notes());
    assert_took_over(&world, &summary);
    world.assert_holds(&open, &open.last(), &world.mem[1]);
}

#[test]
fn a_killed_runs_packs_that_are_on_one_target_only_come_to_the_other() {
    // The second: neither has all.
    for (left_on_a, left_on_b) in [(1, 5), (4, 5)] {
        let world = World::new(2);
        world.write("first", noise(77, 1000));
        world.backup();
        populate(&world);
        kill_a_run(&world, [left_on_a, left_on_b]);
        if left_on_a > 1 {
            let lost = world.mem[0]
                .list("packs")
                .unwrap()
                .into_iter()
                .find(|pack| world.mem[1].length(&pack.key).unwrap().is_some());
            world.mem[1].tamper(|objects| {
                objects.remove(&lost.unwrap().key);
            });
        }
        let open = world.open().unwrap();
        let summary = world.backup_in(&open);
        assert_eq!(summary.targets_complete.len(), 2, "{summary:?}");
        world.assert_the_same_and_clean(&open);
    }
}

/// Stops by a signal after so many items.
struct StopsAfter(AtomicI64);

impl Monitor for StopsAfter {
    fn fault(&self, fault: Fault) {
        panic!("{fault:?}");
    }
    fn event(&self, event: Event<'_>) {
        if let Event::Advance { items, .. } = event {
            self.0.fetch_sub(items as i64, Ordering::Relaxed);
        }
    }
    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }
}

#[test]
fn a_cancelled_run_commits_nothing_and_keeps_what_was_stored() {
    let world = World::new(2);
    for index in 0..400u64 {
        world.write(&format!("f{index}"), noise(index, 4000));
    }
    let open = world.open().unwrap();
    let error = world.backup_with(&open, &StopsAfter(300.into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(open.catalog.snapshots().unwrap().is_empty());
    let summary = world.backup_in(&open);
    assert!(summary.bytes_new < 400 * 4000, "{} bytes were new", summary.bytes_new);
    assert_eq!(summary.files_new, 400);
    assert_eq!(summary.targets_complete, ["mem:a", "mem:b"]);
    world.assert_holds(&open, &open.first(), &world.mem[1]);
}

/// Gives bytes for ever, and asks to be stopped when so many were taken.
struct Endless<'a> {
    taken: &'a AtomicI64,
    monitor: Arc<Collector>,
}

impl std::io::Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let taken = self.taken.fetch_add(buffer.len() as i64, Ordering::Relaxed);
        buffer.copy_from_slice(&noise(taken as u64, buffer.len()));
        if taken > 3 << 20 {
            self.monitor.cancel();
        }
        assert!(taken < 100 << 20, "it was not stopped");
        Ok(buffer.len())
    }
}

#[test]
fn the_reading_of_one_large_file_can_be_stopped() {
    static TAKEN: AtomicI64 = AtomicI64::new(0);
    let world = World::new(1);
    let open = world.open().unwrap();
    let monitor = Arc::new(Collector::default());
    let endless = Box::new(Endless { taken: &TAKEN, monitor: monitor.clone() });
    let options = world.backup_options();
    let stopped =
        backup_stream(&open.repository, &open.catalog, &options, Path::new("/s"), endless, &*monitor);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    assert!(TAKEN.load(Ordering::Relaxed) < 20 << 20);
    assert!(open.catalog.snapshots().unwrap().is_empty());
    // A dry run gives no figures then.
    TAKEN.store(0, Ordering::Relaxed);
    let monitor = Arc::new(Collector::default());
    let endless = Box::new(Endless { taken: &TAKEN, monitor: monitor.clone() });
    let options = BackupOptions { dry_run: true, ..options };
    let stopped =
        backup_stream(&open.repository, &open.catalog, &options, Path::new("/s"), endless, &*monitor);
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn a_run_that_was_stopped_leaves_no_entries_on_the_target() {
    let world = World::new(1);
    for index in 0..2000u64 {
        world.write(&format!("{}/{index}", "long name ".repeat(15)), noise(index, 1));
    }
    let open = world.open().unwrap();
    world.backup_with(&open, &StopsAfter(1500.into())).unwrap_err();
    let segments = world.mem[0].list("segments").unwrap();
    let bytes: u64 = segments.iter().map(|segment| segment.length).sum();
    // A chunk takes 35 bytes, an entry as many at least.
    assert!(bytes < 2000 * 50, "{bytes} bytes in {} segments", segments.len());
    world.backup_in(&open);
    world.assert_holds(&open, &open.first(), &world.mem[0]);
}

#[test]
fn whatever_call_is_the_last_before_the_power_goes_nothing_is_lost() {
    let world = World::new(1);
    populate(&world);
    world.backup();
    let first = world.truth();
    settle();
    let mut calls = 0;
    loop {
        world.write("d0/f0", noise(9000 + calls, 200_000));
        world.write("d1/f1", noise(9500 + calls, 200_000));
        let interrupted = {
            let open = world.open().unwrap();
            world.faults[0].add(Rule::dies_after(calls));
            world.backup_with(&open, &Collector::default())
        };
        world.faults[0].clear();
        let open = world.open().unwrap();
        assert!(world.restored(&open, &open.first(), &*world.mem[0]) == first, "after {calls} calls");
        world.backup_in(&open);
        assert!(world.restored(&open, &open.last(), &*world.mem[0]) == world.truth(), "after {calls} calls");
        if interrupted.is_ok_and(|summary| summary.targets_complete.len() == 1) && calls > 5 {
            break;
        }
        calls += 1;
    }
    assert!(calls > 8, "each call of a run was the last one once: {calls}");
    assert!(world.mem[0].list("intents").unwrap().is_empty());
}

/// Two targets, and a second run whose last piece reached neither: committed here, seen nowhere.
fn committed_to_the_outbox_only() -> World {
    let world = World::new(2);
    populate(&world);
    world.backup();
    settle();
    world.write("d0/more", noise(70, 5000));
    {
        let open = world.open().unwrap();
        for fault in &world.faults {
            fault.add(Rule::always(Operation::Put, "segments", Outage::Fail(ErrorKind::Target)));
        }
        world.backup_with(&open, &Collector::default()).unwrap_err();
    }
    for fault in &world.faults {
        fault.clear();
    }
    world
}

#[test]
fn a_run_that_only_the_outbox_has_is_what_the_next_one_builds_on() {
    let world = committed_to_the_outbox_only();
    let second = world.truth();
    settle();
    world.write("d0/most", noise(71, 5000));
    world.backup();
    let open = world.open().unwrap();
    let snapshots = open.catalog.snapshots().unwrap();
    assert_eq!(open.catalog.timelines().unwrap().len(), 1, "no backup is torn from the line");
    assert_eq!(snapshots.len(), 3);
    for mem in &world.mem {
        assert!(world.restored(&open, &snapshots[1], &**mem) == second);
        world.assert_holds(&open, &snapshots[2], mem);
        assert_marks_hold(&open, &**mem);
    }
}

#[test]
fn a_target_that_missed_a_piece_from_the_outbox_is_not_called_whole() {
    let world = committed_to_the_outbox_only();
    let open = world.open().unwrap();
    let once =
        Rule { sticky: false, ..Rule::always(Operation::Put, "segments", Outage::Fail(ErrorKind::Target)) };
    world.faults[1].add(once);
    let summary = world.backup_in(&open);
    assert_eq!(world.faults[1].hits(), 1);
    assert_marks_hold(&open, &*world.mem[1]);
    assert_eq!(summary.targets_complete, ["mem:a"]);
}

#[test]
fn a_snapshot_that_the_catalog_cannot_take_in_is_made_all_the_same() {
    let world = World::new(1);
    populate(&world);
    let open = world.open().unwrap();
    let outbox = open.repository.state().outbox_path();
    // While the mark of completeness is put, which is long after the last segment, what the catalog would read goes.
    let slow = Outage::Slow(std::time::Duration::from_secs(1));
    world.faults[0].add(Rule::always(Operation::Put, "complete", slow));
    let summary = std::thread::scope(|scope| {
        scope.spawn(|| {
            while world.mem[0].list("segments").unwrap().is_empty() {
                std::thread::yield_now();
            }
            for entry in std::fs::read_dir(&outbox).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "segment") {
                    std::fs::remove_file(path).unwrap();
                }
            }
        });
        world.backup_with(&open, &Collector::default()).unwrap()
    });
    assert!(summary.catalog_error.is_some());
    assert_eq!(summary.targets_complete, ["mem:a"]);
    assert!(open.catalog.snapshots().unwrap().is_empty());
    drop(open);
    world.faults[0].clear();
    let open = world.open().unwrap();
    assert_eq!(Some(open.first().id), summary.snapshot);
    world.assert_holds(&open, &open.first(), &world.mem[0]);
    assert!(world.backup_in(&open).catalog_error.is_none());
}
