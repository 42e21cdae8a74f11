//! One pass over one log: each record that counts is visited, and what stands in the way is judged.
//!
//! The rule. Let D be the largest durable offset that any whole header in the log knows. Bad bytes before D are damage to what
//! was acknowledged; bad bytes at D or behind it are a torn tail, and the log is cut at the first of them. Where the log's end is
//! known from elsewhere (a recorded cut, the next log's first record), all of it was durable, and D is that end. Zeros to the end
//! are the end, unless they begin before D. A read that fails is an error and says nothing about the bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::logfile::{LOG_HEADER_BYTES, LogKind, decode_end};
use super::reader::{Record, RecordReader, Step, Survey};
use super::record::RecordKind;
use super::recover::{Flushed, RecoveryMode};
use super::{Cut, LogEnd};
use crate::checksum::Identity;
use crate::error::{Error, Result};
use crate::filename::FileNumber;
use crate::fs::File;
use crate::key::SequenceNumber;

/// How a log was found to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// In order, by its last record; or, in a log before the newest, where it is known to end.
    CleanEnd,
    /// Without a last record, or in a torn one, at `at`. Nothing that was acknowledged as durable is lost.
    Torn {
        /// The log is cut here.
        at: u64,
    },
    /// In a torn record at `at`, and durability had been asked for, of it or of what is behind it, or that cannot be told. A
    /// crash during the sync leaves this; so does damage to the last group that was synced.
    TornMaybeAcknowledged {
        /// The log is cut here.
        at: u64,
    },
    /// At damage, by the wish of the caller ([`RecoveryMode::PointInTime`]): what was acknowledged behind it is dropped.
    Stopped {
        /// The log is cut here.
        at: u64,
    },
    /// It was never finished being created, and nothing was ever in it.
    NeverBegun,
    /// The file is not there, or is none of ours, and nothing was lost by it, or the caller wished to go on without
    /// ([`RecoveryMode::Salvage`]).
    Missing,
}

/// Damaged bytes that were passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What was wrong.
    pub reason: String,
    /// The first sequence number that may be lost, and the last, if that is known.
    pub sequences: Option<(SequenceNumber, Option<SequenceNumber>)>,
    /// Whether everything in them is in tables already, so that nothing is lost.
    pub harmless: bool,
}

/// What was found in one log.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// The log's number; 0 for a file that has none.
    pub number: FileNumber,
    /// Its file.
    pub path: PathBuf,
    /// How it ends.
    pub verdict: Verdict,
    /// Whole records, of all kinds.
    pub records: u64,
    /// Batches that were visited.
    pub batches: u64,
    /// Where what counts of it ends.
    pub end: u64,
    /// The largest durable offset that is known.
    pub durable: u64,
    /// The last sequence number that counts, here or before.
    pub last_sequence: SequenceNumber,
    /// The last sequence number seen, in what was cut too.
    pub last_sequence_seen: SequenceNumber,
    /// Damage that was passed over.
    pub holes: Vec<Hole>,
    /// Behind the cut, up to here, stand bytes that are not zero.
    pub cut_end: u64,
    /// Where they were set aside.
    pub set_aside: Option<PathBuf>,
    pub(super) identity: Identity,
}

impl LogReport {
    pub(super) fn new(number: FileNumber, path: &Path, verdict: Verdict, last_sequence: u64) -> Self {
        Self {
            number,
            path: path.to_owned(),
            verdict,
            records: 0,
            batches: 0,
            end: 0,
            durable: 0,
            last_sequence,
            last_sequence_seen: last_sequence,
            holes: Vec::new(),
            cut_end: 0,
            set_aside: None,
            identity: Identity::from_bytes([0; 16]),
        }
    }

    /// Whether it lost what may have been acknowledged.
    pub fn is_lossy(&self) -> bool {
        matches!(self.verdict, Verdict::Stopped { .. }) || self.holes.iter().any(|hole| !hole.harmless)
    }

    /// What the first record of the next log repeats.
    pub fn log_end(&self) -> LogEnd {
        LogEnd {
            number: self.number,
            identity: self.identity,
            offset: self.end,
            last_sequence: self.last_sequence,
        }
    }
}

/// What is known of a log before it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// Where it ends.
    pub(super) end: Option<Cut>,
    /// A later log exists, so this one's end was durable.
    pub(super) is_whole: bool,
    /// It is durable up to here at least.
    pub(super) durable: u64,
    /// Another process may be writing it: what its records say of durability is newer than what was read before them,
    /// so that only `durable`, found in an earlier pass, counts.
    pub(super) is_live: bool,
    /// The last sequence number before this log.
    pub(super) last_sequence: SequenceNumber,
}

