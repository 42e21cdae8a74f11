//! Which entries of a snapshot are restored.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use ignore::Match;
use ignore::gitignore::Gitignore;

use crate::entry_key::EntryKey;
use crate::error::Result;
use crate::source::rules::matcher;

/// What to do with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Restore it.
    Take,
    /// A directory that is not restored for its own sake: only if something below it is.
    Pass,
    /// Leave it out, and everything below it.
    Leave,
}

/// Patterns of what to take and what to leave out.
#[derive(Debug)]
pub(super) struct Selection {
    include: Option<Gitignore>,
    exclude: Option<Gitignore>,
    /// What goes to the target's top; patterns count from there.
    base: PathBuf,
}

impl Selection {
    pub(super) fn new(include: &[String], exclude: &[String], base: &EntryKey) -> Result<Self> {
        let of = |patterns: &[String]| matcher(patterns.iter().map(String::as_str), false);
        Ok(Self { include: of(include)?, exclude: of(exclude)?, base: base.path() })
    }

    /// What to do with the entry at `path`, in a directory that is itself taken or not.
    pub(super) fn decide(&self, path: &Path, is_directory: bool, parent_is_taken: bool) -> Decision {
        let path = &*self.below_base(path);
        if self.exclude.as_ref().is_some_and(|exclude| exclude.matched(path, is_directory).is_ignore()) {
            return Decision::Leave;
        }
        let Some(include) = &self.include else { return Decision::Take };
        let matched = match include.matched(path, is_directory) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => parent_is_taken,
        };
        match (matched, is_directory) {
            (true, _) => Decision::Take,
            (false, true) => Decision::Pass,
            (false, false) => Decision::Leave,
        }
    }

    /// The path as it is below the target.
    fn below_base<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        let root = Path::new("/");
        match path.strip_prefix(&self.base) {
            Ok(rest) if self.base != root => root.join(rest).into(),
            _ => path.into(),
        }
    }

    /// Whether no pattern was given.
    pub(super) fn is_everything(&self) -> bool {
        self.include.is_none() && self.exclude.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_follow_the_table() {
        let selection = |include: &[&str], exclude: &[&str]| {
            let owned = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
            Selection::new(&owned(include), &owned(exclude), &EntryKey::root()).unwrap()
        };
        for (include, exclude, path, parent, expected) in [
            (&[][..], &[][..], "/a", false, Decision::Take),
            (&[], &["a"], "/a", false, Decision::Leave),
            (&["a"], &[], "/a", false, Decision::Take),
            (&["a"], &[], "/b/", false, Decision::Pass),
            (&["a"], &[], "/b", false, Decision::Leave),
            (&["a"], &[], "/a/b", true, Decision::Take),
            (&["a"], &["*.o"], "/a/b.o", true, Decision::Leave),
            (&["a", "!b"], &[], "/a/b", true, Decision::Leave),
            (&["/home/ada"], &[], "/home/", false, Decision::Pass),
            (&["/home/ada"], &[], "/home/ada/", false, Decision::Take),
            (&["ada/x"], &[], "/home/ada/x", false, Decision::Take),
        ] {
            let (path, is_directory) = match path.strip_suffix('/') {
                Some(path) => (path, true),
                None => (path, false),
            };
            let decision = selection(include, exclude).decide(Path::new(path), is_directory, parent);
            assert_eq!(decision, expected, "{include:?} {exclude:?} {path}");
        }
    }

    #[test]
    fn patterns_count_from_what_goes_to_the_top() {
        let base = EntryKey::from_path("/home/ada").unwrap();
        let selection = Selection::new(&["/a.c".to_owned()], &[], &base).unwrap();
        assert_eq!(selection.decide(Path::new("/home/ada/a.c"), false, false), Decision::Take);
        assert_eq!(selection.decide(Path::new("/home/ada/b/a.c"), false, false), Decision::Leave);
        let selection = Selection::new(&[], &["home".to_owned()], &base).unwrap();
        assert_eq!(selection.decide(Path::new("/home/ada/x"), false, false), Decision::Take);
    }
}
