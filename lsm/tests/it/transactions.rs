//! Transactions: what they see, when they are refused, and that those that are not might as well have run one after the other.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use lsm::fs::MemFs;
use lsm::{Background, Batch, Db, Durability, ErrorKind, Keyspace, KeyspaceOptions, Transaction, Tuning};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::support::{Random, is_inside, tiny};

fn open_with(background: Background, tuning: &Tuning) -> Db {
    Db::builder("/db")
        .file_system(Arc::new(MemFs::new()))
        .background(background)
        .memory_bytes(1 << 20)
        .tuning(tuning.clone())
        .open()
        .unwrap()
}

fn open() -> (Db, Keyspace) {
    let db = open_with(Background::Manual, &tiny(1 << 20));
    let keyspace = keyspace(&db, "a");
    (db, keyspace)
}

fn keyspace(db: &Db, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::sorted()).unwrap()
}

fn get(keyspace: &Keyspace, key: &str) -> Option<String> {
    keyspace.get(key).unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn keys(scan: impl Iterator<Item = lsm::Result<(lsm::Value, lsm::Value)>>) -> Vec<String> {
    scan.map(|item| String::from_utf8(item.unwrap().0.to_vec()).unwrap()).collect()
}

fn is_refused(transaction: Transaction) -> bool {
    match transaction.commit(Durability::Process) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
            true
        }
    }
}

#[test]
fn a_transaction_sees_its_moment_and_its_own_writes() {
    let (db, a) = open();
    for key in ["a", "b", "c", "d"] {
        a.put(key, "old").unwrap();
    }
    let mut transaction = db.transaction();
    a.put("z", "later").unwrap();
    transaction.put(&a, "bb", "own");
    transaction.put(&a, "c", "own");
    transaction.delete(&a, "a");
    transaction.delete_range(&a, "d".."f");
    transaction.put(&a, "e", "own");
    let value = |key: &str| transaction.get(&a, key).unwrap().map(|value| value[0]);
    assert_eq!(
        ["a", "b", "bb", "c", "d", "e", "z"].map(value),
        [None, Some(b'o'), Some(b'o'), Some(b'o'), None, Some(b'o'), None]
    );
    let values = transaction.multi_get(&a, &["c", "a", "nothing", "b", "d"]).unwrap();
    let values: Vec<_> = values.iter().map(Option::as_deref).collect();
    assert_eq!(values, [Some(&b"own"[..]), None, None, Some(b"old"), None]);
    assert!(transaction.contains(&a, "e").unwrap() && !transaction.contains(&a, "d").unwrap());
    assert!(transaction.contains(&a, "b").unwrap() && !transaction.contains(&a, "z").unwrap());
    let lengths = ["a", "b", "bb", "z"].map(|key| transaction.get_with(&a, key, <[u8]>::len).unwrap());
    assert_eq!(lengths, [None, Some(3), Some(3), None]);
    let asked = ["e", "z", "b", "a", "c"];
    let mut seen = [const { None }; 5];
    // Reading while it is told is allowed.
    let see = |index: usize, value: Option<&[u8]>| {
        assert_eq!(transaction.contains(&a, asked[index]).unwrap(), value.is_some());
        seen[index] = Some(value.map(<[u8]>::to_vec));
    };
    transaction.multi_get_with(&a, &asked, see).unwrap();
    let (own, old) = (Some(Some(b"own".to_vec())), Some(Some(b"old".to_vec())));
    assert_eq!(seen, [own.clone(), Some(None), old, Some(None), own]);
    assert_eq!(transaction.multi_contains(&a, &asked).unwrap(), [true, false, true, false, true]);
    assert_eq!(keys(transaction.iter(&a)), ["b", "bb", "c", "e"]);
    assert_eq!(keys(transaction.iter(&a).rev()), ["e", "c", "bb", "b"]);
    assert_eq!(keys(transaction.prefix(&a, "b")), ["b", "bb"]);
    assert_eq!(keys(transaction.range(&a, "bb"..="e")), ["bb", "c", "e"]);
    assert_eq!(keys(transaction.range(&a, "e".."b")).len(), 0);
    let mut both_ends = transaction.iter(&a);
    let first = both_ends.next().unwrap().unwrap().0;
    let last = both_ends.next_back().unwrap().unwrap().0;
    assert_eq!((&first[..], &last[..]), (&b"b"[..], &b"e"[..]));
    assert_eq!(keys(both_ends), ["bb", "c"]);
    assert_eq!(get(&a, "c").as_deref(), Some("old"), "nobody else sees it");
    assert_eq!(transaction.snapshot().get(&a, "c").unwrap().as_deref(), Some(&b"old"[..]));
    // It scanned all, and "z" came since.
    assert!(is_refused(transaction));
    assert_eq!(get(&a, "c").as_deref(), Some("old"));
}

