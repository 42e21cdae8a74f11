//! The walk and the reader on real directories.

mod capture;
mod exclude;
mod gaps;
mod read;
mod walk;

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Entry, RuleOptions, Rules, ScanStart, Step, Unseen, Walk};
use crate::ErrorKind;
use crate::entry_key::EntryKey;
use crate::metadata::unix::Owners;
use crate::metadata::{Hole, Kind, Timestamp};
use crate::testing::{scratch, unprivileged};

fn steps(roots: &[&Path], options: &RuleOptions) -> (Vec<Entry>, Vec<Unseen>) {
    let roots: Vec<PathBuf> = roots.iter().map(|root| root.to_path_buf()).collect();
    let (mut entries, mut unseen) = (Vec::new(), Vec::new());
    let mut last: Option<EntryKey> = None;
    for step in Walk::new(&roots, Rules::new(options).unwrap()).unwrap() {
        match step {
            Step::Entry(entry) => {
                assert!(last.as_ref() < Some(entry.key()), "{last:?} before {:?}", entry.key());
                last = Some(entry.key().clone());
                entries.push(entry);
            }
            Step::Unseen(step) => unseen.push(step),
        }
    }
    (entries, unseen)
}

/// The paths below `base`, relative to it, that a walk of it finds, in its order.
fn below(base: &Path, options: &RuleOptions) -> Vec<String> {
    let (entries, unseen) = steps(&[base], options);
    assert!(unseen.is_empty(), "{unseen:?}");
    let relative = |entry: &Entry| Some(entry.path().strip_prefix(base).ok()?.to_string_lossy().into_owned());
    entries.iter().filter_map(relative).filter(|path| !path.is_empty()).collect()
}

fn make(base: &Path, paths: &[&str]) {
    for path in paths {
        let path = base.join(path);
        if path.as_os_str().as_bytes().ends_with(b"/") {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, path.file_name().unwrap().as_bytes()).unwrap();
        }
    }
}

fn find(entries: Vec<Entry>, path: &Path) -> Entry {
    entries.into_iter().find(|entry| entry.path() == path).unwrap()
}

/// Makes `depth` directories, each in the last one. Returns the innermost.
fn dig(base: &Path, name: &str, depth: usize) -> OwnedFd {
    let mut at = rustix::fs::open(base, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..depth {
        rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = rustix::fs::openat(&at, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    at
}

fn entry_of(path: &Path) -> Entry {
    let (entries, unseen) = steps(&[path], &RuleOptions::default());
    assert!(unseen.is_empty());
    find(entries, path)
}

fn read_all(file: &mut super::SourceFile) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 700]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return all,
            count => all.extend_from_slice(&buffer[..count]),
        }
    }
}
