//! A disk that is soon full, where one may be mounted.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A file system of a few megabytes, gone at the end.
pub(crate) struct TinyDisk(std::path::PathBuf);

impl TinyDisk {
    /// Mounts it; nothing, where that is not allowed.
    pub(crate) fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={megabytes}m,mode=0777");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
