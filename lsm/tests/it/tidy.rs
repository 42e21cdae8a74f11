//! The source, read as text: what may use what, and who alone touches the disk, the time, the threads.

use std::path::{Path, PathBuf};

/// Modules that may use those of their own line, and of the lines above, never those below.
const LAYERS: &[&[&str]] = &[
    &["error", "sync"],
    &["codec", "layout", "charge", "memory", "niceness", "ordered"],
    &["checksum", "key", "range", "row"],
    &["clock", "fs", "filename"],
    &["journal"],
    &["iter", "value", "block"],
    &["filter", "merge", "range_tombstone", "cache"],
    &["table"],
    &["batch", "memtable"],
    &["budget"],
    &["levels"],
    &["manifest", "event"],
    &["options"],
    &["visible", "iterator", "lookup", "read"],
    // The engine's state holds the jobs, and each of these files is a part of what the engine does.
    &[
        "engine",
        "claims",
        "admit",
        "ahead",
        "backlog",
        "turn",
        "write",
        "expand",
        "flush",
        "compaction",
        "output",
        "load",
        "dropping",
        "stats",
    ],
    &["heal", "health"],
    &["recover", "replay", "forgotten", "check", "worker"],
    &["reopen", "checkpoint"],
    &["keyspace", "snapshot", "transaction", "db"],
    &["repair"],
];

/// A program, which uses the public face, may print, and stands above all layers.
const PROGRAMS: &str = "bin";

/// For tests alone.
const TEST_MODULES: &[&str] = &["model", "fuzz"];

fn sources(directory: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// Each file that is no test, with its module and the text before its tests.
fn files() -> Vec<(PathBuf, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&root).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_string_lossy().replace(".rs", "");
        let is_test = relative.components().any(|part| part.as_os_str() == "tests")
            || ["tests.rs", "golden.rs", "table/layout.rs"].iter().any(|name| relative.ends_with(name))
            || TEST_MODULES.contains(&module.as_str());
        if module == "lib" || is_test {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = match text
            .find("#[cfg(test)]\nmod tests {")
            .or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {"))
        {
            Some(tests) => text[..tests].to_owned(),
            None => text,
        };
        files.push((relative.to_owned(), module, code));
    }
    assert!(files.len() > 50, "the sources are where they were");
    files
}

/// The lines of code, with their numbers.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(index, line)| (index + 1, line))
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn modules_use_what_is_above_them_in_the_list() {
    let mut faults = Vec::new();
    for (path, module, text) in files().into_iter().filter(|(_, module, _)| module != PROGRAMS) {
        let Some(own) = layer(&module) else {
            panic!("{}: module {module} is in no layer", path.display());
        };
        for (number, line) in code_lines(&text) {
            for used in line.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
                if layer(&used).is_some_and(|used| used > own) {
                    faults.push(format!("{}:{number}: {module} uses {used}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_walls_hold() {
    let walls: &[(&str, &[&str])] = &[
        ("std::fs", &["fs/os.rs", "fs/calls.rs"]),
        ("std::time::Instant", &["clock.rs"]),
        ("Instant::now", &["clock.rs"]),
        ("SystemTime", &[]),
        ("thread::spawn", &[]),
        ("thread::Builder", &["worker.rs", "table/writer/beside.rs"]),
        ("std::env", &[]),
        ("println!", &[]),
        ("dbg!", &[]),
        ("todo!", &[]),
        ("unimplemented!", &[]),
    ];
    let mut faults = Vec::new();
    for (path, module, text) in files() {
        for (number, line) in code_lines(&text) {
            for (forbidden, allowed) in walls {
                if module == PROGRAMS && *forbidden == "println!" {
                    continue;
                }
                if line.contains(forbidden) && !allowed.iter().any(|file| path.ends_with(file)) {
                    faults.push(format!("{}:{number}: {forbidden}", path.display()));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_file_says_what_it_is() {
    for (path, _, text) in files() {
        assert!(text.starts_with("//! "), "{} does not begin with what it is", path.display());
    }
}

/// The example of the README is that of the crate's documentation, which is compiled and run with the tests.
#[test]
fn the_readmes_example_is_one_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = |line: &str| line.split("//").next().unwrap_or_default().trim().to_owned();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let shown = readme.split("```rust").nth(1).unwrap().split("```").next().unwrap();
    let shown: Vec<String> = shown.lines().map(code).filter(|line| !line.is_empty()).collect();
    let library = std::fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let run: Vec<String> = library.lines().filter_map(|line| line.strip_prefix("//! ")).map(code).collect();
    let mut rest = run.iter();
    for line in shown.iter().filter(|line| !line.contains("Db::open")) {
        assert!(
            rest.any(|run| run == line),
            "{line:?} is not in the crate's example, or not behind the line before it"
        );
    }
    assert!(shown.len() > 10);
}
