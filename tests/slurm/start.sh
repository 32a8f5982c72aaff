#!/usr/bin/env bash
# A real Slurm of one node on loopback, for tests: `tests/slurm/start.sh FOLDER` writes its configuration to FOLDER,
# starts munged, slurmctld and slurmd, waits until the node takes jobs and leaves them running. With SLURM_CONF set, a
# Slurm that answers there is left as it is. Needs root and the packages slurm-wlm and munge.
# `kill $(cat FOLDER/*.pid)` ends it.
set -euo pipefail

folder=$(realpath -m "${1:?usage: start.sh FOLDER}")
port=${SLURM_TEST_PORT:-16817}
export SLURM_CONF=${SLURM_CONF:-$folder/slurm.conf}

if sinfo --noheader >/dev/null 2>&1; then
    echo "$SLURM_CONF"
    exit 0
fi
if [[ $(id -u) != 0 ]]; then
    echo "start.sh: starting Slurm's daemons needs root" >&2
    exit 1
fi
for tool in munged slurmctld slurmd; do
    if ! command -v $tool >/dev/null; then
        echo "start.sh: $tool is not installed; apt-get install slurm-wlm munge" >&2
        exit 1
    fi
done

mkdir -p "$folder/state" "$folder/spool"
cores=$(($(nproc) * 2)) # two test files may each have a job of two ranks
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
host=$(hostname -s)
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
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
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=bf_interval=1,sched_interval=1
KillWait=10
MinJobAge=300
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
PartitionName=urgent Nodes=$host Default=NO MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10
END

if ! munge -n >/dev/null 2>&1; then
    [[ -s /etc/munge/munge.key ]] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
    mkdir -p /run/munge /var/log/munge /var/lib/munge
    chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
    chmod 0400 /etc/munge/munge.key
    setsid runuser -u munge -- munged --force </dev/null >"$folder/munged.log" 2>&1
fi
setsid slurmctld -f "$folder/slurm.conf" </dev/null >>"$folder/slurmctld.log" 2>&1
setsid slurmd -f "$folder/slurm.conf" </dev/null >>"$folder/slurmd.log" 2>&1

for _ in $(seq 120); do
    if [[ $(sinfo --noheader --partition test --format %t 2>/dev/null) == idle* ]]; then
        echo "$SLURM_CONF"
        exit 0
    fi
    sleep 0.5
done
echo "start.sh: the node takes no jobs after 60 s; see $folder/*.log" >&2
exit 1
