#!/usr/bin/env bash
# A real Slurm on loopback, for tests: `tests/slurm/start.sh FOLDER [NODES]` writes its configuration to FOLDER, starts
# munged, slurmctld and a slurmd for each node (one, named as this host, or n1, n2, ...), waits until they take jobs and
# leaves them running. With SLURM_CONF set, a Slurm that answers there is left as it is. Needs root and the packages
# slurm-wlm and munge. `kill $(cat FOLDER/*.pid)` ends it; once more with FOLDER, what is missing is started again and
# drained nodes are put back in service.
set -euo pipefail

folder=$(realpath -m "${1:?usage: start.sh FOLDER [NODES]}")
number=${2:-1}
port=${SLURM_TEST_PORT:-16817}
export SLURM_CONF=${SLURM_CONF:-$folder/slurm.conf}

alive() { [[ -s $folder/$1.pid ]] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }

if [[ $number == 1 ]] && sinfo --noheader >/dev/null 2>&1; then
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

mkdir -p "$folder/state"
cores=$(($(getconf _NPROCESSORS_ONLN) * 2 / number)) # nproc would heed OMP_NUM_THREADS
[[ $cores -ge 4 ]] || cores=4                        # two test files may each have a job of two ranks
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
host=$(hostname -s)
nodes=$host
if [[ $number != 1 ]]; then
    nodes=$(seq --format n%g --separator , "$number")
fi
ports=$(seq --separator , $((port + 1)) $((port + number)))
cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
SlurmdTimeout=$((number == 1 ? 300 : 10))
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
NodeName=$nodes NodeHostname=$host NodeAddr=127.0.0.1 Port=$ports CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$nodes Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=1
PartitionName=urgent Nodes=$nodes Default=NO MaxTime=INFINITE State=UP OverSubscribe=NO PriorityTier=10
END

if ! munge -n >/dev/null 2>&1; then
    [[ -s /etc/munge/munge.key ]] || dd if=/dev/urandom of=/etc/munge/munge.key bs=1 count=1024 status=none
    mkdir -p /run/munge /var/log/munge /var/lib/munge
    chown -R munge:munge /etc/munge /run/munge /var/log/munge /var/lib/munge
    chmod 0400 /etc/munge/munge.key
    setsid runuser -u munge -- munged --force </dev/null >"$folder/munged.log" 2>&1
fi
alive slurmctld || setsid slurmctld -f "$folder/slurm.conf" </dev/null >>"$folder/slurmctld.log" 2>&1
for node in ${nodes//,/ }; do
    alive "slurmd.$node" || setsid slurmd -N "$node" -f "$folder/slurm.conf" </dev/null >>"$folder/slurmd.$node.log" 2>&1
done

for _ in $(seq 120); do
    # A controller killed before it wrote down which jobs it had just started takes a node that runs them out of service.
    sinfo --noheader --Node --partition test --format '%N %t' 2>/dev/null | awk '$2 ~ /^dr/ {print $1}' |
        while read -r node; do scontrol update "NodeName=$node" State=RESUME; done
    if ! sinfo --noheader --Node --partition test --format %t 2>&1 | grep -qvE '^(idle|mix|alloc)$'; then
        echo "$SLURM_CONF"
        exit 0
    fi
    sleep 0.5
done
echo "start.sh: not every node takes jobs after 60 s; see $folder/*.log" >&2
exit 1
