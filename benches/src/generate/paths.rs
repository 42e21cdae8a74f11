//! Keys like the paths of a file tree: long, with long common beginnings, in order of their numbers.
//!
//! ```text
//! data/00012-projects/07-include/33-configuration.json
//! ```
//!
//! 50 files a directory, 100 directories a project. Each name begins with its number, so that the paths' order is the numbers', and goes on with a word.

use crate::convert::to_usize;
use crate::generate::random::mix;

/// Files in a directory.
pub(crate) const FILES_PER_DIRECTORY: u64 = 50;
const DIRECTORIES_PER_PROJECT: u64 = 100;

const WORDS: [&str; 16] = [
    "projects",
    "include",
    "configuration",
    "source",
    "documents",
    "pictures",
    "archive",
    "build",
    "test-data",
    "library",
    "notes",
    "invoices",
    "translations",
    "examples",
    "main",
    "index",
];
const ENDINGS: [&str; 8] = [".json", ".rs", ".txt", ".jpeg", ".toml", ".html", ".c", ""];

fn pick<const N: usize>(from: &[&'static str; N], number: u64) -> &'static str {
    from.get(to_usize(mix(number) % N as u64)).copied().unwrap_or_default()
}

fn push_number(path: &mut Vec<u8>, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10_u64.pow(place) % 10;
        path.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}

/// The beginning of all paths in a directory, slash included; directories are numbered from 0.
pub(crate) fn directory_prefix(directory: u64, path: &mut Vec<u8>) {
    let project = directory / DIRECTORIES_PER_PROJECT;
    path.clear();
    path.extend_from_slice(b"data/");
    push_number(path, project, 7);
    path.push(b'-');
    path.extend_from_slice(pick(&WORDS, project).as_bytes());
    path.push(b'/');
    push_number(path, directory % DIRECTORIES_PER_PROJECT, 2);
    path.push(b'-');
    path.extend_from_slice(pick(&WORDS, !directory).as_bytes());
    path.push(b'/');
}

/// The path of a file; files are numbered from 0 through all directories.
pub(crate) fn path_key(number: u64, path: &mut Vec<u8>) {
    directory_prefix(number / FILES_PER_DIRECTORY, path);
    push_number(path, number % FILES_PER_DIRECTORY, 2);
    path.push(b'-');
    path.extend_from_slice(pick(&WORDS, number ^ 0x1234).as_bytes());
    path.extend_from_slice(pick(&ENDINGS, number ^ 0x5678).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_their_numbers_order_and_in_their_directory() {
        let (mut last, mut path, mut prefix) = (Vec::new(), Vec::new(), Vec::new());
        for number in (0..20_000).chain(499_990..500_010) {
            path_key(number, &mut path);
            assert!(path > last, "{number}: {}", path.escape_ascii());
            directory_prefix(number / FILES_PER_DIRECTORY, &mut prefix);
            assert!(path.starts_with(&prefix));
            last.clone_from(&path);
        }
    }

    #[test]
    fn a_path_looks_like_one() {
        let mut path = Vec::new();
        path_key(1_234_567, &mut path);
        let path = String::from_utf8(path).unwrap();
        assert!(path.starts_with("data/0000246-"), "{path}");
        assert_eq!(path.matches('/').count(), 3, "{path}");
    }
}
