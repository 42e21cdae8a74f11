//! Which errors of the engine mean that the catalog itself is bad: it is set aside and made again then, since everything in it can be had elsewhere.
//!
//! A full disk, missing permissions or too many open files say nothing about what is written; a bad sector is as good as a wrong byte.

use std::error::Error as _;

use rustix::io::Errno;

/// What the system says of bytes that it cannot give back: a bad sector; checksums and structures of the file system that do not fit.
const BAD_DISK: &[Errno] = &[
    Errno::IO,
    Errno::BADMSG,
    #[cfg(target_os = "linux")]
    Errno::UCLEAN,
];

/// Whether the engine met bytes that are not what was written, or that the disk does not give back; also if that is why it stopped earlier.
pub(crate) fn is_damage(error: &lsm::Error) -> bool {
    if error.kind() == lsm::ErrorKind::Corruption {
        return true;
    }
    let Some(source) = error.source() else { return false };
    if let Some(system) = source.downcast_ref::<std::io::Error>() {
        // A table that ends too early was longer when it was written.
        return system.kind() == std::io::ErrorKind::UnexpectedEof
            || system
                .raw_os_error()
                .is_some_and(|code| BAD_DISK.iter().any(|bad| bad.raw_os_error() == code));
    }
    source.downcast_ref::<lsm::Error>().is_some_and(is_damage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_sector_is_damage_and_a_full_disk_is_none() {
        let system =
            |code: Errno| lsm::Error::io("read", std::io::Error::from_raw_os_error(code.raw_os_error()));
        assert!(is_damage(&lsm::Error::corruption("other bytes")));
        assert!(is_damage(&system(Errno::IO)));
        assert!(is_damage(&lsm::Error::failed(&system(Errno::IO).at("/db/1.table"))));
        for code in [Errno::NOSPC, Errno::ROFS, Errno::ACCESS, Errno::MFILE] {
            assert!(!is_damage(&system(code)), "{code}");
        }
        assert!(!is_damage(&lsm::Error::new(lsm::ErrorKind::Locked, "another process")));
        assert!(crate::Error::from(system(Errno::IO)).at("somewhere").is_catalog_damage());
        assert!(!crate::Error::from(system(Errno::NOSPC)).is_catalog_damage());
    }
}
