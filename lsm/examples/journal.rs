//! The journal alone, without the tree around it: a ledger of payments that survives a crash.
//!
//! `cargo run -p lsm --example journal -- DIRECTORY AMOUNT..` appends payments and shows the balance; without amounts it only shows it.
//! Kill it, cut its power, or damage a file of the directory, and see what it says the next time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use lsm::fs::OsFs;
use lsm::journal::{Durability, JournalOptions, Payload, RecoveryMode, TypedJournal};

/// What is kept: an amount in cents.
struct Payment(i64);

impl Payload for Payment {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> lsm::Result<Self> {
        match bytes.try_into() {
            Ok(bytes) => Ok(Self(i64::from_le_bytes(bytes))),
            Err(_) => Err(lsm::Error::corruption(format!("a payment of {} bytes", bytes.len()))),
        }
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("a directory is expected, then amounts")?);

    // Opening reads what is there. Every payment is visited in order, before anything else happens.
    let mut balance = 0;
    let (journal, recovery) = TypedJournal::<Payment>::open(
        Arc::new(OsFs),
        &directory,
        JournalOptions::default(),
        RecoveryMode::Tail,
        |_, Payment(cents)| {
            balance += cents;
            Ok(())
        },
    )?;
    for log in &recovery.logs {
        println!("{}: {} payments, {:?}", log.path.display(), log.batches, log.verdict);
    }

    // Each payment is durable before the next is read: it survives a power loss.
    for amount in arguments {
        let cents =
            amount.to_str().and_then(|amount| amount.parse().ok()).ok_or("amounts are whole cents")?;
        let sequence = journal.append(&Payment(cents), Durability::Synced)?;
        balance += cents;
        println!("payment {sequence}: {cents}");
    }
    println!("balance: {balance}");

    // In order: the next opening finds a clean end, and writes nothing.
    journal.close()?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "an example shows what it does")]
fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
