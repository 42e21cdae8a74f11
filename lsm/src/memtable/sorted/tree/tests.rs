//! The tree against a sorted map, alone and with readers beside its writer.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::key::TRAILER_BYTES;

type Model = BTreeMap<(Vec<u8>, u64), Vec<u8>>;

fn tree() -> Arc<Tree> {
    Arc::new(Tree::new(Arc::default(), Arc::default()))
}

fn insert(tree: &Tree, model: &mut Model, user: &[u8], trailer: u64) {
    let value = [user, b"=", &trailer.to_be_bytes()].concat();
    tree.insert(user, trailer.to_be_bytes(), &value);
    model.insert((user.to_vec(), trailer), value);
}

fn place(cursor: &Cursor) -> Option<(Vec<u8>, u64)> {
    let (user, trailer) = cursor.key().split_last_chunk::<TRAILER_BYTES>()?;
    assert_eq!(cursor.place(), Some((user, u64::from_be_bytes(*trailer))));
    Some((user.to_vec(), u64::from_be_bytes(*trailer)))
}

/// All of it both ways, and from places between.
fn compare(tree: &Arc<Tree>, model: &Model) {
    assert_eq!(tree.entry_count(), model.len());
    let mut cursor = Cursor::new(Arc::clone(tree));
    cursor.seek_to_first();
    for ((user, trailer), value) in model {
        assert_eq!((place(&cursor), cursor.value()), (Some((user.clone(), *trailer)), &value[..]));
        cursor.next();
    }
    assert!(!cursor.valid());
    cursor.seek_to_last();
    for key in model.keys().rev() {
        assert_eq!(place(&cursor).as_ref(), Some(key));
        cursor.prev();
    }
    assert!(!cursor.valid());
    for (user, trailer) in model.keys().step_by(1 + model.len() / 300) {
        assert_eq!(tree.get(user, *trailer), Some((*trailer, &model[&(user.clone(), *trailer)][..])));
        for (user, trailer) in [
            (user.clone(), trailer.wrapping_add(1)),
            (user.clone(), 0),
            ([user, &b"\0"[..]].concat(), 0),
            (user.split_last().map_or_else(Vec::new, |(_, front)| front.to_vec()), u64::MAX),
        ] {
            cursor.seek(&user, trailer);
            let at = (user.clone(), trailer);
            assert_eq!(place(&cursor).as_ref(), model.range(&at..).next().map(|(key, _)| key));
            cursor.prev();
            if model.range(&at..).next().is_some() {
                assert_eq!(place(&cursor).as_ref(), model.range(..&at).next_back().map(|(key, _)| key));
            }
            cursor.seek_for_prev(&user, trailer);
            assert_eq!(place(&cursor).as_ref(), model.range(..=&at).next_back().map(|(key, _)| key));
            cursor.next();
            if model.range(..=&at).next_back().is_some() {
                let next = model.range((Bound::Excluded(&at), Bound::Unbounded)).next();
                assert_eq!(place(&cursor).as_ref(), next.map(|(key, _)| key));
            }
        }
    }
}