#[test]
fn what_is_committed_is_there_as_a_whole() {
    let (db, a) = open();
    let b = keyspace(&db, "b");
    a.put("x1", "old").unwrap();
    a.put("x2", "old").unwrap();
    let mut transaction = db.transaction();
    transaction.put(&b, "k", "v");
    transaction.delete_prefix(&a, "x");
    transaction.put(&a, "x2", "new");
    transaction.delete(&a, "x2");
    transaction.put(&a, "x3", "new");
    let last = transaction.commit(Durability::Synced).unwrap();
    assert_eq!(last, db.stats().visible);
    assert_eq!(keys(a.iter()), ["x3"]);
    assert_eq!(keys(b.iter()), ["k"]);
    let transaction = db.transaction();
    a.put("y", "v").unwrap();
    assert_eq!(
        transaction.commit(Durability::Process).unwrap(),
        last,
        "one that writes nothing is never refused"
    );
    let mut transaction = db.transaction();
    transaction.put(&a, "dropped", "v");
    drop(transaction);
    assert_eq!(get(&a, "dropped"), None);
    assert_eq!(db.stats().snapshots, 0);
}

/// Each case: what the transaction does, what somebody else does meanwhile, whether it is refused. Tried with all in memory, flushed and merged.
#[test]
fn it_is_refused_where_somebody_else_was_quicker() {
    type Reads = fn(&mut Transaction, &Keyspace);
    type Writes = fn(&Keyspace);
    let put: Writes = |a| assert!(a.put("k5", "other").is_ok());
    let delete: Writes = |a| assert!(a.delete("k5").is_ok());
    let delete_range: Writes = |a| assert!(a.delete_range("k4".."k6").is_ok());
    let add: Writes = |a| assert!(a.put("k55", "new").is_ok());
    let far: Writes = |a| assert!(a.put("z", "far").is_ok());
    let far_range: Writes = |a| assert!(a.delete_range("x".."z").is_ok());
    let get: Reads = |tx, a| drop(tx.get(a, "k5").unwrap());
    let get_none: Reads = |tx, a| drop(tx.get(a, "k55").unwrap());
    let multi_get: Reads = |tx, a| drop(tx.multi_get(a, &["k1", "k5"]).unwrap());
    let contains: Reads = |tx, a| assert!(tx.contains(a, "k5").unwrap());
    let get_with: Reads = |tx, a| assert_eq!(tx.get_with(a, "k5", <[u8]>::len).unwrap(), Some(3));
    let multi_get_with: Reads = |tx, a| tx.multi_get_with(a, &["k1", "k5"], |_, _| ()).unwrap();
    let multi_contains: Reads = |tx, a| drop(tx.multi_contains(a, &["k1", "k55"]).unwrap());
    let scan: Reads = |tx, a| drop(keys(tx.range(a, "k3".."k7")));
    let scan_back: Reads = |tx, a| drop(keys(tx.range(a, "k3".."k7").rev()));
    let first: Reads = |tx, a| drop(tx.prefix(a, "k").next());
    let last: Reads = |tx, a| drop(tx.prefix(a, "k").next_back());
    let forgotten: Reads = |tx, a| std::mem::forget(tx.range(a, "k3".."k7"));
    let blind: Reads = |tx, a| tx.put(a, "k5", "own");
    let blind_range: Reads = |tx, a| tx.delete_range(a, "k4".."k7");
    let own: Reads = |tx, a| {
        tx.put(a, "k6", "own");
        tx.get(a, "k6").unwrap();
    };
    let beside: Reads = |tx, a| drop(tx.snapshot().get(a, "k5").unwrap());
    let cases: &[(&str, Reads, Writes, bool)] = &[
        ("get, put", get, put, true),
        ("get, delete", get, delete, true),
        ("get, delete range", get, delete_range, true),
        ("get, add", get, add, false),
        ("get, far", get, far, false),
        ("get, far range", get, far_range, false),
        ("get of nothing, add", get_none, add, true),
        ("get of nothing, put", get_none, put, false),
        ("multi_get, put", multi_get, put, true),
        ("multi_get, add", multi_get, add, false),
        ("contains, put", contains, put, true),
        ("contains, add", contains, add, false),
        ("get_with, put", get_with, put, true),
        ("get_with, far", get_with, far, false),
        ("multi_get_with, delete", multi_get_with, delete, true),
        ("multi_get_with, add", multi_get_with, add, false),
        ("multi_contains, add", multi_contains, add, true),
        ("multi_contains, put", multi_contains, put, false),
        ("scan, put", scan, put, true),
        ("scan, delete", scan, delete, true),
        ("scan, delete range", scan, delete_range, true),
        ("scan, add", scan, add, true),
        ("scan, far", scan, far, false),
        ("scan, far range", scan, far_range, false),
        ("scan back, add", scan_back, add, true),
        ("scan back, far", scan_back, far, false),
        ("first, add", first, add, false),
        ("first, delete range", first, delete_range, false),
        ("last, add", last, add, false),
        ("last, far", last, far, false),
        ("scan that is forgotten, add", forgotten, add, true),
        ("scan that is forgotten, far", forgotten, far, false),
        ("blind put, put", blind, put, true),
        ("blind put, delete range", blind, delete_range, true),
        ("blind put, add", blind, add, false),
        ("blind delete range, add", blind_range, add, true),
        ("blind delete range, far", blind_range, far, false),
        ("own, put", own, put, false),
        ("snapshot, put", beside, put, false),
    ];
    for (name, reads, writes, refused) in cases {
        for how in ["in memory", "flushed", "merged", "before flushed"] {
            let (db, a) = open();
            for number in 0..10 {
                a.put(format!("k{number}"), "old").unwrap();
            }
            if how != "in memory" {
                db.flush().unwrap();
            }
            let mut transaction = db.transaction();
            transaction.put(&a, "out of the way", "own");
            reads(&mut transaction, &a);
            if how == "before flushed" {
                a.put("y", "v").unwrap();
                db.flush().unwrap();
            }
            writes(&a);
            match how {
                "flushed" => db.flush().unwrap(),
                "merged" => db.compact().unwrap(),
                _ => {}
            }
            assert_eq!(is_refused(transaction), *refused, "{name}, {how}");
            assert_eq!(get_key(&a, "out of the way").is_some(), !refused);
        }
    }
}

