#!/usr/bin/env bash
# Three targets, each damaged differently in every kind of object, each object good somewhere: `verify --heal` mends all. Then the
# local state and any two targets are deleted: everything restores from the third.
# usage: three-targets.sh DIRECTORY
source "$(dirname "$0")/common.sh"
[ $# -eq 1 ] || fail "usage: $0 DIRECTORY"
tree=$(cd "$1" && pwd)
versions -r "$WORK/a" backup --init --mirror "$WORK/b" --mirror "$WORK/c" --quiet "$tree"
versions -r "$WORK/a" backup --quiet "$tree"
(cd "$WORK/a" && find . -type f | sort | xargs sha256sum) >"$WORK/before"
python3 - "$WORK" <<'PY'
import os, random, sys
work = sys.argv[1]
rng = random.Random(1)
objects = sorted(os.path.relpath(os.path.join(d, f), work + "/a") for d, _, fs in os.walk(work + "/a") for f in fs)
def flip(p):
    with open(p, "r+b") as f:
        size = os.path.getsize(p); at = rng.randrange(size); f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ 1 << rng.randrange(8)]))
def cut(p): os.truncate(p, os.path.getsize(p) // 2)
def empty(p): os.truncate(p, 0)
def remove(p): os.remove(p)
def garbage(p): open(p, "r+b").write(rng.randbytes(64))
damages = [flip, cut, empty, remove, garbage]
counts = {}
for index, name in enumerate(objects):
    kind = name.split("/")[0]
    # Two of the three targets lose each object in a different way; the third keeps it.
    keep = index % 3
    for target, letter in enumerate("abc"):
        if target != keep:
            damage = damages[(index + target + counts.get(kind, 0)) % len(damages)]
            damage(os.path.join(work, letter, name))
    counts[kind] = counts.get(kind, 0) + 1
print("damaged on two targets each:", ", ".join(f"{n} {k}" for k, n in sorted(counts.items())))
PY
status=0
versions -r "$WORK/a" verify --heal --read-data --quiet || status=$?
say "verify --heal: exit code $status"
for target in a b c; do
    (cd "$WORK/$target" && find . -type f | sort | xargs sha256sum) >"$WORK/after"
    diff "$WORK/before" "$WORK/after" >"$WORK/diff" || fail "target $target is not whole: $(head -n 5 "$WORK/diff")"
done
versions -r "$WORK/a" verify --read-data --quiet
say "every object of every target is whole again"
for target in c b a; do
    rm -rf "$VERSIONS_STATE_DIR" "$WORK/out"
    mkdir "$WORK/hidden"
    for other in a b c; do [ "$other" = "$target" ] || mv "$WORK/$other" "$WORK/hidden/"; done
    versions -r "$WORK/$target" restore latest --target "$WORK/out" --quiet
    same "$tree" "$WORK/out$tree"
    say "restored exactly from target $target alone, without local state"
    mv "$WORK"/hidden/* "$WORK/"
    rmdir "$WORK/hidden"
done
