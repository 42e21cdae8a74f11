#!/usr/bin/env bash
# Versions beside restic, rustic and the floors, on successive releases of one tree.
#
#   benches/compare.sh [RELEASES]
#
# RELEASES is a directory whose subdirectories are releases of the same thing (`sort -V` gives their order): five tarballs of a
# program, unpacked, are right. Without it, releases are made from the crates in cargo's registry: the crates that are there in
# several versions change from one to the next, the others stay.
#
# Each release is copied once, then moved to the same path in its turn, so that every program sees the same inodes and times. Every program
# gets an empty repository, an empty home and an empty cache; what is read is in the page cache before the first of them begins. Restores go
# to fresh directories, and nothing is deleted before the end, because ext4 is slow to create files for a while after a large deletion.
#
# Environment: VERSIONS (the binary; built if unset), RUNS (how often each program goes through all of it, 1; the medians are
# printed), WORK (a directory to work in, kept if given), PROGRAMS ("versions restic rustic"; those not installed are passed over).
# Needs bash, GNU time (/usr/bin/time), tar, zstd, find; compares the restored trees by rsync where it is installed.
set -euo pipefail
export LC_ALL=C

top=$(cd "$(dirname "$0")/.." && pwd)
runs=${RUNS:-1}
programs=${PROGRAMS:-versions restic rustic}

stop() { printf '%s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }
[ -x /usr/bin/time ] || stop "GNU time is missing: apt-get install time"

if [ -z "${VERSIONS:-}" ]; then
  say "building versions …"
  (cd "$top" && cargo build --locked --release --quiet -p versions)
  VERSIONS=${CARGO_TARGET_DIR:-$top/target}/release/versions
fi
if [ -n "${WORK:-}" ]; then mkdir -p "$WORK"; work=$WORK; else
  work=$(mktemp -d "${TMPDIR:-/tmp}/versions-compare.XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi

# --- the input ---------------------------------------------------------------------------------------------------------------

mkdir -p "$work/releases"
made_from_crates() {
  local registry release crate name versions pick
  registry=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -mindepth 1 -maxdepth 1 -type d | head -n 1)
  [ -n "$registry" ] || stop "no crates in cargo's registry: give a directory of releases"
  ls "$registry" | sed -E 's/-([0-9]+\.[0-9].*)$/ \1/' | sort -k1,1 -k2,2V >"$work/crates"
  for release in 1 2 3 4 5; do
    mkdir -p "$work/releases/$release"
    cut -d' ' -f1 "$work/crates" | uniq | while read -r name; do
      # The release-th version of this crate, the newest one if there are fewer; under a name without the version.
      pick=$(awk -v n="$name" '$1 == n { print $2 }' "$work/crates" | head -n "$release" | tail -n 1)
      cp -a "$registry/$name-$pick" "$work/releases/$release/$name"
    done
  done
}
if [ $# -ge 1 ]; then
  [ -d "$1" ] || stop "$1 is no directory"
  n=0
  for release in $(find "$1" -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort -V); do
    n=$((n + 1))
    cp -a "$1/$release" "$work/releases/$n"
  done
  releases=$n
else
  say "making releases from cargo's registry …"
  made_from_crates
  releases=5
fi
[ "$releases" -ge 1 ] || stop "$1 holds no directories"

tree=$work/tree
last=0
place() { # release N stands at $tree
  [ "$last" = 0 ] || mv "$tree" "$work/releases/$last"
  mv "$work/releases/$1" "$tree"
  last=$1
}
for release in $(seq "$releases"); do find "$work/releases/$release" -type f -exec cat {} + >/dev/null; done
files=$(find "$work/releases/1" -type f | wc -l)
bytes=$(du -sb "$work/releases/1" | cut -f1)

# --- measuring ---------------------------------------------------------------------------------------------------------------

results=$work/results
: >"$results"
# measure PROGRAM STEP COMMAND…: wall seconds and peak memory of a command that must succeed.
measure() {
  local program=$1 step=$2
  shift 2
  /usr/bin/time -f '%e %M' -o "$work/time" "$@" >"$work/log" 2>&1 || { tail -n 5 "$work/log" >&2; stop "$program, $step: failed"; }
  echo "$program $step $(tail -n 1 "$work/time")" >>"$results"
  say "$program $step: $(tail -n 1 "$work/time" | awk '{ printf "%.2f s, %.0f MB", $1, $2 / 1000 }')"
}
size_of() { echo "$1 $2 $(du -sb "$3" | cut -f1) 0" >>"$results"; }
compare() { # what PROGRAM restored with the last release
  command -v rsync >/dev/null || return 0
  local differences
  differences=$(rsync -n -aHAX --checksum --delete --itemize-changes "$tree/" "$2/")
  [ -n "$differences" ] || return 0
  say "$1 restored it with $(printf '%s\n' "$differences" | wc -l) differences: $(printf '%s\n' "$differences" | head -n 2 | tr '\n' ' ')"
  [ "$1" != versions ] || stop "that is a bug of ours"
}

# Each program: how it makes a repository, backs up $tree, restores the latest snapshot into a directory (and where in it the tree is), checks all.
env_of() {
  local home=$work/home.$1.$2
  mkdir -p "$home"
  repo=$work/repo.$1.$2
  clean=(env -i PATH="$PATH" HOME="$home" LC_ALL=C)
  case $1 in
    versions) run=("${clean[@]}" VERSIONS_PASSWORD=x VERSIONS_REPO="$repo" "$VERSIONS") ;;
    restic) run=("${clean[@]}" RESTIC_PASSWORD=x RESTIC_REPOSITORY="$repo" restic) ;;
    rustic) run=("${clean[@]}" RUSTIC_PASSWORD=x RUSTIC_REPOSITORY="$repo" RUSTIC_NO_PROGRESS=true rustic) ;;
  esac
}
restore_into() {
  case $1 in
    versions) measure versions restore "${run[@]}" restore latest --target "$2"; restored=$2$tree ;;
    restic) measure restic restore "${run[@]}" restore latest --target "$2"; restored=$2$tree ;;
    rustic) measure rustic restore "${run[@]}" restore "latest:$tree" "$2"; restored=$2 ;;
  esac
}
check_all() {
  case $1 in
    versions) measure versions check "${run[@]}" verify --read-data ;;
    *) measure "$1" check "${run[@]}" check --read-data ;;
  esac
}

