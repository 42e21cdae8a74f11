//! How a person names a target: a path, or a URL.
//!
//! A plain path or `file://` means a directory. Other schemes have their place here and are refused by name, so that `s3:…`
//! never becomes a directory of that name by accident.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::Target;
use super::local::LocalTarget;
use crate::error::{Error, ErrorKind, Result};

/// Schemes that later versions will understand.
const FUTURE_SCHEMES: [&str; 11] =
    ["s3", "sftp", "ssh", "http", "https", "rest", "b2", "gs", "azure", "swift", "rclone"];

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetUrl {
    /// A directory, by its absolute path.
    Directory(PathBuf),
}

impl TargetUrl {
    /// The target that a person means by `text`: a path (relative ones count from the current directory), or a URL.
    ///
    /// # Errors
    /// `InvalidArgument` if it is empty, malformed, or of a kind that this version does not know.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self> {
        let text = text.as_ref();
        let invalid = |why: String| Error::new(ErrorKind::InvalidArgument, why);
        if text.is_empty() {
            return Err(invalid("the name of a target is empty".into()));
        }
        let path = match text.to_str().and_then(|text| text.split_once(':')) {
            Some(("file", rest)) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let path = percent_decode(path).ok_or_else(|| {
                    invalid(format!("{text:?}: a % in a URL needs two hexadecimal digits behind it"))
                })?;
                if !path.as_bytes().starts_with(b"/") {
                    return Err(invalid(format!("{text:?}: a file URL needs an absolute path: file:///…")));
                }
                PathBuf::from(path)
            }
            Some(("local", path)) if !path.is_empty() => PathBuf::from(path),
            Some((scheme, _)) if FUTURE_SCHEMES.contains(&scheme) => {
                return Err(invalid(format!(
                    "{text:?}: this version keeps targets in directories only, not yet on {scheme} \
                     (for a directory of that name write ./{})",
                    text.display()
                )));
            }
            _ => PathBuf::from(text),
        };
        std::path::absolute(&path)
            .map(Self::Directory)
            .map_err(|error| Error::caused(ErrorKind::InvalidArgument, format!("{text:?} is no path"), error))
    }

    /// The target as it is there now.
    ///
    /// # Errors
    /// `NotFound` if nothing is there, `Target` if it cannot be reached.
    pub fn open(&self) -> Result<Arc<dyn Target>> {
        match self {
            Self::Directory(path) => Ok(Arc::new(LocalTarget::open(path)?)),
        }
    }

    /// The target, with the place for it made if it is not there.
    ///
    /// # Errors
    /// `Target` or `TargetFull` if it cannot be made or reached.
    pub fn create(&self) -> Result<Arc<dyn Target>> {
        match self {
            Self::Directory(path) => Ok(Arc::new(LocalTarget::create(path)?)),
        }
    }
}

/// The shortest text that [`TargetUrl::parse`] reads back as the same place: the path, or a `file://` URL where the path cannot be written
/// as text (bytes that are no UTF-8, control characters) or would be read as a URL.
impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Directory(path) = self;
        match path.to_str() {
            Some(text) if text.starts_with('/') && !text.chars().any(char::is_control) => f.write_str(text),
            _ => {
                f.write_str("file://")?;
                for &byte in path.as_os_str().as_bytes() {
                    match byte {
                        b'/' | b'.' | b'-' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                            write!(f, "{}", char::from(byte))?;
                        }
                        _ => write!(f, "%{byte:02X}")?,
                    }
                }
                Ok(())
            }
        }
    }
}

fn percent_decode(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit =
            || rest.next().and_then(|c| char::from(c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        bytes.push(digit()? << 4 | digit()?);
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_become_absolute() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(TargetUrl::parse("repo").unwrap(), TargetUrl::Directory(here.join("repo")));
        assert_eq!(TargetUrl::parse("/a/b").unwrap().to_string(), "/a/b");
        assert_eq!(TargetUrl::parse("file:///a%20b").unwrap().to_string(), "/a b");
        assert_eq!(TargetUrl::parse("local:/a").unwrap().to_string(), "/a");
        assert_eq!(TargetUrl::parse("/a:b").unwrap().to_string(), "/a:b");
        assert_eq!(TargetUrl::parse("odd:name").unwrap(), TargetUrl::Directory(here.join("odd:name")));
    }

    #[test]
    fn what_this_version_does_not_know_is_refused() {
        for bad in [
            "",
            "s3:bucket/x",
            "sftp://host/x",
            "https://example.org",
            "file:relative",
            "file:///%4",
            "file:///%zz",
        ] {
            assert_eq!(TargetUrl::parse(bad).unwrap_err().kind(), ErrorKind::InvalidArgument, "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn text_names_the_same_place(name in proptest::collection::vec(1u8..=255, 1..20)) {
            let mut path = b"/".to_vec();
            path.extend(name);
            let url = TargetUrl::Directory(std::path::absolute(PathBuf::from(OsString::from_vec(path))).unwrap());
            prop_assert_eq!(TargetUrl::parse(url.to_string()).unwrap(), url);
        }
    }
}
