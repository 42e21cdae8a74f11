//! Paths and names from disk, made fit to be told.
//!
//! A name may hold anything but `/` and zero: line ends, which would break lines; escape sequences, which would drive the terminal;
//! bytes that are no text. A plain name is shown as it is. Any other is shown with `\xNN` for the bytes that are no
//! text, `\n` and the like for control characters, and `\\` for a backslash, so that it can be told back exactly. Faults and
//! events name things in this way, so that whoever prints them need not know.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `bytes` of a path or name as text.
pub fn show(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(unfit)
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => shown.push_str("\\\\"),
                '\n' => shown.push_str("\\n"),
                '\r' => shown.push_str("\\r"),
                '\t' => shown.push_str("\\t"),
                c if unfit(c) => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        escape(&mut shown, byte);
                    }
                }
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            escape(&mut shown, *byte);
        }
    }
    Cow::Owned(shown)
}

/// A path of the system as text.
pub fn show_path(path: &Path) -> Cow<'_, str> {
    show(path.as_os_str().as_bytes())
}

/// Whether a character must not reach a terminal as it is: controls, and the marks that turn the writing direction around.
fn unfit(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn escape(shown: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(shown, "\\x{byte:02x}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_stay() {
        for plain in ["", "/etc/hosts", "/a b/ünïcödé/日本", "a\\b"] {
            assert_eq!(show(plain.as_bytes()), plain);
            assert!(matches!(show(plain.as_bytes()), Cow::Borrowed(_)));
        }
    }

    #[test]
    fn what_is_no_plain_text_is_escaped() {
        assert_eq!(show(b"a\xffb"), "a\\xffb");
        assert_eq!(show(b"a\nb\tc\r"), "a\\nb\\tc\\r");
        assert_eq!(show(b"\x1b[31mred"), "\\x1b[31mred");
        assert_eq!(show("a\u{202e}gpj.exe".as_bytes()), "a\\xe2\\x80\\xaegpj.exe");
        assert_eq!(show(b"back\\slash\n"), "back\\\\slash\\n");
        assert_eq!(show(b"\xe2\x82"), "\\xe2\\x82");
    }
}
