//! Reading a chain of logs back: in order, each up to where it ends, with a verdict for each.
//!
//! 1. Every log is opened, and its first record looked at: it tells where the log before it ends.
//! 2. A log whose end is not recorded is synced and dropped from the page cache first. What a killed process had written is durable from then on,
//!    so that it may be built upon; what a failed sync left in the cache alone is gone, as it would be after a power loss.
//! 3. The logs are read, the batches visited. The rule of the verdicts is [`pass`](super::pass)'s.
//! 4. What is cut off is set aside.
//!
//! The caller then makes the cuts durable (an edit in the manifest), and only then creates the next log, whose first record repeats
//! [`JournalRecovery::end`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::aside::set_aside;
use super::logfile::{LOG_HEADER_BYTES, LogEnd, LogKind, START_PAYLOAD_BYTES, Start};
use super::pass::{Hole, Known, LogReport, Verdict, pass};
use super::reader::{Record, RecordReader, Step};
use super::record::{RECORD_HEADER_BYTES, RecordKind};
use super::{Cut, sites};
use crate::checksum::Identity;
use crate::error::{Error, ErrorKind, IoContext, Result};
use crate::filename::{FileName, FileNumber};
use crate::fs::{Advice, FileSystem};
use crate::key::SequenceNumber;

/// Where the first record of every log ends. It is durable before anybody is told of the log.
pub(crate) const FIRST_RECORD_END: u64 =
    (LOG_HEADER_BYTES + RECORD_HEADER_BYTES + START_PAYLOAD_BYTES) as u64;

/// What to do about damage to what was acknowledged. A torn tail is no damage: a crash leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecoveryMode {
    /// Refuse everything but a clean end.
    Strict,
    /// Cut a torn tail; refuse damage that lost anything.
    #[default]
    Tail,
    /// Stop before the first damage, and drop what is behind it. Refused if a table already holds something from behind it.
    PointInTime,
    /// Step over damage, and keep every record that is whole.
    Salvage,
}

/// Whether the files may be touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    /// Recovery before writing: nobody else writes; the newest log is made durable, cut tails are set aside.
    #[default]
    Write,
    /// Reading beside a live writer, or from a medium that cannot be written: nothing is changed.
    ReadOnly,
}

/// A log that there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedLog {
    /// Its number.
    pub number: FileNumber,
    /// Its identity, where it was durably written down when the log was made: then a log that was not even begun is an
    /// error. `None`: it was merely found in the directory.
    pub identity: Option<Identity>,
    /// Where it was recorded to end.
    pub cut: Option<Cut>,
}

/// How far the tables have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Everything up to this sequence number is in tables, in every keyspace: losing it from the journal loses nothing.
    pub every: SequenceNumber,
    /// No table holds anything above this one.
    pub any: SequenceNumber,
}

/// What recovery goes by.
#[derive(Clone, Copy, Debug)]
pub struct RecoverOptions {
    /// The database that the logs must belong to.
    pub database: Identity,
    /// How far the tables have come; batches that are wholly in them are not visited.
    pub flushed: Flushed,
    /// What to do about damage.
    pub mode: RecoveryMode,
    /// Whether the files may be touched.
    pub access: Access,
}

/// A batch, read back.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredBatch<'a> {
    /// The log that it is in.
    pub log: FileNumber,
    /// Where it begins in the log.
    pub offset: u64,
    /// The sequence number of its first operation.
    pub first_sequence: SequenceNumber,
    /// How many sequence numbers it takes.
    pub op_count: u32,
    /// The batch.
    pub payload: &'a [u8],
}

/// What recovery found.
#[derive(Clone, Debug)]
pub struct JournalRecovery {
    /// One for each log that was looked at, in order.
    pub logs: Vec<LogReport>,
    /// The last sequence number that counts.
    pub last_sequence: SequenceNumber,
    /// The next one to give out: above every one seen anywhere, in discarded records too.
    pub next_sequence: SequenceNumber,
    /// To be made durable before the next log is created. Empty after a clean end.
    pub cuts: Vec<(FileNumber, Cut)>,
    /// What the first record of the next log repeats; `None` if there is no log yet.
    pub end: Option<LogEnd>,
    /// Whether something was lost that may have been acknowledged as durable: only in the modes that allow it.
    pub is_lossy: bool,
}

