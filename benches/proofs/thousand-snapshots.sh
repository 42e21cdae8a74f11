#!/usr/bin/env bash
# `log`, `ls` and a one-file `restore` over 1,000 snapshots of a 20,000-file tree each answer in well under a tenth of a
# second of CPU: the command as a whole, with unlocking by a password.
# usage: thousand-snapshots.sh [SNAPSHOTS [FILES]]
source "$(dirname "$0")/common.sh"
snapshots=${1:-1000}
files=${2:-20000}
tree=$WORK/tree
python3 - "$tree" "$files" <<'PY'
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
for index in range(count):
    folder = f"{top}/{index // 1000:02}/{index // 100 % 10}"
    os.makedirs(folder, exist_ok=True)
    open(f"{folder}/file{index}", "w").write(f"{index}\n" * 40)
PY
for ((round = 0; round < snapshots; round++)); do
    for ((change = 0; change < 10; change++)); do
        index=$(((round * 7919 + change * 104729) % files))
        file=$(printf '%s/%02d/%d/file%d' "$tree" $((index / 1000)) $((index / 100 % 10)) "$index")
        echo "round $round" >>"$file"
    done
    echo "$round" >>"$tree/00/0/file7"
    versions -r "$WORK/a" backup --init --quiet "$tree"
done
middle=$(snapshot_ids "$WORK/a" | sed -n "$((snapshots / 2))p")
lines=$(versions -r "$WORK/a" log "$tree/00/0/file7" --json | wc -l)
[ "$lines" -ge "$snapshots" ] || fail "log shows $lines Versions of a file that changed $snapshots times"
check() {
    local seconds=$1
    shift
    say "$(printf '%-34s %s s of CPU' "$*" "$seconds")"
    python3 -c "import sys; sys.exit($seconds >= 0.1)" || fail "$* took $seconds s"
}
# What of it is unlocking, which costs what Argon2id is made to cost: for the reader's information only.
say "unlocking alone (key list)         $(cpu_seconds "$VERSIONS" -r "$WORK/a" key list) s of CPU"
check "$(cpu_seconds "$VERSIONS" -r "$WORK/a" log "$tree/00/0/file7")" log
check "$(cpu_seconds "$VERSIONS" -r "$WORK/a" ls latest)" ls latest
check "$(cpu_seconds "$VERSIONS" -r "$WORK/a" ls "$middle")" ls of the middle snapshot
check "$(cpu_seconds "$VERSIONS" -r "$WORK/a" restore "$middle" --include "$tree/00/0/file7" --target "$WORK/out-@RUN@" --quiet)" restore of one file
