//! The command line, declared: verbs, flags and environment variables, at home for whoever knows restic.
//!
//! Where restic has a word for a thing it is used here too, as the name or as an alias (`check` for `verify`, `dump` for
//! `cat`). Paths are taken as the bytes that they are; ids, patterns and tags are text.

use std::ffi::OsString;
use std::path::PathBuf;

use chunkstore::verify::ReadData;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cost::Cost;
use crate::{exit, pattern};

/// A backup program: deduplicated, compressed, encrypted, mirrored to several targets, self-healing.
#[derive(Debug, Parser)]
#[command(name = "versions", version, arg_required_else_help = true, after_help = exit::HELP)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// A target of the repository: a directory, as a path or a file:// URL. Its other targets are remembered. Also
    /// $VERSIONS_REPO.
    #[arg(short, long = "repo", value_name = "URL", global = true, visible_alias = "repository")]
    pub(crate) repo: Option<OsString>,

    /// Read the password from a file; the line's end does not count. Also $VERSIONS_PASSWORD_FILE; the password itself
    /// may stand in $VERSIONS_PASSWORD.
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(crate) password_file: Option<PathBuf>,

    /// Run a command by the shell and take what it prints as the password. Also $VERSIONS_PASSWORD_COMMAND.
    #[arg(long, value_name = "COMMAND", global = true, conflicts_with = "password_file")]
    pub(crate) password_command: Option<String>,

    /// No password, no encryption: `init` makes an unencrypted repository, other verbs agree to use one.
    #[arg(long, global = true, conflicts_with_all = ["password_file", "password_command"])]
    pub(crate) insecure_no_password: bool,

    /// Where this machine keeps its catalogs. Also $VERSIONS_STATE_DIR [default: $XDG_STATE_HOME/versions or
    /// ~/.local/state/versions]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Print results and errors, nothing else.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Say more: each file that is stored; twice, the unchanged ones too.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Print JSON: one object a line, each with its `message_type`; errors on standard error.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new repository, on one target or several.
    Init(Init),
    /// Make a snapshot of files and directories, on all targets at once.
    Backup(Backup),
    /// List the snapshots.
    Snapshots(Snapshots),
    /// List what a snapshot holds.
    Ls(Ls),
    /// List the Versions of one file: when, size, mode, what changed.
    #[command(visible_alias = "history")]
    Log(Log),
    /// Print the contents of a file; of a directory, a tar archive of it.
    #[command(visible_alias = "dump")]
    Cat(Cat),
    /// Restore a snapshot, a part of it, or one Version of one file.
    Restore(Restore),
    /// Check every target, and mend what is damaged or missing from the others.
    #[command(visible_alias = "check")]
    Verify(Verify),
    /// Bring targets up to date: copy to each what it lacks.
    #[command(visible_alias = "copy")]
    Mirror(Mirror),
    /// Add, list and remove targets.
    Target(Target),
    /// Make this machine's catalog again, from the targets.
    #[command(visible_aliases = ["rebuild-index", "repair-index"])]
    Rebuild(Rebuild),
    /// Show how much the repository and its snapshots hold.
    Stats(Stats),
    /// Add, list, remove and change passwords.
    Key(Key),
}

/// Further targets at creation.
#[derive(Debug, Args)]
pub(crate) struct NewTargets {
    /// A further target that everything is written to as well (repeatable).
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Vec<OsString>,
}

/// `versions init`
#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) targets: NewTargets,

    /// What trying the password costs, a thief and each command alike: `high` is five times `normal`, for one that might be
    /// guessed.
    #[arg(long, value_name = "COST", value_enum, default_value_t = Cost::Normal, conflicts_with = "insecure_no_password")]
    pub(crate) password_cost: Cost,
}

