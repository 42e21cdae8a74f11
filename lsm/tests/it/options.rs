//! docs/OPTIONS.md against the code: every option is on the page, nothing else is, and the defaults are those.

use std::collections::BTreeMap;
use std::path::Path;

use lsm::Tuning;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table in the section whose heading names `subject`: the option, and all cells.
fn documented(subject: &str) -> BTreeMap<String, Vec<String>> {
    let page = read("../docs/OPTIONS.md");
    let heading =
        page.lines().find(|line| line.starts_with("## ") && line.ends_with(&format!("`{subject}`")));
    let heading = heading.unwrap_or_else(|| panic!("no section for {subject}"));
    let (_, section) = page.split_once(&format!("{heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|line| {
        let cells: Vec<String> =
            line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        (cells[0].trim_matches('`').to_owned(), cells)
    })
    .collect()
}

/// The names behind `before` in the lines of the part of a source file between two markers.
fn declared(file: &str, from: &str, until: &str, before: &str) -> Vec<String> {
    let text = read(file);
    let (_, part) = text.split_once(from).unwrap_or_else(|| panic!("{file} has no {from:?}"));
    let part = part.split(until).next().unwrap();
    let names = part.lines().filter_map(|line| line.trim_start().strip_prefix(before));
    let name = |rest: &str| rest.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect();
    let mut names: Vec<String> = names.map(name).collect();
    names.sort();
    names
}

#[test]
fn every_option_is_on_the_page_and_nothing_else() {
    let mut builder = declared("src/db.rs", "impl Builder {", "\n}\n", "pub fn ");
    builder.retain(|name| name != "open");
    let mut repair = declared("src/repair/mod.rs", "impl RepairOptions {", "\n}\n", "pub fn ");
    repair.retain(|name| name != "new");
    for (subject, names) in [
        ("Db::builder", builder),
        ("KeyspaceOptions", declared("src/options.rs", "impl KeyspaceOptions {", "\n}\n", "pub fn ")),
        ("Tuning", declared("src/options.rs", "pub struct Tuning {", "\n}\n", "pub ")),
        ("JournalTuning", declared("src/options.rs", "pub struct JournalTuning {", "\n}\n", "pub ")),
        ("RepairOptions", repair),
    ] {
        let rows = documented(subject);
        assert!(!names.is_empty(), "{subject}");
        assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), names, "{subject}");
        for (option, cells) in &rows {
            // Of numbers it is said what more does, what less does, and when to change them. What has options of its own says it at each.
            let is_number = subject.ends_with("Tuning") && option != "journal";
            let said = if is_number { 5 } else { 2 };
            let says_all = cells.len() >= said && cells.iter().take(said).all(|cell| !cell.is_empty());
            assert!(says_all, "{subject}: {option} says too little");
        }
    }
    let durability = documented("Durability");
    assert_eq!(durability.keys().collect::<Vec<_>>(), ["Process", "Synced", "System"]);
}

/// `16 MiB (an eighth ..)`, `4,096`, `Some(10s) (..)`, `Lz4` as the value is shown; `None` for what is no number.
fn value(cell: &str) -> Option<String> {
    let cell = cell.split(" (").next().unwrap_or(cell).trim();
    let mut words = cell.split(' ');
    let number = words.next()?.replace(',', "");
    let unit: u64 = match words.next() {
        None => {
            return (number.starts_with("Some") || number == "Lz4" || number.parse::<u64>().is_ok())
                .then_some(number);
        }
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some(_) => return None,
    };
    Some((number.parse::<u64>().ok()? * unit).to_string())
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let shown = format!("{:?}", Tuning::for_memory(128 << 20));
    let mut compared = 0;
    for (option, cells) in documented("Tuning").into_iter().chain(documented("JournalTuning")) {
        let Some(value) = value(&cells[4]) else {
            assert!(["merge_threads", "journal"].contains(&option.as_str()), "{option}: {}", cells[4]);
            continue;
        };
        let is_there = [", ", " }"].iter().any(|end| shown.contains(&format!("{option}: {value}{end}")));
        assert!(is_there, "{option}: the page says {value}, the code {shown}");
        compared += 1;
    }
    assert!(compared >= 16, "{compared}");
    assert!(read("src/options.rs").contains("memory_bytes: 128 << 20,"), "the default of the memory");
}
