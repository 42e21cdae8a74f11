//! `lsm-tool`, the real program, on real directories: sound ones, damaged ones, and such as are none.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::RwLock;

use lsm::{Batch, Db, Durability, KeyspaceOptions};

/// A child that is being started has our files open for a moment, and with them our locks: nobody starts one while a database is made.
static STARTING: RwLock<()> = RwLock::new(());

/// A directory with a database of three keyspaces: something in tables, something deleted, something in the log alone.
fn database() -> tempfile::TempDir {
    let _nobody_starts = STARTING.read().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let people = db.keyspace("people", KeyspaceOptions::sorted()).unwrap();
    let places = db.keyspace("places", KeyspaceOptions::sorted()).unwrap();
    let index = db.keyspace("index", KeyspaceOptions::fixed(8, 4).unwrap()).unwrap();
    let mut batch = Batch::new();
    for number in 0..300u64 {
        batch.put(&index, number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(), [b'r'; 4]);
    }
    for number in 0..500 {
        batch.put(&people, format!("person {number:04}"), format!("lives in street {number}"));
    }
    batch.put(&places, [0xff, 1], "no text");
    db.commit(batch, Durability::Synced).unwrap();
    db.flush().unwrap();
    people.delete("person 0003").unwrap();
    people.delete_prefix("person 001").unwrap();
    people.put("person 0500", "in the log alone").unwrap();
    db.sync().unwrap();
    drop((people, places, index));
    db.close().unwrap();
    dir
}

fn tool(arguments: &[&str], path: &Path) -> Output {
    let (verb, rest) = arguments.split_first().unwrap();
    start(Command::new(env!("CARGO_BIN_EXE_lsm-tool")).arg(verb).arg(path).args(rest))
        .wait_with_output()
        .unwrap()
}

fn start(command: &mut Command) -> Child {
    let _alone = STARTING.write().unwrap();
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What it said, and its exit code.
fn said(arguments: &[&str], path: &Path) -> (String, i32) {
    let output = tool(arguments, path);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("panicked"), "{arguments:?}: {stderr}");
    (String::from_utf8(output.stdout).unwrap() + &stderr, output.status.code().unwrap())
}

/// What it said as JSON, a value a line, and its exit code.
fn json(arguments: &[&str], path: &Path) -> (Vec<serde_json::Value>, i32) {
    let arguments = [arguments, &["--json"]].concat();
    let output = tool(&arguments, path);
    let text = String::from_utf8(output.stdout).unwrap();
    let values =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    (values.collect(), output.status.code().unwrap())
}

fn file(dir: &Path, ending: &str) -> PathBuf {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    files.pop().unwrap()
}

fn table_of_people(dir: &Path) -> PathBuf {
    let tables =
        files(dir).into_iter().filter(|(path, _)| path.extension().is_some_and(|ending| ending == "table"));
    let mut people = tables.filter(|(_, bytes)| bytes.windows(6).any(|part| part == b"people"));
    people.next().unwrap().0
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

/// Every file and what is in it.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_sound_database_passes_every_level_of_check_and_is_not_changed() {
    let dir = database();
    let before = files(dir.path());
    for level in ["quick", "structure", "full"] {
        let (text, code) = said(&["check", "--level", level], dir.path());
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("sound") && text.contains(level), "{text}");
        let (values, code) = json(&["check", "--level", level], dir.path());
        assert_eq!((values[0]["sound"].as_bool(), code), (Some(true), 0), "{values:?}");
    }
    for verb in ["stats", "dump", "repair"] {
        let (text, code) = said(&[verb], dir.path());
        assert_eq!(code, 0, "{verb}: {text}");
    }
    assert_eq!(files(dir.path()), before);
}

#[test]
fn check_and_stats_work_beside_a_writer_and_what_writes_is_kept_out() {
    let dir = database();
    let db = Db::open(dir.path()).unwrap();
    db.keyspace("people", KeyspaceOptions::sorted()).unwrap().put("now", "here").unwrap();
    for verb in ["check", "stats", "dump"] {
        let (text, code) = said(&[verb], dir.path());
        assert_eq!(code, 0, "{verb}: {text}");
    }
    let (text, code) = said(&["dump", "--values", "--prefix", "now"], dir.path());
    assert_eq!((text.as_str(), code), ("people: \"now\" put = \"here\"\n", 0));
    for verb in ["repair", "compact"] {
        let (text, code) = said(&[verb], dir.path());
        assert_eq!(code, 3, "{verb}: {text}");
        assert!(text.contains("open for writing") && text.contains("close it there"), "{verb}: {text}");
    }
}

