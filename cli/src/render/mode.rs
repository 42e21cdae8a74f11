//! Kinds and permissions as people and programs read them.

use chunkstore::metadata::{Kind, Metadata};

/// As `ls -l` writes it: `drwxr-xr-x`, `-rwsr-xr-x`, `drwxrwxrwt`.
pub(crate) fn letters(metadata: &Metadata) -> String {
    let mode = metadata.mode;
    let mut text = String::with_capacity(10);
    text.push(match metadata.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharacterDevice => 'c',
        Kind::BlockDevice => 'b',
    });
    // Who; the special bit that shows in their execute place; its letter with and without the execute bit.
    for (shift, special, with, without) in
        [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')]
    {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// restic's word for a kind.
pub(crate) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "dir",
        Kind::Symlink => "symlink",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharacterDevice => "chardev",
        Kind::BlockDevice => "dev",
    }
}

/// The number that restic's JSON has in `mode`: permissions, and the kind and special bits where Go's `os.FileMode` has them.
pub(crate) fn number(metadata: &Metadata) -> u32 {
    let kind = match metadata.kind {
        Kind::File => 0,
        Kind::Directory => 1 << 31,
        Kind::Symlink => 1 << 27,
        Kind::BlockDevice => 1 << 26,
        Kind::Fifo => 1 << 25,
        Kind::Socket => 1 << 24,
        Kind::CharacterDevice => 1 << 26 | 1 << 21,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)]
        .iter()
        .filter(|(bit, _)| metadata.mode & bit != 0)
        .fold(0, |bits, (_, place)| bits | 1 << place);
    kind | special | u32::from(metadata.mode & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind, mode: u16) -> Metadata {
        crate::render::node::tests::metadata(kind, mode)
    }

    #[test]
    fn as_ls_writes_them() {
        for (kind, mode, text) in [
            (Kind::File, 0o644, "-rw-r--r--"),
            (Kind::File, 0o4755, "-rwsr-xr-x"),
            (Kind::File, 0o2644, "-rw-r-Sr--"),
            (Kind::Directory, 0o1777, "drwxrwxrwt"),
            (Kind::Directory, 0o1776, "drwxrwxrwT"),
            (Kind::Symlink, 0o777, "lrwxrwxrwx"),
            (Kind::Fifo, 0, "p---------"),
            (Kind::Socket, 0o600, "srw-------"),
            (Kind::CharacterDevice, 0o666, "crw-rw-rw-"),
            (Kind::BlockDevice, 0o660, "brw-rw----"),
        ] {
            assert_eq!(letters(&of(kind, mode)), text);
        }
    }

    #[test]
    fn as_restic_numbers_them() {
        assert_eq!(number(&of(Kind::File, 0o644)), 420);
        assert_eq!(number(&of(Kind::Directory, 0o755)), 2_147_484_141);
        assert_eq!(number(&of(Kind::Symlink, 0o777)), 134_218_239);
        assert_eq!(number(&of(Kind::File, 0o4755)), 1 << 23 | 0o755);
    }
}