/// One log, opened.
struct OpenLog {
    expected: ExpectedLog,
    path: PathBuf,
    file_bytes: u64,
    /// Or why it cannot be read.
    reader: Result<RecordReader>,
    /// What is wrong with the header of a file that can be read nonetheless.
    header: Option<Error>,
    /// Its first record, if that is whole.
    start: Option<Start>,
}

/// Reads the logs in the order of their numbers; calls `visit` for every batch that counts and is not in tables yet.
///
/// An error of `visit` ends it. When any error is returned what was visited is to be forgotten: whether it counts is only
/// known at the end.
///
/// # Errors
/// [`ErrorKind::Corruption`] for damage, as the mode has it; [`ErrorKind::NewerFormat`]; those of reading, and, with
/// [`Access::Write`], of syncing and of setting aside.
pub fn recover(
    fs: &Arc<dyn FileSystem>,
    directory: &Path,
    expected: &[ExpectedLog],
    options: &RecoverOptions,
    visit: &mut dyn FnMut(RecoveredBatch<'_>) -> Result<()>,
) -> Result<JournalRecovery> {
    let mut recovery = JournalRecovery {
        logs: Vec::new(),
        last_sequence: 0,
        next_sequence: 1,
        cuts: Vec::new(),
        end: None,
        is_lossy: false,
    };
    let mut seen = options.flushed.any;
    // A log that was dropped whole counts no more; its sequence numbers do.
    let dropped = expected.iter().filter_map(|log| log.cut).filter(|cut| cut.offset == 0);
    seen = dropped.map(|cut| cut.last_sequence).chain([seen]).max().unwrap_or(seen);
    let mut logs = Vec::new();
    for log in expected.iter().filter(|log| log.cut.is_none_or(|cut| cut.offset > 0)) {
        if logs.last().is_some_and(|last: &OpenLog| last.expected.number >= log.number) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "logs are expected in the order of their numbers",
            ));
        }
        logs.push(open(fs.as_ref(), directory, *log, options)?);
    }
    for log in logs.extract_if(.., |log| log.never_begun()) {
        recovery.logs.push(LogReport::new(log.expected.number, &log.path, Verdict::NeverBegun, 0));
    }
    let mut previous: Option<LogEnd> = None;
    let count = logs.len();
    // Where each log ends, as the next one's first record has it.
    let mut told: Vec<Option<LogEnd>> =
        logs.iter().skip(1).map(|log| log.start.and_then(|start| start.previous)).collect();
    told.push(None);
    let mut stopped = false;
    for (index, (mut log, told)) in logs.into_iter().zip(told).enumerate() {
        let is_newest = index + 1 == count;
        let last_sequence = recovery.last_sequence;
        let mut report = LogReport::new(log.expected.number, &log.path, Verdict::Missing, last_sequence);
        if stopped {
            drop_whole(fs.as_ref(), directory, &mut log, report, &mut recovery, options, &mut seen)?;
            continue;
        }
        let told = told.filter(|told| told.number == log.expected.number);
        let end = log.known_end(told)?;
        let gap = log.check_start(previous.as_ref(), index == 0, options)?;
        let last_sequence = match gap {
            Gap::None(sequence) => last_sequence.max(sequence),
            Gap::Missing(hole, sequence) => {
                let error =
                    Error::corruption(format!("{}; {}", hole.reason, advice(options.mode))).at(&log.path);
                let is_allowed = hole.harmless && options.mode != RecoveryMode::Strict;
                match options.mode {
                    _ if is_allowed => {}
                    RecoveryMode::Salvage => {}
                    RecoveryMode::PointInTime if options.flushed.any <= last_sequence => {
                        stopped = true;
                        recovery.is_lossy = true;
                        drop_whole(
                            fs.as_ref(),
                            directory,
                            &mut log,
                            report,
                            &mut recovery,
                            options,
                            &mut seen,
                        )?;
                        continue;
                    }
                    _ => return Err(error),
                }
                report.holes.push(hole);
                sequence
            }
        };
        let report = match log.reader {
            Err(error) => {
                let last = end.map(|cut| cut.last_sequence);
                let harmless = last.is_some_and(|last| last <= options.flushed.every.max(last_sequence));
                let mut report = report;
                report.holes.push(Hole {
                    offset: 0,
                    bytes: end.map_or(0, |cut| cut.offset),
                    reason: error.to_string(),
                    sequences: Some((last_sequence + 1, last)),
                    harmless,
                });
                if (!harmless && options.mode != RecoveryMode::Salvage)
                    || options.mode == RecoveryMode::Strict
                {
                    if options.mode == RecoveryMode::PointInTime && options.flushed.any <= last_sequence {
                        stopped = true;
                        report.verdict = Verdict::Stopped { at: 0 };
                        recovery.is_lossy = true;
                        recovery.cuts.push((report.number, Cut { offset: 0, last_sequence }));
                        recovery.logs.push(report);
                        continue;
                    }
                    return Err(error);
                }
                report.last_sequence = last.unwrap_or(last_sequence).max(last_sequence);
                report.last_sequence_seen = report.last_sequence;
                report.end = end.map_or(0, |cut| cut.offset);
                report.identity =
                    log.expected.identity.or(told.map(|told| told.identity)).unwrap_or(report.identity);
                report
            }
            Ok(ref mut reader) => {
                let mut known = Known {
                    end,
                    is_whole: !is_newest,
                    durable: FIRST_RECORD_END,
                    is_live: false,
                    last_sequence,
                };
                if is_newest && options.access == Access::ReadOnly {
                    // A writer may be at work. What its records say of durability holds for bytes that are read after
                    // them, and the pass reads those before: so this is found out first.
                    let survey = reader.survey(LOG_HEADER_BYTES as u64, u64::MAX)?;
                    known.durable = known.durable.max(survey.durable);
                    known.is_live = true;
                    reader.forget();
                }
                let number = log.expected.number;
                let mut visit = |record: &Record<'_>| visit_batch(record, number, options, visit);
                let mut report = pass(reader, report, known, options.mode, options.flushed, &mut visit)?;
                judge_end(&report, is_newest, end, options)?;
                if let Some(error) = log.header {
                    if options.mode == RecoveryMode::Strict {
                        return Err(error);
                    }
                    report.holes.push(Hole {
                        offset: 0,
                        bytes: LOG_HEADER_BYTES as u64,
                        reason: error.to_string(),
                        sequences: None,
                        harmless: true,
                    });
                }
                let is_cut = end.is_none() || matches!(report.verdict, Verdict::Stopped { .. });
                if options.access == Access::Write && is_cut {
                    let number = report.number;
                    report.set_aside =
                        set_aside(fs.as_ref(), directory, number, reader, report.end, report.cut_end)?;
                }
                report
            }
        };
        seen = seen.max(report.last_sequence_seen);
        recovery.is_lossy |= report.is_lossy();
        recovery.last_sequence = recovery.last_sequence.max(report.last_sequence);
        let is_stopped = matches!(report.verdict, Verdict::Stopped { .. });
        if is_stopped || (end.is_none() && report.verdict != Verdict::CleanEnd) {
            let cut = Cut { offset: report.end, last_sequence: report.last_sequence };
            recovery.cuts.push((report.number, cut));
        }
        stopped |= is_stopped;
        previous = Some(report.log_end());
        recovery.logs.push(report);
    }
    recovery.end = previous;
    recovery.logs.sort_by_key(|log| log.number);
    recovery.last_sequence = recovery.last_sequence.max(options.flushed.any);
    recovery.next_sequence = seen.max(recovery.last_sequence) + 1;
    Ok(recovery)
}