/// `versions backup`
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// What to back up.
    #[arg(value_name = "PATH", required_unless_present = "stdin")]
    pub(crate) paths: Vec<PathBuf>,

    /// Make the repository first if there is none yet.
    #[arg(long)]
    pub(crate) init: bool,

    /// With --init, what trying the password costs, a thief and each command alike: `high` is five times `normal`, for one
    /// that might be guessed.
    #[arg(long, value_name = "COST", value_enum, default_value_t = Cost::Normal, requires = "init", conflicts_with = "insecure_no_password")]
    pub(crate) password_cost: Cost,

    #[command(flatten)]
    pub(crate) targets: NewTargets,

    /// Leave out what matches, by gitignore's rules (repeatable).
    #[arg(short, long, value_name = "PATTERN", value_parser = pattern::parse)]
    pub(crate) exclude: Vec<String>,

    /// Read such patterns from a file, one a line (repeatable).
    #[arg(long, value_name = "FILE")]
    pub(crate) exclude_file: Vec<PathBuf>,

    /// Leave out the contents of directories that a CACHEDIR.TAG marks as caches.
    #[arg(long)]
    pub(crate) exclude_caches: bool,

    /// Leave out the contents of directories that hold this file, and begin it with HEADER (repeatable).
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub(crate) exclude_if_present: Vec<String>,

    /// Stay on the file systems of the given paths.
    #[arg(short = 'x', long)]
    pub(crate) one_file_system: bool,

    /// Tag the snapshot (repeatable, or several joined by commas).
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub(crate) tag: Vec<String>,

    /// The host's name in the snapshot. Also $VERSIONS_HOST [default: this machine's]
    #[arg(short = 'H', long, value_name = "NAME")]
    pub(crate) host: Option<String>,

    /// Read and compare, but write nothing: say what would be stored.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Back up what comes in on standard input, as one file.
    #[arg(long, conflicts_with = "paths")]
    pub(crate) stdin: bool,

    /// That file's name, with --stdin.
    #[arg(long, value_name = "NAME", default_value = "stdin", conflicts_with = "paths")]
    pub(crate) stdin_filename: PathBuf,
}

/// Which snapshots.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Selection {
    /// Only of this host (repeatable).
    #[arg(short = 'H', long, value_name = "NAME")]
    pub(crate) host: Vec<String>,

    /// Only with all of these tags, joined by commas (repeatable: or all of those).
    #[arg(long, value_name = "TAG[,TAG]")]
    pub(crate) tag: Vec<String>,

    /// Only of this path (repeatable: all of them).
    #[arg(long, value_name = "PATH")]
    pub(crate) path: Vec<PathBuf>,
}

/// `versions snapshots`
#[derive(Debug, Args)]
pub(crate) struct Snapshots {
    /// Only these: ids, beginnings of ids, or `latest`.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshots: Vec<String>,

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Only the last N of each host and set of paths.
    #[arg(long, value_name = "N")]
    pub(crate) latest: Option<usize>,
}

/// `versions ls`
#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// An id, the beginning of one, or `latest`.
    #[arg(value_name = "SNAPSHOT", default_value = "latest")]
    pub(crate) snapshot: String,

    /// Only these directories' entries, or these files.
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Mode, owner, size and time of each entry.
    #[arg(short, long)]
    pub(crate) long: bool,

    /// All that is below the given directories too.
    #[arg(long)]
    pub(crate) recursive: bool,
}

/// `versions log`
#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The file or directory, as it was backed up.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Only of this host (repeatable).
    #[arg(short = 'H', long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
}

/// `versions cat`
#[derive(Debug, Args)]
pub(crate) struct Cat {
    /// A snapshot or a Version of the file: an id, the beginning of one, or `latest`.
    #[arg(value_name = "ID")]
    pub(crate) id: String,

    /// The file or directory, as it was backed up.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `versions restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A snapshot (an id, the beginning of one, or `latest`), a part of one (`ID:/path`: its contents go to the
    /// target's top), or a Version of a file (`ID:/path/of/file`, the id from `versions log`).
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = clap::builder::OsStringValueParser::new())]
    pub(crate) snapshot: OsString,

    /// Where to: whole paths are put below it.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) target: PathBuf,

    #[command(flatten)]
    pub(crate) selection: Selection,

    /// Only what matches, by gitignore's rules, and what is below it (repeatable). Patterns count from what goes to the target's top.
    #[arg(short, long, value_name = "PATTERN", value_parser = pattern::parse)]
    pub(crate) include: Vec<String>,

    /// Leave out what matches, by gitignore's rules (repeatable).
    #[arg(short, long, value_name = "PATTERN", value_parser = pattern::parse)]
    pub(crate) exclude: Vec<String>,

    /// Write nothing: say what would be restored.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Read every restored file again and compare.
    #[arg(long)]
    pub(crate) verify: bool,
}

/// `versions verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Read every object of every target, not only the listings.
    #[arg(long, conflicts_with = "read_data_subset")]
    pub(crate) read_data: bool,

    /// Read a part of the objects: the n-th of t parts (n/t), a percentage (5%), or a size (2G) of those that were not
    /// read for longest.
    #[arg(long, value_name = "SUBSET")]
    pub(crate) read_data_subset: Option<ReadData>,

    /// Replace what is damaged or missing by good copies of other targets.
    #[arg(long)]
    pub(crate) heal: bool,
}

/// `versions mirror`
#[derive(Debug, Args)]
pub(crate) struct Mirror {}

/// `versions target`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Target {
    #[command(subcommand)]
    pub(crate) command: TargetCommand,
}

