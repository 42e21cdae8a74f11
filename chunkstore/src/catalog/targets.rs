//! The targets that this machine has seen, by number.

use lsm::{Batch, Durability};

use crate::error::{Error, ErrorKind, Result};

use super::Catalog;
use super::store::bad_row;

/// A target's number in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetNumber(pub u32);

impl Catalog {
    /// The number of the target with this URL; given at the first call.
    ///
    /// # Errors
    /// Local.
    pub fn target(&self, url: &str) -> Result<TargetNumber> {
        let _guard = self.inner.change.lock();
        let mut next = 1;
        for (number, known) in self.targets()? {
            if known == url {
                return Ok(number);
            }
            next = number.0.saturating_add(1);
        }
        self.outbox_ref()?;
        let mut batch = Batch::new();
        batch.put(&self.inner.spaces.targets, next.to_be_bytes(), url.as_bytes());
        self.commit(batch, Durability::System)?;
        Ok(TargetNumber(next))
    }

    /// Every target that was seen and not forgotten, by number.
    ///
    /// # Errors
    /// Local.
    pub fn targets(&self) -> Result<Vec<(TargetNumber, String)>> {
        let rows = self.inner.spaces.targets.iter();
        rows.map(|row| {
            let (key, value) = row?;
            let number = key.first_chunk::<4>().ok_or_else(|| bad_row("targets", "its key is too short"))?;
            let url = String::from_utf8(value.to_vec()).map_err(|_| bad_row("targets", "a URL is text"))?;
            Ok((TargetNumber(u32::from_be_bytes(*number)), url))
        })
        .collect()
    }

    /// Forgets a target and what it holds.
    ///
    /// # Errors
    /// Local.
    pub fn forget_target(&self, target: TargetNumber) -> Result<()> {
        if !self.targets()?.iter().any(|(number, _)| *number == target) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("no target has the number {}", target.0),
            ));
        }
        let _guard = self.inner.change.lock();
        let mut batch = Batch::new();
        batch.delete(&self.inner.spaces.targets, target.0.to_be_bytes());
        batch.delete_prefix(&self.inner.spaces.holdings, target.0.to_be_bytes());
        self.commit(batch, Durability::System)?;
        *self.inner.usable.lock() = None;
        Ok(())
    }
}
