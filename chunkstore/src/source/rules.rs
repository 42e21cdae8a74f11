//! What a backup leaves out: patterns in gitignore's style, marked directories, other file systems, large files.
//!
//! A pattern is matched as in a `.gitignore` at `/`: the last one that matches decides, `!` takes back, a `/` at the end means directories only,
//! and nothing below an excluded directory is looked at. One thing is different, as users of other backup programs expect it: a pattern
//! with a `/` inside but not in front matches at any depth (`cache/tmp` is `**/cache/tmp`); `/` in front ties it to the root of the file system.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::unix::Stat;

/// What to leave out, as a person says it.
#[derive(Clone, Debug, Default)]
pub struct RuleOptions {
    /// Patterns.
    pub exclude: Vec<String>,
    /// Patterns that take upper and lower case for the same.
    pub exclude_ignoring_case: Vec<String>,
    /// Files with a pattern on each line; empty lines and those that begin with `#` count for nothing.
    pub exclude_files: Vec<PathBuf>,
    /// Whether to leave out what is in directories with a `CACHEDIR.TAG`, but for the tag itself.
    pub exclude_caches: bool,
    /// Names of files that mark a directory whose contents are left out, but for the mark itself: `NAME`, or `NAME:TEXT` if the file must
    /// begin with that text.
    pub exclude_if_present: Vec<String>,
    /// Files larger than this many bytes are left out.
    pub exclude_larger_than: Option<u64>,
    /// Directories that are never entered, by whatever path: where the backup itself is kept.
    pub exclude_trees: Vec<PathBuf>,
    /// Whether to stay on the file systems that the roots are on; a mount point itself is kept, as an empty directory.
    pub one_file_system: bool,
}

/// A file whose presence excludes what is beside it.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    /// Its name.
    pub(crate) name: Vec<u8>,
    /// What it must begin with.
    pub(crate) header: Vec<u8>,
}

/// What to leave out, ready to be asked.
#[derive(Clone, Debug)]
pub struct Rules {
    patterns: Option<Gitignore>,
    patterns_ignoring_case: Option<Gitignore>,
    marks: Vec<Mark>,
    larger_than: u64,
    /// Device and inode of each directory that is never entered.
    trees: Vec<(u64, u64)>,
    one_file_system: bool,
}

/// What a cache directory's tag begins with, by the Cache Directory Tagging Specification.
const CACHEDIR_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

fn invalid(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, what)
}

/// The line that gitignore's rules need for what the person means.
fn gitignore_line(pattern: &str) -> String {
    let (negation, body) = match pattern.strip_prefix('!') {
        Some(body) => ("!", body),
        None => ("", pattern),
    };
    let inner = body.trim_end_matches('/');
    if inner.contains('/') && !body.starts_with('/') && !body.starts_with("**/") {
        format!("{negation}**/{body}")
    } else {
        pattern.to_owned()
    }
}

/// One matcher out of many patterns; `None` if there is none among them.
///
/// # Errors
/// Invalid argument if one cannot be understood.
pub(crate) fn matcher<'a>(
    patterns: impl Iterator<Item = &'a str>,
    ignoring_case: bool,
) -> Result<Option<Gitignore>> {
    let mut builder = GitignoreBuilder::new("/");
    builder.case_insensitive(ignoring_case).map_err(|error| invalid(error.to_string()))?;
    for pattern in patterns {
        builder
            .add_line(None, &gitignore_line(pattern))
            .map_err(|error| invalid(format!("the pattern {pattern:?} cannot be used: {error}")))?;
    }
    let built = builder.build().map_err(|error| invalid(format!("the patterns cannot be used: {error}")))?;
    Ok(if built.is_empty() { None } else { Some(built) })
}

fn lines_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("the file of patterns {} cannot be read", path.display());
        Error::caused(ErrorKind::InvalidArgument, what, error)
    })
}

impl Rules {
    /// Leaves out nothing.
    pub fn none() -> Self {
        Self {
            patterns: None,
            patterns_ignoring_case: None,
            marks: Vec::new(),
            larger_than: u64::MAX,
            trees: Vec::new(),
            one_file_system: false,
        }
    }

