#!/usr/bin/env bash
# Runs a command under a Slurm of one node, this machine, which is started for it and stopped behind it:
#
#   cluster/test/one_node.sh sbatch ...
#
# Needs root, and Debian's slurmctld, slurmd, slurm-client and munge. No service, no cgroup, no file outside a temporary folder.
set -euo pipefail
cannot() {
    echo "one_node.sh: Slurm cannot be started here: $1" >&2
    exit 77
}
[ "$(id -u)" = 0 ] || cannot "slurmd needs root"
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || cannot "there is no $program (Debian: slurmctld slurmd slurm-client munge)"
done
folder=$(mktemp -d)
stop() {
    for daemon in slurmd slurmctld munged; do
        if [ -s "$folder/$daemon.pid" ]; then kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true; fi
    done
    for _ in $(seq 50); do
        [ -e "$folder/slurmd.pid" ] || [ -e "$folder/slurmctld.pid" ] || break
        sleep 0.1
    done
    rm -rf "$folder"
}
trap stop EXIT
host=$(hostname -s)
# Any two ports that are free.
read -r port other < <(python3 -c '
import socket
sockets = [socket.socket() for _ in range(2)]
for each in sockets:
    each.bind(("", 0))
print(*(each.getsockname()[1] for each in sockets))')
mkdir "$folder/state" "$folder/spool"
chmod 755 "$folder"
(umask 077 && head -c 1024 /dev/urandom >"$folder/key")
munged --force --key-file="$folder/key" --socket="$folder/socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/seed" || cannot "munged ended with $?"
cat >"$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/socket
CredType=cred/munge
SlurmctldPort=$port
SlurmdPort=$other
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
# Looks for jobs to start every second, not every minute.
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
log() { tail -n 3 "$folder/$1.log" 2>/dev/null | tr '\n' ' '; }
slurmctld -i || cannot "slurmctld ended with $?: $(log slurmctld)"
slurmd || cannot "slurmd ended with $?: $(log slurmd)"
for attempt in $(seq 100); do
    if sinfo --noheader --format %T 2>/dev/null | grep -q idle; then break; fi
    [ "$attempt" -lt 100 ] || cannot "its node is not idle: $(log slurmctld) $(log slurmd)"
    sleep 0.2
done
"$@"
