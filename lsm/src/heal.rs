//! After a loss that was accepted: what is left goes to tables, and the logs go. Otherwise the damage would stay in a log that the manifest
//! names, and have to be accepted at each opening until something flushes that log.

use crate::engine::{Engine, Progress};
use crate::error::Result;
use crate::journal::{LogReport, set_aside_whole};

impl Engine {
    /// Flushes all that was replayed, before anybody else writes; then nothing needs the logs that recovery read. Those with damage in them are
    /// kept aside first.
    ///
    /// # Errors
    /// Those of writing: the damage may still be there then.
    pub(crate) fn heal(&self, logs: &[LogReport]) -> Result<()> {
        for log in logs.iter().filter(|log| !log.holes.is_empty()) {
            set_aside_whole(self.fs.as_ref(), &self.directory, log.number)?;
        }
        self.freeze(&mut self.commit.lock())?;
        while self.flush_step_quietly()? == Progress::Working {}
        Ok(())
    }
}
