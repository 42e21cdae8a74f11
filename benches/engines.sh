#!/usr/bin/env bash
# lsm beside fjall, RocksDB, redb and LMDB: the rows of docs/ENGINES.md.
#
#   benches/engines.sh OUT [GROUP...]
#
# Each group is one call of lsm-bench, whose report goes to OUT/GROUP.json and whose tables go to OUT/GROUP.md; a group whose report is there is
# not run again. Without GROUP: all, in the order below. At full size that takes most of a day, at SCALE=10 about an hour.
#
# Environment: SCALE (percent of the entries, 100), RUNS (3: medians are printed), ENGINES (lsm,fjall,rocksdb,redb,lmdb), MEMORY (the budget of groups that
# name none, 256MiB), LSM_BENCH (the binary; built if unset), DB (a folder for the databases, on the disk that is to be measured).
#
# On a quiet machine: nothing else should run, and the ratios of two cores are not those of sixteen.
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/.." && pwd)
scale=${SCALE:-100}
runs=${RUNS:-3}
engines=${ENGINES:-lsm,fjall,rocksdb,redb,lmdb}

stop() { printf '%s\n' "$*" >&2; exit 1; }
[ $# -ge 1 ] || stop "usage: benches/engines.sh OUT [GROUP...]"
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift

if [ -z "${LSM_BENCH:-}" ]; then
  (cd "$top" && cargo build --locked --release -p versions-bench --features fjall,redb,lmdb,rocksdb)
  LSM_BENCH=${CARGO_TARGET_DIR:-$top/target}/release/lsm-bench
fi
database=()
[ -z "${DB:-}" ] || database=(--db "$DB")

n() { echo $(($1 * scale / 100)); }
mib() { local scaled=$(($1 * scale / 100)); echo "$((scaled > 32 ? scaled : 32))MiB"; } # 32: the least that lsm takes

# What lsm-bench is told for a group. Where the memory is small against the data, it shrinks with the data.
arguments() {
  case $1 in
    index) echo "--benchmarks chunkindex --memory 2GiB --num $(n 20000000)" ;;
    index-bulk) echo "--benchmarks chunkindex --bulk --memory 2GiB --num $(n 20000000)" ;;
    index-large) echo "--benchmarks chunkindex --memory $(mib 192) --num $(n 50000000)" ;;
    writes) echo "--benchmarks fillrandom,waitforcompaction,overwrite,readrandom,readmissing,multireadrandom,readwhilewriting --num $(n 5000000)" ;;
    scans) echo "--benchmarks fillrandom,waitforcompaction,readseq,readreverse,seekrandom --num $(n 5000000)" ;;
    scans-sorted) echo "--benchmarks fillseq,waitforcompaction,readseq,readreverse,seekrandom --num $(n 5000000)" ;;
    others) echo "--benchmarks filluniquerandom,updaterandom,readrandomwriterandom,deleterandom,compact,fillseq,deleteseq,fill100K,fillsync --num $(n 5000000)" ;;
    ycsb) echo "--benchmarks ycsb --num $(n 2000000)" ;;
    paths) echo "--benchmarks pathmeta --num $(n 5000000)" ;;
    paths-bulk) echo "--benchmarks pathmeta --bulk --num $(n 5000000)" ;;
    synced) echo "--benchmarks synced" ;;
    open) echo "--benchmarks open --num $(n 20000000)" ;;
    sustained) echo "--benchmarks fillrandom,overwrite --num $(n 20000000)" ;;
    *) return 1 ;;
  esac
}

# The first is drawn.
metrics() {
  case $1 in
    index-large) echo reads,rate,cpu,total,memory ;;
    sustained) echo p999,max,rate,total,memory ;;
    *) echo rate,cpu,total,disk,memory ;;
  esac
}

groups=("$@")
[ $# -gt 0 ] || groups=(index index-bulk index-large writes scans scans-sorted others ycsb paths paths-bulk synced open sustained)
for group in "${groups[@]}"; do
  told=$(arguments "$group") || stop "there is no group $group"
  [ -z "${MEMORY:-}" ] || [[ $told == *--memory* ]] || told+=" --memory $MEMORY"
  report="$out/$group.json"
  asked="--engines $engines --runs $runs $told"
  if [ ! -s "$report" ]; then
    echo "== $group: lsm-bench $asked"
    # shellcheck disable=SC2086 # words, not one
    "$LSM_BENCH" $asked "${database[@]}" --json "$report.part"
    echo "$asked" >"$out/$group.asked"
    mv "$report.part" "$report"
  fi
  [ "$(cat "$out/$group.asked" 2>/dev/null)" = "$asked" ] || stop "$report was measured otherwise: remove it, or name another OUT"
  {
    printf '`lsm-bench --runs %s %s`\n\n' "$runs" "$told"
    "$LSM_BENCH" compare "$report" --summary
    "$LSM_BENCH" compare "$report" --metrics "$(metrics "$group")" --svg "$out/$group.svg"
  } >"$out/$group.md"
done
