#!/usr/bin/env bash
# A disk image and a database file, changed three times: every state restores exactly, holes included, and a small change costs little.
# usage: image.sh DIRECTORY          (what fills the image's file system; needs mkfs.ext4, debugfs)
source "$(dirname "$0")/common.sh"
[ $# -eq 1 ] || fail "usage: $0 DIRECTORY"
PATH=$PATH:/sbin:/usr/sbin
tree=$WORK/tree
mkdir -p "$tree" "$WORK/history"
truncate -s 1G "$tree/disk.img"
mkfs.ext4 -q -d "$1" "$tree/disk.img"
database() {
    python3 - "$tree/base.sqlite" "$1" <<'PY'
import random, sqlite3, sys
base, state = sqlite3.connect(sys.argv[1]), int(sys.argv[2])
rng = random.Random(state)
base.execute("create table if not exists t (id integer primary key, name text, value blob)")
if state == 0:
    base.executemany("insert into t values (?, ?, ?)", ((n, f"name {rng.random()}", rng.randbytes(100)) for n in range(500000)))
else:
    base.executemany("update t set value = ? where id = ?", ((rng.randbytes(100), rng.randrange(500000)) for _ in range(50)))
base.commit()
PY
}
for state in 0 1 2 3; do
    database "$state"
    head -c 100000 /dev/urandom >"$WORK/news"
    [ "$state" = 0 ] || debugfs -w -R "write $WORK/news news-$state" "$tree/disk.img" >/dev/null 2>&1
    # A restored sparse file is compared by its blocks too.
    cp -a --sparse=auto "$tree" "$WORK/history/$state"
    versions -r "$WORK/a" backup --init --json "$tree" | python3 -c '
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if m.get("message_type") == "summary": print("state '"$state"':", m["data_added"], "new bytes of", m["total_bytes_processed"])'
done
state=0
for id in $(snapshot_ids "$WORK/a"); do
    rm -rf "$WORK/out"
    versions -r "$WORK/a" restore "$id" --target "$WORK/out" --quiet
    same "$WORK/history/$state" "$WORK/out$tree"
    state=$((state + 1))
done
[ "$state" = 4 ] || fail "$state snapshots instead of 4"
blocks() { stat -c %b "$1/disk.img"; }
[ "$(blocks "$WORK/out$tree")" -le "$(($(blocks "$WORK/history/3") + 64))" ] || fail "the restored image takes more room"
say "all four states restore exactly; the image takes $(($(blocks "$WORK/out$tree") / 2)) KiB of its $(stat -c %s "$tree/disk.img") bytes"
