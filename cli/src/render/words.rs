//! Counts with their nouns; errors beside what they are about.

use super::path;

/// `1 error`, `2 errors`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    }
}

/// A target's error where its URL stands beside it already, fit for a terminal.
pub(crate) fn of_target(error: &chunkstore::Error, url: &str) -> String {
    let whole = error.to_string();
    path::show(whole.strip_prefix(&format!("target {url}: ")).unwrap_or(&whole).as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        assert_eq!(count(0, "pack"), "0 packs");
        assert_eq!(count(1, "pack"), "1 pack");
        assert_eq!(count(2, "pack"), "2 packs");
    }
    #[test]
    fn a_target_is_not_named_twice() {
        let error = |text: &str| chunkstore::Error::new(chunkstore::ErrorKind::Target, text);
        assert_eq!(of_target(&error("target /b: it is away"), "/b"), "it is away");
        assert_eq!(of_target(&error("target /bc: it is away"), "/b"), "target /bc: it is away");
        assert_eq!(of_target(&error("\x1b"), "/b"), "\\x1b");
    }
}
