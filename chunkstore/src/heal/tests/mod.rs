//! Healing: every damage, every fault, a crash at every call.

mod crash;
mod damage;
mod losses;
mod mirroring;
mod strangers;

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::catalog::Reference;
use crate::error::ErrorKind;
use crate::mirror::mirror;
use crate::monitor::Collector;
use crate::repository::complete::Complete;
use crate::repository::key::KeyRemoval;
use crate::repository::layout::ObjectKind;
use crate::repository::{Repository, Unlock};
use crate::target::fault::{Fault as Injected, FaultTarget, Rule};
use crate::target::mem::{MemTarget, Objects};
use crate::target::record::RecordTarget;
use crate::target::{ObjectKey, Operation, Target};
use crate::verify::tests::{ACTIONS, Action, Full, KINDS, damage, run};
use crate::verify::{Fate, MemHoldings, Outcome, ReadData, VerifyOptions, verify};

/// Verifies with more to heal from than the targets.
fn verify_with(
    repository: &Repository,
    sources: &HealSources<'_>,
    data: ReadData,
    heal: bool,
) -> Result<VerifyReport> {
    let options = VerifyOptions { data, heal };
    verify(repository, &options, &MemHoldings::default(), sources, &Collector::default())
}
