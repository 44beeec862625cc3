#!/usr/bin/env bash
# cluster/slurm/pipeline.sh on the Slurm of one_node.sh, waited for: slurm.sh SHARDS ARGUMENTS...
# One task of prep's array is queued again while it runs, as if its node had failed.
set -euo pipefail
pipeline=$(dirname "$0")/../slurm/pipeline.sh
SBATCH_ARGS="--cpus-per-task=1 --output=%x-%A-%a.log" "$pipeline" "$@" >jobs.txt
last=$(awk '{ print $2 }' jobs.txt | tail -n 1)
requeued=
while squeue --noheader --format '%i %j %T' >queue && [ -s queue ]; do
    if [ -z "$requeued" ] && task=$(awk '$2 == "prep" && $3 == "RUNNING" { print $1; exit }' queue) && [ -n "$task" ]; then
        if scontrol requeue "$task" 2>/dev/null; then requeued=$task; fi
    fi
    # Slurm would let it wait for two minutes.
    if [ -n "$requeued" ]; then scontrol update "JobId=$requeued" StartTime=now 2>/dev/null || true; fi
    sleep 0.2
done
state=$(scontrol show job "$last" | grep -o 'JobState=[A-Z_]*')
if [ "$state" != JobState=COMPLETED ]; then
    echo "slurm.sh: the last job, $last, has $state" >&2
    tail -n 5 ./*.log >&2
    exit 1
fi
echo "slurm: $(wc -l <jobs.txt) jobs completed, task ${requeued:-none} was queued again"
