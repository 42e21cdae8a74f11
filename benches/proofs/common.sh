# Shared by the proofs in this folder: builds the program once, gives each proof an empty home and a folder of its own.
# Each proof takes real directories, works below $WORK (default: a fresh folder under ${TMPDIR:-/tmp}), prints what it measured,
# and exits non-zero when a claim does not hold.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)

if [ -z "${VERSIONS:-}" ]; then
    (cd "$top" && cargo build --release --quiet -p versions)
    VERSIONS=${CARGO_TARGET_DIR:-$top/target}/release/versions
fi
WORK=${WORK:-$(mktemp -d "${TMPDIR:-/tmp}/versions-proof.XXXXXX")}
mkdir -p "$WORK"
export VERSIONS_PASSWORD=${VERSIONS_PASSWORD:-proof}
export VERSIONS_STATE_DIR=$WORK/state
unset VERSIONS_REPO VERSIONS_PASSWORD_FILE VERSIONS_PASSWORD_COMMAND

versions() { "$VERSIONS" "$@"; }
say() { printf '%s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# same A B: A and B hold the same tree, contents and all metadata, by rsync's word.
same() {
    local differences
    differences=$(rsync -n -aHAX --checksum --delete --itemize-changes "$1/" "$2/") || fail "rsync $1 $2"
    [ -z "$differences" ] || fail "$2 is not $1: $(printf '%s' "$differences" | head -n 5)"
}

# snapshot_ids REPO: all snapshots' ids, oldest first.
snapshot_ids() {
    versions -r "$1" snapshots --json | python3 -c 'import json,sys; [print(s["id"]) for s in json.load(sys.stdin)]'
}

# cpu_seconds COMMAND..: the command's user and system time together, in seconds: the median of five runs. @RUN@ in an argument is the number of
# the run.
cpu_seconds() {
    python3 - "$@" <<'PY'
import resource, subprocess, sys
def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime
runs = []
for run in range(5):
    before = used()
    command = [argument.replace("@RUN@", str(run)) for argument in sys.argv[1:]]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    runs.append(used() - before)
print(f"{sorted(runs)[2]:.3f}")
PY
}
