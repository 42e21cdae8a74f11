//! The command line, declared.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Looks into the files of an lsm database, checks it, repairs it, compacts it, counts it.
#[derive(Debug, Parser)]
#[command(
    name = "lsm-tool",
    version,
    after_help = "Exit codes: 0 all is well; 1 damage was found, or something was lost; 2 the command line is wrong; \
                  3 it could not be done."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what is in a table, a log of the journal, a manifest, or a whole database
    Dump(Dump),
    /// Prove that a database is sound, beside a writer too; nothing is written
    Check(Check),
    /// Make a database again of what verifies; what could not be kept is told, and nothing is deleted
    Repair(Repair),
    /// Merge all tables of each keyspace into one run
    Compact(Compact),
    /// Show levels, sizes and entries, as the manifest has them; nothing is opened for it
    Stats(Stats),
}

/// A file shows its structure, a directory the edits of its manifest; with --keys or --values the entries are shown.
#[derive(Args, Debug)]
pub(crate) struct Dump {
    /// A file (which kind it is, it says itself), or the directory of a database
    pub(crate) path: PathBuf,
    /// Show the keys
    #[arg(long)]
    pub(crate) keys: bool,
    /// Show keys and values
    #[arg(long)]
    pub(crate) values: bool,
    /// Only keys from this one on; text, or `hex:` and hexadecimal digits
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) from: Option<Key>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(crate) to: Option<Key>,
    /// Only keys that begin so
    #[arg(long, value_name = "KEY", value_parser = key, conflicts_with_all = ["from", "to"])]
    pub(crate) prefix: Option<Key>,
    /// Of a database or a log, only this keyspace: its name, or in a log its number
    #[arg(long, value_name = "NAME")]
    pub(crate) keyspace: Option<String>,
    /// Of a table or a log, each block or record with its bytes
    #[arg(long, conflicts_with_all = ["keys", "values", "json"])]
    pub(crate) raw: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The directory of the database
    pub(crate) directory: PathBuf,
    /// How much is read
    #[arg(long, value_enum, default_value_t = Level::Full)]
    pub(crate) level: Level,
    /// JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// The manifest, the logs, and of each table what opening it reads
    Quick,
    /// Indexes and filters too: about a hundredth of the data
    Structure,
    /// Everything, and whether the order of all entries is right
    Full,
}

#[derive(Args, Debug)]
pub(crate) struct Repair {
    /// The directory of the database, which nobody may have open for writing
    pub(crate) directory: PathBuf,
    /// Only say what would be lost
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not check the result
    #[arg(long)]
    pub(crate) no_check: bool,
    /// JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Compact {
    /// The directory of the database, which nobody else may have open for writing
    pub(crate) directory: PathBuf,
    /// Memory to work with, in MiB, 32 or more
    #[arg(long, value_name = "MIB", default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..))]
    pub(crate) memory: u32,
    /// JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Stats {
    /// The directory of the database
    pub(crate) directory: PathBuf,
    /// JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A key as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) Vec<u8>);

fn key(text: &str) -> Result<Key, String> {
    let Some(digits) = text.strip_prefix("hex:") else { return Ok(Key(text.as_bytes().to_vec())) };
    let digits: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    match digits {
        Some(digits) if digits.len().is_multiple_of(2) => {
            let byte = |pair: &[u8]| pair.iter().fold(0, |byte: u8, digit| byte << 4 | digit);
            Ok(Key(digits.chunks_exact(2).map(byte).collect()))
        }
        _ => Err("two hexadecimal digits for each byte are expected behind hex:".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_declaration_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn keys_are_text_or_hexadecimal() {
        assert_eq!(key("abc"), Ok(Key(b"abc".to_vec())));
        assert_eq!(key("hex:00fF"), Ok(Key(vec![0, 255])));
        assert!(key("hex:0").is_err() && key("hex:0g").is_err());
    }
}
