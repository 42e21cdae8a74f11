//! Paths as they are kept in a snapshot: absolute, without `.`, `..` and doubled slashes.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use chunkstore::entry_key::EntryKey;

use crate::exit::Failure;
use crate::render::path::show_path;

/// `path` from the current directory, as it is kept.
///
/// A `..` behind a link leads to the parent of where the link leads, so the part up to the last `..` is looked up on the disk; where
/// it is not there (any more), `..` takes back the name before it. Links elsewhere stay links: they are backed up as such.
///
/// # Errors
/// If there is no current directory and the path needs one.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let whole = std::path::absolute(path).map_err(|error| {
        Failure::Usage(format!("{}: it cannot be told where this is: {error}", show_path(path)))
    })?;
    let components: Vec<Component<'_>> = whole.components().collect();
    let Some(last) = components.iter().rposition(|component| *component == Component::ParentDir) else {
        return Ok(components.iter().collect());
    };
    let (up, rest) = components.split_at(last + 1);
    let looked_up: PathBuf = up.iter().collect();
    let mut result = looked_up.canonicalize().unwrap_or_else(|_| lexical(up));
    result.extend(rest);
    Ok(result)
}

fn lexical(components: &[Component<'_>]) -> PathBuf {
    let mut path = PathBuf::new();
    for component in components {
        match component {
            // Above the root is the root.
            Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}

/// The place of a path in a snapshot.
///
/// # Errors
/// As [`absolute`]; if the path is longer than any that is kept.
pub(crate) fn entry_key(path: &Path) -> Result<EntryKey, Failure> {
    Ok(EntryKey::from_path(absolute(path)?)?)
}

/// `ID` or `ID:PATH`, taken apart; the path as it was given.
pub(crate) fn split_id(text: &std::ffi::OsStr) -> (OsString, Option<PathBuf>) {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b':') {
        None => (text.to_owned(), None),
        Some(colon) => {
            let (id, path) = bytes.split_at(colon);
            let path = path.get(1..).unwrap_or_default();
            (OsString::from_vec(id.to_vec()), Some(PathBuf::from(OsString::from_vec(path.to_vec()))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_go() {
        let at = |path: &str| absolute(Path::new(path)).unwrap();
        assert_eq!(at("/a//b/./c/"), Path::new("/a/b/c"));
        assert_eq!(at("/"), Path::new("/"));
        assert_eq!(at("/no/such/../place"), Path::new("/no/place"));
        assert_eq!(at("/../.."), Path::new("/"));
        assert_eq!(at("x"), std::env::current_dir().unwrap().join("x"));
    }

    #[test]
    fn two_dots_behind_a_link_lead_to_where_the_link_leads() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("far/away")).unwrap();
        std::os::unix::fs::symlink(top.join("far/away"), top.join("link")).unwrap();
        assert_eq!(absolute(&top.join("link/../x")).unwrap(), top.join("far/x"));
        // The link itself stays one.
        assert_eq!(absolute(&top.join("link")).unwrap(), top.join("link"));
    }

    #[test]
    fn an_id_may_have_a_path_behind_it() {
        let split = |text: &str| {
            let (id, path) = split_id(text.as_ref());
            (id.into_string().unwrap(), path.map(|path| path.to_str().unwrap().to_owned()))
        };
        assert_eq!(split("latest"), ("latest".into(), None));
        assert_eq!(split("latest:/a:b"), ("latest".into(), Some("/a:b".into())));
        assert_eq!(split("x:"), ("x".into(), Some(String::new())));
    }
}
