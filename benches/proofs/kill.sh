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
# How long a backup of 60 MB of news takes on this machine: the kills come at any moment of that.
news() { head -c 60000000 /dev/urandom >"$tree/news"; }
news
begun=$(date +%s.%N)
versions -r "$WORK/a" backup --quiet "$tree"
whole=$(python3 -c "import time; print(time.time() - $begun)")
landed=0
runs=0
while ((landed < kills)); do
    # A run that was killed is followed by one over the same data, which goes on; one that was done by new data.
    [ "${status:-0}" = 137 ] || news
    "$VERSIONS" -r "$WORK/a" backup --json "$tree" >/dev/null 2>>"$WORK/told" &
    pid=$!
    sleep "$(python3 -c "import random; print(random.random() * $whole)")"
    kill -9 "$pid" 2>/dev/null || true
    status=0
    wait "$pid" 2>/dev/null || status=$?
    runs=$((runs + 1))
    [ "$status" = 137 ] || continue
    landed=$((landed + 1))
    # Exit code 22: what the killed run brought to one target only, the other lacks until the next run. Nothing is damaged.
    clean=0
    versions -r "$WORK/a" verify --quiet 2>/dev/null || clean=$?
    [ "$clean" = 0 ] || [ "$clean" = 22 ] || fail "verify after kill $landed: exit code $clean"
    if ((landed % 10 == 0)); then
        rm -rf "$WORK/out"
        versions -r "$WORK/a" restore "$first" --target "$WORK/out" --quiet
        same "$WORK/first" "$WORK/out$tree"
        say "after $landed kills: the first snapshot restores exactly, verify is clean"
    fi
done
versions -r "$WORK/a" backup --json "$tree" >/dev/null 2>>"$WORK/told"
goes_on=$(grep -c 'an interrupted backup goes on' "$WORK/told" || true)
[ "$goes_on" -gt 0 ] || fail "no run took over what a killed one had stored"
say "$landed kills in $runs runs; $goes_on runs went on with packs that a killed one had stored and no index told of"
versions -r "$WORK/a" verify --read-data --quiet
rm -rf "$WORK/out"
versions -r "$WORK/b" restore latest --target "$WORK/out" --quiet
same "$tree" "$WORK/out$tree"
say "the last snapshot restores exactly from the second target"
