#!/usr/bin/env bash
# A stage in shards by GNU parallel, on this machine or on several, and the merge behind them.
#
#   cluster/parallel.sh 8 prep --config profiles/official.toml --run official
#   PARALLEL_ARGS="--sshloginfile nodes --workdir $PWD" cluster/parallel.sh 32 prep ...   # nodes that share this folder
#   cluster/parallel.sh 4 predict evaluate --model MODEL --config external.toml --run elsewhere
#
# On one machine, this gains where a stage does not keep all cores busy by itself, as on slow disks; JOBS is how many shards
# run at once (2 here, if nothing is said).
set -euo pipefail
shards=${1:?how many shards} stage=${2:?which stage}
shift 2
bin=${AGCNN_BIN:-target/release}
read -r -a more <<<"${PARALLEL_ARGS:-}"
# A shard that fails is tried once more; what it kept stays. If it fails again, no further shard begins.
parallel --quote --jobs "${JOBS:-2}" --retries 2 --halt soon,fail=1 --line-buffer --tagstring '{}' \
    ${more[@]+"${more[@]}"} "$bin/$stage" "$@" --shard "{}/$shards" ::: $(seq 0 $((shards - 1)))
exec "$bin/$stage" "$@" --merge
