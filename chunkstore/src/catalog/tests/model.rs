//! Random histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What happens between two backups.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, u64, u16),
    Long(usize, u64),
    Remove(usize),
    Move(usize, usize),
    Reinode(usize),
    BackUp,
    Reopen,
}

const PATHS: [&str; 8] = ["/a", "/d", "/d/a", "/d/b", "/d/e", "/d/e/f", "/z", "/z.b"];

fn step() -> impl Strategy<Value = Step> {
    let path = 0..PATHS.len();
    prop_oneof![
        4 => (path.clone(), 0..6u64, 0..3u16).prop_map(|(p, c, m)| Step::Put(p, c, m)),
        1 => (path.clone(), 0..3u64).prop_map(|(p, c)| Step::Long(p, c)),
        2 => path.clone().prop_map(Step::Remove),
        2 => (path.clone(), path.clone()).prop_map(|(a, b)| Step::Move(a, b)),
        1 => path.prop_map(Step::Reinode),
        4 => Just(Step::BackUp),
        1 => Just(Step::Reopen),
    ]
}

fn change(tree: &mut Tree, step: &Step, inode: &mut u64) {
    *inode += 1;
    match step {
        Step::Put(path, content, mode) => {
            let old = tree.get(&key(PATHS[*path])).map(|node| node.metadata.inode);
            let chunks: Vec<u64> = (0..*content).collect();
            tree.insert(key(PATHS[*path]), file(old.unwrap_or(*inode), *mode, &chunks));
        }
        Step::Long(path, content) => {
            let chunks: Vec<u64> = (*content..*content + 200).collect();
            tree.insert(key(PATHS[*path]), file(*inode, 0o600, &chunks));
        }
        Step::Remove(path) => {
            tree.remove(&key(PATHS[*path]));
        }
        Step::Move(from, to) => {
            if let Some(node) = tree.remove(&key(PATHS[*from])) {
                tree.insert(key(PATHS[*to]), node);
            }
        }
        Step::Reinode(path) => {
            if let Some(node) = tree.get_mut(&key(PATHS[*path])) {
                node.metadata.inode = *inode;
            }
        }
        Step::BackUp | Step::Reopen => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_catalog_is_a_list_of_snapshots(steps in proptest::collection::vec(step(), 1..40)) {
        let target = target("t");
        let mut machine = Machine::new();
        let mut tree = Tree::new();
        let mut history: Vec<(Snapshot, Tree)> = Vec::new();
        let mut inode = 100;
        for step in &steps {
            change(&mut tree, step, &mut inode);
            match step {
                Step::Reopen => machine = machine.reopen(),
                Step::BackUp => {
                    let time = history.len() as i64 + 1;
                    let snapshot = machine.back_up("host", time, &tree, &[&*target]);
                    prop_assert_eq!(snapshot.number.0 as usize, history.len() + 1);
                    history.push((snapshot, tree.clone()));
                }
                _ => {}
            }
        }
        let rebuilt = Machine::from_target(&*target);
        prop_assert_eq!(dump(&rebuilt.catalog), dump(&machine.catalog));
        for machine in [&machine, &rebuilt] {
            check_history(&machine.catalog, &history);
        }
        let monitor = Collector::default();
        let again = rebuilt.catalog.rebuild(&*target, &monitor).unwrap();
        prop_assert!(again.rebuilt && again.faults == 0);
        prop_assert_eq!(dump(&rebuilt.catalog), dump(&machine.catalog));
    }
}

fn check_history(catalog: &Catalog, history: &[(Snapshot, Tree)]) {
    let snapshots = catalog.snapshots().unwrap();
    assert_eq!(snapshots.len(), history.len());
    for (snapshot, tree) in history {
        assert_eq!(catalog.snapshot(snapshot.id).unwrap().as_ref(), Some(snapshot));
        assert_eq!(restored(&state(catalog, snapshot)), restored(tree), "snapshot {}", snapshot.number.0);
        let versions: BTreeMap<EntryKey, Version> =
            catalog.state(snapshot, &KeyRange::all()).unwrap().map(|entry| entry.unwrap()).collect();
        let model = digest(catalog, tree, |key| versions[key].contents.clone());
        assert_eq!(model.hash(), snapshot.digest, "digest of snapshot {}", snapshot.number.0);
        for path in PATHS {
            let key = key(path);
            assert_eq!(catalog.entry(snapshot, &key).unwrap().as_ref(), versions.get(&key), "{path}");
            for range in [key.children(), key.below(), key.only()] {
                let found: Vec<_> = catalog.state(snapshot, &range).unwrap().map(|e| e.unwrap().0).collect();
                let expected: Vec<_> = tree.keys().filter(|key| range.contains(key)).cloned().collect();
                assert_eq!(found, expected);
            }
        }
    }
    let Some((last, tree)) = history.last() else { return };
    let current: Vec<_> = catalog.current(last.timeline).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(current.iter().map(|entry| &entry.key).collect::<Vec<_>>(), tree.keys().collect::<Vec<_>>());
    for entry in current {
        let node = &tree[&entry.key].metadata;
        assert_eq!((entry.inode, entry.size, entry.mode), (node.inode, node.size, node.mode));
    }
    for path in PATHS {
        check_log(catalog, &key(path), history);
    }
}

/// Each change of what is at a path is told once.
fn check_log(catalog: &Catalog, key: &EntryKey, history: &[(Snapshot, Tree)]) {
    let told = catalog.log(history[0].0.timeline, key).unwrap();
    let here: Vec<_> = told
        .iter()
        .filter(|entry| entry.key == *key)
        .map(|entry| (entry.snapshot.number, entry.version.is_some()))
        .collect();
    let mut expected = Vec::new();
    let mut before: Option<Node> = None;
    for (snapshot, tree) in history {
        let now = restored(tree).remove(key);
        if now != before {
            expected.push((snapshot.number, now.is_some()));
        }
        before = now;
    }
    // A file that another one of the same bytes and metadata replaced is a change too: the model cannot see it.
    for change in &expected {
        assert!(here.contains(change), "{key}: {change:?} is not told: {here:?}");
    }
    for (index, entry) in told.iter().enumerate().skip(1) {
        assert!(told[index - 1].snapshot.number <= entry.snapshot.number, "the log is in order");
    }
}

#[test]
fn a_renamed_file_keeps_its_history() {
    let machine = Machine::new();
    let mut tree = Tree::from([(key("/a"), file(5, 0o644, &[1]))]);
    machine.back_up("host", 1, &tree, &[]);
    tree.insert(key("/a"), file(5, 0o644, &[1, 2]));
    machine.back_up("host", 2, &tree, &[]);
    let node = tree.remove(&key("/a")).unwrap();
    tree.insert(key("/b"), node);
    let last = machine.back_up("host", 3, &tree, &[]);
    let told = machine.catalog.log(last.timeline, &key("/b")).unwrap();
    let said: Vec<_> =
        told.iter().map(|e| (e.key.to_string(), e.snapshot.number.0, e.version.is_some())).collect();
    assert_eq!(said, [("/a".into(), 1, true), ("/a".into(), 2, true), ("/b".into(), 3, true)]);
    assert!(told[0].changed.born && told[1].changed.contents && told[2].changed.renamed);
    assert!(!told[2].changed.contents && !told[2].changed.born);
    let files: Vec<_> = told.iter().filter_map(|e| e.version.as_ref().map(|v| v.file)).collect();
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]), "one File");
    assert_eq!(machine.catalog.places_of(files[0]).unwrap().len(), 2);
    // From where it was: that it is gone, and where it went.
    let told = machine.catalog.log(last.timeline, &key("/a")).unwrap();
    assert!(told.iter().any(|entry| entry.key == key("/b")));
    assert!(told.iter().any(|entry| entry.key == key("/a") && entry.changed.gone));
}

