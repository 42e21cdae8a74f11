//! Patterns on the command line: what gitignore's rules take for no pattern at all is a mistake there.
//!
//! In a file of patterns blank lines and comments are passed over. In an argument, often a variable that was never set, the same would quietly
//! restore everything, or leave nothing out.

/// The pattern, if it is one.
///
/// # Errors
/// A sentence, if it would be passed over.
pub(crate) fn parse(text: &str) -> Result<String, &'static str> {
    let body = text.strip_prefix('!').unwrap_or(text);
    if body.trim_end_matches(' ').trim_matches('/').is_empty() {
        return Err("it is empty, and matches nothing by gitignore's rules");
    }
    // With a slash inside it is a path, which is never taken for a comment.
    if text.starts_with('#') && !text.trim_end_matches('/').contains('/') {
        return Err("it is a comment by gitignore's rules: write \\# for a name that begins with #");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_passed_over_is_refused() {
        for nothing in ["", " ", "/", "//", "!", "!/", "#x", "#", "#x/"] {
            assert!(parse(nothing).is_err(), "{nothing:?}");
        }
        for pattern in ["*.o", "/a", "!keep.o", "\\#x", "/#x", "#x/y", "\\ ", " a"] {
            assert_eq!(parse(pattern).as_deref(), Ok(pattern));
        }
    }
}
