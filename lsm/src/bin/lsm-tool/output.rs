//! What goes to the standard output, for people and for programs.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::{Map, Value};

/// Why a command ended.
#[derive(Debug)]
pub(crate) enum Failure {
    Database(lsm::Error),
    Output(io::Error),
}

impl From<lsm::Error> for Failure {
    fn from(error: lsm::Error) -> Self {
        Self::Database(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The standard output, buffered.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, io::stdout().lock()) }
    }

    pub(crate) fn line(&mut self, line: impl std::fmt::Display) -> Result<()> {
        writeln!(self.out, "{line}").map_err(Failure::Output)
    }

    pub(crate) fn json(&mut self, value: &Value) -> Result<()> {
        self.line(value)
    }

    pub(crate) fn finish(&mut self) -> Result<()> {
        self.out.flush().map_err(Failure::Output)
    }
}

/// What to do about an error, where its own sentence does not say it.
pub(crate) fn advice(error: &lsm::Error) -> Option<&'static str> {
    match error.kind() {
        lsm::ErrorKind::Corruption => Some("`lsm-tool repair --dry-run DIRECTORY` says what can be kept"),
        lsm::ErrorKind::Locked => {
            Some("close it there, then try again; `check`, `dump` and `stats` work beside a writer")
        }
        lsm::ErrorKind::OutOfSpace => Some("free space on the device, then try again"),
        _ => None,
    }
}

/// Bytes for people: as text where they are, escaped where not.
pub(crate) fn shown(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

/// Puts bytes under `name` where they are text, and under `name_hex` where not.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_hex"), hex(bytes).into()),
    };
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number of bytes, for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "bytes" { format!("{bytes} bytes") } else { format!("{size:.1} {unit}") }
}

/// A count with its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// A range, for people.
pub(crate) fn range(range: &lsm::range::KeyRange) -> String {
    let upper = match &range.upper {
        std::ops::Bound::Included(upper) => format!("to {}", shown(upper)),
        std::ops::Bound::Excluded(upper) => format!("to before {}", shown(upper)),
        std::ops::Bound::Unbounded => "on".to_owned(),
    };
    format!("from {} {upper}", shown(&range.lower))
}

/// A range, for programs: `from`, and `to` or `before`, where it ends.
pub(crate) fn put_range(object: &mut Map<String, Value>, range: &lsm::range::KeyRange) {
    put_bytes(object, "from", &range.lower);
    match &range.upper {
        std::ops::Bound::Included(upper) => put_bytes(object, "to", upper),
        std::ops::Bound::Excluded(upper) => put_bytes(object, "before", upper),
        std::ops::Bound::Unbounded => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(1), "1 bytes");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(5 << 30), "5.0 GiB");
    }

    #[test]
    fn bytes_that_are_no_text_are_hexadecimal() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", b"ab");
        put_bytes(&mut object, "value", &[0xff, 1]);
        assert_eq!(Value::from(object).to_string(), r#"{"key":"ab","value_hex":"ff01"}"#);
    }
}
