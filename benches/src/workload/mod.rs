//! The pieces of work, and the session in which one engine does them.

mod chunkindex;
mod db_bench;
mod generator;
mod opening;
mod pathmeta;
mod session;
mod synced;
mod ycsb;

pub(crate) use opening::fill_until_killed;
pub(crate) use session::Session;

use crate::error::{Result, fault};

/// A piece of work, by name.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Session<'_>) -> Result<()>,
}

/// Shorthand for a list.
const fn work(name: &'static str, about: &'static str, run: fn(&mut Session<'_>) -> Result<()>) -> Benchmark {
    Benchmark { name, about, run }
}

/// All of them.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    work("fillseq", "a fresh database, keys in order", db_bench::fillseq),
    work("fillrandom", "a fresh database, keys drawn at random", db_bench::fillrandom),
    work("filluniquerandom", "a fresh database, each key once, in random order", db_bench::filluniquerandom),
    work("fillsync", "a fresh database, a thousandth of the entries, each write synced", db_bench::fillsync),
    work(
        "fill100K",
        "a fresh database, a thousandth of the entries, values of 100,000 bytes",
        db_bench::fill100k,
    ),
    work("overwrite", "keys drawn at random are written again", db_bench::overwrite),
    work("updaterandom", "a lookup and a write of the same key", db_bench::updaterandom),
    work("readrandomwriterandom", "lookups and writes mixed", db_bench::readrandomwriterandom),
    work("readrandom", "lookups of keys drawn at random", db_bench::readrandom),
    work("readmissing", "lookups of keys that are not there", db_bench::readmissing),
    work("multireadrandom", "lookups in batches", db_bench::multireadrandom),
    work("readseq", "a scan of everything, or of --reads entries", db_bench::readseq),
    work("readreverse", "the same, backward", db_bench::readreverse),
    work("seekrandom", "seeks, each with --seek_nexts entries read", db_bench::seekrandom),
    work(
        "readwhilewriting",
        "lookups beside one thread that writes all the time",
        db_bench::readwhilewriting,
    ),
    work("deleteseq", "deletes all keys in order", db_bench::deleteseq),
    work("deleterandom", "deletes keys drawn at random", db_bench::deleterandom),
    work("flush", "writes what is in memory to tables", db_bench::flush),
    work("compact", "compacts everything", db_bench::compact),
    work("waitforcompaction", "waits until the engine is quiet", db_bench::waitforcompaction),
    work("ycsb_load", "YCSB: loads the records", ycsb::load),
    work("ycsb_a", "YCSB A: half reads, half updates, zipfian", ycsb::a),
    work("ycsb_b", "YCSB B: 95 % reads, 5 % updates, zipfian", ycsb::b),
    work("ycsb_c", "YCSB C: reads, zipfian", ycsb::c),
    work("ycsb_d", "YCSB D: 95 % reads of the latest, 5 % inserts", ycsb::d),
    work("ycsb_e", "YCSB E: 95 % short scans, 5 % inserts", ycsb::e),
    work("ycsb_f", "YCSB F: half reads, half reads with a write of the same", ycsb::f),
    work(
        "chunkindex",
        "an index of chunks: 32-byte random keys, 24-byte values, looked up before they are written",
        chunkindex::run,
    ),
    work("pathmeta", "metadata of files: path-like keys in order, 300-byte values, prefixes", pathmeta::run),
    work("synced", "synced commits by 1 and by 8 threads, and what the disk itself does", synced::run),
    work("open", "opening: after a clean close, and after kill -9 with a full journal", opening::run),
    work("generate", "no engine: what keys, values and their checks cost", generator::run),
];

/// The benchmarks of these names; `ycsb` is all of YCSB in its order.
pub(crate) fn expand(names: &[String]) -> Result<Vec<&'static Benchmark>> {
    const YCSB: [&str; 8] =
        ["ycsb_load", "ycsb_a", "ycsb_b", "ycsb_c", "ycsb_f", "ycsb_d", "ycsb_load", "ycsb_e"];
    let mut all = Vec::new();
    for name in names {
        let parts: &[&str] = if name == "ycsb" { &YCSB } else { &[name.as_str()] };
        for part in parts {
            match BENCHMARKS.iter().find(|benchmark| benchmark.name == *part) {
                Some(benchmark) => all.push(benchmark),
                None => return fault(format!("there is no benchmark {part:?}; `lsm-bench list` names them")),
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_ycsb_is_all_of_it() {
        let names = |names: &[&str]| -> Vec<&str> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            expand(&names).unwrap().iter().map(|benchmark| benchmark.name).collect()
        };
        assert_eq!(names(&["fillseq", "readseq"]), ["fillseq", "readseq"]);
        assert_eq!(names(&["ycsb"]).len(), 8);
        assert!(expand(&["fillsequence".to_owned()]).is_err());
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), BENCHMARKS.len());
    }
}
