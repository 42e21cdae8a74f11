#!/usr/bin/env bash
# An unchanged second backup of 200,000 files writes less than 100 KiB to a target and takes at most twice a bare walk that
# stats every entry.
# usage: unchanged.sh [FILES]
source "$(dirname "$0")/common.sh"
files=${1:-200000}
tree=$WORK/tiny
[ -d "$tree" ] || python3 - "$tree" "$files" <<'PY'
import os, random, sys
top, count = sys.argv[1], int(sys.argv[2])
rng = random.Random(7)
words = [rng.randbytes(6).hex() for _ in range(2000)]
for index in range(count):
    folder = f"{top}/{index // 5000:03}/{index // 100 % 50:02}"
    if index % 100 == 0:
        os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/file{index}", "w") as f:
        f.write(" ".join(rng.choices(words, k=rng.randrange(0, 300))))
PY
cat >"$WORK/walk.c" <<'C'
#define _XOPEN_SOURCE 700
#include <ftw.h>
static long n;
static int see(const char *p, const struct stat *s, int t, struct FTW *f) { (void)p; (void)s; (void)t; (void)f; n++; return 0; }
int main(int c, char **v) { (void)c; nftw(v[1], see, 64, FTW_PHYS); return n == 0; }
C
cc -O2 -o "$WORK/walk" "$WORK/walk.c"
sleep 1
versions -r "$WORK/a" backup --init --quiet "$tree"
"$WORK/walk" "$tree"
before=$(du -sb "$WORK/a" | cut -f1)
python3 - "$WORK/walk" "$VERSIONS" "$tree" "$WORK/a" <<'PY'
import statistics, subprocess, sys, time
walk, program, tree, repo = sys.argv[1:]
def timed(*command):
    begun = time.monotonic(); subprocess.run(command, check=True, stdout=subprocess.DEVNULL); return time.monotonic() - begun
pairs = [(timed(walk, tree), timed(program, "-r", repo, "backup", "--quiet", tree)) for _ in range(5)]
ratio = statistics.median(b / a for a, b in pairs)
print(f"bare walk {statistics.median(a for a, _ in pairs):.3f} s, unchanged backup {statistics.median(b for _, b in pairs):.3f} s, ratio {ratio:.2f}")
open(sys.argv[4] + ".ratio", "w").write(f"{ratio}")
PY
after=$(du -sb "$WORK/a" | cut -f1)
written=$(((after - before) / 5))
say "written to the target by each: $written bytes"
[ "$written" -lt 102400 ] || fail "an unchanged backup wrote $written bytes"
python3 -c "import sys; sys.exit(float(open('$WORK/a.ratio').read()) > 2)" || fail "slower than twice a bare walk"
