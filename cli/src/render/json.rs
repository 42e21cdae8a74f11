//! The lines that `--json` prints, with restic's names where restic has the thing.
//!
//! Each has a `message_type`. Fields are only ever added; one whose value is unknown or the default may be missing. Times
//! are RFC 3339. What concerns an operation's course (`status`, `verbose_status`, `summary`) goes to standard output, `error`,
//! `note` and `exit_error` to standard error, so that `snapshots --json` is one array and nothing else.

use serde::Serialize;

/// How far a backup or another long operation is.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Status<'a> {
    pub(crate) message_type: &'static str,
    /// What is being done now; ours.
    pub(crate) phase: &'a str,
    pub(crate) seconds_elapsed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) seconds_remaining: Option<u64>,
    pub(crate) percent_done: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_files: Option<u64>,
    pub(crate) files_done: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) total_bytes: Option<u64>,
    pub(crate) bytes_done: u64,
    /// The same two under restore's names for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) files_restored: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_restored: Option<u64>,
    pub(crate) error_count: u64,
}

/// What happened to one item.
#[derive(Debug, Serialize)]
pub(crate) struct VerboseStatus<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) action: &'a str,
    pub(crate) item: &'a str,
    pub(crate) data_size: u64,
    /// The same under restore's name for it.
    pub(crate) size: u64,
}

/// A sentence in the place where restic puts it.
#[derive(Debug, Serialize)]
pub(crate) struct Sentence<'a> {
    pub(crate) message: &'a str,
}

/// One thing that went wrong while the rest went on.
#[derive(Debug, Serialize)]
pub(crate) struct Fault<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) error: Sentence<'a>,
    pub(crate) during: &'a str,
    pub(crate) item: &'a str,
    /// `source`, `target`, `damage` or `destination`; ours.
    pub(crate) side: &'static str,
}

/// Something worth knowing that is no fault; ours.
#[derive(Debug, Serialize)]
pub(crate) struct Note<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) message: &'a str,
}

/// Why the program ends with another code than 0.
#[derive(Debug, Serialize)]
pub(crate) struct ExitError<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) code: u8,
    pub(crate) message: &'a str,
}

/// A new repository.
#[derive(Debug, Serialize)]
pub(crate) struct Initialized<'a> {
    pub(crate) message_type: &'static str,
    pub(crate) id: String,
    pub(crate) repository: &'a str,
    /// Every target; ours.
    pub(crate) targets: &'a [String],
    /// Ours.
    pub(crate) encrypted: bool,
}
