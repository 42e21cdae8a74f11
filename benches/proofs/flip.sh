#!/usr/bin/env bash
# Flip any one byte of any object: `verify --read-data` names the object, and restore never hands out a wrong byte.
# usage: flip.sh DIRECTORY [FLIPS]      (a small directory: each flip is verified and restored)
source "$(dirname "$0")/common.sh"
[ $# -ge 1 ] || fail "usage: $0 DIRECTORY [FLIPS]"
flips=${2:-200}
tree=$(cd "$1" && pwd)
versions -r "$WORK/a" backup --init --quiet "$tree"
python3 - "$VERSIONS" "$WORK" "$tree" "$flips" <<'PY'
import filecmp, os, random, shutil, subprocess, sys
program, work, tree, flips = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
rng = random.Random(3)
objects = sorted(os.path.join(d, f) for d, _, fs in os.walk(work + "/a") for f in fs)
kinds = {}
for path in objects:
    kinds.setdefault(os.path.relpath(path, work + "/a").split("/")[0], []).append(path)
named = wrong = 0
for round in range(flips):
    path = rng.choice(kinds[sorted(kinds)[round % len(kinds)]])
    size = os.path.getsize(path)
    at = rng.randrange(size)
    with open(path, "r+b") as f:
        f.seek(at); good = f.read(1)[0]; f.seek(at); f.write(bytes([good ^ (1 << rng.randrange(8))]))
    verify = subprocess.run([program, "-r", work + "/a", "verify", "--read-data"], capture_output=True, text=True)
    # A damaged config or key may keep the program from opening the repository at all: then that must be what it names.
    if verify.returncode != 0 and os.path.basename(path)[:16] in verify.stdout + verify.stderr:
        named += 1
    else:
        print("not named:", path, at, verify.returncode, (verify.stdout + verify.stderr)[-300:])
    out = work + "/out"
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([program, "-r", work + "/a", "restore", "latest", "--target", out, "--quiet"], capture_output=True)
    for folder, _, files in os.walk(out + tree):
        for name in files:
            restored = os.path.join(folder, name)
            original = tree + restored[len(out + tree):]
            if not os.path.islink(restored) and os.path.isfile(restored) and not filecmp.cmp(restored, original, shallow=False):
                wrong += 1
                print("wrong bytes:", restored, "after", path, at)
    with open(path, "r+b") as f:
        f.seek(at); f.write(bytes([good]))
print(f"{flips} flips over {', '.join(sorted(kinds))}: {named} named, {wrong} files restored wrong")
sys.exit(named != flips or wrong != 0)
PY