#[test]
fn what_is_no_database_is_said_and_no_database_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for verb in ["check", "repair", "compact", "stats", "dump"] {
        let (text, code) = said(&[verb], dir.path());
        assert_eq!(code, 3, "{verb}: {text}");
        let (text, code) = said(&[verb], &dir.path().join("nowhere"));
        assert_eq!(code, 3, "{verb}: {text}");
        assert!(text.contains("nowhere"), "{verb}: {text}");
    }
    assert!(!dir.path().join("MANIFEST").exists());
    let other = dir.path().join("letter.txt");
    std::fs::write(&other, "Dear reader").unwrap();
    let (text, code) = said(&["dump"], &other);
    assert_eq!(code, 3);
    assert!(text.contains("neither its first bytes nor its name"), "{text}");
    let (_, code) = said(&["dump", "--nonsense"], &other);
    assert_eq!(code, 2);
}

#[test]
fn entries_are_dumped_by_keyspace_and_range() {
    let dir = database();
    let (text, code) = said(&["dump", "--keys", "--keyspace", "people", "--from", "person 0498"], dir.path());
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "people: \"person 0498\" put\npeople: \"person 0499\" put\npeople: \"person 0500\" put\n"
    );
    let (values, _) = json(&["dump", "--values", "--keyspace", "places", "--prefix", "hex:ff"], dir.path());
    let [value] = values.as_slice() else { panic!("{values:?}") };
    assert_eq!((value["keyspace"].as_str(), value["key_hex"].as_str()), (Some("places"), Some("ff01")));
    assert_eq!(value["value"].as_str(), Some("no text"));
    let (text, _) = said(&["dump", "--keys", "--prefix", "person 001"], dir.path());
    assert_eq!(text, "", "they are deleted");
    let (text, code) = said(&["dump", "--keys", "--keyspace", "poeple"], dir.path());
    assert_eq!(code, 3);
    assert!(text.contains("index, people, places"), "{text}");
}

#[test]
fn each_kind_of_file_is_dumped() {
    let dir = database();
    let table = table_of_people(dir.path());
    let (text, code) = said(&["dump"], &table);
    assert_eq!(code, 0, "{text}");
    for word in ["500 entries", "person 0499", "\"people\"", "level 0"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (text, _) = said(&["dump", "--values", "--to", "person 0002"], &table);
    assert!(
        text.contains("\"person 0001\" 302 put = \"lives in street 1\"") && !text.contains("person 0002\" "),
        "{text}"
    );
    let (text, _) = said(&["dump", "--raw"], &table);
    assert!(text.contains("index block") && text.contains("footer"), "{text}");

    let log = file(dir.path(), ".log");
    let (text, code) = said(&["dump"], &log);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Batch: 1 operations") && text.contains("Start"), "{text}");
    let (text, _) = said(&["dump", "--values"], &log);
    assert!(text.contains("1: \"person 0003\"") && text.contains("= \"in the log alone\""), "{text}");
    assert!(text.contains("from \"person 001\" to before \"person 002\""), "{text}");
    let (text, _) = said(&["dump", "--raw"], &log);
    assert!(text.contains("log of the journal"), "{text}");

    let manifest = dir.path().join("MANIFEST");
    let (text, code) = said(&["dump"], &manifest);
    assert_eq!(code, 0);
    assert!(text.contains("edit 1 at 64") && text.contains("\"people\"") && text.contains("added"), "{text}");
    assert_eq!(said(&["dump"], dir.path()).0, text, "of a directory, the same");
    let (values, _) = json(&["dump"], &manifest);
    assert!(values.iter().any(|edit| edit["changes"].to_string().contains("table_added")), "{values:?}");
    for path in [&table, &log] {
        for option in [&["dump"][..], &["dump", "--values"]] {
            assert_eq!(json(option, path).1, 0);
        }
    }
}

/// A table of rows is a table.
#[test]
fn tables_of_rows_are_dumped_and_their_damage_is_told() {
    let dir = database();
    let tables = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_of_rows = |path: &PathBuf| {
        path.to_string_lossy().ends_with(".table") && said(&["dump"], path).0.contains("\"index\"")
    };
    let table = tables.into_iter().find(is_of_rows).unwrap();
    let (text, code) = said(&["dump", "--values"], &table);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("300 entries") && text.contains("fixed, 8 + 4 bytes"), "{text}");
    assert_eq!(text.matches("put = \"rrrr\"").count(), 300, "{text}");
    assert_eq!(said(&["dump", "--raw"], &table).1, 3);
    flip(&table, 5000);
    let (text, code) = said(&["dump", "--values"], &table);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("lost: ") && text.contains("damage: "), "{text}");
    let (text, code) = said(&["repair"], dir.path());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("of keyspace \"index\"") && text.contains("repaired, and checked"), "{text}");
}

