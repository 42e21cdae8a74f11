//! Making, opening and changing repositories, on good, absent, damaged and false targets.

mod keys;
mod making;
mod opening;
mod reading;
mod targets;

use std::collections::BTreeSet;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::complete::Complete;
use super::config::{Config, Mode};
use super::connect::tests::Named;
use super::key::{KeyRemoval, PasswordCost};
use super::layout::ObjectName;
use super::state::StateDirectory;
use super::*;
use crate::id::WriterId;
use crate::monitor::{Collector, FaultSide, Monitor};
use crate::target::ObjectKey;
use crate::target::fault::{Fault, FaultTarget, Rule};
use crate::target::mem::MemTarget;
use crate::testing::renew_hash;

pub(crate) const PASSWORD: Protection<'static> =
    Protection::Password { password: b"secret", label: "me@here", cost: PasswordCost::LEAST };

pub(crate) struct World {
    pub(crate) targets: Vec<Arc<MemTarget>>,
    pub(crate) connect: Arc<Named>,
    pub(crate) options: OpenOptions,
    _state: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(names: &[&str]) -> Self {
        let targets: Vec<_> = names.iter().map(|name| MemTarget::new(name)).collect();
        let connect = Named::new(targets.iter().map(|target| Arc::clone(target) as Arc<dyn Target>));
        let state = crate::testing::state_dir();
        let mut options = OpenOptions::new(StateDirectory::new(state.path().join("state")));
        options.connect = connect.clone();
        Self { targets, connect, options, _state: state }
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.url().to_owned()).collect()
    }

    pub(crate) fn init(&self, protection: Protection<'_>) -> Result<Repository> {
        Repository::init(&self.urls(), &self.options, protection, &InitOptions::default())
    }

    pub(crate) fn open(&self, index: usize, monitor: &dyn Monitor) -> Result<Repository> {
        self.open_with(index, b"secret", monitor)
    }

    pub(crate) fn open_with(
        &self,
        index: usize,
        password: &[u8],
        monitor: &dyn Monitor,
    ) -> Result<Repository> {
        let mut ask = once(password);
        Repository::open(self.targets[index].url(), &self.options, Unlock::Password(&mut ask), monitor)
    }

    /// As on a machine that has never seen the repository.
    pub(crate) fn elsewhere(&self) -> (tempfile::TempDir, OpenOptions) {
        let state = crate::testing::state_dir();
        let mut options = OpenOptions::new(StateDirectory::new(state.path()));
        options.connect = self.connect.clone();
        (state, options)
    }
}

pub(crate) fn once(password: &[u8]) -> impl FnMut(u32) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let password = password.to_vec();
    move |attempt| Ok((attempt == 1).then(|| Zeroizing::new(password.clone())))
}

fn config_key() -> ObjectKey {
    ObjectName::Config.key()
}

fn mark(sequence: u64) -> Complete {
    Complete { writer: WriterId::from_bytes([5; 16]), sequence, segment: ObjectHash::of(&[b"s"]) }
}

fn sides(monitor: &Collector) -> Vec<FaultSide> {
    monitor.faults().iter().map(|fault| fault.side).collect()
}
