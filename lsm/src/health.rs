//! Whether a database takes writes, as its users ask.

use crate::engine::Engine;
use crate::error::Error;

/// How a database is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Health {
    /// It takes reads, and writes where it was opened for them.
    Ok,
    /// A write or a sync failed, with this error, and nothing is acknowledged any more: remove the cause (a full disk, say), then call
    /// [`Db::reopen`](crate::Db::reopen). Reads go on, and see also what was committed and perhaps is not durable.
    Failed(Error),
    /// It was closed.
    Closed,
}

impl Engine {
    pub(crate) fn health(&self) -> Health {
        if self.is_closed() {
            return Health::Closed;
        }
        self.failure().map_or(Health::Ok, Health::Failed)
    }
}