    /// Makes the options ready.
    ///
    /// # Errors
    /// Invalid argument if a pattern cannot be understood or a file of patterns cannot be read.
    pub fn new(options: &RuleOptions) -> Result<Self> {
        let mut texts = Vec::new();
        for path in &options.exclude_files {
            texts.push(lines_of(path)?);
        }
        let from_files = texts.iter().flat_map(|text| text.lines());
        let patterns = matcher(options.exclude.iter().map(String::as_str).chain(from_files), false)?;
        let patterns_ignoring_case = matcher(options.exclude_ignoring_case.iter().map(String::as_str), true)?;
        let mut marks = Vec::new();
        if options.exclude_caches {
            marks.push(Mark { name: b"CACHEDIR.TAG".to_vec(), header: CACHEDIR_SIGNATURE.to_vec() });
        }
        for mark in &options.exclude_if_present {
            let (name, header) = mark.split_once(':').unwrap_or((mark, ""));
            if name.is_empty() || name.contains('/') {
                return Err(invalid(format!("{mark:?} is no file name to look for in each directory")));
            }
            marks.push(Mark { name: name.as_bytes().to_vec(), header: header.as_bytes().to_vec() });
        }
        // A tree that does not exist yet cannot be met on the walk.
        let trees = options.exclude_trees.iter().filter_map(|path| {
            let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
            let stat = Stat::at_followed(rustix::fs::CWD, &path).ok()?;
            Some((stat.device, stat.inode))
        });
        Ok(Self {
            patterns,
            patterns_ignoring_case,
            marks,
            larger_than: options.exclude_larger_than.unwrap_or(u64::MAX),
            trees: trees.collect(),
            one_file_system: options.one_file_system,
        })
    }

    /// Whether an entry is left out because of its path; costs nothing where there are no patterns.
    #[inline]
    pub(crate) fn exclude_path(&self, path: &Path, is_directory: bool) -> bool {
        let asks = [&self.patterns, &self.patterns_ignoring_case];
        asks.iter()
            .any(|ask| ask.as_ref().is_some_and(|patterns| patterns.matched(path, is_directory).is_ignore()))
    }

    /// Whether [`Rules::exclude_path`] needs to be asked at all.
    pub(crate) fn have_patterns(&self) -> bool {
        self.patterns.is_some() || self.patterns_ignoring_case.is_some()
    }

    /// Whether a file is left out because of its size.
    pub(crate) fn exclude_size(&self, size: u64) -> bool {
        size > self.larger_than
    }

    /// Whether a directory is left out because of which one it is.
    pub(crate) fn exclude_tree(&self, seen: &Stat) -> bool {
        self.trees.contains(&(seen.device, seen.inode))
    }

    /// The marks to look for in each directory.
    pub(crate) fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Whether to stay on the file systems of the roots.
    pub(crate) fn one_file_system(&self) -> bool {
        self.one_file_system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str) -> bool {
        let options = RuleOptions {
            exclude: patterns.iter().map(|p| (*p).to_owned()).collect(),
            ..RuleOptions::default()
        };
        let (path, is_directory) = match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => (path, false),
        };
        Rules::new(&options).unwrap().exclude_path(Path::new(path), is_directory)
    }

    #[test]
    fn patterns_mean_what_the_table_says() {
        for (patterns, path, expected) in [
            (&["*.o"][..], "/home/a/x.o", true),
            (&["*.o"], "/home/a/x.c", false),
            (&["*.o", "!keep.o"], "/home/a/keep.o", false),
            (&["!keep.o", "*.o"], "/home/a/keep.o", true),
            (&["/tmp"], "/tmp/", true),
            (&["/tmp"], "/home/tmp/", false),
            (&["tmp/"], "/home/tmp/", true),
            (&["tmp/"], "/home/tmp", false),
            (&["cache/tmp"], "/home/cache/tmp", true),
            (&["cache/tmp"], "/home/cache/x/tmp", false),
            (&["/home/*/cache"], "/home/a/cache", true),
            (&["/home/*/cache"], "/home/a/b/cache", false),
            (&["/home/**/cache"], "/home/a/b/cache", true),
            (&["node_modules"], "/a/b/node_modules/", true),
            (&["\\#x"], "/a/#x", true),
            (&["#x"], "/a/#x", false),
            (&["[a-c]?"], "/q/b1", true),
            (&["A"], "/q/a", false),
            (&[""], "/q/a", false),
        ] {
            assert_eq!(excluded(patterns, path), expected, "{patterns:?} on {path}");
        }
    }

    #[test]
    fn case_is_ignored_where_asked() {
        let options = RuleOptions { exclude_ignoring_case: vec!["*.ISO".into()], ..RuleOptions::default() };
        let rules = Rules::new(&options).unwrap();
        assert!(rules.exclude_path(Path::new("/a/x.iso"), false));
        assert!(!rules.exclude_path(Path::new("/a/x.img"), false));
    }

    #[test]
    fn bytes_that_are_no_text_are_matched() {
        let rules =
            Rules::new(&RuleOptions { exclude: vec!["*.o".into()], ..RuleOptions::default() }).unwrap();
        assert!(rules.exclude_path(Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff\xfe.o")), false));
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for options in [
            RuleOptions { exclude: vec!["[z-a]".into()], ..RuleOptions::default() },
            RuleOptions { exclude_files: vec!["/nonexistent/file".into()], ..RuleOptions::default() },
            RuleOptions { exclude_if_present: vec!["a/b".into()], ..RuleOptions::default() },
            RuleOptions { exclude_if_present: vec![":x".into()], ..RuleOptions::default() },
        ] {
            assert_eq!(Rules::new(&options).unwrap_err().kind(), ErrorKind::InvalidArgument, "{options:?}");
        }
    }
}