fn get_key(keyspace: &Keyspace, key: &str) -> Option<lsm::Value> {
    keyspace.get(key).unwrap()
}

#[test]
fn write_skew_is_refused() {
    let (db, on_call) = open();
    on_call.put("ada", "yes").unwrap();
    on_call.put("bob", "yes").unwrap();
    let leave = |who: &str| {
        let mut transaction = db.transaction();
        let there = transaction.iter(&on_call).filter(|item| &item.as_ref().unwrap().1[..] == b"yes").count();
        if there > 1 {
            transaction.put(&on_call, who, "no");
        }
        transaction
    };
    let (ada, bob) = (leave("ada"), leave("bob"));
    assert!(!is_refused(ada));
    assert!(is_refused(bob));
    assert!(!is_refused(leave("bob")));
    assert_eq!(get(&on_call, "bob").as_deref(), Some("yes"));
}

#[test]
fn transact_begins_again_until_nobody_is_quicker() {
    let (db, a) = open();
    a.put("count", [0]).unwrap();
    let mut tries = 0;
    let returned = db.transact(Durability::Process, |transaction| {
        let count = transaction.get(&a, "count")?.unwrap()[0];
        transaction.put(&a, "count", [count + 1]);
        tries += 1;
        if tries < 4 {
            a.put("count", [count + 10]).unwrap();
        }
        Ok(count)
    });
    assert_eq!((returned.unwrap(), tries), (30, 4));
    assert_eq!(get_key(&a, "count").unwrap()[0], 31);
    assert_eq!(db.stats().conflicts, 3);
    // What fails by itself is not tried again, and leaves nothing.
    let mut tries = 0;
    let failed = db.transact(Durability::Process, |transaction| {
        tries += 1;
        transaction.put(&a, "x", "y");
        Err::<(), _>(lsm::Error::new(ErrorKind::InvalidArgument, "no"))
    });
    assert_eq!((failed.unwrap_err().kind(), tries), (ErrorKind::InvalidArgument, 1));
    assert_eq!(get_key(&a, "x"), None);
    // And there is an end.
    let forever = db.transact(Durability::Process, |transaction| {
        transaction.get(&a, "count")?;
        transaction.put(&a, "own", "y");
        a.put("count", "again").map(drop)
    });
    assert_eq!(forever.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn what_cannot_be_written_fails_the_commit() {
    let (db, a) = open();
    let (other, b) = open();
    let mut transaction = db.transaction();
    transaction.put(&b, "k", "v");
    transaction.put(&a, "k", "v");
    assert_eq!(transaction.get(&b, "k").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(transaction.multi_get(&b, &["k"]).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(transaction.iter(&b).next().unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut transaction = db.transaction();
    transaction.put(&a, vec![0; lsm::key::KEY_BYTES_MAX + 1], "v");
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let rows = db.keyspace("rows", KeyspaceOptions::fixed(2, 1).unwrap()).unwrap();
    let mut transaction = db.transaction();
    assert_eq!(transaction.get(&rows, "long").unwrap(), None);
    transaction.put(&rows, "long", "v");
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut transaction = db.transaction();
    assert_eq!(transaction.get(&rows, "long").unwrap(), None);
    transaction.put(&rows, "ok", "v");
    db.flush().unwrap();
    transaction.commit(Durability::Process).unwrap();
    let mut transaction = db.transaction();
    transaction.get(&a, "k").unwrap();
    let c = keyspace(&db, "c");
    transaction.put(&c, "k", "v");
    db.drop_keyspace(&a).unwrap();
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::Dropped);
    assert_eq!(get_key(&c, "k"), None);
    let mut transaction = db.transaction();
    transaction.put(&c, "k", "v");
    drop((b, other));
    db.clone().close().unwrap();
    assert_eq!(transaction.commit(Durability::Process).unwrap_err().kind(), ErrorKind::Closed);
}

/// Money is moved between accounts by many threads, with plain writers, flushes and merges beside; every sum that is read is the same.
#[test]
fn no_money_is_made_or_lost() {
    const ACCOUNTS: usize = 12;
    const EACH: i64 = 1000;
    let mut tuning = tiny(6000);
    tuning.step_entries = 100;
    let db = open_with(Background::Threads, &tuning);
    let (accounts, noise) = (keyspace(&db, "accounts"), keyspace(&db, "noise"));
    let name = |number: usize| format!("account {number:02}");
    for number in 0..ACCOUNTS {
        accounts.put(name(number), EACH.to_string()).unwrap();
    }
    let parse = |value: &[u8]| -> i64 { std::str::from_utf8(value).unwrap().parse().unwrap() };
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let (db, accounts, noise) = (&db, &accounts, &noise);
            scope.spawn(move || {
                let mut random = Random(thread);
                for round in 0..250 {
                    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                    let amount = i64::try_from(random.below(50)).unwrap();
                    db.transact(Durability::Process, |transaction| {
                        let from_value = parse(&transaction.get(accounts, name(from))?.unwrap());
                        transaction.put(accounts, name(from), (from_value - amount).to_string());
                        let to_value = parse(&transaction.get(accounts, name(to))?.unwrap());
                        transaction.put(accounts, name(to), (to_value + amount).to_string());
                        Ok(())
                    })
                    .unwrap();
                    noise.put(format!("{thread} {round}"), "n".repeat(50)).unwrap();
                    if round % 10 == 0 {
                        // Interest: every account is read, one is written. It is an old total if anything was moved meanwhile.
                        let total = db.transact(Durability::Process, |transaction| {
                            let values = transaction.prefix(accounts, "account");
                            let total: i64 = values.map(|item| parse(&item.unwrap().1)).sum();
                            transaction.put(accounts, format!("total {thread}"), total.to_string());
                            Ok(total)
                        });
                        assert_eq!(total.unwrap(), EACH * i64::try_from(ACCOUNTS).unwrap());
                    }
                }
            });
        }
    });
    let total: i64 = accounts.prefix("account").map(|item| parse(&item.unwrap().1)).sum();
    assert_eq!(total, EACH * i64::try_from(ACCOUNTS).unwrap());
    assert!(db.stats().failure.is_none() && db.stats().flushes > 0);
    assert_eq!(db.stats().snapshots, 0);
    assert!(db.check().unwrap().is_clean());
}

/// Sequence numbers from a counter in the database: none is given twice.
#[test]
fn nothing_is_counted_twice() {
    let db = open_with(Background::Threads, &tiny(500));
    let counter = keyspace(&db, "counter");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..150 {
                    db.transact(Durability::Process, |transaction| {
                        let next = transaction.prefix(&counter, "n").count();
                        transaction.put(&counter, format!("n{next:05}"), "taken");
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(counter.prefix("n").count(), 600);
}

#[test]
fn a_scan_of_a_range_that_ends_before_it_begins_is_no_reason_for_a_conflict() {
    let db = open_with(Background::Manual, &tiny(600));
    let a = db.keyspace("a", KeyspaceOptions::sorted()).unwrap();
    for keeps_scan in [false, true] {
        let mut transaction = db.transaction();
        let bounds = (Bound::Excluded(vec![2, 2]), Bound::Included(vec![0]));
        let mut scan = transaction.range::<Vec<u8>>(&a, bounds);
        assert!(scan.next_back().is_none() && scan.next().is_none());
        if keeps_scan {
            std::mem::forget(scan);
        } else {
            drop(scan);
        }
        a.delete_range(vec![0]..vec![3]).unwrap();
        transaction.delete(&a, [3]);
        transaction.commit(Durability::Process).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Act {
    Begin(usize),
    Get(usize, Vec<u8>),
    /// So many items from the front and the back.
    Scan(usize, Bound<Vec<u8>>, Bound<Vec<u8>>, usize, usize),
    Put(usize, Vec<u8>, u8),
    Delete(usize, Vec<u8>),
    DeleteRange(usize, Vec<u8>, Vec<u8>),
    Commit(usize),
    Plain(Vec<(Vec<u8>, Option<u8>)>),
    PlainRange(Vec<u8>, Vec<u8>),
    Flush,
    Compact,
    Step,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0u8..4, 1..3)
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn act() -> impl Strategy<Value = Act> {
    let which = 0usize..3;
    prop_oneof![
        3 => which.clone().prop_map(Act::Begin),
        3 => (which.clone(), key()).prop_map(|(which, key)| Act::Get(which, key)),
        3 => (which.clone(), bound(), bound(), 0usize..6, 0usize..4)
            .prop_map(|(which, start, end, front, back)| Act::Scan(which, start, end, front, back)),
        4 => (which.clone(), key(), any::<u8>()).prop_map(|(which, key, value)| Act::Put(which, key, value)),
        2 => (which.clone(), key()).prop_map(|(which, key)| Act::Delete(which, key)),
        1 => (which.clone(), key(), key()).prop_map(|(which, start, end)| Act::DeleteRange(which, start, end)),
        3 => which.prop_map(Act::Commit),
        3 => proptest::collection::vec((key(), proptest::option::weighted(0.7, any::<u8>())), 1..3).prop_map(Act::Plain),
        1 => (key(), key()).prop_map(|(start, end)| Act::PlainRange(start, end)),
        2 => Just(Act::Flush),
        1 => Just(Act::Compact),
        2 => Just(Act::Step),
    ]
}

type Map = BTreeMap<Vec<u8>, u8>;

/// What was done in a transaction, to be done again.
#[derive(Clone, Debug)]
enum Deed {
    Read(Vec<u8>, Option<u8>),
    /// From where to where, how many items were asked for at either end, and which were found.
    Scanned(Bound<Vec<u8>>, Bound<Vec<u8>>, [usize; 2], [Vec<(Vec<u8>, u8)>; 2]),
    Put(Vec<u8>, u8),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// A transaction under way, and the state that it began with, with its own writes.
struct Open {
    transaction: Transaction,
    view: Map,
    deeds: Vec<Deed>,
    /// All that somebody else wrote since: single keys, and ranges.
    others: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Open {
    /// Whether anything that was written since lies where it read or wrote: then alone it may be refused.
    fn may_be_refused(&self) -> bool {
        self.others.iter().any(|(start, end)| {
            let holds = |key: &[u8]| match end {
                None => key == start,
                Some(end) => key >= start.as_slice() && key < end.as_slice(),
            };
            let meets = |lower: &Bound<Vec<u8>>, upper: &Bound<Vec<u8>>| {
                // The keys are few: one of them lies in both, or none.
                all_keys().any(|key| holds(&key) && is_inside(&key, lower, upper))
            };
            self.deeds.iter().any(|deed| match deed {
                Deed::Read(key, _) | Deed::Put(key, _) | Deed::Delete(key) => holds(key),
                Deed::Scanned(lower, upper, ..) => meets(lower, upper),
                Deed::DeleteRange(start, end) => {
                    meets(&Bound::Included(start.clone()), &Bound::Excluded(end.clone()))
                }
            })
        })
    }
}

/// All that are drawn, and what follows each: a range that excludes its first key begins there.
fn all_keys() -> impl Iterator<Item = Vec<u8>> {
    let one = (0u8..4).map(|a| vec![a]);
    let drawn = one.chain((0u8..4).flat_map(|a| (0u8..4).map(move |b| vec![a, b])));
    drawn.flat_map(|key| [key.clone(), [key, vec![0]].concat()])
}

fn apply(deed: &Deed, map: &mut Map) {
    match deed {
        Deed::Put(key, value) => drop(map.insert(key.clone(), *value)),
        Deed::Delete(key) => drop(map.remove(key)),
        Deed::DeleteRange(start, end) => map.retain(|key, _| key < start || key >= end),
        _ => {}
    }
}

/// The first and the last items of a range of a map.
fn ends(
    map: &Map,
    lower: &Bound<Vec<u8>>,
    upper: &Bound<Vec<u8>>,
    front: usize,
    back: usize,
) -> [Vec<(Vec<u8>, u8)>; 2] {
    let mut items: std::collections::VecDeque<_> = map
        .iter()
        .filter(|(key, _)| is_inside(key, lower, upper))
        .map(|(key, value)| (key.clone(), *value))
        .collect();
    let front = (0..front).filter_map(|_| items.pop_front()).collect();
    [front, (0..back).filter_map(|_| items.pop_back()).collect()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Each transaction that is committed answers, run again at the moment of its commit, as it did when it ran; each that is refused met somebody's writes.
    #[test]
    fn what_is_committed_might_have_run_one_after_the_other(acts in proptest::collection::vec(act(), 1..70)) {
        for options in [KeyspaceOptions::sorted(), KeyspaceOptions::fixed(2, 1).unwrap()] {
            let db = open_with(Background::Manual, &tiny(600));
            let a = db.keyspace("a", options).unwrap();
            let mut now = Map::new();
            let mut open: [Option<Open>; 3] = [None, None, None];
            for act in &acts {
                run(&db, &a, &mut now, &mut open, fitted(&a, act.clone()))?;
            }
            let found: Map = a.iter().map(|item| item.unwrap()).map(|(key, value)| (key.to_vec(), value[0])).collect();
            prop_assert_eq!(found, now);
            prop_assert!(db.check().unwrap().is_clean());
        }
    }
}

/// The same with keys of the keyspace's width, if it has one. Ranges begin and end where they like.
fn fitted(keyspace: &Keyspace, mut act: Act) -> Act {
    if let lsm::row::KeyspaceKind::Fixed(widths) = keyspace.kind() {
        match &mut act {
            Act::Get(_, key) | Act::Put(_, key, _) | Act::Delete(_, key) => key.resize(widths.key(), 0),
            Act::Plain(writes) => writes.iter_mut().for_each(|(key, _)| key.resize(widths.key(), 0)),
            _ => {}
        }
    }
    act
}

fn wrote(open: &mut [Option<Open>; 3], start: &[u8], end: Option<&[u8]>) {
    for open in open.iter_mut().flatten() {
        open.others.push((start.to_vec(), end.map(<[u8]>::to_vec)));
    }
}

fn run(
    db: &Db,
    a: &Keyspace,
    now: &mut Map,
    open: &mut [Option<Open>; 3],
    act: Act,
) -> Result<(), TestCaseError> {
    let items = |items: Vec<lsm::Result<(lsm::Value, lsm::Value)>>| -> Vec<(Vec<u8>, u8)> {
        items.into_iter().map(|item| item.unwrap()).map(|(key, value)| (key.to_vec(), value[0])).collect()
    };
    match act {
        Act::Begin(which) => {
            let view = now.clone();
            open[which] =
                Some(Open { transaction: db.transaction(), view, deeds: Vec::new(), others: Vec::new() });
        }
        Act::Get(which, key) => {
            if let Some(open) = &mut open[which] {
                let value = open.transaction.get(a, &key).unwrap().map(|value| value[0]);
                prop_assert_eq!(value, open.view.get(&key).copied());
                open.deeds.push(Deed::Read(key, value));
            }
        }
        Act::Scan(which, lower, upper, front, back) => {
            if let Some(open) = &mut open[which] {
                let mut scan = open.transaction.range::<Vec<u8>>(a, (lower.clone(), upper.clone()));
                let found_front = items(scan.by_ref().take(front).collect());
                let found_back = items(scan.by_ref().rev().take(back).collect());
                drop(scan);
                let expected = ends(&open.view, &lower, &upper, front, back);
                let found = [found_front, found_back];
                prop_assert_eq!(&found, &expected);
                if front + back > 0 {
                    open.deeds.push(Deed::Scanned(lower, upper, [front, back], found));
                }
            }
        }
        Act::Put(which, key, value) => {
            if let Some(open) = &mut open[which] {
                open.transaction.put(a, &key, [value]);
                open.deeds.push(Deed::Put(key, value));
                apply(open.deeds.last().unwrap(), &mut open.view);
            }
        }
        Act::Delete(which, key) => {
            if let Some(open) = &mut open[which] {
                open.transaction.delete(a, &key);
                open.deeds.push(Deed::Delete(key));
                apply(open.deeds.last().unwrap(), &mut open.view);
            }
        }
        Act::DeleteRange(which, start, end) => {
            if let Some(open) = &mut open[which] {
                open.transaction.delete_range(a, start.clone()..end.clone());
                if start < end {
                    open.deeds.push(Deed::DeleteRange(start, end));
                    apply(open.deeds.last().unwrap(), &mut open.view);
                }
            }
        }
        Act::Commit(which) => commit(now, open, which)?,
        Act::Plain(writes) => {
            let mut batch = Batch::new();
            for (key, value) in &writes {
                match value {
                    Some(value) => batch.put(a, key, [*value]),
                    None => batch.delete(a, key),
                }
                apply(&value.map_or(Deed::Delete(key.clone()), |value| Deed::Put(key.clone(), value)), now);
                wrote(open, key, None);
            }
            db.commit(batch, Durability::Process).unwrap();
        }
        Act::PlainRange(start, end) => {
            if start < end {
                a.delete_range(start.clone()..end.clone()).unwrap();
                wrote(open, &start, Some(&end));
                apply(&Deed::DeleteRange(start, end), now);
            }
        }
        Act::Flush => db.flush().unwrap(),
        Act::Compact => db.compact().unwrap(),
        Act::Step => drop(db.step().unwrap()),
    }
    Ok(())
}

fn commit(now: &mut Map, open: &mut [Option<Open>; 3], which: usize) -> Result<(), TestCaseError> {
    let Some(mut own) = open[which].take() else { return Ok(()) };
    let writes = own.deeds.iter().any(|deed| !matches!(deed, Deed::Read(..) | Deed::Scanned(..)));
    let may_be_refused = own.may_be_refused();
    let transaction = std::mem::replace(&mut own.transaction, a_transaction_of_nothing());
    match transaction.commit(Durability::Process) {
        Err(error) => {
            prop_assert_eq!(error.kind(), ErrorKind::Conflict);
            prop_assert!(may_be_refused && writes, "refused: {}", error);
            return Ok(());
        }
        Ok(_) if !writes => return Ok(()),
        Ok(_) => {}
    }
    // Now, alone.
    for deed in &own.deeds {
        match deed {
            Deed::Read(key, value) => prop_assert_eq!(&now.get(key).copied(), value, "read of {:?}", key),
            Deed::Scanned(lower, upper, [front, back], found) => {
                let now = ends(now, lower, upper, *front, *back);
                prop_assert_eq!(&now, found, "scan of {:?} to {:?}", lower, upper);
            }
            deed => apply(deed, now),
        }
    }
    for deed in &own.deeds {
        match deed {
            Deed::Put(key, _) | Deed::Delete(key) => wrote(open, key, None),
            Deed::DeleteRange(start, end) => wrote(open, start, Some(end)),
            _ => {}
        }
    }
    Ok(())
}

fn a_transaction_of_nothing() -> Transaction {
    open_with(Background::Manual, &tiny(600)).transaction()
}
