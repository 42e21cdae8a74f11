//! What the documents say of files, verbs and exit codes is so.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{text, versions};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn documents() -> Vec<PathBuf> {
    let mut documents = vec![top().join("README.md"), top().join("CHANGELOG.md")];
    documents.extend(
        fs::read_dir(top().join("docs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    documents
}

/// What stands between two marks in a line, again and again.
fn between<'a>(line: &'a str, open: &'a str, close: &'a str) -> impl Iterator<Item = &'a str> {
    line.split(open).skip(1).filter_map(move |rest| rest.split(close).next())
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for document in documents() {
        for line in fs::read_to_string(&document).unwrap().lines() {
            for link in
                between(line, "](", ")").filter(|link| !link.contains("://") && !link.starts_with('#'))
            {
                let file = link.split('#').next().unwrap();
                assert!(document.parent().unwrap().join(file).exists(), "{}: {link}", document.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 3);
}

#[test]
fn files_that_are_named_exist() {
    let mut seen = 0;
    for document in documents() {
        for line in fs::read_to_string(&document).unwrap().lines() {
            for name in between(line, "`", "`") {
                let is_file = ["lsm/", "chunkstore/", "cli/", "fuzz/", "benches/", "docs/", ".ci/"]
                    .iter()
                    .any(|start| name.starts_with(start))
                    && !name.contains([' ', '*', '…', '{']);
                if is_file {
                    assert!(top().join(name).exists(), "{}: {name}", document.display());
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 5);
}

/// A part that is on no map is found by nobody.
#[test]
fn every_part_is_on_the_map() {
    let map = fs::read_to_string(top().join("docs/ARCHITECTURE.md")).unwrap();
    for part in ["lsm/src", "chunkstore/src", "cli/src"] {
        for entry in fs::read_dir(top().join(part)).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{part}/{}", entry.file_name().to_str().unwrap());
            let end = if entry.file_type().unwrap().is_dir() { "/`" } else { "`" };
            assert!(name.ends_with("/lib.rs") || map.contains(&format!("`{name}{end}")), "{name}");
        }
    }
}

#[test]
fn the_guide_has_every_verb_and_exit_code() {
    let guide = fs::read_to_string(top().join("docs/GUIDE.md")).unwrap();
    let help = text(&versions().arg("--help").output().unwrap().stdout);
    let section = |from: &str, to: &str| {
        help.lines()
            .skip_while(|line| *line != from)
            .skip(1)
            .take_while(|line| *line != to)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let verbs = section("Commands:", "");
    assert!(verbs.len() >= 13);
    for line in verbs.iter().filter(|line| !line.starts_with("   ")) {
        let verb = line.split_whitespace().next().unwrap();
        assert!(
            guide.contains(&format!("versions {verb}")) || guide.contains(&format!("`{verb}` ")),
            "{verb}"
        );
    }
    let codes = section("Exit codes:", "");
    let numbers = codes.iter().filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok());
    let mut seen = 0;
    for number in numbers {
        assert!(guide.contains(&format!("| {number} | ")), "{number}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}