#[test]
fn damage_is_found_named_and_repaired() {
    let dir = database();
    let table = table_of_people(dir.path());
    let length = usize::try_from(std::fs::metadata(&table).unwrap().len()).unwrap();
    flip(&table, length / 2);
    let (text, code) = said(&["check"], dir.path());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains(table.to_str().unwrap()) && text.contains("lsm-tool repair --dry-run"), "{text}");
    let (values, code) = json(&["check"], dir.path());
    assert_eq!((values[0]["sound"].as_bool(), code), (Some(false), 1));
    // What verifies is shown, and what does not.
    let (text, code) = said(&["dump", "--keys"], &table);
    assert_eq!(code, 1);
    assert!(
        text.contains("damage: ") && text.contains("lost: ") && text.contains("\"person 0499\""),
        "{text}"
    );

    let before = files(dir.path());
    let (text, code) = said(&["repair", "--dry-run"], dir.path());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("lost: ") && text.contains("nothing was changed"), "{text}");
    assert_eq!(files(dir.path()), before);

    let (text, code) = said(&["repair"], dir.path());
    assert_eq!(code, 1, "something was lost: {text}");
    for word in ["salvaged: ", "lost: ", "with keys from \"person 0", "set aside: ", "repaired, and checked"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (text, code) = said(&["check"], dir.path());
    assert_eq!(code, 0, "{text}");
    let (text, code) = said(&["repair"], dir.path());
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("nothing to repair"), "{text}");
    let (text, _) = said(&["dump", "--keys", "--keyspace", "people"], dir.path());
    let left = text.lines().count();
    assert!((250..490).contains(&left), "one block of some is gone: {left}");
}

#[test]
fn without_a_manifest_everything_is_had_again() {
    let dir = database();
    let (expected, _) = said(&["dump", "--values"], dir.path());
    std::fs::remove_file(dir.path().join("MANIFEST")).unwrap();
    let (text, code) = said(&["compact"], dir.path());
    assert_eq!(code, 3, "{text}");
    let (values, code) = json(&["repair"], dir.path());
    let report = &values[0];
    assert_eq!(code, 0, "{report:#}");
    assert_eq!((report["manifest"].as_str(), report["sound_now"].as_bool()), (Some("missing"), Some(true)));
    assert!(report["losses"].as_array().unwrap().is_empty(), "{report:#}");
    assert!(!report["doubts"].as_array().unwrap().is_empty(), "{report:#}");
    assert_eq!(said(&["dump", "--values"], dir.path()).0, expected);
}

#[test]
fn a_damaged_manifest_is_told_and_its_other_edits_are_shown() {
    let dir = database();
    let manifest = dir.path().join("MANIFEST");
    flip(&manifest, 64 + 45);
    let (text, code) = said(&["check"], dir.path());
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("MANIFEST") && text.contains("repair"), "{text}");
    let (text, code) = said(&["dump"], &manifest);
    assert_eq!(code, 1);
    assert!(text.contains("no record at 64") && text.contains("edit 2 at"), "{text}");
    let (text, code) = said(&["stats"], dir.path());
    assert_eq!(code, 1, "{text}");
    let (text, code) = said(&["repair"], dir.path());
    assert_eq!(code, 0, "{text}");
    assert_eq!(said(&["check"], dir.path()).1, 0);
}

#[test]
fn compacting_leaves_one_run_and_says_what_it_cost() {
    let dir = database();
    let (expected, _) = said(&["dump", "--values"], dir.path());
    let (values, code) = json(&["compact"], dir.path());
    assert_eq!(code, 0);
    assert!(values[0]["bytes_written"].as_u64().unwrap() > 0, "{values:?}");
    let (values, _) = json(&["stats"], dir.path());
    let people = &values[0]["keyspaces"][0];
    let tables: u64 =
        people["levels"].as_array().unwrap().iter().map(|level| level["tables"].as_u64().unwrap()).sum();
    let deletions: u64 =
        people["levels"].as_array().unwrap().iter().map(|level| level["deletions"].as_u64().unwrap()).sum();
    assert_eq!((tables, deletions), (1, 0), "{people:#}");
    assert_eq!(said(&["dump", "--values"], dir.path()).0, expected);
}

/// Whoever reads the output may stop: that is no failure.
#[test]
fn a_reader_who_stops_is_no_failure() {
    let dir = database();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lsm-tool"));
    let mut child = start(command.args(["dump", "--values"]).arg(dir.path()));
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &[][..]));
}
