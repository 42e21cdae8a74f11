//! The program as it is run: every benchmark, small, on this repository's engine (and on the peers that this build has).

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn lsm_bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lsm-bench")).args(arguments).output().unwrap()
}

fn engines() -> Vec<&'static str> {
    let built = [
        ("fjall", cfg!(feature = "fjall")),
        ("rocksdb", cfg!(feature = "rocksdb")),
        ("redb", cfg!(feature = "redb")),
        ("lmdb", cfg!(feature = "lmdb")),
    ];
    ["lsm"].into_iter().chain(built.into_iter().filter(|(_, built)| *built).map(|(name, _)| name)).collect()
}

/// Runs benchmarks and returns the rows of the report; what is on the terminal must name them all.
fn rows(benchmarks: &str, more: &[&str]) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let engines = engines().join(",");
    let mut arguments = vec!["--benchmarks", benchmarks, "--engines", &engines, "--num", "2000"];
    arguments.extend(["--memory", "32MiB", "--no_settle", "--db", directory.path().to_str().unwrap()]);
    arguments.extend(["--json", json.to_str().unwrap()]);
    arguments.extend(more);
    let output = lsm_bench(&arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{benchmarks}: {out}\n{err}");
    assert_eq!(err, "");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap().clone();
    for benchmark in benchmarks.split(',').filter(|name| *name != "ycsb") {
        assert!(out.contains(benchmark), "{benchmark} is not in the table:\n{out}");
        assert!(rows.iter().any(|row| row["workload"] == benchmark), "{benchmark} has no row");
    }
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["report.json"], "the databases are removed");
    rows
}

fn names(rows: &[Value], workload: &str) -> BTreeSet<String> {
    let of_it = rows.iter().filter(|row| row["workload"] == workload);
    of_it.map(|row| row["row"].as_str().unwrap().to_owned()).collect()
}

fn operations(rows: &[Value], workload: &str) -> u64 {
    let row = rows.iter().find(|row| row["workload"] == workload).unwrap();
    row["operations"].as_u64().unwrap()
}

#[test]
fn db_benchs_benchmarks_run_and_check_what_they_read() {
    let rows = rows(
        "fillseq,readrandom,readmissing,multireadrandom,readseq,readreverse,seekrandom,fillrandom,overwrite,updaterandom,\
         readrandomwriterandom,readwhilewriting,flush,waitforcompaction,compact,readrandom,readseq,deleterandom,readseq,deleteseq,\
         readreverse,filluniquerandom,readseq,fillsync,fill100K,readrandom",
        &[],
    );
    assert_eq!(operations(&rows, "fillseq"), 2000);
    assert_eq!(operations(&rows, "fillsync"), 100);
    assert_eq!(operations(&rows, "seekrandom"), 2000);
    let first_scan = rows.iter().find(|row| row["workload"] == "readseq").unwrap();
    assert_eq!(first_scan["operations"], 2000, "of a database filled in order everything is found");
    for row in &rows {
        assert!(
            row["operations_per_second"].as_f64().unwrap() >= 0.0 && row["seconds"].as_f64().unwrap() > 0.0,
            "{row}"
        );
        assert!(row["latency"]["p50"].as_u64() <= row["latency"]["max"].as_u64(), "{row}");
        if cfg!(target_os = "linux") {
            assert!(
                row["peak_bytes"].as_u64().unwrap() > 0 && row["disk_bytes"].as_u64().unwrap() > 0,
                "{row}"
            );
        }
    }
}

#[test]
fn the_writer_beside_readers_can_be_held_back() {
    let told = ["--reads", "20000", "--benchmark_write_rate_limit", "100K"];
    let rows = rows("fillrandom,readwhilewriting", &told);
    let writers: Vec<_> = rows.iter().filter(|row| row["row"] == "the writer").collect();
    assert!(!writers.is_empty());
    for row in writers {
        let (count, seconds) = (row["operations"].as_f64().unwrap(), row["seconds"].as_f64().unwrap());
        assert!(count > 0.0 && count * 116.0 <= 102_400.0 * (seconds + 0.1), "{row}");
    }
}

#[test]
fn threads_batches_and_syncs_are_as_asked() {
    let rows = rows(
        "fillrandom,readrandom,readwhilewriting,readrandomwriterandom,seekrandom,readseq,deleterandom",
        &["--threads", "3", "--batch_size", "7", "--sync=1", "--seek_nexts", "3", "--reads", "500"],
    );
    assert_eq!(operations(&rows, "fillrandom"), 2000);
    assert_eq!(operations(&rows, "readrandom"), 500);
    let calls = rows.iter().find(|row| row["workload"] == "fillrandom").unwrap()["latency"]["calls"]
        .as_u64()
        .unwrap();
    assert_eq!(calls, 3 * 96, "667 or 666 entries of each thread in batches of 7");
    assert!(rows.iter().filter(|row| row["row"] == "").all(|row| row["threads"] == 3));
}

#[test]
fn ycsb_runs() {
    let rows = rows("ycsb", &["--threads", "2"]);
    let workloads: BTreeSet<&str> = rows.iter().map(|row| row["workload"].as_str().unwrap()).collect();
    assert_eq!(workloads.len(), 7, "{workloads:?}");
    assert!(rows.iter().all(|row| row["operations"] == 2000));
}