fn advice(mode: RecoveryMode) -> &'static str {
    match mode {
        RecoveryMode::Strict => "recovery mode Strict refuses that",
        _ => "restore it from a copy, or open with recovery mode PointInTime or Salvage",
    }
}

fn visit_batch(
    record: &Record<'_>,
    log: FileNumber,
    options: &RecoverOptions,
    visit: &mut dyn FnMut(RecoveredBatch<'_>) -> Result<()>,
) -> Result<()> {
    if record.header.kind != RecordKind::Batch || record.header.last_sequence() <= options.flushed.every {
        return Ok(());
    }
    visit(RecoveredBatch {
        log,
        offset: record.offset,
        first_sequence: record.header.first_sequence,
        op_count: record.header.op_count,
        payload: record.payload,
    })
}

/// In [`RecoveryMode::Strict`] a log whose end nobody recorded must have a last record.
fn judge_end(report: &LogReport, is_newest: bool, end: Option<Cut>, options: &RecoverOptions) -> Result<()> {
    if options.mode == RecoveryMode::Strict
        && is_newest
        && end.is_none()
        && report.verdict != Verdict::CleanEnd
    {
        return Err(Error::corruption(
            "the log has no last record: it was not closed, and recovery mode Strict refuses that",
        )
        .at(&report.path)
        .at_offset(report.end));
    }
    Ok(())
}

/// A log behind the place where recovery stopped: all of it is cut, and set aside.
fn drop_whole(
    fs: &dyn FileSystem,
    directory: &Path,
    log: &mut OpenLog,
    mut report: LogReport,
    recovery: &mut JournalRecovery,
    options: &RecoverOptions,
    seen: &mut SequenceNumber,
) -> Result<()> {
    if let Ok(reader) = &mut log.reader {
        let survey = reader.survey(0, u64::MAX)?;
        *seen = survey.last_sequence.max(*seen);
        report.last_sequence_seen = survey.last_sequence;
        report.cut_end = survey.end;
        if options.access == Access::Write {
            report.set_aside = set_aside(fs, directory, report.number, reader, 0, survey.end)?;
        }
    }
    report.verdict = Verdict::Stopped { at: 0 };
    recovery.cuts.push((report.number, Cut { offset: 0, last_sequence: report.last_sequence }));
    recovery.logs.push(report);
    Ok(())
}

fn open(
    fs: &dyn FileSystem,
    directory: &Path,
    expected: ExpectedLog,
    options: &RecoverOptions,
) -> Result<OpenLog> {
    let path = FileName::Log(expected.number).path(directory);
    let unreadable = |file_bytes, error| OpenLog {
        expected,
        path: path.clone(),
        file_bytes,
        reader: Err(error),
        header: None,
        start: None,
    };
    let file = match fs.open_read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let what = format!("the log is missing; {}", advice(options.mode));
            return Ok(unreadable(u64::MAX, Error::corruption(what).at(&path)));
        }
        Err(error) => return Err(Error::io("open", error).at(&path)),
    };
    if options.access == Access::Write && expected.cut.is_none() {
        file.sync_data(sites::RECOVER).context("sync", &path)?;
        file.advise(Advice::DontNeed, 0, 0);
    }
    let file_bytes = file.len().context("read the length", &path)?;
    let mut header = None;
    let mut reader = match RecordReader::open(Arc::clone(&file), &path, LogKind::Journal) {
        Ok(reader) => reader,
        Err(error) if error.kind() == ErrorKind::Corruption => match expected.identity {
            // The header is damaged, but all that it says is known, and the records vouch for themselves.
            Some(identity) => {
                header = Some(error);
                RecordReader::with_identity(file, &path, identity)?
            }
            None => return Ok(unreadable(file_bytes, error)),
        },
        Err(error) => return Err(error),
    };
    if expected.identity.is_some_and(|identity| identity != reader.identity()) {
        return Ok(unreadable(
            file_bytes,
            Error::corruption(format!(
                "another log in the place of this one: identity {:?} instead of {:?}; {}",
                reader.identity(),
                expected.identity,
                advice(options.mode)
            ))
            .at(&path),
        ));
    }
    let start = first_record(&mut reader)?;
    Ok(OpenLog { expected, path, file_bytes: reader.file_bytes(), reader: Ok(reader), header, start })
}

