#!/usr/bin/env bash
# Checks this folder: check.sh BINARIES VENV. Lints the recipes, then runs those that can run on one machine on a synthetic
# dataset, and compares what they publish with an undivided run, byte by byte.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD bin=$(realpath "$1") venv=$(realpath "$2")
export AGCNN_BIN=$bin PATH="$venv/bin:$PATH" NO_COLOR=1

shellcheck cluster/*.sh cluster/*/*.sh cluster/*/*.sbatch
ruff check --quiet --no-cache --select E,F,I,B,S1,UP,D1 --line-length 120 cluster/*.py
ruff format --quiet --no-cache --check --line-length 120 cluster/*.py
# By the schemas that the package brings: needs no cluster and no network.
kubernetes-validate --strict --quiet cluster/kubernetes/*.yaml
echo "recipes: linted"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
stages="phantom prep global attend local fusion report"
# Small batches, between which shards of attend end.
args=(--config "$root/profiles/smoke.toml" --set phantom.patients=150 --set attend.eval_batch=8 --device cpu)

# The same as the undivided run? `same NAME STAGES...`
same() {
    local name=$1 stage
    shift
    for stage in "$@"; do
        diff -r --exclude manifest.json "$work/whole/artifacts/default/$stage" "$work/$name/artifacts/default/$stage"
    done
    echo "$name: same bytes as without shards ($*)"
}

# divided NAME COMMAND...: prep and attend by a command that takes their name and arguments, in a folder of its own.
divided() {
    local name=$1
    shift
    mkdir "$work/$name" && cd "$work/$name"
    "$bin/phantom" -q "${args[@]}"
    "$@" prep "${args[@]}" >log 2>&1 || { cat log >&2 && exit 1; }
    "$bin/global" -q "${args[@]}"
    "$@" attend "${args[@]}" >log 2>&1 || { cat log >&2 && exit 1; }
    same "$name" prep attend
}

mkdir "$work/whole" && cd "$work/whole"
# One thread, as the jobs below have: the page of the report says how many.
for stage in $stages; do RAYON_NUM_THREADS=1 "$bin/$stage" -q "${args[@]}" >/dev/null; done

divided parallel "$root/cluster/parallel.sh" 3
export RAY_USAGE_STATS_ENABLED=0
divided ray python "$root/cluster/ray_shards.py" --shards 3 --bin "$bin"

mkdir "$work/slurm" && cd "$work/slurm"
code=0
"$root/cluster/test/one_node.sh" "$root/cluster/test/slurm.sh" 3 "${args[@]}" || code=$?
case $code in
    0) # shellcheck disable=SC2086
        same slurm $stages ;;
    77) echo "slurm: not run, see above" >&2 ;;
    *) exit "$code" ;;
esac