#[test]
fn the_index_of_chunks_runs_with_its_journal_and_in_bulk() {
    for more in [&["--batch_size", "64"][..], &["--bulk"][..]] {
        let rows = rows("chunkindex", more);
        let names = names(&rows, "chunkindex");
        for name in ["absent", "present", "present in order"] {
            for suffix in ["", " batched", ", merged", " batched, merged"] {
                assert!(names.contains(&format!("{name}{suffix}")), "{name}{suffix}: {names:?}");
            }
        }
        let load = if more == ["--bulk"] { "bulk load" } else { "load" };
        assert!(
            names.contains(load) && names.contains("compact") && names.contains("delete 30 %"),
            "{names:?}"
        );
        let deleted = rows.iter().find(|row| row["row"] == "delete 30 %").unwrap();
        assert_eq!(deleted["operations"], 600);
    }
}

/// What the process takes, not what the engine says of itself. The index is a second database in the same process: what the first one's cache held must be
/// the system's again.
#[test]
fn the_memory_budget_is_exceeded_by_no_more_than_a_tenth() {
    const BUDGET: u64 = 48 << 20;
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("report.json");
    let work = "fillrandom,overwrite,readrandom,readwhilewriting,readseq,chunkindex";
    let output = lsm_bench(&[
        "--benchmarks",
        work,
        "--num",
        "400000",
        "--reads",
        "50000",
        "--memory",
        &BUDGET.to_string(),
        "--db",
        directory.path().to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let taken = |row: &Value| row["peak_anonymous_bytes"].as_u64().unwrap();
    for row in rows {
        let bytes = taken(row);
        assert!(bytes <= BUDGET + BUDGET / 10, "{} {}: {bytes} of {BUDGET}", row["workload"], row["row"]);
    }
    assert!(rows.iter().map(taken).max() > Some(BUDGET / 2), "it is made use of");
}

#[test]
fn metadata_of_files_runs() {
    for (options, load) in [(&[][..], "sorted load"), (&["--bulk"], "bulk load, sorted")] {
        let rows = rows("pathmeta", options);
        let count =
            |name: &str| rows.iter().find(|row| row["row"] == name).unwrap()["operations"].as_u64().unwrap();
        assert_eq!(count(load), 2000);
        assert_eq!((count("scan forward"), count("scan backward")), (2000, 2000));
        assert_eq!(count("prefix deletes"), 4, "of 40 directories");
        assert_eq!((count("scan after deletes"), count("scan backward after deletes")), (1800, 1800));
    }
}

#[test]
fn synced_commits_and_openings_run() {
    let rows = rows("synced,open", &[]);
    assert_eq!(names(&rows, "synced").len(), 2);
    for row in ["open after kill -9, entries replayed", "open after kill -9, entries replayed, sorted"] {
        assert!(names(&rows, "open").contains(row), "{row}");
    }
}

#[test]
fn the_generators_cost_is_measured() {
    assert_eq!(names(&rows("generate", &[]), "generate").len(), 7);
}

fn compare(reports: &[&Path], svg: &Path) -> String {
    let mut arguments = vec!["compare", "--metrics", "rate,disk,p999", "--svg", svg.to_str().unwrap()];
    arguments.extend(reports.iter().map(|report| report.to_str().unwrap()));
    let output = lsm_bench(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn runs_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let reports = [directory.path().join("a.json"), directory.path().join("b.json")];
    for report in &reports {
        let arguments =
            ["--benchmarks", "fillseq,readseq", "--num", "500", "--runs", "2", "--no_settle", "--json"];
        let output = lsm_bench(&[&arguments[..], &[report.to_str().unwrap()]].concat());
        assert!(output.status.success());
    }
    let svg = directory.path().join("a.svg");
    let other = std::fs::read_to_string(&reports[0])
        .unwrap()
        .replace("\"memory_bytes\": 268435456", "\"memory_bytes\": 1");
    let other_report = directory.path().join("other.json");
    std::fs::write(&other_report, other).unwrap();
    let refused = lsm_bench(&["compare", reports[0].to_str().unwrap(), other_report.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("256"), "other memory is another measurement");
    let text = compare(&[&reports[0], &reports[1]], &svg);
    assert!(text.contains("| fillseq |") && text.contains("| readseq |"), "{text}");
    assert_eq!(text.matches("| --- |").count(), 3, "a table for each metric: {text}");
    assert_eq!(std::fs::read_to_string(&svg).unwrap().matches("class=\"bar\"").count(), 2);
}

#[test]
fn a_database_that_is_there_is_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().to_str().unwrap();
    let run = |benchmarks| {
        lsm_bench(&[
            "--benchmarks",
            benchmarks,
            "--num",
            "500",
            "--no_settle",
            "--use_existing_db",
            "--db",
            db,
        ])
    };
    assert!(run("fillseq").status.success());
    let again = run("readrandom,readseq");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(String::from_utf8_lossy(&again.stdout).contains("found 1.00"));
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let refused = |arguments: &[&str]| {
        let output = lsm_bench(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["--benchmarks", "fillsequence"]).contains("fillsequence"));
    assert!(refused(&["--engines", "leveldb"]).contains("leveldb"));
    assert!(refused(&["--memory", "much"]).contains("much"));
    assert!(refused(&["--benchmarks", "readrandom", "--no_settle"]).contains("there is no database"));
    assert!(refused(&["compare", "/nowhere.json"]).contains("/nowhere.json"));
}

#[test]
fn the_list_names_benchmarks_and_engines() {
    let output = lsm_bench(&["list"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("chunkindex") && text.contains("rocksdb"), "{text}");
}
