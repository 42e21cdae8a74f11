//! The seeds of the fuzz targets: made by the tests beside the bodies, kept beside the fuzz crate.
//!
//! For the tests of every crate that has bodies. A packaged crate comes without the fuzz crate: then there are none.

use std::io::Result;
use std::path::{Path, PathBuf};

/// A target, the seed's name, its bytes.
pub type Seed = (&'static str, String, Vec<u8>);

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target)
}

/// The seeds of a target that are kept, in the order of their names.
///
/// # Errors
/// Whatever keeps one from being read.
pub fn kept(target: &str) -> Result<Vec<Vec<u8>>> {
    let entries = std::fs::read_dir(folder(target)).into_iter().flatten();
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// Each seed is kept as it is made now; those of the name `only_there` need but be there.
///
/// # Panics
/// If one is not.
pub fn check(seeds: &[Seed], only_there: &str) {
    if !folder("").exists() {
        return;
    }
    for (target, name, bytes) in seeds {
        match std::fs::read(folder(target).join(name)) {
            Ok(kept) => {
                assert!(kept == *bytes || name == only_there, "{target}/{name} is made otherwise now");
            }
            Err(error) => panic!("{target}/{name}: {error}"),
        }
    }
}

/// Writes the seeds that are missing, and never over one that is there.
///
/// # Errors
/// Whatever keeps one from being written.
pub fn write_missing(seeds: &[Seed]) -> Result<()> {
    for (target, name, bytes) in seeds {
        let path = folder(target).join(name);
        if !path.exists() {
            std::fs::create_dir_all(folder(target))?;
            std::fs::write(path, bytes)?;
        }
    }
    Ok(())
}
