//! A tree of files as keys, so that a directory and a subtree are each one range. `cargo run -p lsm --example prefix_scan`
//!
//! A component ends in a zero byte, so that the children of `/a` do not stand between those of `/a b`; the name comes behind one more, so that all
//! entries of a directory stand before what lies deeper.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use lsm::{Db, KeyspaceOptions, Result};

/// `a/b/name` as `a 0 b 0 0 name`.
fn key(path: &str) -> Vec<u8> {
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    [directory(parents), vec![0], name.as_bytes().to_vec()].concat()
}

/// What the keys of everything below a directory begin with.
fn directory(path: &str) -> Vec<u8> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .flat_map(|part| [part.as_bytes(), &[0]].concat())
        .collect()
}

fn shown(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "/").replace("//", "/")
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir().map_err(|error| lsm::Error::io("make a directory", error))?;
    let db = Db::open(folder.path())?;
    let files = db.keyspace("files", KeyspaceOptions::sorted())?;
    for path in [
        "etc/hosts",
        "home/ada/letters/1842.txt",
        "home/ada/letters/1843.txt",
        "home/ada/notes.txt",
        "home/ada b/notes.txt",
        "home/bob/todo.txt",
    ] {
        files.put(key(path), "contents")?;
    }

    println!("everything below home/ada:");
    for item in files.prefix(directory("home/ada")) {
        println!("  {}", shown(&item?.0));
    }
    println!("what lies in home/ada itself, from the end:");
    for item in files.prefix([directory("home/ada"), vec![0]].concat()).rev() {
        println!("  {}", shown(&item?.0));
    }
    assert_eq!(files.prefix(directory("home/ada")).count(), 3);

    // One operation, however much it deletes.
    files.delete_prefix(directory("home/ada"))?;
    assert_eq!(files.prefix(directory("home/ada")).count(), 0);
    assert_eq!(files.prefix(directory("home/ada b")).count(), 1);
    println!("home/ada is deleted; left are {}", files.iter().count());
    Ok(())
}
