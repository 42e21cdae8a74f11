//! Where tests put their files, and who they are there.

use std::path::PathBuf;

/// A folder for local state, in memory where the system has a place for that: a catalog is synced at every step, and tests make hundreds
/// of them. That syncs are where they must be is tested where they are made, on a file system that loses power.
pub(crate) fn state_dir() -> tempfile::TempDir {
    let in_memory = tempfile::Builder::new().prefix("versions-test-").tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// A temporary directory by its real path: for tests of what a link on the way to it would change.
pub(crate) fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    (dir, path)
}

/// Runs `work` as a user who may do nothing, if the test may become one.
pub(crate) fn unprivileged<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if rustix::process::geteuid().is_root() {
                // Of this thread only: the system calls know threads, not processes.
                let (user, group) =
                    (rustix::process::Uid::from_raw(65534), rustix::process::Gid::from_raw(65534));
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(group, group, group).unwrap();
                rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            }
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