fn mixed(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

/// Enough for inner nodes above inner nodes.
const MANY: u64 = 20_000;

#[test]
fn many_entries_in_any_order_are_a_sorted_map() {
    let orders: [fn(u64) -> u64; 5] = [
        |number| number,
        |number| MANY - number,
        mixed,
        // Ascending in many places by turns.
        |number| number % 37 * MANY + number,
        // Ascending, but each second one behind the last leaf's neighbour.
        |number| if number % 2 == 0 { number } else { number / 3 },
    ];
    for order in orders {
        let (tree, mut model) = (tree(), Model::new());
        for number in 0..MANY {
            let user = format!("/home/user/a-directory/{:012}/file", order(number));
            insert(&tree, &mut model, user.as_bytes(), number + 1);
        }
        compare(&tree, &model);
    }
}

#[test]
fn many_versions_of_few_keys_are_a_sorted_map() {
    let (tree, mut model) = (tree(), Model::new());
    for number in 0..MANY {
        let user = [&b""[..], b"a", b"a\0", b"aaaaaaaab", b"b"][usize::try_from(mixed(number) % 5).unwrap()];
        // The newest first, as in memtables.
        insert(&tree, &mut model, user, u64::MAX - number);
    }
    compare(&tree, &model);
}

#[test]
fn ascending_keys_fill_their_nodes() {
    let charge: Arc<Charge> = Arc::default();
    let tree = Tree::new(Arc::clone(&charge), Arc::default());
    for number in 0..MANY {
        tree.insert(&number.to_be_bytes(), [0; 8], b"");
    }
    let each = tree.memory_bytes() / usize::try_from(MANY).unwrap();
    assert!((24 + 256 / 14..24 + 256 / 14 + 4).contains(&each), "{each} bytes each");
    assert_eq!(charge.bytes(), tree.charged_bytes());
    let held = tree.memory_bytes()..=2 * tree.memory_bytes();
    assert!(held.contains(&charge.bytes()), "{} for {held:?}", charge.bytes());
    drop(tree);
    assert_eq!(charge.bytes(), 0);
}

proptest! {
    #[test]
    fn any_keys_are_a_sorted_map(
        front in "[ab]{0,12}",
        keys in proptest::collection::vec(("[ab]{0,9}", 0u64..4), 0..600),
    ) {
        let (tree, mut model) = (tree(), Model::new());
        for (index, (key, trailer)) in keys.iter().enumerate() {
            let user = if index % 16 == 3 { key.clone() } else { format!("{front}{key}") };
            if !model.contains_key(&(user.clone().into_bytes(), *trailer)) {
                insert(&tree, &mut model, user.as_bytes(), *trailer);
            }
        }
        compare(&tree, &model);
    }
}

/// Readers beside the writer find whatever was in when they began, in order, whole; and never anything half.
#[test]
fn readers_beside_the_writer_see_a_sorted_map() {
    const ENTRIES: u64 = 30_000;
    let user = |number: u64| format!("key/{:09}", mixed(number) % 1_000_000_000);
    let (tree, is_over, in_it) = (tree(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..3u64 {
            let (tree, is_over, in_it) = (&tree, &is_over, &in_it);
            scope.spawn(move || {
                let mut round = reader;
                loop {
                    let is_last = is_over.load(Ordering::Acquire);
                    let known = in_it.load(Ordering::Acquire);
                    for number in (0..known).rev().take(50).chain((0..known).skip(1).step_by(997)) {
                        let user = user(number);
                        let (trailer, value) = tree.get(user.as_bytes(), number).unwrap();
                        assert_eq!(trailer, number);
                        assert_eq!(value, user.repeat(2).as_bytes());
                    }
                    let mut cursor = Cursor::new(Arc::clone(tree));
                    let (mut before, mut count) = (None, 0);
                    let is_forward = round % 2 == 0;
                    if is_forward {
                        cursor.seek_to_first()
                    } else {
                        cursor.seek_to_last()
                    }
                    while cursor.valid() {
                        let here = place(&cursor).unwrap();
                        assert_eq!(cursor.value(), here.0.repeat(2));
                        assert!(
                            before
                                .as_ref()
                                .is_none_or(|before| (*before < here) == is_forward && *before != here)
                        );
                        count += u64::from(here.1 < known);
                        before = Some(here);
                        if is_forward { cursor.next() } else { cursor.prev() }
                    }
                    assert_eq!(count, known, "all that was in it");
                    round += 1;
                    if is_last {
                        break;
                    }
                }
            });
        }
        for number in 0..ENTRIES {
            let user = user(number);
            tree.insert(user.as_bytes(), number.to_be_bytes(), user.repeat(2).as_bytes());
            in_it.store(number + 1, Ordering::Release);
        }
        is_over.store(true, Ordering::Release);
    });
}

#[test]
fn a_reader_that_keeps_losing_waits_for_the_writer() {
    let (tree, mut model) = (tree(), Model::new());
    insert(&tree, &mut model, b"a", 1);
    // As if a change had begun that lasts.
    let writer = tree.writer.lock();
    tree.disturb();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| tree.get(b"a", 0).map(|(trailer, _)| trailer));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!reader.is_finished());
        tree.settle();
        drop(writer);
        assert_eq!(reader.join().unwrap(), Some(1));
    });
}
