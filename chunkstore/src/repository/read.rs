//! Reading with fall-over: an object, or a range of one, from the first target that has it good.

use std::sync::Arc;

use super::blame::blame;
use super::fetch::fetch;
use super::layout::ObjectName;
use super::{Repository, RepositoryTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::{Fault, FaultSide, Monitor};
use crate::target::Target;

impl Repository {
    /// All bytes of an object, from the first target whose bytes are what its name says; targets that turn out bad are reported.
    ///
    /// # Errors
    /// Not found if no target has it; damage if none has it good; else what kept the last target from answering.
    pub fn read(&self, name: &ObjectName, monitor: &dyn Monitor) -> Result<Vec<u8>> {
        self.read_from_any(name, monitor, |target| {
            let bytes = fetch(target, name)?;
            self.inspector().check(name, &bytes)?;
            Ok(bytes)
        })
    }

    /// `length` bytes of an object from `offset`, from the first target for whose bytes `check` gives an answer. `check` gets what the target gave,
    /// which may be shorter or wrong: it must open a seal or compare a hash, and say `Damage` if that fails.
    ///
    /// # Errors
    /// As [`Repository::read`].
    pub fn read_range<T>(
        &self,
        name: &ObjectName,
        offset: u64,
        length: usize,
        monitor: &dyn Monitor,
        check: impl Fn(Vec<u8>) -> Result<T>,
    ) -> Result<T> {
        self.read_from_any(name, monitor, |target| check(target.get_range(&name.key(), offset, length)?))
    }

    /// Asks the targets one after the other until one answers; those that failed before are asked last. What one target cannot read
    /// of itself is passed over as damage of this object, which is told once, and the target goes on being asked for others.
    pub(crate) fn read_from_any<T>(
        &self,
        name: &ObjectName,
        monitor: &dyn Monitor,
        ask: impl Fn(&dyn Target) -> Result<T>,
    ) -> Result<T> {
        let mut worst: Option<Error> = None;
        for Asked { target, open, failed } in self.order(name) {
            let error = match ask(&**open) {
                Ok(answer) => return Ok(answer),
                // Whether it is there again is not asked for each object: it was given up, and that was told.
                Err(error) if failed => error,
                Err(error) => blame(&**open, error),
            };
            let side = match error.kind() {
                ErrorKind::NotFound => None,
                // One that calls itself newer may be damaged, or forged: another target may have it as this version wrote it.
                // What another repository's secrets sealed is not what was looked for.
                ErrorKind::Damage | ErrorKind::NewerFormat | ErrorKind::NotTheSame => {
                    // A pack is read in thousands of parts.
                    target.note_bad(name).then_some(FaultSide::Damage)
                }
                ErrorKind::Target | ErrorKind::TargetFull => {
                    // Told once: every object would tell the same.
                    target.fail(error.clone()).then_some(FaultSide::Target)
                }
                _ => return Err(error),
            };
            if let Some(side) = side {
                let item = format!("{}/{name}", target.url());
                monitor.fault(Fault { side, item, during: "read", error: error.clone() });
            }
            // What a target that answers says counts for more than the silence of another.
            let rank = |error: &Error| match error.kind() {
                ErrorKind::NewerFormat => 3,
                ErrorKind::Damage => 2,
                ErrorKind::NotFound => 0,
                _ => 1,
            };
            if worst.as_ref().is_none_or(|worst| rank(worst) < rank(&error)) {
                worst = Some(error);
            }
        }
        Err(match worst.or_else(|| self.targets().iter().find_map(|target| target.error())) {
            None => Error::new(ErrorKind::Target, format!("{name}: there is no target to read it from")),
            Some(error) if error.kind() == ErrorKind::NotFound => {
                Error::new(ErrorKind::NotFound, format!("{name}: no target has it"))
            }
            Some(error) => error.at(format!("{name}: no target has it whole")),
        })
    }

    /// The targets in the order in which they are asked: first those that have it good as far as is known (a disk may try for many seconds before
    /// it says that it cannot read); last those that did not answer once and may by now. One that is another repository's, or of another kind, is not
    /// asked at all.
    fn order(&self, name: &ObjectName) -> Vec<Asked<'_>> {
        let mut order: Vec<_> = self
            .targets()
            .iter()
            .filter_map(|target| {
                let error = target.error();
                let silent =
                    |error: &Error| matches!(error.kind(), ErrorKind::Target | ErrorKind::TargetFull);
                let open = target.target.as_ref().filter(|_| error.as_ref().is_none_or(silent))?;
                Some(Asked { target, open, failed: error.is_some() })
            })
            .collect();
        order.sort_by_cached_key(|asked| (asked.failed, asked.target.is_bad(name)));
        order
    }
}

/// A target that is asked.
struct Asked<'a> {
    target: &'a RepositoryTarget,
    open: &'a Arc<dyn Target>,
    failed: bool,
}