floors() {
  place 1
  measure floor walk find "$tree" -printf '%s %T@ %i\n'
  measure floor tar+zstd bash -c "tar -C '$tree' -cf - . | zstd -q -3 -T2 -o '$work/floor.tar.zst.$1'"
  size_of floor first "$work/floor.tar.zst.$1"
  measure floor cp cp -a "$tree" "$work/floor.copy.$1"
}

present=""
for program in $programs; do
  if [ "$program" = versions ] || command -v "$program" >/dev/null; then present="$present $program"; else say "$program is not installed: passed over"; fi
done

for round in $(seq "$runs"); do
  floors "$round"
  for program in $present; do
    place 1
    env_of "$program" "$round"
    "${run[@]}" init >"$work/log" 2>&1 || { cat "$work/log" >&2; stop "$program init failed"; }
    measure "$program" first "${run[@]}" backup "$tree"
    size_of "$program" size-first "$repo"
    measure "$program" unchanged "${run[@]}" backup "$tree"
    for release in $(seq 2 "$releases"); do
      place "$release"
      measure "$program" "release-$release" "${run[@]}" backup "$tree"
    done
    size_of "$program" size-last "$repo"
    restore_into "$program" "$work/restored.$program.$round"
    compare "$program" "$restored"
    check_all "$program"
  done
done

# --- the report --------------------------------------------------------------------------------------------------------------

version_of() {
  case $1 in
    versions) "$VERSIONS" --version ;;
    restic) restic version | cut -d' ' -f1,2 ;;
    rustic) rustic --version ;;
  esac
}
echo "$releases releases; the first: $files files, $((bytes / 1000000)) MB; $(nproc) cores; $runs run(s), medians. Wall seconds; sizes and memory in MB."
echo
awk -v releases="$releases" -v programs="$present" '
  function median(key, field,   n, i, j, t, v, a) {
    n = split(field == 1 ? first[key] : second[key], a, " ")
    if (n == 0) return ""
    for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
    return a[int((n + 1) / 2)]
  }
  { key = $1 " " $2; first[key] = first[key] " " $3; second[key] = second[key] " " $4; if ($4 + 0 > peak[$1] + 0) peak[$1] = $4 }
  END {
    print "| | first | unchanged | next releases | restore | check all data | repository after first / last | peak memory |"
    print "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    n = split(programs, p, " ")
    for (i = 1; i <= n; i++) {
      next_ones = ""
      for (r = 2; r <= releases; r++) next_ones = next_ones (r > 2 ? ", " : "") median(p[i] " release-" r, 1)
      printf "| %s | %s | %s | %s | %s | %s | %.1f / %.1f | %.0f |\n", p[i], median(p[i] " first", 1), median(p[i] " unchanged", 1), next_ones, \
        median(p[i] " restore", 1), median(p[i] " check", 1), median(p[i] " size-first", 1) / 1e6, median(p[i] " size-last", 1) / 1e6, peak[p[i]] / 1000
    }
    printf "\nFloors, first release: a walk %s s; tar | zstd -3 -T2 %s s, %.1f MB; cp -a %s s.\n", \
      median("floor walk", 1), median("floor tar+zstd", 1), median("floor first", 1) / 1e6, median("floor cp", 1)
    if (first["restic size-last"] != "" && first["versions size-last"] != "")
      printf "Size after the last release: %.2f of restic'"'"'s.\n", median("versions size-last", 1) / median("restic size-last", 1)
  }' "$results"
for program in $present; do echo "$program: $(version_of "$program")"; done
