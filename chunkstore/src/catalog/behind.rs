//! Whether a catalog that cannot be changed knows what a target holds: where the disk is full or read-only, it cannot catch up.

use std::collections::HashSet;

use crate::error::Result;
use crate::repository::layout::SEGMENTS;
use crate::segment::SegmentName;
use crate::target::Target;

use super::Catalog;
use super::store::meta;

impl Catalog {
    /// Whether `target` has segments that were never read here, or a run that was read is not visible yet: then [`Catalog::catch_up`] may bring more.
    ///
    /// # Errors
    /// The target's; local.
    pub fn is_behind(&self, target: &dyn Target) -> Result<bool> {
        if self.applying()?.is_some() || self.inner.spaces.meta.prefix(meta::WAITING).next().is_some() {
            return Ok(true);
        }
        let known: HashSet<SegmentName> = self.segments()?.into_iter().map(|info| info.name).collect();
        let listed = target.list(SEGMENTS)?;
        let mut names = listed.iter().filter_map(|info| SegmentName::from_key(&info.key));
        Ok(names.any(|name| !known.contains(&name)))
    }
}
