#!/usr/bin/env bash
# Back up, change, back up again, five times over, to two targets: every snapshot restores exactly, from either.
# usage: five-rounds.sh DIRECTORY        (for instance /usr/share)
source "$(dirname "$0")/common.sh"
[ $# -eq 1 ] || fail "usage: $0 DIRECTORY"
tree=$WORK/tree
mkdir -p "$WORK/history"
cp -a "$1" "$tree"
for round in 1 2 3 4 5; do
    versions -r "$WORK/a" backup --init --mirror "$WORK/b" --quiet "$tree"
    cp -a --reflink=auto "$tree" "$WORK/history/$round"
    [ "$round" = 5 ] && break
    # What changes: one file in fifty grows, one in sixty goes, one in seventy is renamed, modes, links and directories change.
    python3 - "$tree" "$round" <<'PY'
import os, random, sys
top, seed = sys.argv[1].encode(), int(sys.argv[2])
rng = random.Random(seed)
for folder, folders, files in os.walk(top):
    for name in sorted(files):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        dice = rng.randrange(4200)
        if dice % 50 == 0:
            with open(path, "ab") as f:
                f.write(rng.randbytes(rng.randrange(1, 5000)))
        elif dice % 60 == 1:
            os.remove(path)
        elif dice % 70 == 2:
            os.rename(path, path + b".renamed%d" % seed)
        elif dice % 80 == 3:
            os.chmod(path, 0o600 + rng.randrange(8))
        elif dice % 300 == 4:
            os.link(path, path + b".link%d" % seed)
        elif dice % 300 == 5:
            with open(path, "r+b") as f:
                f.truncate(rng.randrange(1, 10_000_000))
os.mkdir(os.path.join(top, b"new in round %d \xff" % seed))
os.symlink(b"nowhere \xfe", os.path.join(top, b"link of round %d" % seed))
os.mkfifo(os.path.join(top, b"pipe of round %d" % seed))
PY
done
for target in a b; do
    round=0
    for id in $(snapshot_ids "$WORK/$target"); do
        round=$((round + 1))
        rm -rf "$WORK/out"
        versions -r "$WORK/$target" restore "$id" --target "$WORK/out" --quiet
        same "$WORK/history/$round" "$WORK/out$tree"
        say "target $target, snapshot $round of 5: restored exactly"
    done
    [ "$round" = 5 ] || fail "$round snapshots instead of 5"
done
versions -r "$WORK/a" verify --read-data --quiet
say "repository: $(du -sm "$WORK/a" | cut -f1) MiB for $(du -sm "$tree" | cut -f1) MiB in 5 states"