#[test]
fn an_unchanged_backup_is_one_small_segment() {
    let machine = Machine::new();
    let tree: Tree = (0..500).map(|n| (key(&format!("/{n}")), file(n, 0o600, &[n]))).collect();
    machine.back_up("host", 1, &tree, &[]);
    let segments = machine.write("host", 2, &tree, 5000);
    assert_eq!(segments.len(), 1);
    assert!(segments[0].bytes.len() < 1024, "{} bytes", segments[0].bytes.len());
    machine.catalog.apply(&segments[0]).unwrap();
    let snapshots = machine.catalog.snapshots().unwrap();
    assert_eq!(snapshots[0].digest, snapshots[1].digest);
    assert!(machine.catalog.changes(&snapshots[1]).unwrap().is_empty());
    assert_eq!(machine.catalog.changes(&snapshots[0]).unwrap().len(), 500);
}

#[test]
fn two_machines_see_each_other() {
    let target = target("t");
    let (one, two) = (Machine::new(), Machine::new());
    let monitor = Collector::default();
    for round in 1..5 {
        let tree: Tree = (0..round).map(|n| (key(&format!("/{n}")), file(n, 0o600, &[n]))).collect();
        one.back_up("one", 10 * round as i64, &tree, &[&*target]);
        two.back_up("two", 10 * round as i64 + 1, &tree, &[&*target]);
        if round % 2 == 0 {
            one.catalog.catch_up(&*target, &monitor).unwrap();
        }
    }
    one.catalog.catch_up(&*target, &monitor).unwrap();
    two.catalog.catch_up(&*target, &monitor).unwrap();
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
    assert_eq!(one.catalog.snapshots().unwrap().len(), 8);
    assert_eq!(dump(&one.catalog), dump(&two.catalog));
    assert_eq!(dump(&one.catalog), dump(&Machine::from_target(&*target).catalog));
    assert_eq!(one.catalog.heads().unwrap().len(), 2);
    // Nothing new: nothing read.
    let again = one.catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(again.segments, 0);
}

