//! Every place in the engine that makes something durable, by name.
//!
//! A sync that no test misses is either not needed or not tested. So each call of [`File::sync_data`], [`FileSystem::sync_dir`]
//! and [`FileSystem::create_dir_all`] says which place it is, and [`FaultFs`] can leave out one place at a time: the
//! negative control of the crash tests (without the sync of site X, some test must fail; else the sync goes).
//!
//! [`File::sync_data`]: super::File::sync_data
//! [`FileSystem::sync_dir`]: super::FileSystem::sync_dir
//! [`FileSystem::create_dir_all`]: super::FileSystem::create_dir_all
//! [`FaultFs`]: super::FaultFs

/// The name of one place in a program that asks for durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SyncSite(&'static str);

impl SyncSite {
    /// A site of this name; names are unique in a program, words joined by hyphens.
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for SyncSite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}
