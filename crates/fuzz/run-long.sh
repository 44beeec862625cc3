#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET...]: runs targets (all of them) so many seconds each, as many at a time as there are CPUs, or FUZZ_JOBS.
# Ends with 1 where something was found, and says which input it was: see README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:?how many seconds?}
shift
out=${CARGO_TARGET_DIR:-$here/../../target}/fuzz
mkdir -p "$out"
out=$(cd "$out" && pwd)
[ $# -gt 0 ] || set -- $(cargo fuzz list --fuzz-dir "$here")

# `-s none`: coverage needs no nightly compiler; where Rust is safe, a panic says as much as a sanitizer.
# --fuzz-dir "$here" -s none --features libfuzzer --target-dir "$out"
programs=$out/$(rustc -vV | sed -n 's/^host: //p')/release
export programs out seconds
# Temporary files lie in memory, and go with the last target.
TMPDIR=$(mktemp -d /dev/shm/fuzz.XXXXXX 2>/dev/null || mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

one() {
    local name=$1 log="$out/$1.log"
    mkdir -p "$out/corpus/$name" "$out/found/$name"
    ulimit -c 0
    # What asks for far more than it may have is refused by the system, and ends.
    ulimit -v 8000000
    if AGCNN_CORPUS="$out/corpus/$name" "$programs/$name" "$out/corpus/$name" \
        -artifact_prefix="$out/found/$name/" -max_total_time="$seconds" -timeout=10 -report_slow_units=10 \
        -rss_limit_mb=1000 -print_final_stats=1 -use_value_profile=0 >"$log" 2>&1; then
        echo "$name: nothing found in $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs," \
            "$(grep -o 'cov: [0-9]*' "$log" | tail -1), peak $(sed -n 's/^stat::peak_rss_mb: *//p' "$log") MB"
    else
        echo "error: $name: $(grep -m1 -E 'panicked at|ERROR: libFuzzer|memory allocation' "$log" || tail -1 "$log");" \
            "input $(sed -n 's/^.*Test unit written to //p' "$log" | tail -1); log $log" >&2
        return 1
    fi
}
export -f one
printf '%s\n' "$@" | xargs -P "${FUZZ_JOBS:-$(nproc)}" -I{} bash -c 'one "$1"' _ {} || exit 1