#[test]
fn two_children_of_one_parent_are_two_timelines_everywhere() {
    let shared = Tree::from([(key("/a"), file(1, 0o600, &[1])), (key("/b"), file(2, 0o600, &[2]))]);
    let mut left = shared.clone();
    left.insert(key("/left"), file(3, 0o600, &[3]));
    let mut right = shared.clone();
    right.remove(&key("/a"));
    for with_parent in [true, false] {
        let target = target("t");
        let monitor = Collector::default();
        let one = Machine::new();
        if with_parent {
            one.back_up("host", 1, &shared, &[&*target]);
        }
        let two = Machine::new();
        two.catalog.catch_up(&*target, &monitor).unwrap();
        // Both build on the same snapshot, neither knows of the other; each goes on once more.
        one.back_up("host", 2, &left, &[&*target]);
        two.back_up("host", 3, &right, &[&*target]);
        one.catalog.catch_up(&*target, &monitor).unwrap();
        two.catalog.catch_up(&*target, &monitor).unwrap();
        assert!(monitor.notes().iter().any(|note| note.contains("two backups")), "{:?}", monitor.notes());
        let rebuilt = Machine::from_target(&*target);
        assert_eq!(dump(&one.catalog), dump(&two.catalog));
        assert_eq!(dump(&one.catalog), dump(&rebuilt.catalog));
        let timelines = one.catalog.timelines().unwrap();
        assert_eq!(timelines.len(), 2);
        let head = |time: i64| {
            one.catalog.snapshots().unwrap().into_iter().find(|s| s.time.seconds == time).unwrap()
        };
        assert_eq!(restored(&state(&one.catalog, &head(2))), restored(&left));
        assert_eq!(restored(&state(&one.catalog, &head(3))), restored(&right));
        // Each machine goes on where it was.
        let next = one.back_up("host", 4, &left, &[&*target]);
        assert_eq!(next.timeline, head(2).timeline);
        assert_eq!(next.parent, Some(head(2).id));
        let next = two.back_up("host", 5, &right, &[&*target]);
        assert_eq!(next.parent, Some(head(3).id));
        one.catalog.catch_up(&*target, &monitor).unwrap();
        assert_eq!(dump(&one.catalog), dump(&Machine::from_target(&*target).catalog));
        if with_parent {
            let told = one.catalog.log(head(2).timeline, &key("/a")).unwrap();
            assert_eq!(told[0].snapshot.time.seconds, 1, "a fork remembers what came before");
        }
    }
}

#[test]
fn a_cloned_machine_begins_a_log_of_its_own() {
    let target = target("t");
    let monitor = Collector::default();
    let one = Machine::new();
    let tree = Tree::from([(key("/a"), file(1, 0o600, &[1]))]);
    one.back_up("host", 1, &tree, &[&*target]);
    // The outbox is copied, and with it the writer's id; the catalog is made from the target.
    let two = Machine::new();
    for entry in std::fs::read_dir(one.dir.path().join("outbox")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, two.dir.path().join("outbox").join(path.file_name().unwrap())).unwrap();
    }
    two.catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(one.catalog.writer().unwrap(), two.catalog.writer().unwrap());
    let writer = one.catalog.writer().unwrap();
    one.back_up("host", 2, &tree, &[&*target]);
    let mut other = tree.clone();
    other.insert(key("/b"), file(2, 0o600, &[2]));
    two.back_up("host", 3, &other, &[&*target]);
    one.catalog.catch_up(&*target, &monitor).unwrap();
    two.catalog.catch_up(&*target, &monitor).unwrap();
    assert_ne!(one.catalog.writer().unwrap(), writer);
    assert_ne!(two.catalog.writer().unwrap(), writer);
    assert_ne!(one.catalog.writer().unwrap(), two.catalog.writer().unwrap());
    assert!(monitor.notes().iter().any(|note| note.contains("another machine writes as")));
    assert_eq!(dump(&one.catalog), dump(&two.catalog));
    one.back_up("host", 4, &tree, &[&*target]);
    two.back_up("host", 5, &other, &[&*target]);
    one.catalog.catch_up(&*target, &monitor).unwrap();
    two.catalog.catch_up(&*target, &monitor).unwrap();
    assert_eq!(dump(&one.catalog), dump(&two.catalog));
    assert_eq!(dump(&one.catalog), dump(&Machine::from_target(&*target).catalog));
    assert!(monitor.faults().is_empty(), "{:?}", monitor.faults());
}
