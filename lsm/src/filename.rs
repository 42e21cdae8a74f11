//! All file names of a database's directory, in one place (FORMAT.md, "Names").
//!
//! A file's number is given out once, by one counter for logs and tables together, and never again: a name says which file is
//! meant, whatever became of the others. Its bytes say which database it belongs to.

use std::fmt;
use std::path::{Path, PathBuf};

/// The number in the name of a log or a table. Zero is no file's.
pub type FileNumber = u64;

/// The shortest a number is written: so that the usual listing sorts.
const DIGITS_MIN: usize = 8;

/// What a name in the directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// Locked by the one writer. Empty.
    Lock,
    /// Locked by readers while they open, and by the writer while it removes files. Empty.
    Readers,
    /// The log of edits.
    Manifest,
    /// A manifest being written, not yet in force.
    ManifestNew,
    /// A log of the journal.
    Log(FileNumber),
    /// A table.
    Table(FileNumber),
    /// The directory of what was set aside: cut tails, files that nobody knows.
    Lost,
}

impl FileName {
    /// What `name` (without a directory) stands for; `None` for anything that [`FileName`] does not write in exactly this
    /// spelling.
    pub fn parse(name: &Path) -> Option<Self> {
        let name = name.to_str()?;
        let parsed = match name {
            "LOCK" => Self::Lock,
            "READERS" => Self::Readers,
            "MANIFEST" => Self::Manifest,
            "MANIFEST.new" => Self::ManifestNew,
            "lost" => Self::Lost,
            _ => {
                let (number, extension) = name.split_once('.')?;
                if !number.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                let number: FileNumber = number.parse().ok()?;
                match extension {
                    "log" => Self::Log(number),
                    "table" => Self::Table(number),
                    _ => return None,
                }
            }
        };
        let is_file_zero = matches!(parsed, Self::Log(0) | Self::Table(0));
        (!is_file_zero && parsed.to_string() == name).then_some(parsed)
    }

    /// Where it is in the database's directory.
    pub fn path(self, directory: &Path) -> PathBuf {
        directory.join(self.to_string())
    }

    /// The number, of what has one.
    pub fn number(self) -> Option<FileNumber> {
        match self {
            Self::Log(number) | Self::Table(number) => Some(number),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock => f.write_str("LOCK"),
            Self::Readers => f.write_str("READERS"),
            Self::Manifest => f.write_str("MANIFEST"),
            Self::ManifestNew => f.write_str("MANIFEST.new"),
            Self::Log(number) => write!(f, "{number:0DIGITS_MIN$}.log"),
            Self::Table(number) => write!(f, "{number:0DIGITS_MIN$}.table"),
            Self::Lost => f.write_str("lost"),
        }
    }
}

/// The name, in `lost/`, of the bytes that were cut off a log at `offset`; `copy` tells apart those that differ.
pub fn cut_tail(log: FileNumber, offset: u64, copy: u32) -> PathBuf {
    match copy {
        0 => PathBuf::from(format!("{}-{offset}", FileName::Log(log))),
        _ => PathBuf::from(format!("{}-{offset}-{copy}", FileName::Log(log))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_come_back() {
        for name in [
            FileName::Lock,
            FileName::Readers,
            FileName::Manifest,
            FileName::ManifestNew,
            FileName::Lost,
            FileName::Log(1),
            FileName::Table(99_999_999),
            FileName::Table(100_000_000),
            FileName::Log(u64::MAX),
        ] {
            assert_eq!(FileName::parse(Path::new(&name.to_string())), Some(name), "{name}");
        }
    }

    #[test]
    fn another_spelling_is_another_file() {
        for name in [
            "1.log",
            "000000001.log",
            "00000000.log",
            "+0000001.log",
            "00000001.LOG",
            "00000001.log ",
            "00000001.log.1",
            "99999999999999999999999.log",
            "manifest",
            "",
            ".log",
        ] {
            assert_eq!(FileName::parse(Path::new(name)), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_has_one_spelling(name in "[0-9]{0,22}\\.(log|table)|[A-Z]{4,8}(\\.new)?") {
            if let Some(parsed) = FileName::parse(Path::new(&name)) {
                prop_assert_eq!(parsed.to_string(), name);
            }
        }
    }
}
