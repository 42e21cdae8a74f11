//! How readily a thread leaves the processors to others.

/// The calling thread, and those that it starts, let others go first from now on: `by` as of `nice(2)`, from 0, which changes nothing, to 19. Only where the system
/// keeps that of each thread, and not of the whole process.
pub(crate) fn lower(by: u8) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if by > 0 {
        // SAFETY: the call takes nothing by reference.
        #[expect(unsafe_code, reason = "the standard library has no name for the call")]
        // What it cannot do does no harm.
        let _ = unsafe { libc::nice(libc::c_int::from(by)) };
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = by;
}

/// Whether [`lower`] does anything here.
pub(crate) const IS_KNOWN: bool = cfg!(any(target_os = "linux", target_os = "android"));

#[cfg(test)]
mod tests {
    use super::*;

    /// The niceness of the calling thread, as the system shows it.
    #[cfg(target_os = "linux")]
    fn of_this_thread() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Behind the name, which may hold anything: the state is the third field, the niceness the nineteenth.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_the_thread_that_asks_gives_way() {
        let before = of_this_thread();
        let (lowered, child) = std::thread::spawn(|| {
            lower(0);
            lower(3);
            (of_this_thread(), std::thread::spawn(of_this_thread).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((lowered, child), ((before + 3).min(19), (before + 3).min(19)));
        assert_eq!(of_this_thread(), before);
    }
}