/// The first record, if it is whole.
pub(super) fn first_record(reader: &mut RecordReader) -> Result<Option<Start>> {
    let identity = reader.identity();
    let path = reader.path().to_owned();
    match reader.step(LOG_HEADER_BYTES as u64, u64::MAX)? {
        Step::Record(record) if record.header.kind == RecordKind::Start => {
            let start = Start::decode(record.payload, identity, record.header.first_sequence);
            Ok(Some(start.map_err(|error| error.at(path).at_offset(record.offset))?))
        }
        _ => Ok(None),
    }
}

/// What is between a log and the one that was read before it.
enum Gap {
    /// Nothing. The last sequence number before the log.
    None(SequenceNumber),
    /// Logs that are not there. What they held, and the last sequence number before this log.
    Missing(Hole, SequenceNumber),
}

impl OpenLog {
    /// Whether it is a file that was being created when a crash came, and of which nobody was told.
    ///
    /// A whole log that was cut down to this is not taken for one: the next log, or the manifest, names it.
    fn never_begun(&self) -> bool {
        let is_told = self.expected.identity.is_some() || self.expected.cut.is_some();
        !is_told && self.start.is_none() && self.file_bytes <= FIRST_RECORD_END
    }

    /// Where it is known to end, from the recorded cut and the next log.
    fn known_end(&self, told: Option<LogEnd>) -> Result<Option<Cut>> {
        let told = told.map(|told| Cut { offset: told.offset, last_sequence: told.last_sequence });
        match (self.expected.cut, told) {
            (Some(cut), Some(told)) if cut.offset != told.offset => Err(Error::corruption(format!(
                "the log was recorded to end at byte {}, but the next log says that it ends at byte {}",
                cut.offset, told.offset
            ))
            .at(&self.path)),
            (cut, told) => Ok(cut.or(told)),
        }
    }