/// Reads one log from its first record on.
pub(super) fn pass(
    reader: &mut RecordReader,
    mut report: LogReport,
    known: Known,
    mode: RecoveryMode,
    flushed: Flushed,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<LogReport> {
    report.identity = reader.identity();
    report.last_sequence = known.last_sequence;
    report.last_sequence_seen = known.last_sequence;
    report.durable = known.durable;
    report.end = LOG_HEADER_BYTES as u64;
    if let Some(cut) = known.end {
        report.durable = report.durable.max(cut.offset);
        report.last_sequence_seen = report.last_sequence_seen.max(cut.last_sequence);
    }
    let limit = known.end.map_or(u64::MAX, |cut| cut.offset).min(reader.file_bytes());
    let mut survey: Option<Survey> = None;
    loop {
        let at = report.end;
        if known.end.is_some_and(|cut| at == cut.offset) {
            break;
        }
        let (reason, raw) = match reader.step(at, limit)? {
            Step::Record(record) => {
                let is_end = record.header.kind == RecordKind::End;
                if take(&mut report, &record, known.is_live, mode, visit)? && is_end {
                    break;
                }
                continue;
            }
            Step::Nothing if at < report.durable || known.is_whole => {
                let reason =
                    if limit == reader.file_bytes() && at >= limit { "the file ends" } else { "zeros" };
                (reason.to_owned(), None)
            }
            Step::Nothing => {
                report.verdict = Verdict::Torn { at };
                report.cut_end = at;
                return Ok(report);
            }
            Step::Bad { reason, header } => (reason, header),
        };
        // Once: what stands behind the first bad byte tells how much was durable, and what is cut.
        let rest = match survey {
            Some(rest) => rest,
            None => *survey.insert(reader.survey(at, limit)?),
        };
        if !known.is_live {
            report.durable = report.durable.max(rest.durable);
        }
        report.last_sequence_seen = report.last_sequence_seen.max(rest.last_sequence);
        if at >= report.durable && !known.is_whole {
            report.verdict = if rest.sync_asked || rest.unidentified {
                Verdict::TornMaybeAcknowledged { at }
            } else {
                Verdict::Torn { at }
            };
            report.cut_end = rest.end;
            return Ok(report);
        }
        let behind = raw.map(|raw| at + raw.record_bytes()).filter(|behind| *behind <= limit);
        let search = behind.unwrap_or(at + 1);
        let next = reader.resync(search, limit)?;
        let hole = hole(&report, known, flushed, at, next, limit, reason);
        if !hole.harmless || mode == RecoveryMode::Strict {
            match mode {
                RecoveryMode::Strict | RecoveryMode::Tail => return Err(damage(&report, &hole)),
                RecoveryMode::PointInTime => {
                    if flushed.any > report.last_sequence {
                        return Err(overtaken(&report, &hole, flushed));
                    }
                    report.verdict = Verdict::Stopped { at };
                    report.cut_end = rest.end.max(at);
                    return Ok(report);
                }
                RecoveryMode::Salvage => {}
            }
        }
        if let Some((_, Some(last))) = hole.sequences
            && last > report.last_sequence
        {
            report.last_sequence = last;
            report.last_sequence_seen = report.last_sequence_seen.max(last);
        }
        report.holes.push(hole);
        match next {
            Some((next, _)) => report.end = next,
            None => {
                report.end = known.end.map_or(limit, |cut| cut.offset);
                break;
            }
        }
    }
    finish(report, known, mode)
}

/// Takes one whole record; `false` if salvage drops it.
fn take(
    report: &mut LogReport,
    record: &Record<'_>,
    is_live: bool,
    mode: RecoveryMode,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<bool> {
    let header = &record.header;
    if header.first_sequence <= report.last_sequence
        && !(header.op_count == 0 && header.first_sequence == report.last_sequence)
    {
        let error = Error::corruption(format!(
            "a record with sequence number {} behind one with {}: the order of writes is lost",
            header.first_sequence, report.last_sequence
        ))
        .at(&report.path)
        .at_offset(record.offset);
        if mode != RecoveryMode::Salvage {
            return Err(error);
        }
        report.holes.push(Hole {
            offset: record.offset,
            bytes: record.end - record.offset,
            reason: error.to_string(),
            sequences: Some((header.first_sequence, Some(header.last_sequence()))),
            harmless: false,
        });
        report.end = record.end;
        return Ok(false);
    }
    if !is_live {
        report.durable = report.durable.max(header.durable_offset);
    }
    if header.kind == RecordKind::Batch {
        report.last_sequence = header.last_sequence();
        report.batches += 1;
    }
    if header.kind == RecordKind::End {
        let last_sequence =
            decode_end(record.payload).map_err(|error| error.at(&report.path).at_offset(record.offset))?;
        report.last_sequence = report.last_sequence.max(last_sequence);
    }
    report.last_sequence_seen = report.last_sequence_seen.max(report.last_sequence);
    report.records += 1;
    report.end = record.end;
    visit(record)?;
    Ok(true)
}

fn hole(
    report: &LogReport,
    known: Known,
    flushed: Flushed,
    at: u64,
    next: Option<(u64, super::record::RawHeader)>,
    limit: u64,
    reason: String,
) -> Hole {
    let end = next.map_or_else(|| limit.max(report.durable), |(next, _)| next);
    let first = report.last_sequence + 1;
    let last = match next {
        Some((_, raw)) => Some(raw.header.first_sequence.saturating_sub(1)),
        None => known.end.map(|cut| cut.last_sequence),
    };
    let is_empty = last.is_some_and(|last| last < first);
    Hole {
        offset: at,
        bytes: end.saturating_sub(at),
        reason,
        sequences: (!is_empty).then_some((first, last)),
        harmless: is_empty || last.is_some_and(|last| last <= flushed.every),
    }
}

/// A log that was read to its end: does the end agree with what is known of it?
fn finish(mut report: LogReport, known: Known, mode: RecoveryMode) -> Result<LogReport> {
    report.verdict = Verdict::CleanEnd;
    report.cut_end = report.end;
    let Some(cut) = known.end else { return Ok(report) };
    // One that ends before its first batch has no number of its own, and those between the log before it and its beginning may have been given up: by an
    // opening after a failure, which never gives a number twice.
    let has_none = report.batches == 0 && report.last_sequence <= cut.last_sequence;
    if (report.end, report.last_sequence) != (cut.offset, cut.last_sequence)
        && !(has_none && report.end == cut.offset)
        && mode != RecoveryMode::Salvage
        && report.holes.is_empty()
    {
        return Err(Error::corruption(format!(
            "the log ends at byte {} with sequence number {}, but it was recorded to end at byte {} with {}: one of the two \
             was changed",
            report.end, report.last_sequence, cut.offset, cut.last_sequence
        ))
        .at(&report.path)
        .at_offset(report.end));
    }
    report.end = cut.offset;
    report.last_sequence = report.last_sequence.max(cut.last_sequence);
    Ok(report)
}

fn damage(report: &LogReport, hole: &Hole) -> Error {
    Error::corruption(format!(
        "{} bytes of what was durable (up to byte {}) are damaged: {}. {} Restore the file from a copy, or open with recovery \
         mode PointInTime (stops before the damage) or Salvage (steps over it)",
        hole.bytes,
        report.durable,
        hole.reason,
        lost(hole)
    ))
    .at(&report.path)
    .at_offset(hole.offset)
}

fn overtaken(report: &LogReport, hole: &Hole, flushed: Flushed) -> Error {
    Error::corruption(format!(
        "damaged ({}), and recovery cannot stop before it, at sequence number {}: tables hold what came later, up to {}. Restore \
         the file from a copy, or open with recovery mode Salvage",
        hole.reason, report.last_sequence, flushed.any
    ))
    .at(&report.path)
    .at_offset(hole.offset)
}

fn lost(hole: &Hole) -> String {
    match hole.sequences {
        None => "No batch is lost by it.".to_owned(),
        Some((first, Some(last))) => format!("Sequence numbers {first} to {last} are lost."),
        Some((first, None)) => format!("Sequence numbers from {first} on are lost."),
    }
}

/// Reads a file of records that stands alone (the manifest): visits each record, judges the end. Damage before what is known
/// to be durable is an error; a torn tail is a verdict.
///
/// # Errors
/// Those of reading; corruption; [`ErrorKind::NewerFormat`](crate::ErrorKind::NewerFormat); those of `visit`.
pub fn read_records(
    file: Arc<dyn File>,
    path: &Path,
    kind: LogKind,
    visit: &mut dyn FnMut(&Record<'_>) -> Result<()>,
) -> Result<LogReport> {
    let mut reader = RecordReader::open(file, path, kind)?;
    let known = Known {
        end: None,
        is_whole: false,
        durable: LOG_HEADER_BYTES as u64,
        is_live: false,
        last_sequence: 0,
    };
    let report = LogReport::new(0, path, Verdict::CleanEnd, 0);
    pass(&mut reader, report, known, RecoveryMode::Tail, Flushed::default(), visit)
}
