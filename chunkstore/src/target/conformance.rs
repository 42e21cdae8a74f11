//! What every target promises, as one list of checks that each implementation runs.

use std::any::Any;

use super::{ObjectKey, Target};
use crate::error::ErrorKind;

/// Makes an empty target, and whatever must live as long as it does.
pub(crate) type Make<'a> = &'a dyn Fn() -> (Box<dyn Any>, Box<dyn Target>);

fn key(text: &str) -> ObjectKey {
    ObjectKey::new(text).unwrap()
}

fn listed(target: &dyn Target, prefix: &str) -> Vec<(String, u64)> {
    target.list(prefix).unwrap().into_iter().map(|object| (object.key.to_string(), object.length)).collect()
}

pub(crate) fn check(make: Make<'_>) {
    objects_come_back(make);
    no_more_is_read_than_is_allowed(make);
    existing_objects_stay(make);
    ranges_end_where_the_object_ends(make);
    listings_are_sorted_and_by_segments(make);
    objects_are_set_aside_one_by_one(make);
    writers_at_once_make_one_object(make);
}

fn objects_come_back(make: Make<'_>) {
    let (_keep, target) = make();
    assert_eq!(target.get(&key("config")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(target.get_range(&key("a/b"), 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(target.length(&key("a/b")).unwrap(), None);
    target.put(&key("a/b/c"), &[b"one", b"", b"two"]).unwrap();
    target.put(&key("empty"), &[]).unwrap();
    assert_eq!(target.get(&key("a/b/c")).unwrap(), b"onetwo");
    assert_eq!(target.get(&key("empty")).unwrap(), b"");
    assert_eq!(target.length(&key("a/b/c")).unwrap(), Some(6));
    assert_eq!(target.length(&key("empty")).unwrap(), Some(0));
    target.delete(&key("a/b/c")).unwrap();
    target.delete(&key("a/b/c")).unwrap();
    target.delete(&key("never/was")).unwrap();
    assert_eq!(listed(&*target, ""), [("empty".to_owned(), 0)]);
}

fn no_more_is_read_than_is_allowed(make: Make<'_>) {
    let (_keep, target) = make();
    let name = key("complete/ab/01");
    assert_eq!(target.get_at_most(&name, 10).unwrap_err().kind(), ErrorKind::NotFound);
    target.put(&name, &[b"0123456789"]).unwrap();
    for limit in [10, 11, u64::MAX] {
        assert_eq!(target.get_at_most(&name, limit).unwrap(), b"0123456789");
    }
    for limit in [0, 9] {
        let error = target.get_at_most(&name, limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damage);
        let said = error.to_string();
        assert!(said.contains("complete/ab/01") && said.contains(&format!("{limit} bytes")), "{said}");
    }
}

fn existing_objects_stay(make: Make<'_>) {
    let (_keep, target) = make();
    target.put_new(&key("config"), &[b"first"]).unwrap();
    assert_eq!(target.put_new(&key("config"), &[b"other"]).unwrap_err().kind(), ErrorKind::AlreadyExists);
    target.put(&key("config"), &[b"FIRST"]).unwrap();
    assert_eq!(target.get(&key("config")).unwrap(), b"first", "the same length: left as it is");
    target.put(&key("config"), &[b"longer"]).unwrap();
    assert_eq!(target.get(&key("config")).unwrap(), b"longer", "another length: replaced");
}

fn ranges_end_where_the_object_ends(make: Make<'_>) {
    let (_keep, target) = make();
    target.put(&key("x"), &[b"0123456789"]).unwrap();
    assert_eq!(target.get_range(&key("x"), 2, 3).unwrap(), b"234");
    assert_eq!(target.get_range(&key("x"), 8, 5).unwrap(), b"89");
    assert_eq!(target.get_range(&key("x"), 10, 5).unwrap(), b"");
    assert_eq!(target.get_range(&key("x"), u64::MAX, 5).unwrap(), b"");
    assert_eq!(target.get_range(&key("x"), 0, usize::MAX).unwrap(), b"0123456789");
}

fn listings_are_sorted_and_by_segments(make: Make<'_>) {
    let (_keep, target) = make();
    for name in ["packs/ff/1", "packs/00/2", "packs-old/1", "packs.x", "config", "packs/00/10"] {
        target.put(&key(name), &[name.as_bytes()]).unwrap();
    }
    let names = |prefix| listed(&*target, prefix).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(""), ["config", "packs-old/1", "packs.x", "packs/00/10", "packs/00/2", "packs/ff/1"]);
    assert_eq!(names("packs"), ["packs/00/10", "packs/00/2", "packs/ff/1"]);
    assert_eq!(names("packs/00"), ["packs/00/10", "packs/00/2"]);
    assert_eq!(names("config"), ["config"]);
    assert!(names("pack").is_empty());
    assert!(names("config/x").is_empty());
    assert!(names("packs/00/2/x").is_empty());
    for bad in ["/", "packs/", "../x", ".tmp"] {
        assert_eq!(target.list(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
    }
}

fn objects_are_set_aside_one_by_one(make: Make<'_>) {
    let (_keep, target) = make();
    assert_eq!(target.set_aside(&key("packs/00/x")).unwrap_err().kind(), ErrorKind::NotFound);
    for (number, name) in
        ["aside/packs_00_x", "aside/packs_00_x.1", "aside/packs_00_x.2"].into_iter().enumerate()
    {
        target.put(&key("packs/00/x"), &[&vec![b'x'; number]]).unwrap();
        assert_eq!(target.set_aside(&key("packs/00/x")).unwrap().as_str(), name);
        assert_eq!(target.length(&key("packs/00/x")).unwrap(), None);
        assert_eq!(target.length(&key(name)).unwrap(), Some(number as u64));
    }
    let (aside, place) = (key("aside/packs_00_x.1"), key("packs/00/x"));
    target.put_back(&aside, &place).unwrap();
    assert_eq!(target.get(&place).unwrap(), b"x");
    assert_eq!(target.length(&aside).unwrap(), None);
    assert_eq!(target.put_back(&aside, &key("packs/00/y")).unwrap_err().kind(), ErrorKind::NotFound);
    let taken = target.put_back(&key("aside/packs_00_x"), &place).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(target.get(&place).unwrap(), b"x", "what is there stays");
}

fn writers_at_once_make_one_object(make: Make<'_>) {
    let (_keep, target) = make();
    let made: usize = std::thread::scope(|scope| {
        let target = &*target;
        let put = |number: usize| {
            usize::from(target.put_new(&key("new/deep/x"), &[&[b'0'; 100][..number]]).is_ok())
        };
        let threads: Vec<_> = (1..8).map(|number| scope.spawn(move || put(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(made, 1);
    assert_eq!(target.list("").unwrap().len(), 1);
}