    /// Whether the first record fits what is known, and the log before.
    fn check_start(
        &self,
        previous: Option<&LogEnd>,
        is_first: bool,
        options: &RecoverOptions,
    ) -> Result<Gap> {
        let known = previous.map_or(0, |previous| previous.last_sequence);
        let Some(start) = &self.start else { return Ok(Gap::None(known)) };
        let wrong =
            |what: String| Err(Error::corruption(what).at(&self.path).at_offset(LOG_HEADER_BYTES as u64));
        if start.number != self.expected.number {
            return wrong(format!("log {} says that it is log {}", self.expected.number, start.number));
        }
        if start.database != options.database {
            return wrong(format!(
                "a log of another database: {:?} instead of {:?}",
                start.database, options.database
            ));
        }
        match (start.previous, previous) {
            (Some(told), Some(previous)) if told.number == previous.number => {
                if told.identity != previous.identity && options.mode != RecoveryMode::Salvage {
                    return wrong(format!(
                        "it follows log {} with identity {:?}, but that log has {:?}",
                        told.number, told.identity, previous.identity
                    ));
                }
                Ok(Gap::None(told.last_sequence))
            }
            // The logs before it were removed, as everything in them is in tables; or else they are missing. Whoever names his
            // logs does not name those that he removed, and moved his marks past them: but for that of a keyspace that was
            // made later, and so has nothing in them.
            (Some(told), _) if told.last_sequence > known || !is_first => {
                let removed = match is_first && self.expected.identity.is_some() {
                    true => options.flushed.any,
                    false => options.flushed.every,
                };
                let harmless = told.last_sequence <= removed.max(known);
                let hole = Hole {
                    offset: 0,
                    bytes: 0,
                    reason: format!(
                        "log {} is missing, which this one follows, with sequence numbers up to {}",
                        told.number, told.last_sequence
                    ),
                    sequences: Some((known + 1, Some(told.last_sequence))),
                    harmless,
                };
                if harmless {
                    Ok(Gap::None(told.last_sequence))
                } else {
                    Ok(Gap::Missing(hole, told.last_sequence))
                }
            }
            (Some(told), _) => Ok(Gap::None(told.last_sequence)),
            (None, None) => Ok(Gap::None(known)),
            (None, Some(previous)) => {
                wrong(format!("the first log of a database, behind log {}", previous.number))
            }
        }
    }
}
