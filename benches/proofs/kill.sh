#!/usr/bin/env bash
# kill -9 at 50 random moments of a backup: earlier snapshots restore exactly, `verify` is clean, the next run goes on where the
# last one stopped.
# usage: kill.sh DIRECTORY [KILLS]
source "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "usage: $0 DIRECTORY [KILLS]"
kills=${2:-50}
tree=$WORK/tree
cp -a "$1" "$tree"
versions -r "$WORK/a" backup --init --mirror "$WORK/b" --quiet "$tree"
first=$(snapshot_ids "$WORK/a")
cp -a --reflink=auto "$tree" "$WORK/first"
for ((round = 1; round <= kills; round++)); do
    # New data in every round, so that there is something to interrupt.
    head -c 30000000 /dev/urandom >"$tree/random $round"
    "$VERSIONS" -r "$WORK/a" backup --quiet "$tree" >/dev/null 2>&1 &
    pid=$!
    sleep "$(python3 -c 'import random; print(random.random() * 2.5)')"
    if kill -9 "$pid" 2>/dev/null; then landed=$((${landed:-0} + 1)); fi
    wait "$pid" 2>/dev/null || true
    # Exit code 22: what the killed run brought to one target only, the other lacks until the next run. Nothing is damaged.
    status=0
    versions -r "$WORK/a" verify --quiet || status=$?
    [ "$status" = 0 ] || [ "$status" = 22 ] || fail "verify after kill $round: exit code $status"
    if ((round % 10 == 0)); then
        rm -rf "$WORK/out"
        versions -r "$WORK/a" restore "$first" --target "$WORK/out" --quiet
        same "$WORK/first" "$WORK/out$tree"
        say "after $round kills: the first snapshot restores exactly, verify is clean"
    fi
done
stored=$(versions -r "$WORK/a" backup --json "$tree" | python3 -c '
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if m.get("message_type") == "summary": print(m["data_added"])')
say "$landed kills landed; the last run had to add $stored bytes"
versions -r "$WORK/a" verify --read-data --quiet
rm -rf "$WORK/out"
versions -r "$WORK/b" restore latest --target "$WORK/out" --quiet
same "$tree" "$WORK/out$tree"
say "the last snapshot restores exactly from the second target"
