//! What a restore tells: faults as they happen, counts at the end, and things that an ordinary user cannot do once instead of a million times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::RestoreSummary;
use crate::entry_key::EntryKey;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::apply::Shortfall;
use crate::monitor::{Event, Fault, FaultSide, Monitor};

/// Which count of the summary goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    Directory,
    FileRestored,
    FileUpdated,
    FileUnchanged,
    Skipped,
    /// A further name of a file.
    FileLink,
    /// A further name of something else.
    OtherLink,
    Other,
    Verified,
}

impl Count {
    /// The word for it in events.
    fn action(self) -> &'static str {
        match self {
            Self::Directory | Self::FileRestored | Self::FileLink | Self::OtherLink | Self::Other => {
                "restored"
            }
            Self::FileUpdated => "updated",
            Self::FileUnchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Verified => "verified",
        }
    }
}

/// Shortfalls of one sort: how many, and the first.
struct Repeated {
    count: u64,
    path: String,
    error: String,
}

/// Collects and passes on; shared by all threads of a restore.
pub(super) struct Report<'a> {
    pub(super) monitor: &'a dyn Monitor,
    summary: Mutex<RestoreSummary>,
    faults: AtomicU64,
    /// Names of files that are there now as the snapshot has them.
    files: AtomicU64,
    /// What only root could have done, by what it is.
    privileges: Mutex<BTreeMap<&'static str, Repeated>>,
    privileged: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            summary: Mutex::default(),
            faults: AtomicU64::new(0),
            files: AtomicU64::new(0),
            privileges: Mutex::default(),
            privileged: rustix::process::geteuid().is_root(),
        }
    }

    /// One more done, with the bytes that were written for it.
    pub(super) fn done(&self, count: Count, key: &EntryKey, bytes: u64) {
        {
            let mut summary = self.summary.lock();
            let counter = match count {
                Count::Directory => &mut summary.directories,
                Count::FileRestored => &mut summary.files_restored,
                Count::FileUpdated => &mut summary.files_updated,
                Count::FileUnchanged => &mut summary.files_unchanged,
                Count::Skipped => &mut summary.skipped,
                Count::FileLink | Count::OtherLink => &mut summary.hard_links,
                Count::Other => &mut summary.others,
                Count::Verified => &mut summary.files_verified,
            };
            *counter += 1;
            if matches!(count, Count::FileRestored | Count::FileUpdated) {
                summary.bytes_restored += bytes;
            }
        }
        if matches!(count, Count::FileRestored | Count::FileUpdated | Count::FileUnchanged | Count::FileLink)
        {
            self.files.fetch_add(1, Ordering::Relaxed);
        }
        let path = key.to_string();
        self.monitor.event(Event::Item { action: count.action(), item: &path, bytes });
        self.monitor.event(Event::Advance { bytes, items: 1 });
    }

    /// How many names of files are there now as the snapshot has them.
    pub(super) fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes that had not to be written: holes, what was there already, a file under a further name.
    pub(super) fn spared(&self, bytes: u64) {
        if bytes > 0 {
            self.monitor.event(Event::Advance { bytes, items: 0 });
        }
    }

    /// Something could not be done. Never of side `Target`: that costs a reader nothing, and here something is missing that was asked for, whoever is
    /// to blame.
    pub(super) fn fault(&self, key: &EntryKey, during: &'static str, error: Error) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let side = match error.kind() {
            // What is sealed by another repository is not what was stored.
            ErrorKind::Damage | ErrorKind::NotFound | ErrorKind::NotTheSame => FaultSide::Damage,
            // Of a target that does not answer nobody knows that its bytes are lost.
            _ => FaultSide::Destination,
        };
        self.monitor.fault(Fault { side, item: key.to_string(), during, error });
    }

    /// What of an entry's metadata could not be put back.
    pub(super) fn shortfalls(&self, key: &EntryKey, result: rustix::io::Result<Vec<Shortfall>>) {
        let shortfalls = match result {
            Ok(shortfalls) => shortfalls,
            Err(errno) => {
                self.fault(key, "restore", destination("its metadata could not be set", errno));
                return;
            }
        };
        for shortfall in shortfalls {
            if self.privileged || !shortfall.is_privilege() {
                self.fault(key, "restore", Error::new(ErrorKind::Destination, shortfall.describe()));
                continue;
            }
            let what = match shortfall {
                Shortfall::Owner(_) => "owner and group",
                _ => "extended attributes of the system",
            };
            let mut privileges = self.privileges.lock();
            let repeated = privileges.entry(what).or_insert_with(|| Repeated {
                count: 0,
                path: key.to_string(),
                error: shortfall.describe(),
            });
            repeated.count += 1;
        }
    }

    /// Ends the report.
    pub(super) fn finish(self) -> RestoreSummary {
        for (what, Repeated { count, path, error }) in self.privileges.into_inner() {
            self.faults.fetch_add(1, Ordering::Relaxed);
            let message = match count {
                1 => error,
                _ => format!("{error} (the first of {count}: {what} can only be restored by root)"),
            };
            let error = Error::new(ErrorKind::Destination, message);
            self.monitor.fault(Fault { side: FaultSide::Destination, item: path, during: "restore", error });
        }
        let mut summary = self.summary.into_inner();
        summary.faults = self.faults.into_inner();
        summary
    }
}

/// An error of the destination.
pub(super) fn destination(what: impl Into<String>, errno: Errno) -> Error {
    Error::caused(ErrorKind::Destination, what, std::io::Error::from(errno))
}

/// Whether nothing more can be written: then going on would only repeat the same fault for each file.
pub(super) fn is_fatal(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS)
}

/// The result of a call on the destination whose failure costs one entry, unless it ends everything.
pub(super) enum Failure {
    /// This entry cannot be restored.
    Entry(Error),
    /// Nothing can.
    Everything(Error),
}

impl Failure {
    pub(super) fn of(what: impl Into<String>, errno: Errno) -> Self {
        if is_fatal(errno) {
            Self::Everything(destination(what, errno))
        } else {
            Self::Entry(destination(what, errno))
        }
    }

    /// Reports what costs an entry; passes on what ends everything, naming the entry.
    pub(super) fn report(self, report: &Report<'_>, key: &EntryKey) -> Result<()> {
        match self {
            Self::Entry(error) => {
                report.fault(key, "restore", error);
                Ok(())
            }
            Self::Everything(error) => Err(error.at(key)),
        }
    }
}
