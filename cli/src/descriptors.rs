//! How many files the program may have open: as many as the system lets it. Every table of a catalog is one, and the usual first limit, 1,024, is for programs that
//! wait with `select`.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit to the one that an administrator has set. Where that is refused, all works that fits below the first.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_high_as_it_may_be() {
        let before = getrlimit(Resource::Nofile);
        let low =
            rustix::process::Rlimit { current: before.current.map(|current| current.min(512)), ..before };
        setrlimit(Resource::Nofile, low).unwrap();
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!((after.current, after.maximum), (before.maximum, before.maximum));
    }
}
