//! `lsm-tool compact`: everything into one run a keyspace.

use lsm::{Background, Db};
use serde_json::json;

use crate::Finding;
use crate::args::Compact;
use crate::output::{Output, Result, size};

pub(crate) fn run(arguments: &Compact, out: &mut Output) -> Result<Finding> {
    // Opening makes a database where there is none: that is not what is meant here.
    Db::builder(&arguments.directory).read_only(true).background(Background::Manual).open()?;
    let memory_bytes = usize::try_from(arguments.memory).unwrap_or(usize::MAX).saturating_mul(1 << 20);
    let db = Db::builder(&arguments.directory).memory_bytes(memory_bytes).open()?;
    let before = db.stats();
    db.compact()?;
    let after = db.stats();
    db.close()?;
    let written = (after.flushed_bytes + after.compaction_written_bytes)
        .saturating_sub(before.flushed_bytes + before.compaction_written_bytes);
    if arguments.json {
        out.json(&json!({
            "table_bytes_before": before.table_bytes,
            "table_bytes": after.table_bytes,
            "bytes_written": written,
        }))?;
    } else {
        out.line(format_args!(
            "{} of tables before, {} now; {} were written for it",
            size(before.table_bytes),
            size(after.table_bytes),
            size(written)
        ))?;
    }
    Ok(Finding::Sound)
}
