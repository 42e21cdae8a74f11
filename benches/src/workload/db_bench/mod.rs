//! db_bench's benchmarks, under its names. What is read is checked: a wrong value, a key that is there and not found, one that is found and must not be, end
//! the run.
//!
//! Where db_bench has every thread do `--num` or `--reads` operations, here the threads share them.

mod mixed;
mod pace;
mod reads;
mod scans;
mod writes;

pub(super) use mixed::{readrandomwriterandom, readwhilewriting, updaterandom};
pub(super) use reads::{multireadrandom, readmissing, readrandom};
pub(super) use scans::{readreverse, readseq, seekrandom};
pub(super) use writes::{
    compact, deleterandom, deleteseq, fill100k, fillrandom, fillseq, fillsync, filluniquerandom, flush,
    overwrite, waitforcompaction,
};

use crate::error::Result;
use crate::generate::{Presence, Values};
use crate::store::Durability;
use crate::workload::Session;
use crate::workload::session::Contents;

const NUM: u64 = 1_000_000;

/// In what order keys are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Sequential,
    Random,
    Unique,
}

fn num(session: &Session<'_>) -> u64 {
    session.num_or(NUM)
}

fn reads(session: &Session<'_>) -> u64 {
    session.arguments.reads.unwrap_or_else(|| num(session))
}

/// Opens a fresh database for entries of that kind.
fn fresh(session: &mut Session<'_>, value_bytes: usize, durability: Durability) -> Result<()> {
    let entry_bytes = (session.arguments.key_size + value_bytes) as u64;
    let mut configuration = session.configuration(num(session).saturating_mul(entry_bytes));
    configuration.durability = durability;
    session.open_fresh(&configuration)?;
    session.begin_contents(num(session), value_bytes);
    Ok(())
}

/// What writes need to know.
struct Writing {
    order: Order,
    /// Numbers are drawn below this.
    below: u64,
    /// Entries to write, of all threads.
    count: u64,
    batch: usize,
    key_bytes: usize,
    seed: u64,
    threads: usize,
    durability: Durability,
}

impl Writing {
    fn new(session: &Session<'_>, order: Order, count: u64) -> Self {
        Self {
            order,
            below: num(session),
            count,
            batch: session.arguments.batch_size.unwrap_or(1).max(1),
            key_bytes: session.arguments.key_size,
            seed: session.arguments.seed,
            threads: session.threads(),
            durability: session.durability(),
        }
    }
}

/// The contents for as long as a measurement has the session.
fn take_contents(session: &mut Session<'_>) -> Contents {
    let value_bytes = session.contents.values.value_bytes();
    let empty = Contents::unknown(Values::new(session.arguments.seed, value_bytes));
    std::mem::replace(&mut session.contents, empty)
}

fn expected(presence: Option<&Presence>, number: u64) -> Option<bool> {
    presence.map(|presence| presence.contains(number))
}