/// What to do about targets.
#[derive(Debug, Subcommand)]
pub(crate) enum TargetCommand {
    /// Add a target; `versions mirror` or the next backup fills it.
    Add {
        /// The new target.
        #[arg(value_name = "URL")]
        url: OsString,
    },
    /// List the targets, and whether each can be reached.
    List,
    /// Forget a target; what it holds stays where it is.
    Remove {
        /// The target.
        #[arg(value_name = "URL")]
        url: OsString,
    },
}

/// `versions rebuild`
#[derive(Debug, Args)]
pub(crate) struct Rebuild {}

/// `versions stats`
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only these snapshots: ids, beginnings of ids, or `latest`.
    #[arg(value_name = "SNAPSHOT")]
    pub(crate) snapshots: Vec<String>,

    #[command(flatten)]
    pub(crate) selection: Selection,
}

/// `versions key`
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Key {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

/// What to do about passwords.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Add a password.
    Add(NewPassword),
    /// List the keys, one for each password.
    List,
    /// Remove a key: its password no longer opens the repository.
    Remove {
        /// The key's id or the beginning of it.
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Replace the password that was given by a new one.
    Passwd(NewPassword),
}

/// Where a new password comes from.
#[derive(Debug, Args)]
pub(crate) struct NewPassword {
    /// Read the new password from a file [default: ask on the terminal, twice].
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,

    /// What trying the new password costs, a thief and each command alike: `high` is five times `normal`, for one that
    /// might be guessed.
    #[arg(long, value_name = "COST", value_enum, default_value_t = Cost::Normal)]
    pub(crate) password_cost: Cost,

    /// The user's name in the key's label [default: yours]
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// The host's name in the key's label [default: this machine's]
    #[arg(short = 'H', long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(std::iter::once("versions").chain(words.iter().copied()))
    }

    #[test]
    fn the_declaration_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_and_after_the_verb() {
        for words in [["-r", "/x", "snapshots", "--json"], ["snapshots", "--json", "--repo", "/x"]] {
            let line = parse(&words).unwrap();
            assert_eq!(line.global.repo, Some("/x".into()));
            assert!(line.global.json);
        }
    }

    #[test]
    fn restics_words_are_understood() {
        for words in [
            &["check", "--read-data"][..],
            &["check", "--read-data-subset=1/10"],
            &["dump", "latest", "/etc/hosts"],
            &[
                "backup",
                "-x",
                "-e",
                "*.o",
                "--exclude-caches",
                "--tag",
                "a,b",
                "-H",
                "h",
                "-n",
                "/etc",
                "/usr",
            ],
            &["backup", "--stdin", "--stdin-filename", "db.sql"],
            &["restore", "latest", "-t", "/tmp/x", "-i", "*.c", "-e", "*.o", "--verify", "--dry-run"],
            &["ls", "-l", "latest", "/etc"],
            &["ls", "--recursive", "--host", "h", "latest"],
            &["key", "passwd"],
            &["key", "passwd", "--password-cost", "high"],
            &["init", "--password-cost", "normal"],
            &["backup", "--init", "--password-cost=high", "/etc"],
            &["key", "add", "--new-password-file", "f"],
            &["stats"],
            &["rebuild-index"],
        ] {
            parse(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &[][..],
            &["backup"],
            &["backup", "--stdin", "/etc"],
            &["restore", "latest"],
            &["verify", "--read-data", "--read-data-subset=1/2"],
            &["snapshots", "-q", "-v"],
            &["snapshots", "--password-file", "a", "--password-command", "b"],
            &["snapshots", "--password-file", "a", "--insecure-no-password"],
            &["backup", "--password-cost=high", "/etc"],
            &["init", "--password-cost=low"],
            &["init", "--password-cost=high", "--insecure-no-password"],
            &["restore", "latest", "-t", "/tmp/x", "-i", ""],
            &["restore", "latest", "-t", "/tmp/x", "-e", ""],
            &["backup", "/etc", "--exclude="],
            &["nonsense"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn tags_are_split_at_commas() {
        let Command::Backup(backup) = parse(&["backup", "--tag", "a,b", "--tag", "c", "/x"]).unwrap().command
        else {
            panic!("a backup");
        };
        assert_eq!(backup.tag, ["a", "b", "c"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_utf8() {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        let name = std::ffi::OsString::from_vec(b"/tmp/\xff".to_vec());
        let line = CommandLine::try_parse_from(["versions".into(), "backup".into(), name.clone()]).unwrap();
        let Command::Backup(backup) = line.command else { panic!("a backup") };
        assert_eq!(backup.paths[0].as_os_str().as_bytes(), name.as_bytes());
    }
}
