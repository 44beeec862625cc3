#!/usr/bin/env bash
# The whole pipeline on a Slurm cluster: prep and attend as arrays, a merge behind each, the other stages in between.
#
#   cluster/slurm/pipeline.sh 16 --config profiles/official.toml --run official
#
# To be called in the repository, which all nodes must see under the same path, as they must the images and artifacts/.
# SBATCH_ARGS has what sbatch is to know for every job (account, CPUs, memory), GPU_ARGS what it is to know for those that
# compute on a GPU where there is one, TRAIN_ARGS for the trainings: --nodes=2 --ntasks=16, with SLURM_MPI_TYPE=pmix or pmi2, are
# 16 processes each (docs/scaling.md). attend's shards and its merge must run on machines of one kind: a result has the bits
# of one kind of GPU, or of one instruction set (AGCNN_ISA=avx2 on all where CPUs differ).
set -euo pipefail
shards=${1:?how many shards}
shift
here=$(dirname "$0")
read -r -a usual <<<"${SBATCH_ARGS:---cpus-per-task=8 --mem=16G}"
read -r -a gpu <<<"${GPU_ARGS:-}"
read -r -a train <<<"${GPU_ARGS:-} ${TRAIN_ARGS:-}"
after=()

# submit NAME SBATCH-ARGUMENTS... -- STAGE ARGUMENTS...: a job behind the one before it.
submit() {
    local name=$1 args=()
    shift
    while [ "$1" != -- ]; do args+=("$1") && shift; done
    shift
    local job
    job=$(sbatch --parsable --job-name "$name" ${usual[@]+"${usual[@]}"} ${after[@]+"${after[@]}"} ${args[@]+"${args[@]}"} \
        "$here/stage.sbatch" "$@")
    # Nothing runs behind a job that failed.
    after=(--dependency "afterok:${job%%;*}" --kill-on-invalid-dep=yes)
    echo "$name ${job%%;*}"
}

# One shard in each task of an array.
array=(--array "0-$((shards - 1))" --export "ALL,SHARDS=$shards")

submit phantom -- phantom "$@" # nothing to do where prep.root names a folder
submit prep "${array[@]}" -- prep "$@"
submit prep-merge -- prep "$@" --merge
submit global ${train[@]+"${train[@]}"} -- global "$@"
submit attend "${array[@]}" ${gpu[@]+"${gpu[@]}"} -- attend "$@"
submit attend-merge ${gpu[@]+"${gpu[@]}"} -- attend "$@" --merge
submit local ${train[@]+"${train[@]}"} -- local "$@"
submit fusion ${gpu[@]+"${gpu[@]}"} -- fusion "$@"
submit report -- report "$@"
